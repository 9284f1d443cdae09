"""Artifacts: folders that appear whole or not at all, say what made them, and hold no pickle."""

from landseer.storage.artifact import (
    Manifest,
    open_artifact,
    read_array,
    read_json,
    read_table,
    remove_leftovers,
    verify,
    writing,
)
from landseer.storage.nouns import (
    load_collection,
    load_descriptors,
    load_ranking,
    load_report,
    load_steps,
    load_truth,
    save_collection,
    save_descriptors,
    save_ranking,
    save_report,
    writing_descriptors,
)

__all__ = [
    "Manifest",
    "load_collection",
    "load_descriptors",
    "load_ranking",
    "load_report",
    "load_steps",
    "load_truth",
    "open_artifact",
    "read_array",
    "read_json",
    "read_table",
    "remove_leftovers",
    "save_collection",
    "save_descriptors",
    "save_ranking",
    "save_report",
    "verify",
    "writing",
    "writing_descriptors",
]
