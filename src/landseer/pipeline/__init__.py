"""The one place where the rooms meet: a whole run from a recipe, and the demonstration on the mini world."""

from landseer.pipeline.demo import run_demo
from landseer.pipeline.finished import MeasuredStage, RunResult, write_run_page
from landseer.pipeline.model import describe, open_model
from landseer.pipeline.results import result_facts, result_table, training_facts, training_lines
from landseer.pipeline.run import run_recipe
from landseer.pipeline.train import train_recipe
from landseer.pipeline.trained import TrainedStage, TrainResult

__all__ = [
    "MeasuredStage",
    "RunResult",
    "TrainResult",
    "TrainedStage",
    "describe",
    "open_model",
    "result_facts",
    "result_table",
    "run_demo",
    "run_recipe",
    "train_recipe",
    "training_facts",
    "training_lines",
    "write_run_page",
]
