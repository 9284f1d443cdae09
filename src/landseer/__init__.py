"""Landseer: find every photo of the same landmark, say which one it is, and train the models that do so.

Everything the command line does is one short call here; a room is imported when a name of it is first used::

    import landseer

    collection, summary = landseer.import_gldv2(Path("gld-mini"))
    collection = landseer.save_collection(collection, Path("C"), made_by={"import": "gldv2"})
    result = landseer.run_recipe(landseer.load_recipe(Path("recipe.toml")), collection, Path("RUN"))
    print(landseer.result_table(result))
"""

from __future__ import annotations

import importlib
from typing import Any

_ROOM_OF = {
    "Collection": "types",
    "Descriptors": "types",
    "Ranking": "types",
    "Recognition": "types",
    "Report": "types",
    "Truth": "types",
    "load_collection": "storage",
    "load_descriptors": "storage",
    "load_ranking": "storage",
    "load_report": "storage",
    "save_collection": "storage",
    "save_descriptors": "storage",
    "save_ranking": "storage",
    "read_descriptors": "storage.foreign",
    "read_ranking": "storage.foreign",
    "save_report": "storage",
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "shipped": "recipe",
    "import_folder": "datasets",
    "import_gldv1": "datasets",
    "import_gldv2": "datasets",
    "import_revisited": "datasets",
    "import_table": "datasets",
    "draw_mini_world": "datasets.miniworld",
    "build_embedder": "models",
    "load_embedder": "models",
    "fit_whitening": "models",
    "join_descriptors": "models",
    "load_ensemble": "models",
    "load_whitening": "models",
    "save_whitening": "models",
    "save_embedder": "models",
    "train_stage": "training",
    "training_subset": "training",
    "extract": "extraction",
    "extract_ensemble": "extraction",
    "merge_shards": "extraction",
    "Shard": "extraction",
    "build_approximate": "search",
    "prepare": "search",
    "search_exact": "search",
    "LivingIndex": "search",
    "open_index": "search",
    "recognise": "reranking",
    "rerank": "reranking",
    "calibrate": "reranking",
    "compare": "evaluation",
    "evaluate": "evaluation",
    "evaluate_recognition": "evaluation",
    "evaluate_retrieval": "evaluation",
    "write_page": "reporting",
    "abandon_rebuild": "pipeline",
    "add_to_index": "pipeline",
    "build_index": "pipeline",
    "check_collection": "pipeline",
    "clean_collection": "pipeline",
    "group_collection": "pipeline",
    "apply_groups": "pipeline",
    "Online": "pipeline.online",
    "Query": "pipeline.online",
    "fit_weights": "pipeline.weights",
    "open_model": "pipeline",
    "recognise_folder": "pipeline",
    "rerank_folder": "pipeline",
    "rebuild_index": "pipeline",
    "result_table": "pipeline",
    "run_demo": "pipeline",
    "run_recipe": "pipeline",
    "search_index": "pipeline",
    "train_recipe": "pipeline",
    "write_run_page": "pipeline",
}

__all__ = sorted(_ROOM_OF)  # noqa: PLE0605  (the names are those of the table above)


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'landseer' has no attribute {name!r}")
    return getattr(importlib.import_module(f"landseer.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
