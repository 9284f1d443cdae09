from __future__ import annotations

from pathlib import Path

import pytest

from landseer.datasets import import_gldv1

TRAIN = "id,url,landmark_id\na1,u,5\na2,u,None\nb1,u,\nb2,u,7\na1,u,7\nb3,u,x\n"


@pytest.mark.parametrize("where", ["{}.jpg", "train/{}.jpg", "train/a/b/c/{}.jpeg", "shard.tar"])
def test_photos_anywhere(tmp_path: Path, make, where: str) -> None:
    (tmp_path / "train.csv").write_text(TRAIN)
    names = ["a1", "a2", "b1", "b2"]
    if where.endswith(".tar"):
        make.put_tar(tmp_path / where, {f"x/{name}.jpg": make.jpeg() for name in names})
    else:
        for name in names:
            file = tmp_path / where.format(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(make.jpeg())
    collection, summary = import_gldv1(tmp_path)
    assert collection.ids == ("a1", "a2", "b1", "b2")
    assert collection.photos["landmark"].to_pylist() == [5, None, None, 7]
    assert collection.photos["kind"].to_pylist() == ["landmark", "none", "unknown", "landmark"]
    assert collection.landmarks["landmark"].to_pylist() == [5, 7]
    assert summary.landmarks_without_name == 2 and summary.train_clean == 0
    assert summary.duplicate_ids == 1 and summary.rows_refused == 2 and summary.missing_files == 0
    assert collection.root == tmp_path and collection.paths[0].endswith(("a1.jpg", "a1.jpeg"))


def test_index_and_test_belong_to_their_splits(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(TRAIN)
    (tmp_path / "index.csv").write_text("id,url\ni1,u\na1,u\n")
    (tmp_path / "test.csv").write_text("url,id\nu,q1\nu,i1\n")
    collection, summary = import_gldv1(tmp_path, check_files=False)
    assert summary.splits == {"train": 4, "validation": 0, "index": 1, "query": 1}
    examples = [text for problem in summary.problems for text in problem.examples]
    assert "index.csv row 3, column id: 'a1'" in examples and "test.csv row 3, column id: 'i1'" in examples
    assert collection.paths[0] == "a1.jpg" and not summary.files_checked
    with pytest.raises(ValueError, match="not one of 6 photos"):
        import_gldv1(tmp_path)
    assert import_gldv1(tmp_path, keep_missing=True)[1].missing_files == 6


def test_no_train_csv(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no train\.csv"):
        import_gldv1(tmp_path)
