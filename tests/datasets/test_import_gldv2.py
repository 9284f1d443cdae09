from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import pytest

from landseer.datasets import import_gldv2
from landseer.photos import read_bytes
from landseer.types import Collection

GLD_MINI = Path(__file__).parents[2].parent / "shared" / "data" / "gld-mini"


def row(collection: Collection, photo: str) -> dict:
    return next(found for found in collection.photos.to_pylist() if found["id"] == photo)


def landmark(collection: Collection, number: int) -> dict:
    return next(found for found in collection.landmarks.to_pylist() if found["landmark"] == number)


def problem(summary, part: str):
    found = [entry for entry in summary.problems if part in entry.what]
    assert len(found) == 1, [entry.what for entry in summary.problems]
    return found[0]


def test_the_whole_layout(gldv2) -> None:
    collection, summary = import_gldv2(gldv2())
    assert summary.splits == {"train": 4, "validation": 0, "index": 5, "query": 6}
    assert summary.problems == () and summary.rows_refused == 0
    assert summary.ignored_columns == {"train.csv": ("url",)}
    assert (summary.train_clean, summary.train_labelled, summary.clean_share) == (3, 4, 0.75)
    assert (summary.clean_landmarks, summary.train_landmarks) == (2, 3)
    assert summary.queries_with_answers == {"Public": 1, "Private": 2, "Ignored": 0}
    assert row(collection, "bbb1")["clean"] is False
    assert row(collection, "aaa1")["path"] == "train/a/a/a/aaa1.jpg"
    assert row(collection, "q001")["path"] == "test/q/0/0/q001.jpg"
    assert [read_bytes(collection.root, path)[:2] for path in collection.paths] == [b"\xff\xd8"] * 15


def test_index_labels_join_train_through_the_category(gldv2) -> None:
    collection, _ = import_gldv2(gldv2())
    assert row(collection, "ddd1")["landmark"] == 20
    # only the index knows these: new ids from max(train) + 1, in category order (Abbey before Zoo)
    assert (row(collection, "eee2")["landmark"], row(collection, "eee1")["landmark"]) == (31, 32)
    assert [landmark(collection, n)["source_landmark"] for n in (10, 20, 30, 31, 32)] == [None, 7, None, 5, 3]
    assert row(collection, "fff1")["landmark"] is None and row(collection, "fff1")["kind"] == "unknown"


def test_names_countries_and_places(gldv2) -> None:
    collection, summary = import_gldv2(gldv2())
    assert [landmark(collection, n)["name"] for n in (10, 20, 31)] == ["Tour d'Or", "Palace, Old", "Abbey"]
    assert landmark(collection, 20)["country"] == "NA"
    # no country given, but a position: Windhoek in Namibia, London for the one only the index knows
    assert (landmark(collection, 30)["country"], landmark(collection, 32)["country"]) == ("NA", "GB")
    assert landmark(collection, 20)["latitude"] == 0.0
    assert landmark(collection, 31)["country"] is None
    assert any("2 landmarks" in note for note in summary.notes)
    assert row(collection, "ddd1")["country"] == "NA"
    assert row(collection, "q001")["country"] is None


def test_what_queries_show(gldv2) -> None:
    collection, _ = import_gldv2(gldv2())
    shown = {
        photo: (row(collection, photo)["landmark"], row(collection, photo)["kind"])
        for photo in ("q001", "q002", "q003", "q004", "q005", "q006")
    }
    assert shown == {
        "q001": (20, "landmark"),
        "q002": (None, "landmark"),  # two landmarks: only the truth can hold them
        "q003": (32, "landmark"),  # known to the index alone, told by its relevant photo
        "q004": (None, "none"),
        "q005": (None, "unknown"),  # nobody vouches for an Ignored row
        "q006": (None, "unknown"),  # in no solution
    }


def test_the_truth(gldv2) -> None:
    truth = import_gldv2(gldv2())[0].truth
    assert truth is not None
    assert truth.query_ids == ("q001", "q002", "q003", "q004", "q005")
    assert truth.relevant == (("ddd1", "ddd2"), ("ddd1",), ("eee1",), (), ())
    assert truth.landmarks == ((20,), (10, 20), (), (), ())
    assert truth.split == truth.recognition_split == ("Public", "Private", "Private", "Private", "Ignored")


