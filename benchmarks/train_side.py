"""A collection to choose settings on: queries, gallery and training photos, all made of training photos.

Nothing may be tuned on the queries it is scored on.  This splits the ``split=train`` photos of a collection: a quarter
of the clean landmarks is held out whole (landmarks not trained on), and of every other landmark about 30 % of the
clean photos.  Half of the held-out photos ask, the other half is the gallery, together with every photo that is not
clean (distractors without a landmark).  ``landseer run RECIPE --data OUT`` then scores a recipe on it::

    python benchmarks/train_side.py --data COLLECTION --out OUT --seed 0
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa

from landseer.storage import load_collection, save_collection
from landseer.types import Collection, Truth

SHARE_OF_LANDMARKS, SHARE_OF_PHOTOS, FEWEST = 0.25, 0.3, 6


def train_side(collection: Collection, seed: int) -> Collection:
    """The training photos of *collection*, split anew by *seed*."""
    train = collection.in_split("train")
    rng = np.random.default_rng(seed)
    clean_N = np.array(train.photos["clean"].to_pylist()) & (train.landmark_N >= 0)
    landmarks = np.unique(train.landmark_N[clean_N])
    unseen = set(rng.permutation(landmarks)[: int(len(landmarks) * SHARE_OF_LANDMARKS)].tolist())
    split_N = np.full(len(train), "index", dtype=object)
    split_N[clean_N] = "train"
    for landmark in landmarks:
        photos = rng.permutation(np.flatnonzero(clean_N & (train.landmark_N == landmark)))
        if landmark not in unseen:
            photos = (
                photos[: max(2, int(len(photos) * SHARE_OF_PHOTOS))] if len(photos) >= FEWEST else photos[:0]
            )
        half = (len(photos) + 1) // 2
        split_N[photos[:half]], split_N[photos[half:]] = "query", "index"
    landmark_N = np.where(clean_N, train.landmark_N, -1)
    table = train.photos
    for name, column in (
        ("split", pa.array(split_N.tolist(), pa.string())),
        ("landmark", pa.array([int(n) if n >= 0 else None for n in landmark_N], pa.int64())),
        ("kind", pa.array(["landmark" if n >= 0 else "unknown" for n in landmark_N], pa.string())),
    ):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), column)
    queries = np.flatnonzero(split_N == "query")
    gallery = np.flatnonzero(split_N == "index")
    truth = Truth(
        query_ids=tuple(train.ids[q] for q in queries),
        relevant=tuple(
            tuple(train.ids[g] for g in gallery if landmark_N[g] == landmark_N[q]) for q in queries
        ),
        junk=((),) * len(queries),
        landmarks=tuple((int(landmark_N[q]),) for q in queries),
        split=("Private",) * len(queries),
        recognition_split=("Private",) * len(queries),
    )
    return Collection(photos=table, landmarks=collection.landmarks, root=collection.root, truth=truth)


def main() -> None:
    """Read, split, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a collection")
    parser.add_argument("--out", type=Path, required=True, help="the collection to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    collection = load_collection(arguments.data)
    saved = save_collection(
        train_side(collection, arguments.seed),
        arguments.out,
        made_by={"train_side": arguments.seed},
        parents={"collection": collection.fingerprint},
    )
    sizes = {split: len(saved.in_split(split)) for split in ("train", "index", "query")}
    print(f"{arguments.out}: {sizes}")


if __name__ == "__main__":
    main()
