"""A small noisy collection: drawn scenes seen from several sides, some of them under the wrong landmark.

Run as a process of its own (``__clean_target__``) it cleans the collection ``COLLECTION`` into ``OUT`` and dies by
``kill -9`` before file-system step ``DIE_AT`` (0: never); ``STEPS`` is where to write how many steps there were.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image

from landseer.storage import save_collection, save_descriptors
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Descriptors

VIEWS, SCENES = 6, 3
WRONG = ("s0v5", "s1v5")
"""Photos under the landmark after their own."""


def scene(number: int) -> np.ndarray:
    """Grey rectangles of all sizes on each other."""
    rng = np.random.default_rng(number)
    grey = np.full((120, 160), 128, np.uint8)
    for _ in range(120):
        x, y = (int(value) for value in rng.integers(0, (160, 120)))
        w, h = (int(value) for value in rng.integers(4, 32, size=2))
        cv2.rectangle(grey, (x, y), (x + w, y + h), int(rng.integers(0, 256)), -1)
    return np.repeat(cv2.GaussianBlur(grey, (0, 0), 0.8)[..., None], 3, axis=2)


def view(picture: np.ndarray, number: int) -> np.ndarray:
    """The scene turned and shifted a little."""
    turn = cv2.getRotationMatrix2D((80, 60), 5.0 * number, 1.0 + 0.03 * number)
    return cv2.warpAffine(picture, turn, (160, 120), borderValue=(128, 128, 128))


def noisy_world(root: Path, *, reverse: bool = False) -> tuple[Path, Path]:
    """Paths of the collection and of its descriptors, which lie near the scene each photo shows."""
    (root / "photos").mkdir(parents=True)
    rng = np.random.default_rng(7)
    rows, columns = [], []
    for number in range(SCENES):
        for side in range(VIEWS):
            name = f"s{number}v{side}"
            Image.fromarray(view(scene(number), side)).save(root / "photos" / f"{name}.png")
            label = (number + (name in WRONG)) % SCENES
            columns.append((name, 100 + label, "landmark", "train", name.endswith("v0")))
            rows.append(np.eye(8)[number] + 0.15 * rng.normal(size=8))
    for name, landmark, kind, split, clean in (
        ("cat", None, "none", "train", False),
        ("lost", None, "unknown", "train", True),
        ("old", 100, "landmark", "index", True),
        ("alone", 103, "landmark", "train", True),
        ("gone", 100, "landmark", "train", True),
    ):
        columns.append((name, landmark, kind, split, clean))
        rows.append(np.eye(8)[7] + 0.15 * rng.normal(size=8))
        if name != "gone":
            Image.fromarray(scene(len(columns) + 50)).save(root / "photos" / f"{name}.png")
    order = list(range(len(columns)))[:: -1 if reverse else 1]
    collection = collection_of(root / "photos", [columns[place] for place in order])
    matrix = np.array(rows)[order]
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    known = [place for place, photo in enumerate(collection.ids) if photo not in ("gone", "old")]
    described = Descriptors(
        ids=tuple(collection.ids[place] for place in known),
        rows_ND=matrix[known].astype(np.float32),
        unreadable={"gone": "no such file"},
    )
    save_collection(collection, root / "C", made_by={"import": "drawn"})
    save_descriptors(described, root / "D", made_by={"model": "drawn"})
    return root / "C", root / "D"


def collection_of(photos: Path, columns: list[tuple]) -> Collection:
    names, landmarks, kinds, splits, clean = (list(values) for values in zip(*columns, strict=True))
    table = {
        "id": names,
        "path": [f"{name}.png" for name in names],
        "landmark": landmarks,
        "kind": kinds,
        "clean": clean,
        "split": splits,
    }
    known = sorted({landmark for landmark in landmarks if landmark is not None})
    return Collection(
        photos=pa.table(
            {field.name: table.get(field.name, [None] * len(names)) for field in PHOTO_SCHEMA},
            schema=PHOTO_SCHEMA,
        ),
        landmarks=pa.table(
            {
                field.name: known if field.name == "landmark" else [None] * len(known)
                for field in LANDMARK_SCHEMA
            },
            schema=LANDMARK_SCHEMA,
        ),
        root=photos,
    )


def die_before_step(number: int) -> list[int]:
    """Kill this process at call *number* of those that sync or rename files."""
    steps = [0]

    def counted(call):
        def counting(*args, **kwargs):
            steps[0] += 1
            if steps[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counting

    os.fsync = counted(os.fsync)
    os.rename = counted(os.rename)
    return steps


if __name__ == "__clean_target__":
    from landseer.cleaning import evidence, store
    from landseer.pipeline.clean import CleaningOutputs, clean_collection
    from landseer.recipe.cleaning_options import CleaningOptions

    evidence._PAIRS_AT_ONCE = 8
    store.PairStore.__init__.__kwdefaults__["commit_every"] = 16
    taken = die_before_step(globals()["DIE_AT"])
    clean_collection(
        globals()["COLLECTION"],
        globals()["DESCRIPTORS"],
        CleaningOutputs(collection=globals()["OUT"]),
        options=CleaningOptions(mode="geometry"),
        workers=1,
    )
    globals()["STEPS"].write_text(str(taken[0]))