def test_tar_shards_are_read_in_place(gldv2, make) -> None:
    root = gldv2(photos=False)
    make.put_tar(
        root / "train" / "images_000.tar", {"./a/a/a/aaa1.jpg": make.jpeg(), "a/a/a/aaa2.jpg": make.jpeg()}
    )
    make.put_tar(
        root / "train" / "images_001.tar",
        {"train/b/b/b/bbb1.jpg": make.jpeg(), "c/c/c/ccc1.jpg": make.jpeg()},
    )
    make.put_layered(root, "train", "ccc1")
    make.put_tar(
        root / "index" / "images_000.tar",
        {f"{name}.jpg": make.jpeg() for name in ("ddd1", "ddd2", "eee1", "eee2", "fff1")},
    )
    make.put_layered(root, "test", "q001", "q002", "q003", "q004", "q005", "q006")
    collection, summary = import_gldv2(root)
    assert summary.missing_files == 0
    assert row(collection, "aaa2")["path"] == "train/images_000.tar::a/a/a/aaa2.jpg"
    assert row(collection, "bbb1")["path"] == "train/images_001.tar::train/b/b/b/bbb1.jpg"
    assert row(collection, "ccc1")["path"] == "train/c/c/c/ccc1.jpg"  # a loose file goes before a shard
    assert [read_bytes(collection.root, path)[:2] for path in collection.paths] == [b"\xff\xd8"] * 15


def test_missing_photos_are_left_out_or_kept(gldv2) -> None:
    root = gldv2()
    for gone in ("train/b/b/b/bbb1.jpg", "index/d/d/d/ddd2.jpg", "test/q/0/0/q004.jpg"):
        (root / gone).unlink()
    collection, summary = import_gldv2(root)
    assert summary.missing_files == summary.rows_refused == 3
    assert len(collection) == 12 and "bbb1" not in collection.ids
    assert "train.csv row 4" in summary.problems[0].examples[0]
    # the truth stays what the solution says
    assert collection.truth is not None and collection.truth.relevant[0] == ("ddd1", "ddd2")
    assert problem(summary, "not in the index").count == 1
    kept, summary = import_gldv2(root, keep_missing=True)
    assert summary.missing_files == 3 and summary.rows_refused == 0
    assert row(kept, "bbb1")["path"] == "train/b/b/b/bbb1.jpg"


def test_no_photo_at_all_is_a_mistake_unless_nobody_looks(gldv2) -> None:
    root = gldv2(photos=False)
    with pytest.raises(ValueError, match=r"not one of 15 photos.*--no-file-check"):
        import_gldv2(root)
    collection, summary = import_gldv2(root, check_files=False)
    assert len(collection) == 15 and not summary.files_checked


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfid,url,landmark_id\r\naaa1,u,10\r\naaa2,u,10\r\nbbb1,u,20\r\nccc1,u,30\r\n",
        b"landmark_id,id\n10,aaa1\n10,aaa2\n20,bbb1\n30,ccc1",
        b'\n"id","extra, with comma","landmark_id"\n\n"aaa1","a\nb","10"\n'
        b'aaa2,,10\n bbb1 ,, 20 \nccc1,"""",30\n\n',
    ],
    ids=["BOM and CRLF", "other order, no last line end", "quotes, blank lines, blanks"],
)
def test_the_form_of_the_file_does_not_matter(gldv2, text: bytes) -> None:
    plain, other = import_gldv2(gldv2("a"))[0], import_gldv2(gldv2("b", train__csv=text))[0]
    assert plain.photos.equals(other.photos) and plain.landmarks.equals(other.landmarks)


def test_cells_of_several_lines_in_a_large_file(gldv2) -> None:
    rows = "".join(
        f'{number:06x},"one\nand, two",{number}\n' for number in range(60_000)
    )  # several read blocks
    root = gldv2(photos=False, train__csv="id,url,landmark_id\n" + rows)
    collection, summary = import_gldv2(root, check_files=False)
    assert summary.splits["train"] == 60_000 and summary.rows_refused == 0
    assert collection.photos["landmark"].slice(0, 60_000).to_pylist() == list(range(60_000))


