"""An extraction in parts: the joined parts are what one process writes, file by file."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import landseer.pipeline.model
from landseer.cli import cli
from landseer.extraction import Shard, extract, extract_ensemble, merge_shards
from landseer.models import Ensemble, Member
from landseer.recipe import AspectOptions, DescriptorOptions
from landseer.storage import load_descriptors, save_collection

OPTIONS = DescriptorOptions(size=16, batch=4)
SHAPED = DescriptorOptions(
    aspects=AspectOptions(splits=(1.0,), sizes=((24, 16), (16, 24))), batch=3, dtype="float16"
)


def in_parts(describe, num, folder, order=None):
    """All parts, in any order: their folders."""
    paths = [folder / f"part-{number}" for number in range(1, num + 1)]
    for number in order or range(1, num + 1):
        describe(paths[number - 1], Shard(number, num))
    return paths


@pytest.mark.parametrize("num", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("options", [OPTIONS, SHAPED])
def test_the_joined_parts_are_the_whole(draw, embedder, tmp_path, content_of, num, options):
    """22 photos, three unreadable, one part of them all: more parts than batches, too."""
    collection = draw(22, (0, 5, 21), shapes=((28, 20), (20, 28)))
    extract(embedder, collection, tmp_path / "whole", options=options)
    order = list(range(1, num + 1))
    random.Random(num).shuffle(order)
    paths = in_parts(
        lambda out, shard: extract(embedder, collection, out, options=options, shard=shard),
        num,
        tmp_path,
        order,
    )
    assert sum(len(load_descriptors(path)) for path in paths) == 19
    random.Random(0).shuffle(paths)
    merged = merge_shards(paths, tmp_path / "merged")
    assert content_of(tmp_path / "merged") == content_of(tmp_path / "whole")
    assert merged.fingerprint == load_descriptors(tmp_path / "whole").fingerprint


def test_parts_of_an_ensemble_begin_where_every_member_begins_a_batch(draw, embedder, tmp_path, content_of):
    small = type(embedder)(seed=3, dim=8)
    ensemble = Ensemble(
        members=(
            Member(name="a", weight=1.0, embedder=embedder, descriptors=OPTIONS),
            Member(name="b", weight=0.5, embedder=small, descriptors=SHAPED),
        )
    )
    collection = draw(40, (3, *range(12, 24)), shapes=((28, 20), (20, 28)))
    assert [len(Shard(n, 3).of_collection(collection, [4, 3])) for n in (1, 2, 3)] == [12, 12, 16]
    extract_ensemble(ensemble, collection, tmp_path / "whole")
    paths = in_parts(lambda out, shard: extract_ensemble(ensemble, collection, out, shard=shard), 3, tmp_path)
    assert len(load_descriptors(paths[1])) == 0  # no photo of this part can be read
    merge_shards(paths, tmp_path / "merged")
    assert content_of(tmp_path / "merged") == content_of(tmp_path / "whole")


@pytest.mark.parametrize("num", [1, 2, 5, 9, 30])
@pytest.mark.parametrize("photos", [0, 1, 4, 23])
def test_every_photo_is_in_one_part_and_batches_stay_whole(draw, num, photos):
    collection = draw(photos)
    parts = [Shard(number, num).of_collection(collection, [4]).ids for number in range(1, num + 1)]
    assert tuple(photo for part in parts for photo in part) == collection.ids
    starts = np.cumsum([0, *map(len, parts)])[:-1]
    assert all(start % 4 == 0 for start, part in zip(starts, parts, strict=True) if part)
    assert max(map(len, parts)) - min(map(len, parts)) <= 7  # a batch, and what the last lacks


@pytest.fixture
def parts(draw, embedder, tmp_path):
    collection = draw(10)
    return in_parts(
        lambda out, shard: extract(embedder, collection, out, options=OPTIONS, shard=shard), 3, tmp_path
    )


def test_what_is_no_complete_cut_is_refused_and_nothing_is_written(parts, draw, embedder, tmp_path):
    one, two, three = parts
    collection = draw(10)
    extract(embedder, collection, tmp_path / "plain", options=OPTIONS)
    extract(embedder, collection, tmp_path / "half", options=OPTIONS, shard=Shard(1, 2))
    extract(embedder, collection, tmp_path / "twin", options=OPTIONS, shard=Shard(2, 3))
    other = type(embedder)(seed=5)
    extract(other, collection, tmp_path / "other", options=OPTIONS, shard=Shard(2, 3))
    extract(embedder, draw(9), tmp_path / "fewer", options=OPTIONS, shard=Shard(2, 3))
    out = tmp_path / "merged"
    for paths, reason in [
        ([], "nothing to merge"),
        ([one, three], "of 3 parts these are missing: 2; extract them with --shard"),
        ([one, two, three, tmp_path / "twin"], "are both part 2/3; leave one out"),
        ([one, tmp_path / "half"], r"is part 1/2 and .*part-1 part 1/3; merge parts of one cut"),
        ([one, tmp_path / "plain"], "plain is no part of an extraction"),
        ([one, tmp_path / "other", three], r"a part of another extraction than .*part-1 \(model: "),
        ([one, tmp_path / "fewer", three], r"a part of another extraction than .*part-1 \(selection: "),
        ([one, tmp_path / "nowhere"], "nowhere"),
    ]:
        with pytest.raises(ValueError, match=reason):
            merge_shards(paths, out)
        assert not out.exists()


def test_a_damaged_part_is_refused(parts, tmp_path):
    file = parts[1] / "rows.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"part-2"):
        merge_shards(parts, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_what_is_there_already_is_kept_and_something_else_is_not_replaced(parts, tmp_path, content_of):
    merge_shards(parts, tmp_path / "merged")
    before = content_of(tmp_path / "merged")
    merge_shards(parts, tmp_path / "merged")
    assert content_of(tmp_path / "merged") == before
    with pytest.raises(ValueError, match="holds other descriptors"):
        merge_shards(parts, parts[0])


def test_parts_that_hold_no_readable_photo_at_all_are_refused(draw, embedder, tmp_path):
    collection = draw(8, tuple(range(8)))
    paths = in_parts(
        lambda out, shard: extract(embedder, collection, out, options=OPTIONS, shard=shard), 2, tmp_path
    )
    with pytest.raises(ValueError, match="no photo of any part could be read"):
        merge_shards(paths, tmp_path / "merged")


def test_a_part_of_other_settings_is_not_taken_for_this_one(parts, draw, embedder):
    with pytest.raises(ValueError, match=r"part-1 holds descriptors of other settings \(selection: "):
        extract(embedder, draw(10), parts[0], options=OPTIONS, shard=Shard(2, 3))


@pytest.mark.parametrize("text", ["0/8", "9/8", "3", "3/", "a/b", "-1/8", "1/8/2", ""])
def test_a_shard_that_is_none_is_refused_in_a_line(text):
    with pytest.raises(ValueError, match=r"of eight as 3/8|first of 8 is 1/8"):
        Shard.named(text)


def test_from_the_shell(draw, embedder, tmp_path, monkeypatch):
    save_collection(draw(9, (2,)), tmp_path / "C", made_by={})
    (tmp_path / "M").mkdir()
    monkeypatch.setattr(landseer.pipeline.model, "load_model", lambda path: (embedder, OPTIONS))
    monkeypatch.chdir(tmp_path)
    for number, code in ((1, 3), (2, 0)):
        words = ["extract", "M", "--data", "C", "--shard", f"{number}/2", "--out", f"p{number}"]
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == code, done.output
    assert "3 of 4 photos described" in CliRunner().invoke(cli, [*words[:5], "1/2", "--out", "again"]).stdout
    done = CliRunner().invoke(cli, ["merge", "p2", "p1", "--out", "all", "--json"])
    assert done.exit_code == 0
    facts = json.loads(done.stdout)
    assert (facts["parts"], facts["described"], facts["unreadable"], facts["dim"]) == (2, 8, 1, 24)
    done = CliRunner().invoke(cli, ["merge", "p2", "p1", "--out", "all"])
    assert done.stdout.startswith("2 parts, 8 photos, 24 components each -> all\n1 photos could not be read")
    assert Path("all/rows.npy").exists()
