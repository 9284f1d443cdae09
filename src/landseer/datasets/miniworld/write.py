"""A mini world on disk, in the layout of Google Landmarks v2.

``<split>/a/b/c/<id>.jpg`` and ``metadata/*.csv`` as the real set has them, plus ``metadata/truth.csv``: what
each photo truly shows, how it was taken, and which photo it is a near-duplicate of.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from landseer.datasets.miniworld.draw import Shot, draw_photo
from landseer.datasets.miniworld.world import CATEGORY_URL, SUPERCATEGORY, Photo, World, plan_world, strangers
from landseer.storage.artifact import remove_leftovers

BATCH = 24
TRUTH_COLUMNS = (
    "id,split,category,view,subject,wrong_label,near_duplicate_of,crop_px,azimuth_deg,distance_m,weather"
)
LOCATION = "landmark_id,latitude,longitude"
Row = tuple[object, ...]
Tables = dict[str, tuple[str, Sequence[Row]]]
"""Name of a file -> its columns and rows."""


def draw_mini_world(
    path: Path,
    *,
    seed: int = 0,
    num_landmarks: int = 30,
    num_photos: int = 2500,
    size_px: int = 160,
    num_strangers: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw photos of invented landmarks into the new folder *path*, laid out as Google Landmarks v2 is.

    Equal arguments give equal bytes, whatever the number of *workers* (processes; default: one a core).  1 is
    this process alone; with more, a script needs the usual ``if __name__ == "__main__"``.  *size_px* is the
    longest side.  *num_strangers* more photos, known to show no landmark, lie below ``none``, for which the layout
    has no place; the others are the same with and without.  *progress* is told photos done and photos in all.  The
    folder appears whole or not at all.
    Raises ``ValueError`` where *path* exists or the sizes cannot make a world.
    """
    if path.exists():
        raise ValueError(f"{path} exists already; remove it or choose another folder")
    if size_px < 32:
        raise ValueError(f"photos of {size_px} px show nothing; size_px must be at least 32")
    workers = workers if workers is not None else (os.cpu_count() or 1)
    if workers < 1:
        raise ValueError(f"workers must be at least 1; got {workers}")
    world = plan_world(seed=seed, num_landmarks=num_landmarks, num_photos=num_photos)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    part = path.parent / f".{path.name}.part-{os.getpid()}"
    part.mkdir()
    try:
        photos = [*world.photos, *strangers(seed, num_strangers)]
        shots = _draw_all(part, photos, seed=seed, size_px=size_px, workers=workers, progress=progress)
        _write_metadata(part / "metadata", world, shots)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def photo_path(photo: Photo) -> Path:
    """Where a photo lies in the folder of its world."""
    return Path(photo.split, *photo.id[:3], f"{photo.id}.jpg")


def _draw_all(
    folder: Path,
    photos: Sequence[Photo],
    *,
    seed: int,
    size_px: int,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Shot]:
    # photos of one landmark follow each other, because a process keeps the landmarks it built last
    photos = sorted(
        photos, key=lambda photo: (-1 if photo.landmark is None else photo.landmark.number, photo.view)
    )
    batches = [photos[start : start + BATCH] for start in range(0, len(photos), BATCH)]
    shots: dict[str, Shot] = {}
    tell = progress or (lambda done, total: None)
    if workers == 1:
        for batch in batches:
            shots.update(_draw_batch(folder, batch, seed, size_px))
            tell(len(shots), len(photos))
        return shots
    # spawned, not forked: a fork copies the locks of whatever threads the caller has
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(batches)), mp_context=context, initializer=_settle)
    try:
        for done in as_completed(
            [pool.submit(_draw_batch, folder, batch, seed, size_px) for batch in batches]
        ):
            shots.update(done.result())
            tell(len(shots), len(photos))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return shots


