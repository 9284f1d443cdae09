"""The mini world: photos of invented landmarks, drawn by the program, laid out as Google Landmarks v2 is.

A fixture for demonstrations and tests on machines without photos.  Its difficulty is fixed: changing what it
draws makes every number measured on it incomparable.
"""

from landseer.datasets.miniworld.write import draw_mini_world

__all__ = ["draw_mini_world"]
