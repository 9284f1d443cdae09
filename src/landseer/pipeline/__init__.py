"""The one place where the rooms meet: a whole run from a recipe, and the demonstration on the mini world."""

from landseer.pipeline.check import Checked, check_collection, check_facts
from landseer.pipeline.clean import Cleaned, CleaningOutputs, clean_collection
from landseer.pipeline.demo import run_demo
from landseer.pipeline.finished import MeasuredStage, RunResult, write_run_page
from landseer.pipeline.group import apply_groups, group_collection
from landseer.pipeline.indexing.build import Indexed, add_to_index, build_index
from landseer.pipeline.indexing.rebuild import Rebuilt, abandon_rebuild, rebuild_index
from landseer.pipeline.indexing.search import Answers, search_index
from landseer.pipeline.model import describe, open_model
from landseer.pipeline.recognise import Recognised, recognise_folder
from landseer.pipeline.rerank import rerank_folder
from landseer.pipeline.results import result_facts, result_table, training_facts, training_lines
from landseer.pipeline.run import run_recipe
from landseer.pipeline.train import train_recipe
from landseer.pipeline.trained import TrainedStage, TrainResult

__all__ = [
    "Answers",
    "Checked",
    "Cleaned",
    "CleaningOutputs",
    "Indexed",
    "MeasuredStage",
    "Rebuilt",
    "Recognised",
    "RunResult",
    "TrainResult",
    "TrainedStage",
    "abandon_rebuild",
    "add_to_index",
    "apply_groups",
    "build_index",
    "check_collection",
    "check_facts",
    "clean_collection",
    "describe",
    "group_collection",
    "open_model",
    "rebuild_index",
    "recognise_folder",
    "rerank_folder",
    "result_facts",
    "result_table",
    "run_demo",
    "run_recipe",
    "search_index",
    "train_recipe",
    "training_facts",
    "training_lines",
    "write_run_page",
]