def _settle() -> None:
    """Make this process a good worker: one thread, and gone when its parent is killed."""
    import cv2

    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def _draw_batch(folder: Path, photos: Sequence[Photo], seed: int, size_px: int) -> dict[str, Shot]:
    shots = {}
    for photo in photos:
        encoded, shots[photo.id] = draw_photo(photo, seed=seed, size_px=size_px)
        file = folder / photo_path(photo)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded)
    return shots


def _write_metadata(folder: Path, world: World, shots: dict[str, Shot]) -> None:
    folder.mkdir(parents=True)
    truth = [_truth_row(photo, shots[photo.id]) for photo in world.photos]
    tables = {
        **_train_tables(world),
        **_index_tables(world),
        **_solutions(world),
        "truth": (TRUTH_COLUMNS, truth),
    }
    for name, (columns, rows) in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(columns.split(","))
            writer.writerows(rows)


def _truth_row(photo: Photo, shot: Shot) -> Row:
    return (
        photo.id,
        photo.split,
        photo.landmark.category if photo.landmark else "",
        photo.view,
        shot.subject or "",
        int(photo.wrong_label),
        photo.source.id if photo.source else "",
        " ".join(map(str, shot.crop_px or ())),
        *("" if fact is None else fact for fact in (shot.azimuth_deg, shot.distance_m, shot.weather)),
    )


def _train_tables(world: World) -> Tables:
    photos = world.of("train")
    clean: dict[int, list[str]] = defaultdict(list)
    for photo in photos:
        if photo.label is not None and not photo.wrong_label:
            clean[photo.label].append(photo.id)
    known = sorted((mark.train_label, mark) for mark in world.landmarks if mark.train_label is not None)
    categories = [(label, mark.category) for label, mark in known]
    noise = [(label, f"{CATEGORY_URL}Mixed_pictures,_{label}") for label in world.noise_labels]
    hierarchy = [
        (label, mark.category, SUPERCATEGORY.get(mark.kind, "building"), mark.kind, "human-made")
        for label, mark in known
    ]
    return {
        "train": ("id,url,landmark_id", [(photo.id, "", photo.label) for photo in photos]),
        "train_clean": (
            "landmark_id,images",
            [(label, " ".join(ids)) for label, ids in sorted(clean.items())],
        ),
        "train_label_to_category": ("landmark_id,category", [*categories, *noise]),
        "train_label_to_hierarchical": (
            "landmark_id,category,supercategory,hierarchical_label,natural_or_human_made",
            hierarchy,
        ),
        "landmark_country": ("landmark_id,country", [(label, mark.country) for label, mark in known]),
        "landmark_location": (LOCATION, [(label, mark.latitude, mark.longitude) for label, mark in known]),
    }


def _index_tables(world: World) -> Tables:
    photos = world.of("index")
    shown = [(photo.id, photo.landmark.index_label) for photo in photos if photo.landmark]
    numbered = sorted((mark.index_label, mark) for mark in world.landmarks)
    return {
        "index": ("id", [(photo.id,) for photo in photos]),
        "index_image_to_landmark": ("id,landmark_id", shown),
        "index_label_to_category": (
            "landmark_id,category",
            [(label, mark.category) for label, mark in numbered],
        ),
        "index_landmark_location": (
            LOCATION,
            [(label, mark.latitude, mark.longitude) for label, mark in numbered],
        ),
    }


def _solutions(world: World) -> Tables:
    shown: dict[int, list[str]] = defaultdict(list)
    for photo in world.of("index"):
        if photo.landmark:
            shown[photo.landmark.number].append(photo.id)
    tested, retrieval, recognition = [], [], []
    for query in world.of("test"):
        mark = query.landmark
        # a landmark that train does not know has no number to be recognised by
        label = mark.train_label if mark and mark.train_label is not None else ""
        tested.append((query.id,))
        retrieval.append((query.id, " ".join(sorted(shown[mark.number])) if mark else "None", query.usage))
        recognition.append((query.id, label, query.usage))
    return {
        "test": ("id", tested),
        "retrieval_solution_v2.1": ("id,images,Usage", retrieval),
        "recognition_solution_v2.1": ("id,landmarks,Usage", recognition),
    }