def shuffled_columns(text: str, rng: random.Random) -> str:
    rows = list(csv.reader(io.StringIO(text)))
    order = list(range(len(rows[0])))
    rng.shuffle(order)
    out = io.StringIO()
    csv.writer(out).writerows([[cells[at] for at in order] for cells in rows])
    return out.getvalue()


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_columns_does_not_matter(gldv2, make, seed: int) -> None:
    rng = random.Random(seed)
    changed = {name.replace(".", "__"): shuffled_columns(text, rng) for name, text in make.files.items()}
    plain, other = import_gldv2(gldv2("a"))[0], import_gldv2(gldv2("b", **changed))[0]
    assert plain.photos.equals(other.photos) and plain.landmarks.equals(other.landmarks)
    assert plain.truth == other.truth


def test_bad_rows_are_refused_with_their_number(gldv2) -> None:
    root = gldv2(
        train__csv="id,url,landmark_id\naaa1,u,10\naaa2,u,ten\naaa1,u,20\nbbb1,u\n,u,20\nccc1,u,-3\nbbb1,u,20\n"
    )
    collection, summary = import_gldv2(root)
    assert collection.in_split("train").ids == ("aaa1", "bbb1")
    assert summary.rows_refused == 5 and summary.duplicate_ids == 1
    numbers = problem(summary, "no whole number")
    assert numbers.count == 2
    assert numbers.examples == (
        "train.csv row 3, column landmark_id: 'ten' is no landmark number",
        "train.csv row 7, column landmark_id: '-3' is no landmark number",
    )
    assert problem(summary, "duplicate ids").examples == ("train.csv row 4, column id: 'aaa1'",)
    assert "train.csv row 5: 2 cells, not 3" in problem(summary, "too few").examples[0]
    assert problem(summary, "empty id").examples == ("train.csv row 6",)


def test_an_unlabelled_train_row_stays_as_unknown(gldv2) -> None:
    collection, summary = import_gldv2(gldv2(train__csv="id,landmark_id\naaa1,\nbbb1,20\n"))
    assert row(collection, "aaa1")["landmark"] is None and row(collection, "aaa1")["kind"] == "unknown"
    assert row(collection, "aaa1")["clean"] is False
    assert problem(summary, "does not list").count == 2  # train_clean names aaa2 and ccc1
    assert summary.rows_refused == 0


def test_clean_photos_of_another_landmark_are_not_clean(gldv2) -> None:
    collection, summary = import_gldv2(gldv2(train_clean__csv="landmark_id,images\n20,aaa1  bbb1 \n"))
    assert [row(collection, photo)["clean"] for photo in ("aaa1", "bbb1", "ccc1")] == [False, True, False]
    assert problem(summary, "another in train_clean.csv").count == 1


def test_the_same_id_in_two_splits(gldv2) -> None:
    collection, summary = import_gldv2(gldv2(index__csv="id\naaa1\nddd1\nddd1\n"))
    assert collection.in_split("index").ids == ("ddd1",)
    assert summary.duplicate_ids == 2
    assert problem(summary, "another split").examples == ("index.csv row 2, column id: 'aaa1'",)


def test_index_labels_without_category_and_shared_categories(gldv2, make) -> None:
    collection, summary = import_gldv2(
        gldv2(
            train_label_to_category__csv=f"landmark_id,category\n30,{make.category}A\n10,{make.category}A\n20,\n",
            index_label_to_category__csv=f"landmark_id,category\n7,{make.category}A\n7,{make.category}B\n",
        )
    )
    assert row(collection, "ddd1")["landmark"] == 10
    assert (row(collection, "eee1")["landmark"], row(collection, "eee2")["landmark"]) == (31, 32)
    assert problem(summary, "without a category").count == 2
    assert problem(summary, "another one has").count == 1
    assert problem(summary, "lists twice").count == 1
    assert summary.landmarks_without_name == 3


def test_defects_of_solutions(gldv2) -> None:
    root = gldv2("x")
    (root / "metadata" / "retrieval_solution_v2.1.csv").write_text(
        "id,images,Usage\nq001,ddd1 ddd1 gone,public\nq002,,Private\nq003,eee1,Secret\n"
        "zzzz,ddd1,Private\nq001,eee1,Public\n"
    )
    (root / "metadata" / "recognition_solution_v2.1.csv").write_text(
        "id,landmarks,Usage\nq001,20,Ignored\nq002,x,Private\n"
    )
    collection, summary = import_gldv2(root)
    truth = collection.truth
    assert truth is not None and truth.query_ids == ("q001", "q002", "zzzz")
    assert truth.relevant == (("ddd1", "gone"), (), ("ddd1",))
    assert truth.landmarks == ((20,), (), ())
    assert (truth.split[0], truth.recognition_split[0]) == ("Public", "Ignored")
    assert problem(summary, "bad Usage").examples[0] == (
        "retrieval_solution_v2.1.csv row 4, column Usage: "
        "'Secret' is no split (known: Public, Private, Ignored)"
    )
    for part in ("one of their images twice", "test.csv does not list", "bad landmarks", "not in the index"):
        assert problem(summary, part).count == 1


