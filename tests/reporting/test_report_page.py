"""The page as its reader gets it: whole, self-contained, safe, accessible, equal to what it is made of."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from io import BytesIO
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from landseer.reporting import RunPage, StageNumbers, render_page, write_page
from landseer.reporting.answers import PICTURE_BYTES, pictures
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection, Number, Ranking, Report, Truth

EVIL = '<script>alert("1")</script>'
COUNTRIES = ("JP", "NA", None)
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements in order, their attributes, and the path of each; refuses what is not well nested."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self._open = [], "", []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self._open)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self._open)))

    def handle_endtag(self, tag):
        assert self._open
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        if not self._open or self._open[-1][0] != "style":
            self.text += data

    def all(self, *tags):
        return [(attrs, above) for tag, attrs, above in self.elements if tag in tags]


def photo(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((320, 240)).save(path, quality=85)


def report(seed, **groups):
    rng = np.random.default_rng(seed)
    numbers = []
    for group, num in groups.items():
        value = float(rng.uniform(0.2, 0.8))
        name = group.replace("_", " ")
        numbers.append(
            Number(
                name="mAP@100", value=value, low=value - 0.07, high=value + 0.05, num_queries=num, group=name
            )
        )
    return Report(
        title="r",
        numbers=tuple(numbers),
        protocol={"divisor": "min(m, 100)"},
        made_by={"recipe": f"f00d{seed}"},
    )


def per_query(truth, ranking):
    rows = []
    for row, name in enumerate(truth.query_ids):
        right = [photo in truth.relevant[row] for photo, _ in ranking.answers(row)]
        hits = np.flatnonzero(right)
        num = len(truth.relevant[row])
        rows.append(
            {
                "query": name,
                "split": truth.split[row],
                "landmark": truth.landmarks[row][0] if truth.landmarks[row] else None,
                "seen": None if not truth.landmarks[row] else truth.landmarks[row][0] % 2 == 0,
                "ap": float(sum((i + 1) / (hit + 1) for i, hit in enumerate(hits)) / min(max(num, 1), 100)),
                "num_relevant": num,
                "first_hit": int(hits[0]) + 1 if len(hits) else None,
                "precision_at_10": sum(right[:10]) / 10,
            }
        )
    names = ["query", "split", "landmark", "seen", "ap", "num_relevant", "first_hit", "precision_at_10"]
    kinds = [
        pa.string(),
        pa.string(),
        pa.int64(),
        pa.bool_(),
        pa.float64(),
        pa.int64(),
        pa.int64(),
        pa.float64(),
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(zip(names, kinds, strict=True)))


def rankings(num_queries, gallery, k, seed):
    rng = np.random.default_rng(seed)
    positions = np.stack([rng.permutation(len(gallery))[:k] for _ in range(num_queries)]).astype(np.int64)
    scores = -np.sort(-rng.uniform(0, 1, (num_queries, k)), axis=1)
    return Ranking(
        query_ids=tuple(f"q{i}" for i in range(num_queries)),
        gallery_ids=gallery,
        positions_QK=positions,
        scores_QK=scores.astype(np.float32),
        gallery_fingerprint="9a11e5",
    )


def world(root, num_queries=12, num_gallery=30, num_landmarks=3, draw=True):
    """A run over random pictures: landmark = number modulo *num_landmarks*; the last query has no answer."""
    gallery = tuple(f"g{i}" for i in range(num_gallery))
    queries = tuple(f"q{i}" for i in range(num_queries))
    if draw:
        for seed, name in enumerate((*gallery, *queries)):
            photo(root / f"{name}.jpg", seed)
    landmark = [int(name[1:]) % num_landmarks for name in (*gallery, *queries)]
    num = num_gallery + num_queries
    names = [EVIL if i == 1 else f"Temple {i} & Söhne" for i in range(num_landmarks)]
    none = [None] * num_landmarks
    photos = pa.table(
        [
            [*gallery, *queries],
            [f"{name}.jpg" for name in (*gallery, *queries)],
            landmark,
            ["landmark"] * num,
            [True] * num,
            ["index"] * num_gallery + ["query"] * num_queries,
            *[[None] * num] * 4,
        ],
        schema=PHOTO_SCHEMA,
    )
    countries = [COUNTRIES[i % 3] for i in range(num_landmarks)]
    landmarks = pa.table(
        [list(range(num_landmarks)), names, none, countries, none, none, none], schema=LANDMARK_SCHEMA
    )
    relevant = [
        tuple(g for g in gallery if int(g[1:]) % num_landmarks == i % num_landmarks)
        for i in range(num_queries)
    ]
    truth = Truth(
        query_ids=queries,
        relevant=(*relevant[:-1], ()),
        junk=tuple(("g5",) if "g5" not in found else () for found in relevant),
        landmarks=(*((i % num_landmarks,) for i in range(num_queries - 1)), ()),
        split=tuple("Private" if i % 3 else "Public" for i in range(num_queries)),
        recognition_split=("Public",) * num_queries,
    )
    now, before = (rankings(num_queries, gallery, min(20, num_gallery), seed) for seed in (1, 2))
    return RunPage(
        title=f"A run of {EVIL}",
        report=report(1, Public=4, Private=7, landmarks_not_trained_on=3),
        baseline=report(2, Private=7, Public=4),
        per_query=per_query(truth, now),
        baseline_per_query=per_query(truth, before),
        ranking=now,
        collection=Collection(
            photos=photos, landmarks=landmarks, root=root, truth=truth, fingerprint="c011ec"
        ),
        losses=[{"stage": "s", "step": i, "epoch": 0, "loss": 3 / (i + 1), "lr": 0.1} for i in range(50)],
        unreadable={"x1": "truncated", EVIL: f"not a picture: {EVIL}"},
        notes=[f"not measured here {EVIL}"],
        baseline_ranking=before,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return world(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def text(run):
    return render_page(run)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def numbers_of(page):
    """The exact values of the table of numbers, row by row, from their ``value`` attributes."""
    found = []
    for attrs, above in page.all("data"):
        if any(tag == "table" and a["class"] == "numbers" for tag, a in above):
            found.append(float(attrs["value"]))
    return found


def test_nothing_is_fetched_or_run(page, text):
    assert "http:" not in text
    assert "https:" not in text
    assert "//" not in re.sub(r"base64,[A-Za-z0-9+/=]+|sha256-[A-Za-z0-9+/=]+", "", text)
    assert not page.all("script", "link", "iframe", "object", "embed", "form", "base")
    for _, attrs, _ in page.elements:
        assert not any(name.startswith("on") for name in attrs)
        assert "style" not in attrs  # the policy below would refuse it
        assert attrs.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert attrs.get("href", "#").startswith("#")


def test_the_policy_admits_exactly_this_style_sheet(page, text):
    policy = next(
        a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert "url(" not in style
    assert "@import" not in style


def test_everything_that_came_from_outside_is_escaped(page, text):
    assert "<script" not in text
    assert page.text.count(EVIL) >= 5  # title, note, landmark, photo id, reason


def test_the_numbers_are_those_of_the_reports(run, page):
    shown = numbers_of(page)
    now = {n.group: n.value for n in run.report.numbers}
    before = {n.group: n.value for n in run.baseline.numbers}
    assert shown == [
        before["Private"],
        now["Private"],
        before["Public"],
        now["Public"],
        now["landmarks not trained on"],
    ]
    for number in run.report.numbers:
        assert f"{number.value:.3f}" in page.text
        assert f"{number.low:.3f}–{number.high:.3f}" in page.text
    assert "not measured" in page.text


def test_marks_pictures_and_names_agree_with_the_truth(run, page):
    truth = run.collection.truth
    relevant = dict(zip(truth.query_ids, map(set, truth.relevant), strict=True))
    junk = dict(zip(truth.query_ids, map(set, truth.junk), strict=True))
    answers = dict(zip(run.ranking.query_ids, map(run.ranking.answers, range(len(run.ranking))), strict=True))
    old = dict(
        zip(run.ranking.query_ids, map(run.baseline_ranking.answers, range(len(run.ranking))), strict=True)
    )
    query, strips = "", []
    for attrs, above in page.all("img"):
        classes = [a.get("class") for _, a in above]
        if "query" in classes:
            query = attrs["title"]
            strips.append((query, []))
            continue
        photo = attrs["title"]
        word = "right" if photo in relevant[query] else "junk" if photo in junk[query] else "wrong"
        assert classes[-1] == word
        assert (", not counted: " if word == "junk" else f", {word}: ") in attrs["alt"]
        assert attrs["alt"].endswith(run.collection.name_of(int(photo[1:]) % 3))
        strips[-1][1].append(photo)
    assert len(strips) > 10
    firsts = [([p for p, _ in answers[q][:10]], [p for p, _ in old[q][:10]]) for q, _ in strips]
    assert all(shown in (now, before + now) for (_, shown), (now, before) in zip(strips, firsts, strict=True))
    assert any(len(shown) == 20 for _, shown in strips)


def test_scores_stand_beside_the_answers(run, page):
    best = max(run.per_query.to_pylist(), key=lambda row: (row["ap"], row["num_relevant"]))
    row = run.ranking.query_ids.index(best["query"])
    for _, score in run.ranking.answers(row)[:10]:
        assert f"{score:.3f}" in page.text
    assert f"{best['ap']:.3f}" in page.text


def test_pictures_are_small_jpegs(page):
    for attrs, _ in page.all("img"):
        data = base64.b64decode(attrs["src"].removeprefix("data:image/jpeg;base64,"), validate=True)
        with Image.open(BytesIO(data)) as image:
            assert image.format == "JPEG"
            assert max(image.size) <= 208


def test_a_reader_who_does_not_see_can_read_it(page):
    assert page.all("html")[0][0]["lang"] == "en"
    assert page.all("img")
    assert all(attrs.get("alt") for attrs, _ in page.all("img"))
    for attrs, _ in page.all("svg"):
        assert attrs.get("aria-hidden") == "true" or (attrs["role"] == "img" and attrs["aria-label"])
    assert all(attrs.get("scope") for attrs, _ in page.all("th"))
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(set(ids)) == len(ids)
    for attrs, _ in page.all("a"):
        assert attrs["href"][1:] in ids
    for _, attrs, _ in page.elements:
        assert set(attrs.get("aria-labelledby", "").split()) <= set(ids)
        assert set(attrs.get("aria-describedby", "").split()) <= set(ids)
        if attrs.get("class") in ("scroll", "strip"):
            assert attrs["tabindex"] == "0"
            assert attrs["aria-label"]


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_and_marks_have_contrast_in_both_modes(mode):
    style = (files("landseer.reporting") / "page.css").read_text()
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[mode]
    colour = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
    for ground in ("paper", "card", "wash"):
        for ink in ("ink", "soft", "trained", "untrained", "right", "wrong"):
            assert contrast(colour[ink], colour[ground]) >= 4.5, (ink, ground)
        assert contrast(colour["rate"], colour[ground]) >= 3


def test_equal_runs_give_equal_bytes(run, text, tmp_path):
    shuffled = replace(run, unreadable=dict(reversed(run.unreadable.items())))
    write_page(shuffled, tmp_path / "deep" / "page.html")
    assert (tmp_path / "deep" / "page.html").read_bytes() == text.encode()


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_a_page_appears_whole_or_not_at_all(run, tmp_path, monkeypatch, call):
    target = tmp_path / "page.html"
    target.write_text("old")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        with pytest.raises(ValueError, match=r"page\.html cannot be written \(No space left"):
            write_page(run, target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    write_page(run, target)
    assert target.read_text().endswith("</html>\n")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_folder_in_the_way_is_told(run, tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(ValueError, match="choose another place"):
        write_page(run, tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_without_a_baseline_nothing_is_compared(run):
    shown = Page(render_page(replace(run, baseline=None, baseline_per_query=None, baseline_ranking=None)))
    assert numbers_of(shown) == [n.value for n in sorted(run.report.numbers, key=lambda n: order(n.group))]
    assert "Most improved" not in shown.text
    assert "before and after training" not in shown.text
    assert not [attrs for attrs, _ in shown.all("circle") if attrs["class"] == "dot untrained"]


@pytest.mark.parametrize("model", ["", EVIL])
def test_stages_have_a_table_of_their_own(run, model):
    early = report(7, Private=4, landmarks_trained_on=3)
    late = report(8, Private=4, landmarks_trained_on=3, landmarks_not_trained_on=2)
    stages = [
        StageNumbers(model=model, stage="small", report=early),
        StageNumbers(model=model, stage="", report=late),
    ]
    text = render_page(replace(run, stages=stages))
    table = Page(re.search(r'aria-label="Table of stages".*?</table>', text, re.DOTALL)[0].partition(">")[2])
    heads = [
        *(["Model"] if model else []),
        "After",
        "Private",
        "landmarks trained on",
        "landmarks not trained on",
    ]
    for word in heads:
        assert word in table.text
    for number in (*early.numbers, *late.numbers):
        assert f"{number.value:.3f}" in table.text
    assert table.text.count("–") == 1  # no landmark of the first was not trained on
    assert ("as it is" in table.text) == bool(model)
    assert table.text.count(EVIL) == (2 if model else 0)
    assert len([1 for attrs, _ in table.all("th") if attrs["scope"] == "row"]) == 2


def test_a_single_stage_has_no_table(run):
    once = [StageNumbers(model="", stage="only", report=run.report)]
    assert "Table of stages" not in render_page(replace(run, stages=once))
    assert "Table of stages" in render_page(replace(run, stages=[replace(once[0], model="m")]))


def order(group):
    return ["Private", "Public", "landmarks not trained on"].index(group)


def test_a_run_with_nothing_to_show_still_has_a_page(run):
    empty = replace(
        run,
        report=replace(run.report, numbers=()),
        baseline=None,
        per_query=run.per_query.slice(0, 0),
        baseline_per_query=None,
        baseline_ranking=None,
        losses=[],
        unreadable={},
        notes=[],
    )
    shown = Page(render_page(empty))
    for sentence in (
        "No figure was measured",
        "No query was scored",
        "No training loss",
        "every photo was read",
    ):
        assert sentence in shown.text
    assert not shown.all("img")


def test_one_answer_one_query_one_loss(tmp_path):
    one = world(tmp_path, num_queries=2, num_gallery=1, num_landmarks=1)
    text = render_page(replace(one, losses=one.losses[:1]))
    assert "nan" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text).lower()
    assert len([attrs for attrs, _ in Page(text).all("img")]) == 2


def test_unreadable_photos_are_named_where_their_picture_would_be(run, tmp_path):
    (tmp_path / "q0.jpg").write_bytes(b"<html>not here</html>")
    elsewhere = replace(run, collection=replace(run.collection, root=tmp_path))
    shown = Page(render_page(elsewhere))
    assert not shown.all("img")
    missing = [attrs for attrs, _ in shown.all("span") if attrs.get("class") == "missing"]
    assert len(missing) > 50
    assert all("no picture, " in attrs["aria-label"] for attrs in missing)


def test_queries_missing_from_ranking_and_collection_are_told(run):
    half = replace(
        run.ranking,
        query_ids=run.ranking.query_ids[:1],
        positions_QK=run.ranking.positions_QK[:1],
        scores_QK=run.ranking.scores_QK[:1],
    )
    only = run.collection.in_split("index")
    shown = Page(render_page(replace(run, ranking=half, collection=only)))
    assert "No answer: the query has no row in the ranking" in shown.text
    assert "not in the collection" in shown.text


def test_pictures_shrink_until_they_fit(run):
    uses = dict.fromkeys(run.collection.ids, 1)
    large = pictures(uses, run.collection)
    size = sum(len(picture.uri) for picture in large.values())
    budget = size // 3
    small = pictures(uses, run.collection, budget=budget)
    assert sum(len(picture.uri) for picture in small.values()) <= budget
    assert small.keys() == large.keys()
    twice = pictures(dict.fromkeys(uses, 2), run.collection, budget=size)
    assert sum(2 * len(picture.uri) for picture in twice.values()) <= size


def test_thousands_of_queries_and_landmarks_stay_small(tmp_path):
    many = world(tmp_path, num_queries=3000, num_gallery=1500, num_landmarks=700, draw=False)
    losses = [{"stage": "s", "step": i, "epoch": 0, "loss": 1.0, "lr": 0.1} for i in range(100_000)]
    unreadable = {f"photo {i}": "truncated" for i in range(5000)}
    text = render_page(replace(many, losses=losses, unreadable=unreadable, title="t" * 10_000))
    assert len(text) < 6_000_000 - PICTURE_BYTES
    assert "640 between them left out" in text
    assert text.count("<td>truncated</td>") == 200
    assert "t" * 161 not in text
    assert "5,000 photos could not be read" in text


def test_a_page_without_truth_or_a_column_is_refused(run):
    with pytest.raises(ValueError, match="needs a collection with truth"):
        replace(run, collection=replace(run.collection, truth=None))
    with pytest.raises(ValueError, match="per_query has no column 'ap'"):
        replace(run, per_query=run.per_query.drop_columns(["ap"]))
    with pytest.raises(ValueError, match="baseline_per_query has no column 'seen'"):
        replace(run, baseline_per_query=run.per_query.drop_columns(["seen"]))


def test_countries_are_named_and_namibia_is_a_country(page):
    for name in ("Japan", "Namibia", "country not known"):
        assert name in page.text
