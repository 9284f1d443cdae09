"""An index that answers: what is looked at, what votes, and from when on that is enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from landseer.cli import cli
from landseer.models import Ensemble, Member, build_embedder
from landseer.pipeline import build_index, search_index
from landseer.pipeline.indexing.model import IndexModel
from landseer.pipeline.indexing.settings import keep_recipe, settings_of
from landseer.pipeline.online import Online, Query, Refused
from landseer.pipeline.online.attention import main_object
from landseer.pipeline.online.seeing import Eye
from landseer.pipeline.online.votes import Certainty, measured, verdict_of
from landseer.recipe import (
    AspectOptions,
    DescriptorOptions,
    ModelOptions,
    RecognitionOptions,
    load_recipe,
    shipped,
)
from landseer.search import LivingIndex, open_index
from landseer.types import Descriptors

OPTIONS = ModelOptions(backbone="test_resnet", weights="none", pooling="gem", neck="fc", dim=16)


def model(**more):
    return IndexModel(opened=(build_embedder(OPTIONS), DescriptorOptions(size=64, **more)))


def ensemble():
    parts = [
        Member(
            name="a", weight=1.0, embedder=build_embedder(OPTIONS), descriptors=DescriptorOptions(size=64)
        ),
        Member(
            name="b",
            weight=2.0,
            embedder=build_embedder(OPTIONS, seed=1),
            descriptors=DescriptorOptions(size=96, flip=True),
        ),
    ]
    return IndexModel(opened=(Ensemble(members=tuple(parts)), None))


@pytest.mark.parametrize(
    "made",
    [
        model,
        lambda: model(scales=(0.71, 1.0), flip=True),
        lambda: model(aspects=AspectOptions(sizes=((96, 64), (64, 64), (64, 96)), splits=(0.8, 1.25))),
        lambda: model(dtype="float16"),
        ensemble,
    ],
)
def test_bytes_are_seen_as_files_are(made, tmp_path, draw):
    from landseer.pipeline.indexing.model import Work
    from landseer.pipeline.indexing.photos import collection_at

    draw(tmp_path, "a.png", "b.png")
    from PIL import Image

    wide = Image.open(tmp_path / "b.png").resize((90, 50))
    wide.save(tmp_path / "c.png")
    names = ("a.png", "b.png", "c.png")
    index_model = made()
    collection = collection_at(tmp_path, {name: name for name in names}, split="query")
    expected, _ = index_model.describe(collection, tmp_path / "out", Work(workers=1))
    eye = Eye(index_model, threads=1)
    rows, boxes = eye.describe([eye.look((tmp_path / name).read_bytes()) for name in names])
    assert rows.dtype == expected.rows_ND.dtype
    assert np.allclose(rows, expected.rows_ND, atol=2e-6 if rows.dtype == np.float32 else 2e-3)
    assert len(boxes) == 3


def test_the_box_is_that_of_the_strongest_part():
    energy = np.zeros((16, 16))
    energy[4:10, 6:14] = 1.0
    energy[0:2, 0:2] = 0.8  # smaller, and weaker
    assert main_object(energy) == pytest.approx((5.5 / 16, 3.5 / 16, 14.5 / 16, 10.5 / 16), abs=0.02)
    assert main_object(np.ones((16, 16))) is None
    assert main_object(np.pad(np.ones((1, 1)), 8)) is None  # too small to mean anything
    assert main_object(np.ones((2, 2))) is None


def test_the_box_of_a_crop_is_told_in_the_whole_photo(tmp_path):
    from io import BytesIO

    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 40, (256, 256, 3), dtype=np.uint8)
    pixels[140:230, 150:240] = np.random.default_rng(1).integers(100, 256, (90, 90, 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    eye = Eye(IndexModel(opened=(build_embedder(OPTIONS), DescriptorOptions(size=256))), threads=1)
    _, boxes = eye.describe([eye.look(stream.getvalue(), (0.5, 0.5, 1.0, 1.0))])
    assert boxes[0] is None or (boxes[0][0] >= 0.5 and boxes[0][1] >= 0.5 and boxes[0][2] <= 1)


VOTERS = [("a", 0.9), ("b", 0.8), ("c", 0.5)]
RECORDS = {
    "a": {"id": "a", "landmark": 1, "landmark_name": "one", "country": None},
    "b": {"id": "b", "landmark": 2, "landmark_name": None, "country": "DE"},
    "c": {"id": "c", "landmark": 2, "landmark_name": None, "country": "DE"},
}


def test_votes_are_counted_as_written_down():
    found = verdict_of(VOTERS, RECORDS, RecognitionOptions(voters=3), Certainty(confidence=0.4))
    assert (found.landmark, found.name, found.country) == (2, "landmark 2", "DE")
    assert found.confidence == pytest.approx((0.8 + 0.5) / 3)
    assert [(vote.landmark, vote.photos) for vote in found.votes] == [(2, ("b", "c")), (1, ("a",))]
    assert [vote.share for vote in found.votes] == pytest.approx([1.3 / 2.2, 0.9 / 2.2])
    assert found.known
    assert not verdict_of(VOTERS, RECORDS, RecognitionOptions(voters=3), Certainty(confidence=0.44)).known
    # without a threshold the nearest voter of the winner decides
    assert verdict_of(VOTERS, RECORDS, RecognitionOptions(voters=3), Certainty(cosine=0.8)).known
    assert not verdict_of(VOTERS, RECORDS, RecognitionOptions(voters=3), Certainty(cosine=0.81)).known
    assert not verdict_of(VOTERS, RECORDS, RecognitionOptions(voters=3), Certainty()).known
    assert verdict_of([], RECORDS, RecognitionOptions(), Certainty()) is None


def clustered(path, *, landmarks, photos, labelled=True):
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((landmarks, 32))
    rows = np.repeat(centres, photos, axis=0) + 0.3 * rng.standard_normal((landmarks * photos, 32))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    ids = tuple(f"{n // photos}-{n % photos}" for n in range(len(rows)))
    index = LivingIndex.create(path, model="m", dim=32)
    table = [{"id": photo, "landmark": int(photo.split("-")[0]) if labelled else None} for photo in ids]
    index.add(Descriptors(ids=ids, rows_ND=rows), table, model="m")
    return index, rows


def test_enough_is_what_one_stranger_in_twenty_reaches(tmp_path):
    options = RecognitionOptions(voters=3)
    with clustered(tmp_path / "index", landmarks=12, photos=6)[0] as index:
        found = measured(index, options)
        assert found.confidence is not None
        ids = index.ids_where()
        strangers, familiar = [], []
        for photo in ids:  # the definition, one after the other
            own = photo.split("-")[0]
            near = index.search(index.descriptors([photo]), k=len(ids)).answers(0)
            for group, kept in (
                (strangers, [each for each in near if each[0].split("-")[0] != own]),
                (familiar, [each for each in near if each[0] != photo]),
            ):
                records = index.photos([other for other, _ in kept[:3]])
                group.append(verdict_of(kept[:3], records, options, found))
        assert sum(verdict.known for verdict in strangers) <= len(ids) // 20
        assert (
            sum(verdict.confidence >= found.confidence - 1e-6 for verdict in strangers) <= len(ids) // 20 + 1
        )
        assert sum(verdict.known for verdict in familiar) > 0.9 * len(ids)


def test_with_few_labels_a_photo_must_be_nearer_than_photos_are_to_each_other(tmp_path):
    index, rows = clustered(tmp_path / "index", landmarks=30, photos=1, labelled=False)
    with index:
        index.update({"0-0": {"landmark": 0}})
        found = measured(index, RecognitionOptions())
        assert found.confidence is None
        cosines = (rows @ rows.T)[np.triu_indices(30, 1)]
        assert found.cosine == pytest.approx(np.quantile(cosines, 0.999), abs=1e-5)
    empty, _ = clustered(tmp_path / "empty", landmarks=1, photos=2)
    with empty:
        assert measured(empty, RecognitionOptions()) == Certainty()


def test_an_index_keeps_a_recipe_and_gives_it_back(index, photos, tmp_path):
    with open_index(index) as opened:
        assert settings_of(opened).reranking == () and settings_of(opened).recognition == RecognitionOptions()
    with pytest.raises(ValueError, match="keeps no re-ranking; landseer index rebuild INDEX --recipe"):
        search_index(index, [photos / "d.png"], rerank=True)
    for name in ("mini/best", "landseer", "glr2021-2nd"):
        recipe = load_recipe(shipped(name))
        kept = keep_recipe(index, shipped(name))
        assert (kept.reranking, kept.recognition) == (recipe.reranking, recipe.recognition)
    (answers,) = search_index(index, [photos / "d.png"], rerank=True, k=3)
    assert len(answers.answers) == 3
    told = CliRunner().invoke(cli, ["index", "info", str(index)]).output
    assert "re-ranking   " + ", ".join(options.method for options in recipe.reranking) in told
    with pytest.raises(ValueError, match="leave out --recall or --rerank"):
        search_index(index, [photos / "d.png"], rerank=True, recall=0.9)
    spatial = tmp_path / "spatial.toml"
    spatial.write_text('title = "s"\n[[reranking]]\nmethod = "spatial"\n')
    with pytest.raises(ValueError, match='method "spatial"'):
        keep_recipe(index, spatial)
    build_index(photos, index, model=tmp_path / "recipe.toml", recipe=shipped("landseer"))
    with open_index(index) as opened:
        assert settings_of(opened).reranking == load_recipe(shipped("landseer")).reranking


def test_whoever_asks_wrongly_is_told_and_the_others_are_answered(index, photos):
    with Online(index) as online:
        seen = online.look((photos / "d.png").read_bytes())
        found = online.ask(
            [
                Query(photo=seen, k=2),
                Query(photo=seen, k=0),
                Query(photo=seen, where="no such column = 1"),
                Query(photo=seen, rerank=True),
                Query(photo="absent"),
                Query(photo=replace(seen, model="another")),
                Query(photo="d.png", k=2),
            ]
        )
    assert [isinstance(each, Refused) for each in found] == [False, True, True, True, True, True, False]
    assert found[0].answers[0].record["id"] == "d.png"
    assert "d.png" not in [answer.record["id"] for answer in found[-1].answers]