def test_one_solution_alone_makes_nobody_a_non_landmark(gldv2) -> None:
    root = gldv2()
    (root / "metadata" / "recognition_solution_v2.1.csv").unlink()
    collection, _ = import_gldv2(root)
    assert row(collection, "q004")["kind"] == "unknown"
    assert row(collection, "q001")["landmark"] == 20
    assert collection.truth is not None and collection.truth.landmarks == ((),) * 5


def test_bad_countries_and_places_are_not_taken_over(gldv2) -> None:
    collection, summary = import_gldv2(
        gldv2(
            landmark_country__csv="landmark_id,country\n10,UK\n20,\n30,fr\n",
            landmark_location__csv="landmark_id,latitude,longitude\n10,148.86,2.34\n20,48.8,x\n",
            index_landmark_location__csv=None,
        )
    )
    assert [landmark(collection, n)["country"] for n in (10, 20, 30)] == [None, None, "FR"]
    assert "did you mean 'GB'?" in problem(summary, "bad country").examples[0]
    assert "are the two columns swapped?" in problem(summary, "bad latitude").examples[0]
    assert problem(summary, "bad longitude").count == 1


def test_parts_of_the_data_set(gldv2, tmp_path: Path) -> None:
    collection, summary = import_gldv2(
        gldv2(
            "i",
            train__csv=None,
            train_clean__csv=None,
            test__csv=None,
            **{"recognition_solution_v2__1__csv": None, "retrieval_solution_v2__1__csv": None},
        ),
        check_files=False,
    )
    assert summary.splits["train"] == 0 and len(collection) == 5 and collection.truth is None
    # categories of train still number the landmarks
    assert row(collection, "ddd1")["landmark"] == 20 and row(collection, "eee1")["landmark"] == 32
    with pytest.raises(ValueError, match=r"holds no train\.csv, index\.csv or test\.csv"):
        import_gldv2(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("id,label\na,1\n", "has no column 'landmark_id' \\(it has: id, label\\)"),
        ("id,id,landmark_id\n", "names the column 'id' twice"),
        (b"id,landmark_id\n\xff\xfe,1\n", "save it as comma-separated UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read(gldv2, text, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_gldv2(gldv2(train__csv=text))


@pytest.mark.photos
def test_gld_mini_has_its_exact_counts() -> None:
    if not GLD_MINI.is_dir():
        pytest.skip(f"no real photos at {GLD_MINI}")
    collection, summary = import_gldv2(GLD_MINI)
    assert summary.splits == {"train": 1739, "validation": 0, "index": 1729, "query": 629}
    assert (summary.train_clean, summary.clean_landmarks) == (1086, 36)
    assert (summary.missing_files, summary.duplicate_ids, summary.problems) == (0, 0, ())
    real = [entry for entry in collection.landmarks.to_pylist() if not entry["name"].startswith("Noise")]
    assert len(real) == 42
    only_index = [entry for entry in real if entry["landmark"] > 90019]
    assert [entry["landmark"] for entry in only_index] == list(range(90020, 90026))
    assert [entry["name"] for entry in only_index] == [
        "Charminar",
        "Hochiminh Mausoleum",
        "Invalides",
        "Place Massena",
        "Pont Avignon",
        "The Roman Colosseum",
    ]
    answered = summary.queries_with_answers
    assert answered["Public"] + answered["Private"] == 418
    train = set(collection.in_split("train").photos["landmark"].to_pylist())
    queries = collection.in_split("query").photos.to_pylist()
    assert (
        sum(found["landmark"] is not None and found["landmark"] not in train for found in queries)
        == 46 + 18 + 5
    )
    assert sum(found["kind"] == "none" for found in queries) == 120 + 61
