"""The filter language: what it selects, against plain Python, and what it refuses."""

from __future__ import annotations

import random

import numpy as np
import pytest

from landseer.search import Filter, LivingIndex
from landseer.search.living.state import FIXED
from landseer.types import Descriptors

NAMES = ("id", "path", "landmark", "kind", "country", "taken", "latitude", "longitude")
PHOTOS = [
    dict(zip(NAMES, values, strict=True)) | own
    for *values, own in [
        ("a", "paris/1.jpg", 1, "landmark", "FR", "2019-07-14T12:00:00", 48.85, 2.35, {"stars": 3, "my note": "it's"}),
        ("b", "Paris/2.jpg", 1, "landmark", "FR", "2019-12-31T23:59:59", -17.7, 178.0, {"stars": 4.5, "my note": ""}),
        ("c", "rome/1.jpg", 2, "none", "IT", "2020-01-01T00:00:00.000", 41.9, 12.5, {"stars": None, "my note": "x"}),
        ("d", "fiji/100%.jpg", None, "unknown", None, None, -17.7, -179.5, {"open": True}),
        ("e", "x", 3, "unknown", "fr", "2018-01-01", None, None, {"open": False}),
    ]
]  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    rows = np.eye(len(PHOTOS), dtype=np.float32)
    with LivingIndex.create(tmp_path_factory.mktemp("filters") / "index", model="m", dim=len(PHOTOS)) as made:
        made.add(Descriptors(ids=tuple(p["id"] for p in PHOTOS), rows_ND=rows), PHOTOS, model="m")
        yield made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("country = 'FR'", "ab"),
        ("country == 'FR' AND landmark=1", "ab"),
        ("country != 'FR'", "ce"),
        ("country <> 'FR'", "ce"),
        ("not country = 'FR'", "ce"),
        ("not not country = 'FR'", "ab"),
        ("country is null", "d"),
        ("country IS NOT NULL", "abce"),
        ("country in ('FR', 'IT')", "abc"),
        ("country not in ('FR', 'IT')", "e"),
        ("landmark > 1", "ce"),
        ("landmark between 1 and 2", "abc"),
        ("landmark not between 1 and 2", "e"),
        ("landmark < 2.5 and landmark >= +1", "abc"),
        ("latitude < -1e1", "bd"),
        ("path like 'paris%'", "ab"),
        ("path not like '%.jpg'", "e"),
        ("kind='none' or kind='landmark' and landmark=1", "abc"),
        ("(kind='none' or kind='landmark') and landmark=2", "c"),
        ("taken <= '2019'", "abe"),
        ("taken < '2019'", "e"),
        ("taken > '2019'", "c"),
        ("taken >= '2019'", "abc"),
        ("taken = '2019'", "ab"),
        ("taken = '2019-07'", "a"),
        ("taken != '2019-07'", "bce"),
        ("taken in ('2019-07-14', '2020')", "ac"),
        ("taken not in ('2019-07-14', '2020')", "be"),
        ("taken between '2019-08' and '2020'", "bc"),
        ("taken not between '2019-08' and '2020'", "ae"),
        ("taken >= '2019-07-14 12:00'", "abc"),
        ("taken > '2019-07-14T12'", "bc"),
        ("box(40, 0, 50, 13)", "ac"),
        ("not box(40, 0, 50, 13)", "bd"),
        ("box(-20, 170, -10, -170)", "bd"),
        ("BOX(-20, 170, -10, 179) or id = 'e'", "be"),
        ("stars >= 3", "ab"),
        ("stars = 4.5", "b"),
        ("stars is null", "cde"),
        ("open = true", "d"),
        ("open = false", "e"),
        ("\"my note\" = 'it''s'", "a"),
        ("\"my note\" in ('', 'x')", "bc"),
        ("stars in (3, 'x', 4.5)", "ab"),
        ("id in ('a', 'z')", "a"),
        ("landmark in (" + ", ".join(map(str, range(2, 1500))) + ")", "ce"),
    ],
)
def test_a_filter_selects(index, text, expected):
    assert "".join(index.ids_where(text)) == expected
    query = Descriptors(ids=("q",), rows_ND=np.full((1, len(PHOTOS)), 0.5, np.float32))
    found = index.search(query, k=len(PHOTOS), where=Filter(text))
    assert "".join(photo for photo, _ in found.answers(0)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a column at position 1, not the end"),
        ("county = 'FR'", r"no column 'county' \(position 1; known: .*country.*stars"),
        ("country = FR", "expected a 'text' or a number at position 11, not FR"),
        ('country = "FR"', "expected a 'text' or a number at position 11"),
        ("country = 1", "this column holds text: expected a 'text' at position 11"),
        ("landmark = '1'", "this column holds numbers: expected a number at position 12"),
        ("landmark = 1 2", "expected and, or, or the end at position 14, not 2"),
        ("landmark = 1a", "a sign it does not know at position 12"),
        ("landmark = 9223372036854775808", "below 2\\^63 at position 12"),
        ("landmark", "expected a comparison at position 9"),
        ("landmark not = 1", "expected in, like or between at position 14"),
        ("landmark like '1'", "like compares text"),
        ("country is 'FR'", "expected null at position 12"),
        ("country in ()", "position 13"),
        ("country in ('FR'", "expected \\) at position 17, not the end"),
        ("(country = 'FR'", "expected \\) at position 16"),
        ("country = 'FR' and", "expected a column at position 19"),
        ("country = 'FR", "a quote that does not end at position 11"),
        ("country = 'FR'; drop table photos", "a sign it does not know at position 15"),
        ("country = 'FR' -- x", "a sign it does not know at position 16"),
        ("taken = '19'", "expected a time such as"),
        ("taken = 2019", "this column holds text"),
        ("taken like '2019%'", "like compares text|expected a time"),
        ("box(1, 2, 3)", "expected , at position 12"),
        ("box(91, 0, 92, 0)", "out of range at position 5"),
        ("box(2, 0, 1, 0)", "south 2.0 above north 1.0"),
        ("not " + "(" * 100 + "id = 'a'" + ")" * 100, "too deep"),
        (" or ".join(["id = 'a'"] * 300), "too many"),
        ("id = '" + "a" * 30_000 + "'", "30007 characters"),
    ],
)
def test_a_wrong_filter_says_where(index, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        index.ids_where(text)
    assert str(caught.value).isprintable()


def test_random_texts_are_understood_or_refused_and_never_reach_the_database(index):
    clauses = [
        "country = 'FR'",
        "landmark in (1, -2.5)",
        "taken < '2019'",
        "box(1, 2, 3, 4)",
        '"my note" is null',
    ]
    words = ["and", "and", "or", "or", "not", "(", ")", *clauses, *clauses, *" ".join(clauses).split()]
    words += ["'", '"', ";", "--", "union", "\0", "?", "é"]
    rng = random.Random(3)
    understood = 0
    for _ in range(6000):
        text = " ".join(rng.choice(words) for _ in range(rng.choice((1, 2, 3, 3, 5, 7))))
        columns = {name: (name, kind) for name, kind in FIXED.items()} | {"my note": ("extra", "any")}
        try:
            sql, parameters = Filter(text).compile(columns)
        except ValueError:
            continue
        understood += 1
        assert not set(sql) & set("'\";") and "--" not in sql, "every value is a parameter"
        assert sql.count("?") == len(parameters)
        index.ids_where(text)
    assert understood > 100


def test_a_value_may_hold_what_would_end_a_statement(index):
    assert index.ids_where("id = '''; drop table photos; --'") == ()
    assert len(index.ids_where()) == len(PHOTOS)


def test_k_answers_come_back_where_k_are_selected(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((500, 4)).astype(np.float32)
    ids = tuple(f"p{n}" for n in range(500))
    with LivingIndex.create(tmp_path / "index", model="m", dim=4, normalised=False) as index:
        table = [{"id": photo, "landmark": n % 100} for n, photo in enumerate(ids)]
        index.add(Descriptors(ids=ids, rows_ND=rows, normalised=False), table, model="m")
        query = Descriptors(ids=("q",), rows_ND=rows[:1], normalised=False)
        found = index.search(query, k=5, where="landmark = 7")
    assert sorted(photo for photo, _ in found.answers(0)) == sorted(ids[7::100])
