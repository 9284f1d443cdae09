"""Recognition of a descriptor folder: who votes, what is calibrated on, what is written.

All rows are of unit length: ``at(cosine)`` lies at that cosine from landmark 1, whose bank photo is the first axis.
"""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from landseer.pipeline.recognise import recognise_folder
from landseer.storage import save_collection, save_descriptors
from landseer.storage.foreign import is_recognition, read_recognition
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Descriptors

NAMES = {1: "Tower", 2: None, 3: "Bridge"}
COUNTRIES = {1: "FR", 2: "IT", 3: "CN"}


def at(cosine, axis=0, other=2):
    row = np.zeros(4)
    row[axis], row[other] = cosine, math.sqrt(1 - cosine**2)
    return row


PHOTOS = {
    # id: (landmark, kind, clean, split, row)
    "a": (1, "landmark", True, "train", at(1.0)),
    "b": (2, "landmark", True, "train", at(1.0, axis=1)),
    "noisy": (2, "landmark", False, "train", at(1.0)),
    "sure": (1, "landmark", True, "query", at(0.95)),
    "unsure": (1, "landmark", True, "query", at(0.72)),
    "val1": (1, "landmark", True, "validation", at(0.9)),
    "val2": (2, "landmark", True, "validation", at(0.8, axis=1)),
    "lacking": (3, "landmark", True, "validation", at(0.7)),
    "dog": (None, "none", True, "validation", at(0.6)),
    "food": (None, "none", True, "train", at(0.75, other=3)),
    "who": (None, "unknown", True, "validation", at(0.5)),
}
KNOWN = ("val1", "val2")
UNKNOWN = ("lacking", "dog")


def collection_of(photos):
    names = ("landmark", "kind", "clean", "split")
    columns = {
        "id": list(photos),
        "path": [f"{photo}.jpg" for photo in photos],
        **{name: [fact[at] for fact in photos.values()] for at, name in enumerate(names)},
    }
    landmarks = {"landmark": list(NAMES), "name": list(NAMES.values()), "country": list(COUNTRIES.values())}

    def table(schema, known, num):
        return pa.table({f.name: pa.array(known.get(f.name, [None] * num), f.type) for f in schema})

    return Collection(
        photos=table(PHOTO_SCHEMA, columns, len(photos)),
        landmarks=table(LANDMARK_SCHEMA, landmarks, len(NAMES)),
        root=Path(),
    )


def rows_of(*ids):
    return Descriptors(ids=ids, rows_ND=np.array([PHOTOS[i][-1] for i in ids], np.float32).reshape(-1, 4))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_collection(collection_of(PHOTOS), Path("data"), made_by={})
    for name, ids in {
        "query": ("sure", "unsure"),
        "bank": ("a", "b", "noisy"),
        "judged": (*KNOWN, *UNKNOWN),
        "none": ("food",),
    }.items():
        save_descriptors(rows_of(*ids), Path(name), made_by={})
    return tmp_path


def recipe(text, bank="clean"):
    file = Path("recipe.toml")
    file.write_text(f'title = "r"\n[bank]\nsubset = "{bank}"\n[recognition]\n{text}\n')
    return file


def recognised(text="voters = 1", **given):
    return recognise_folder("query", bank="bank", data=Path("data"), recipe=recipe(text), **given)


def test_the_defaults_are_three_clean_voters(here):
    found = recognise_folder("query", bank="bank", data=Path("data"))
    assert found.recognition.query_ids == ("sure", "unsure")
    assert found.recognition.landmark_Q.tolist() == [1, 1]
    assert found.recognition.confidence_Q == pytest.approx([0.95 / 3, 0.72 / 3])
    assert found.countries.countries == ("FR", "FR")
    assert found.names == ("Tower", "Tower") and found.threshold is None


def test_the_recipe_says_who_votes(here):
    found = recognise_folder(
        "query", bank="bank", data=Path("data"), recipe=recipe("normalise = false", "full")
    )
    assert found.recognition.confidence_Q == pytest.approx([0.95, 0.72])  # a tie of a and noisy: the first
    found = recognised("voters = 1\npower = 2")
    assert found.recognition.confidence_Q == pytest.approx([0.95**2, 0.72**2])


