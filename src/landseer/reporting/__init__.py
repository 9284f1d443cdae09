"""The report of a run: one self-contained HTML file with numbers, figures and pictures."""

from landseer.reporting.page import RunPage, render_page, write_page
from landseer.reporting.results import GROUPS, StageNumbers
from landseer.reporting.trust import Trust

__all__ = ["GROUPS", "RunPage", "StageNumbers", "Trust", "render_page", "write_page"]
