"""The one place where the rooms meet: a whole run from a recipe, and the demonstration on the mini world."""

from landseer.pipeline.demo import run_demo
from landseer.pipeline.model import open_model
from landseer.pipeline.results import result_facts, result_table
from landseer.pipeline.run import RunResult, run_recipe, write_run_page

__all__ = [
    "RunResult",
    "open_model",
    "result_facts",
    "result_table",
    "run_demo",
    "run_recipe",
    "write_run_page",
]
