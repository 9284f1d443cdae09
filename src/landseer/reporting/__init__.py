"""The report of a run: one self-contained HTML file with numbers, figures and pictures."""

from landseer.reporting.page import RunPage, render_page, write_page
from landseer.reporting.results import GROUPS, StageNumbers

__all__ = ["GROUPS", "RunPage", "StageNumbers", "render_page", "write_page"]