def test_votes_agree_with_a_plain_loop_and_no_photo_votes_on_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(7)
    ids = [f"p{n}" for n in range(40)]
    vectors = rng.normal(size=(40, 3)).astype(np.float32)
    photos = {i: (int(rng.integers(1, 4)), "landmark", bool(rng.random() < 0.7), "train", None) for i in ids}
    save_collection(collection_of(photos), Path("data"), made_by={})
    # not of unit length: votes are cosines all the same
    np.savez("rows.npz", ids=np.array(ids), rows=vectors)
    found = recognise_folder("rows.npz::rows", bank="rows.npz::rows", data=Path("data"))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for row, query in enumerate(ids):
        cosines = sorted(
            (
                (float(unit[row] @ unit[n]), photos[i][0])
                for n, i in enumerate(ids)
                if photos[i][2] and i != query
            ),
            reverse=True,
        )
        votes = {label: sum(c for c, of in cosines[:3] if of == label) for _, label in cosines[:3]}
        best = max(votes, key=votes.get)
        assert found.recognition.landmark_Q[row] == best
        assert found.recognition.confidence_Q[row] == pytest.approx(votes[best] / 3, abs=1e-6)
        assert found.countries.countries[row] == COUNTRIES[best] and found.names[row] == NAMES[best]


def test_a_bank_no_larger_than_the_voters_loses_only_the_photo_itself(here):
    found = recognise_folder("bank", bank="bank", data=Path("data"))
    assert found.recognition.landmark_Q.tolist() == [2, 1, 1]
    assert found.recognition.confidence_Q == pytest.approx([0, 0, 1 / 3])  # noisy is no clean one and asks a


def test_calibration_rejects_what_a_stranger_could_be(here):
    found = recognised("voters = 1\nfalse_accepts = 0.0", calibration="judged")
    threshold = found.threshold
    assert (threshold.num_known, threshold.num_unknown) == (2, 2)
    assert threshold.confidence == np.nextafter(
        np.float32(0.7), np.float32(1)
    )  # that of the landmark it lacks
    assert (threshold.recall, threshold.false_accept_rate) == (1, 0)
    assert found.recognition.landmark_Q.tolist() == [1, 1]
    raw = np.array([0.95, 0.72], np.float32)
    assert np.array_equal(found.recognition.confidence_Q, threshold.probability(raw))


def test_photos_of_none_count_as_unknown_and_once(here):
    found = recognised("voters = 1\nfalse_accepts = 0.0", calibration="judged", non_landmarks="none")
    assert found.threshold.num_unknown == 3
    assert found.threshold.confidence == np.nextafter(np.float32(0.75), np.float32(1))
    assert found.recognition.landmark_Q.tolist() == [1, -1]
    assert found.names == ("Tower", None) and found.countries.countries == ("FR", "FR")
    save_descriptors(rows_of("food", "dog"), Path("more"), made_by={})
    again = recognised("voters = 1\nfalse_accepts = 0.0", calibration="judged", non_landmarks="more")
    assert again.threshold == found.threshold


def test_the_recipe_says_how_many_false_ones_are_accepted(here):
    found = recognised("voters = 1\nfalse_accepts = 0.34", calibration="judged", non_landmarks="none")
    assert found.threshold.confidence == np.nextafter(np.float32(0.7), np.float32(1))
    assert found.threshold.false_accept_rate == pytest.approx(1 / 3)
    assert found.recognition.landmark_Q.tolist() == [1, 1]


def test_the_penalty_is_the_likeness_to_so_many_photos_of_none(here):
    rows = np.stack([at(0.1 * n, axis=3) for n in range(8)])
    save_descriptors(
        Descriptors(ids=tuple(f"n{n}" for n in range(8)), rows_ND=rows.astype(np.float32)),
        Path("eight"),
        made_by={},
    )
    for num in (1, 7):
        found = recognised(
            f"voters = 1\npenalty = 0.5\npenalty_neighbours = {num}", non_landmarks="eight"
        ).recognition
        for cosine, confidence in zip((0.95, 0.72), found.confidence_Q, strict=True):
            nearest = sorted((float(at(cosine) @ row) for row in rows), reverse=True)[:num]
            assert confidence == pytest.approx(cosine - 0.5 * sum(nearest) / num, abs=1e-6)


