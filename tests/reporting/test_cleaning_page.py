"""Pages of kept and dropped photos: complete in themselves, safe, equal to what they are made of."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from landseer.reporting import cleaning_page
from landseer.reporting.cleaning_page import (
    CleaningReport,
    JudgedPhoto,
    Likeness,
    shown_first,
    write_cleaning_pages,
)
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection

EVIL = '<script>alert("1")</script>'
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements in order with their attributes; refuses what is not well nested."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.inside, self._open = [], "", {"style": "", "script": ""}, []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] in self.inside:
            self.inside[self._open[-1]] += data
        else:
            self.text += data

    def of_class(self, name):
        return [attrs for _, attrs in self.elements if name in (attrs.get("class") or "").split()]


def collection(root: Path) -> Collection:
    names = [f"{letter}{number}" for letter in "ab" for number in range(4)]
    for number, name in enumerate(names[:-1]):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{name}.png")
    columns = {
        "id": names,
        "path": [f"{name}.png" for name in names],
        "landmark": [1] * 4 + [2] * 4,
        "kind": ["landmark"] * 8,
        "clean": [True] * 8,
        "split": ["train"] * 8,
    }
    known = {"landmark": [1, 2], "name": [f"Tower {EVIL}", None]}
    return Collection(
        photos=pa.table(
            {each.name: columns.get(each.name, [None] * 8) for each in PHOTO_SCHEMA}, schema=PHOTO_SCHEMA
        ),
        landmarks=pa.table(
            {each.name: known.get(each.name, [None] * 2) for each in LANDMARK_SCHEMA}, schema=LANDMARK_SCHEMA
        ),
        root=root,
        fingerprint="f00d",
    )


def judged(name: str, score: float, same=(), other=()) -> JudgedPhoto:
    return JudgedPhoto(
        id=name,
        kept=score >= 0.5,
        score=score,
        reason=f"because {EVIL}",
        margin=score - 0.5,
        same=tuple(
            Likeness(id=each, landmark=1, cosine=0.5, inliers=inliers, kept=True) for each, inliers in same
        ),
        other=tuple(Likeness(id=each, landmark=2, cosine=0.25, inliers=None, kept=True) for each in other),
    )


@pytest.fixture
def pages(tmp_path):
    report = CleaningReport(
        collection=collection(tmp_path),
        photos=8,
        kept_photos=3,
        landmarks=3,
        kept_landmarks=1,
        reasons={"some reason": 5, EVIL: 3},
        settings={"inliers": 30, "mode": "both"},
        enough=0.5,
    )
    tower = [
        judged("a0", 0.9, same=[("a1", 31), ("a2", None)]),
        judged("a1", 0.6, same=[("a0", 31)]),
        judged("a2", 0.1, same=[("a0", 29)], other=["b3", "b0"]),
        judged("a3", 0.4),
    ]
    write_cleaning_pages(tmp_path / "pages", report, iter([(1, tower), (2, [judged("b0", 0.7)])]))
    return tmp_path / "pages", report, tower


def read(pages, name):
    return Page((pages[0] / name).read_text())


def test_there_is_a_page_a_landmark_and_one_that_lists_them(pages):
    index = read(pages, "index.html")
    links = [attrs["href"] for tag, attrs in index.elements if tag == "a"]
    assert links == ["landmark-1.html", "landmark-2.html"]
    assert all((pages[0] / link).is_file() for link in links)
    assert "3 of 8 training photos and 1 of\n  3 landmarks were kept" in index.text
    assert "1 landmarks with fewer have no page" in index.text
    assert f"Tower {EVIL}" in index.text
    assert re.search(r"some reason\s*5\s", index.text)


def test_a_page_says_what_was_kept_dropped_and_why(pages):
    page = read(pages, "landmark-1.html")
    cards = [attrs["class"] for tag, attrs in page.elements if tag == "article"]
    assert cards == ["judged dropped"] * 2 + ["judged kept"] * 2
    order = re.findall(r"(a\d),(keep|drop)", page.text)
    assert order == [("a3", "keep"), ("a2", "keep"), ("a1", "drop"), ("a0", "drop")], (
        "next to the threshold first"
    )
    assert "31 points" in page.text
    assert "29 points" in page.text
    assert len(page.of_class("proof")) == 2, "only what reaches the threshold is a proof"
    assert page.text.count(f"because {EVIL}") == 4
    assert "landmark 2" in page.text


def test_pages_ask_for_nothing_and_admit_only_their_own_script(pages):
    for name in ("index.html", "landmark-1.html"):
        text, page = (pages[0] / name).read_text(), read(pages, name)
        policy = next(
            a["content"] for t, a in page.elements if t == "meta" and "Content-Sec" in a.get("http-equiv", "")
        )
        assert "default-src 'none'" in policy
        for kind in ("style", "script"):
            if page.inside[kind]:
                digest = base64.b64encode(hashlib.sha256(page.inside[kind].encode()).digest()).decode()
                assert f"{kind}-src 'sha256-{digest}'" in policy
            else:
                assert f"{kind}-src" not in policy
        assert EVIL not in text
        assert not re.search(r"https?://", text.replace("http-equiv", ""))
        assert not [a for _, a in page.elements if any(key.startswith("on") or key == "style" for key in a)]


def test_every_picture_is_there_once_and_a_missing_one_says_why(pages):
    page = read(pages, "landmark-1.html")
    rules = re.findall(r"\.p(\d+)\{background-image:url\((data:[^)]*)\)\}", page.inside["style"])
    assert len(rules) == len({number for number, _ in rules}) == 6  # a0 to a3, b0 and b3
    assert sum(uri == "data:," for _, uri in rules) == 1
    shown = [attrs for attrs in page.of_class("photo") if attrs["aria-label"] == "photo b3"]
    assert len(shown) == 1
    assert page.text.count("missing") == 1
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in page.of_class("photo"))


def test_equal_reports_give_equal_pages_and_a_folder_is_not_overwritten(pages, tmp_path):
    path, report, tower = pages
    write_cleaning_pages(tmp_path / "again", report, [(1, tower), (2, [judged("b0", 0.7)])])
    for file in path.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    with pytest.raises(ValueError, match="pages exists already"):
        write_cleaning_pages(path, report, [])


def test_of_a_landmark_with_many_photos_those_next_to_the_threshold_are_shown(monkeypatch):
    monkeypatch.setattr(cleaning_page, "MOST_PHOTOS", 6)
    many = [judged(f"p{n:02}", n / 20) for n in range(20)]
    dropped, kept = shown_first(many, 0.5)
    assert [photo.id for photo in dropped] == ["p09", "p08", "p07"]
    assert [photo.id for photo in kept] == ["p10", "p11", "p12"]
    dropped, kept = shown_first(many[:11], 0.5)
    assert (len(dropped), len(kept)) == (5, 1), "what one group does not need the other has"
