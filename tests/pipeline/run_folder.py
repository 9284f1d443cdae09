"""Finished runs made by hand: twenty drawn photos, and descriptors that decide every answer.

The gallery has three places of five photos, and three strangers.  Queries ``q0`` to ``q8`` show the places in turn and
are answered rightly, but for those in ``WRONG``; of ``lost`` no right photo is in the gallery.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from landseer.evaluation import evaluate_retrieval
from landseer.recipe import recipe_from
from landseer.search import search_exact
from landseer.storage import save_collection, save_descriptors, save_ranking, save_report
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Descriptors, Ranking, Truth

RECIPE = {
    "title": "by hand",
    "model": {"backbone": "test_resnet", "weights": "none", "pooling": "gap"},
    "stages": [{"name": "first", "size": 64, "epochs": 1}],
}
NAMES = ("Old Gate", "Long Bridge", "Round <b>Tower</b>")
PLACE_OF = {f"g{place}{take}": place for place in range(3) for take in range(5)}
STRANGERS = ("s0", "s1", "s2")
QUERIES = {**{f"q{number}": number % 3 for number in range(9)}, "lost": 1}
JUNK = {"q0": ("s0",)}
WRONG = ("q3", "q4", "q5")
"""q3 (place 0) lies among place 1; a stranger lies on q4; q5 (place 2) lies among strangers."""
DIM = 8


def rows_of(spoilt: bool) -> dict[str, np.ndarray]:
    """Photo -> descriptor, unit length; *spoilt*: the queries of ``WRONG`` go wrong."""
    axis = np.eye(DIM)
    rng = np.random.default_rng(4)
    rows = {photo: axis[place] + rng.normal(0, 0.1, DIM) for photo, place in PLACE_OF.items()}
    rows |= {photo: axis[4 + number] + rng.normal(0, 0.1, DIM) for number, photo in enumerate(STRANGERS)}
    rows |= {query: axis[place] + rng.normal(0, 0.1, DIM) for query, place in QUERIES.items()}
    if spoilt:
        rows["q3"] = 0.8 * axis[1] + 0.3 * axis[0] + 0.5 * axis[7]
        rows["q4"] = rows["s1"] + 0.15 * axis[1]
        rows["q5"] = axis[4] + axis[5] + axis[6] + 0.2 * axis[0] + 0.2 * axis[1] - 0.3 * axis[2]
    return {photo: row / np.linalg.norm(row) for photo, row in rows.items()}


def collection_in(folder: Path) -> Collection:
    """The collection, stored in ``folder/C`` with its photos in ``folder/photos``."""
    (folder / "photos").mkdir(parents=True)
    rows = []
    split_of = {**dict.fromkeys((*PLACE_OF, *STRANGERS), "index"), **dict.fromkeys(QUERIES, "query")}
    for number, (photo, split) in enumerate(split_of.items()):
        tiles = np.random.default_rng(number).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(tiles.repeat(24, axis=0).repeat(24, axis=1))
        picture.save(folder / "photos" / f"{photo}.jpg", comment="who took it")
        landmark = PLACE_OF.get(photo, QUERIES.get(photo))
        rows.append(
            {
                "id": photo,
                "path": f"{photo}.jpg",
                "landmark": landmark,
                "kind": "unknown" if landmark is None else "landmark",
                "clean": False,
                "split": split,
            }
        )
    landmarks = [{"landmark": number, "name": name} for number, name in enumerate(NAMES)]
    found = Collection(
        photos=pa.Table.from_pylist(rows, schema=PHOTO_SCHEMA),
        landmarks=pa.Table.from_pylist(landmarks, schema=LANDMARK_SCHEMA),
        root=folder / "photos",
        truth=Truth(
            query_ids=tuple(QUERIES),
            relevant=tuple(
                ("g99",) if query == "lost" else tuple(p for p, at in PLACE_OF.items() if at == place)
                for query, place in QUERIES.items()
            ),
            junk=tuple(JUNK.get(query, ()) for query in QUERIES),
            landmarks=tuple((place,) for place in QUERIES.values()),
            split=("Private",) * len(QUERIES),
            recognition_split=("Private",) * len(QUERIES),
        ),
    )
    return save_collection(found, folder / "C", made_by={})


def measured(folder: Path, collection: Collection, *, spoilt: bool, why: bool = False) -> None:
    """What the measuring of one model leaves."""
    rows = rows_of(spoilt)

    def described(ids: tuple[str, ...], part: str) -> Descriptors:
        table = np.array([rows[photo] for photo in ids], np.float32)
        return save_descriptors(Descriptors(ids=ids, rows_ND=table), folder / part, made_by={})

    queries = described(tuple(QUERIES), "query")
    gallery = described((*PLACE_OF, *STRANGERS), "index")
    ranking: Ranking = search_exact(queries, gallery, k=18)
    if why:
        reasons = tuple(
            {int(row[0]): f"first of {query}"} for query, row in zip(ranking.query_ids, ranking.positions_QK)
        )
        ranking = replace(ranking, reasons=reasons)
    save_ranking(ranking, folder / "ranking", made_by={})
    found = evaluate_retrieval(
        ranking,
        collection.truth,
        trained_landmarks={0},
        landmark_of=QUERIES,
        resamples=50,
        made_by={"photos trained on that are scored": "0"},
    )
    for part in ("retrieval", "recognition"):
        save_report(found.report, folder / part, tables={"per_query": found.per_query})


def run_in(out: Path, collection: Collection, *, spoilt: bool = True, title: str = "by hand") -> Path:
    """A finished run: untrained it is spoilt, trained only where *spoilt*."""
    measured(out / "untrained", collection, spoilt=True)
    measured(out / "trained", collection, spoilt=spoilt, why=True)
    recipe = asdict(recipe_from({**RECIPE, "title": title}))
    (out / "run.json").write_text(json.dumps({"recipe": recipe, "collection": collection.fingerprint}))
    (out / "report.html").write_text("<!DOCTYPE html>")
    return out