def test_a_photo_of_none_is_not_punished_for_being_like_itself(here):
    save_descriptors(rows_of("food", "dog"), Path("none2"), made_by={})
    save_descriptors(rows_of(*KNOWN), Path("known"), made_by={})
    found = recognised(
        "voters = 1\npenalty = 0.5\npenalty_neighbours = 1\nfalse_accepts = 0.0",
        calibration="known",
        non_landmarks="none2",
    )
    each_other = 0.5 * float(PHOTOS["food"][-1] @ PHOTOS["dog"][-1])
    assert found.threshold.confidence == pytest.approx(0.75 - each_other, abs=1e-6)


def test_the_table_is_read_back_to_the_last_bit(here):
    found = recognised(
        "voters = 1\nfalse_accepts = 0.0", calibration="judged", non_landmarks="none", out=Path("found.csv")
    )
    assert Path("found.csv").read_text().splitlines()[::2] == ["query,landmark,confidence", "unsure,,"]
    assert is_recognition("found.csv")
    back = read_recognition("found.csv")
    assert back.query_ids == found.recognition.query_ids
    assert np.array_equal(back.landmark_Q, found.recognition.landmark_Q)
    assert back.confidence_Q[0] == found.recognition.confidence_Q[0]


@pytest.mark.parametrize(
    ("given", "judged", "said"),
    [
        ({"out": Path("data.csv")}, (), "data.csv exists already"),
        ({"out": Path("found.txt")}, (), "ends in .csv"),
        ({"out": Path("nowhere/found.csv")}, (), "nowhere is not a folder"),
        ({"text": "penalty = 1.0"}, (), r"\[recognition\] penalty needs photos .* \(--none\)"),
        ({"non_landmarks": "none"}, (), "neither is asked for"),
        ({"text": "most_queries = 30"}, KNOWN + UNKNOWN, "most_queries makes"),
        ({}, (*KNOWN, *UNKNOWN, "a"), "--calibrate has a photo 'a' that is in the vote bank"),
        ({}, (*KNOWN, *UNKNOWN, "sure"), "--calibrate has a photo 'sure' that is among the queries"),
        ({}, (*KNOWN, *UNKNOWN, "who"), "'who' of which the collection names neither"),
        ({}, KNOWN, "not 2 and 0"),
        ({}, UNKNOWN, "not 0 and 2"),
        ({"non_landmarks": "query"}, KNOWN, "--none has a photo 'sure' that shows a landmark"),
        ({"non_landmarks": "dogs"}, KNOWN, "--none has a photo 'dog' that is among the queries"),
    ],
)
def test_what_cannot_be_is_said_in_one_line_and_nothing_is_written(here, given, judged, said):
    Path("data.csv").write_text("mine")
    save_descriptors(rows_of("dog"), Path("dogs"), made_by={})
    if judged:
        save_descriptors(rows_of(*judged), Path("asked"), made_by={})
        given = {**given, "calibration": "asked"}
    asked = "dogs" if given.get("non_landmarks") == "dogs" else "query"
    given = {"text": "voters = 1", "out": Path("found.csv"), **given}
    with pytest.raises(ValueError, match=said) as error:
        recognise_folder(asked, bank="bank", data=Path("data"), recipe=recipe(given.pop("text")), **given)
    assert "\n" not in str(error.value)
    assert Path("data.csv").read_text() == "mine"
    assert [file.name for file in Path().glob("*.csv")] == ["data.csv"] and not list(Path().glob(".*"))


def test_rows_of_another_model_and_strange_photos_are_named(here):
    flat = Descriptors(ids=("z",), rows_ND=np.array([[1, 0]], np.float32))
    save_descriptors(flat, Path("flat"), made_by={})
    with pytest.raises(ValueError, match="of --none have 2 components and those of --bank 4"):
        recognised(calibration="judged", non_landmarks="flat")
    far = Descriptors(ids=("z",), rows_ND=np.array([[1, 0, 0, 0]], np.float32))
    save_descriptors(far, Path("far"), made_by={})
    with pytest.raises(ValueError, match="--calibrate has a photo 'z' that the collection does not know"):
        recognised(calibration="far")
    # a photo of none may be any photo
    assert recognised(calibration="judged", non_landmarks="far").threshold.num_unknown == 3
