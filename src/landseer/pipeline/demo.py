"""The whole chain on photos that the program draws itself."""

from __future__ import annotations

from pathlib import Path

from landseer.datasets import import_gldv2, with_strangers
from landseer.datasets.miniworld import draw_mini_world
from landseer.pipeline.finished import RunResult
from landseer.pipeline.run import run_recipe
from landseer.pipeline.setting import Watch
from landseer.recipe import load_recipe, shipped
from landseer.storage import load_collection, save_collection


def run_demo(
    out: Path,
    *,
    workers: int | None = None,
    watch: Watch | None = None,
    recipe: Path | None = None,
    num_landmarks: int = 30,
    num_photos: int = 2500,
    num_strangers: int = 150,
) -> RunResult:
    """Draw the mini world in ``out/photos``, import it to ``out/collection``, and run *recipe* in ``out/run``.

    What is there already is used as it is.  *recipe* defaults to the shipped ``mini/world.toml``.  *num_strangers*
    photos known to show no landmark come beside the world, for recognition to be calibrated on.
    """
    tell = watch or (lambda *_: None)
    photos, collection = out / "photos", out / "collection"
    chosen = load_recipe(recipe or shipped("mini/world"))
    if not photos.exists():
        draw_mini_world(
            photos,
            num_landmarks=num_landmarks,
            num_photos=num_photos,
            num_strangers=num_strangers,
            workers=workers,
            progress=lambda done, total: tell("drawing the mini world", done, total, {}),
        )
    if not collection.exists():
        imported, summary = import_gldv2(photos)
        imported = with_strangers(imported, "none")
        save_collection(imported, collection, made_by={"import": "gldv2"}, summary=summary.to_dict())
    return run_recipe(
        chosen,
        load_collection(collection, root=photos.resolve()),
        out / "run",
        workers=workers,
        watch=tell,
    )
