"""The report of a run: one self-contained HTML file with numbers, figures and pictures."""

from landseer.reporting.page import RunPage, render_page, write_page

__all__ = ["RunPage", "render_page", "write_page"]
