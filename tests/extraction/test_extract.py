import dataclasses
import json
import threading
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from landseer.extraction import extract, plan_of
from landseer.photos import UnreadablePhoto, load_sized, load_square
from landseer.recipe import AspectOptions, DescriptorOptions
from landseer.recipe.options import WhiteningOptions
from landseer.storage import load_descriptors, open_artifact
from landseer.types import Collection

OPTIONS = DescriptorOptions(size=16, batch=4)
SIZES = ((24, 16), (20, 20), (16, 24))
ASPECTS = DescriptorOptions(aspects=AspectOptions(splits=(0.8, 1.25), sizes=SIZES), batch=4)
SHAPES = ((28, 20), (20, 28), (24, 24), (20, 25), (25, 20), (40, 20))
"""Wide, tall, square, on the upper split and so tall, on the lower split and so square, wide."""
BINS = (0, 2, 1, 2, 1, 0)


def slow_oracle(embedder, collection: Collection, options: DescriptorOptions) -> np.ndarray:
    """One batch after the other, everything in memory."""
    embedder.eval()
    rows = []
    for start in range(0, len(collection), options.batch):
        pixels, readable = [], []
        for path in collection.paths[start : start + options.batch]:
            try:
                pixels.append(load_square(collection.root, path, options.size))
                readable.append(True)
            except UnreadablePhoto:
                pixels.append(np.zeros((options.size, options.size, 3), np.uint8))
                readable.append(False)
        rows.append(embedder.describe(np.stack(pixels), scales=options.scales)[readable])
    return np.concatenate(rows).astype(options.dtype)


def work_folder(out: Path) -> Path:
    return out.parent / f".{out.name}.work"


class Stop(Exception):
    """Ends an extraction in the middle."""


def stop_after(photos: int):
    def progress(done: int, total: int) -> None:
        if done >= photos:
            raise Stop

    return progress


def interrupted(embedder, collection: Collection, out: Path, *, photos: int, **settings) -> None:
    with pytest.raises(Stop):
        extract(
            embedder, collection, out, progress=stop_after(photos), workers=1,
            **{"options": OPTIONS, "commit_every": 8, **settings},
        )  # fmt: skip
    assert not out.exists()


def grouped_oracle(embedder, collection: Collection) -> np.ndarray:
    """Batch by batch, and in each the photos of one bin together; all can be read."""
    embedder.eval()
    row_of = {}
    for start in range(0, len(collection), ASPECTS.batch):
        batch = range(start, min(start + ASPECTS.batch, len(collection)))
        for number, size in enumerate(SIZES):
            group = [position for position in batch if BINS[position % len(BINS)] == number]
            if group:
                photos = [load_sized(collection.root, collection.paths[position], size) for position in group]
                row_of.update(zip(group, embedder.describe(np.stack(photos)), strict=True))
    return np.stack([row_of[position] for position in range(len(collection))])


@pytest.mark.parametrize("commit_every", [4, 1000])
def test_every_photo_is_described_at_the_size_of_its_shape(
    embedder, draw, tmp_path, one_thread, commit_every
):
    collection = draw(21, shapes=SHAPES)
    seen, describe = [], embedder.describe
    embedder.describe = lambda pixels, **more: seen.append(pixels.shape) or describe(pixels, **more)
    found = extract(
        embedder, collection, tmp_path / "d", options=ASPECTS, commit_every=commit_every, workers=1
    )
    embedder.describe = describe
    assert found.ids == collection.ids
    assert np.array_equal(found.rows_ND, grouped_oracle(embedder, collection))
    # the first four: one wide, one square, two tall; no batch is mixed or larger than asked for
    assert seen[:3] == [(1, 16, 24, 3), (1, 20, 20, 3), (2, 24, 16, 3)]
    assert sum(shape[0] for shape in seen) == 21
    alone = [
        embedder.describe(load_sized(collection.root, path, SIZES[BINS[number % 6]])[None])[0]
        for number, path in enumerate(collection.paths)
    ]
    assert found.rows_ND == pytest.approx(np.stack(alone), abs=1e-5)
    squashed = embedder.describe(load_square(collection.root, collection.paths[0], 20)[None])[0]
    assert np.abs(found.rows_ND[0] - squashed).max() > 1e-3, "the size matters to this embedder"


def test_with_shapes_a_broken_photo_keeps_its_place_where_it_has_a_shape(
    embedder, draw, tmp_path, one_thread
):
    whole = extract(embedder, draw(12, shapes=SHAPES), tmp_path / "whole", options=ASPECTS)
    cut = tmp_path / "photos" / "0001.png"
    cut.write_bytes(cut.read_bytes()[:300])  # its header tells that it is tall
    seen, describe = [], embedder.describe
    embedder.describe = lambda pixels, **more: seen.append(pixels.shape) or describe(pixels, **more)
    collection = draw(12, unreadable=(7, 8, 9, 10, 11), shapes=SHAPES)
    found = extract(embedder, collection, tmp_path / "d", options=ASPECTS, workers=1)
    assert seen[:3] == [(1, 16, 24, 3), (1, 20, 20, 3), (2, 24, 16, 3)]
    assert sum(shape[0] for shape in seen) == 7, "what has no shape has no place"
    left = [0, 2, 3, 4, 5, 6]
    assert found.ids == tuple(f"photo-{number}" for number in left)
    assert np.array_equal(found.rows_ND[:3], np.asarray(whole.rows_ND)[[0, 2, 3]])
    assert found.rows_ND == pytest.approx(np.asarray(whole.rows_ND)[left], abs=1e-5)
    assert found.unreadable["photo-1"] == "truncated" and found.unreadable["photo-7"] == "not an image"
    assert len(found.unreadable) == 6


def test_scales_and_their_rules_reach_the_embedder(embedder, draw, tmp_path, one_thread):
    options = dataclasses.replace(
        OPTIONS, size=20, scales=(1.0, 0.8), scale_average="raw", scale_multiple=3, batch=9
    )
    collection = draw(9)
    found = extract(embedder, collection, tmp_path / "d", options=options)
    pixels = np.stack([load_square(collection.root, path, 20) for path in collection.paths])
    wanted = embedder.describe(pixels, scales=(1.0, 0.8), scale_average="raw", scale_multiple=3)
    assert np.array_equal(found.rows_ND, wanted)
    for less in ({"scale_average": "unit"}, {"scale_multiple": 0}):
        rules = {"scale_average": "raw", "scale_multiple": 3, **less}
        assert not np.array_equal(wanted, embedder.describe(pixels, scales=(1.0, 0.8), **rules))


@pytest.mark.parametrize("average", ["unit", "raw"])
def test_flipped_photos_are_averaged_in_and_another_extraction(embedder, draw, tmp_path, average, one_thread):
    options = dataclasses.replace(OPTIONS, scales=(1.0, 2.0), scale_average=average, flip=True)
    collection = draw(6)
    found = extract(embedder, collection, tmp_path / "d", options=options)
    for row, path in zip(found.rows_ND, collection.paths, strict=True):
        pixels = load_square(collection.root, path, 16)
        mean = np.zeros(24)
        for photo in (pixels, pixels[:, ::-1].copy()):
            for side in (16, 32):
                wide = torch.from_numpy(photo[None]).permute(0, 3, 1, 2).float() / 127.5 - 1
                with torch.no_grad():
                    layers = embedder.layers(torch.nn.functional.interpolate(wide, size=(side, side)))
                seen = layers.mean(dim=(2, 3))[0].numpy().astype(np.float64)
                mean += seen / (np.linalg.norm(seen) if average == "unit" else 1.0)
        assert row == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    with pytest.raises(ValueError, match=r"other settings \(flip: True there, None here\)"):
        extract(embedder, collection, tmp_path / "d", options=dataclasses.replace(options, flip=False))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (DescriptorOptions(size=17), r"descriptors\.size: not 17"),
        (DescriptorOptions(size=34, scales=(1.0, 0.5)), r"scales: not \(17, 17\)"),
        (
            DescriptorOptions(aspects=AspectOptions(splits=(1.0,), sizes=((24, 16), (17, 17)))),
            r"descriptors\.aspects\.sizes\[1\]: not \(17, 17\)",
        ),
        (
            DescriptorOptions(aspects=AspectOptions(sizes=((34, 34),)), scales=(1.0, 0.5)),
            r"scales: not \(17, 17\)",
        ),
    ],
)
def test_a_size_the_backbone_cannot_take_is_refused_before_anything_is_written(
    embedder, draw, tmp_path, options, said
):
    with pytest.raises(ValueError, match=said):
        extract(embedder, draw(2), tmp_path / "d", options=options)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["photos"]


def test_every_option_that_a_row_depends_on_is_in_the_plan(embedder, draw):
    """A new option must be weighed for the plan; then it joins this list."""
    collection, cpu = draw(2), torch.device("cpu")
    changes = {
        "size": 20,
        "scales": (1.0, 2.0),
        "scale_average": "raw",
        "scale_multiple": 4,
        "flip": True,
        "aspects": AspectOptions(sizes=((24, 16),)),
        "batch": 5,
        "dtype": "float16",
    }
    known = {*changes, "renormalise", "member_weights", "whitening"}
    assert {field.name for field in dataclasses.fields(DescriptorOptions)} == known
    plans = [plan_of(embedder, collection, OPTIONS, cpu)]
    for change in changes.items():
        plans.append(plan_of(embedder, collection, dataclasses.replace(OPTIONS, **dict([change])), cpu))
    other_splits = dataclasses.replace(ASPECTS, aspects=AspectOptions(splits=(0.8, 1.3), sizes=SIZES))
    plans += [plan_of(embedder, collection, options, cpu) for options in (ASPECTS, other_splits)]
    assert len({plan.fingerprint() for plan in plans}) == len(plans)
    assert all(json.loads(json.dumps(plan.settings)) == plan.settings for plan in plans), (
        "as a reader finds it"
    )
    one = dataclasses.replace(
        OPTIONS, renormalise=False, member_weights="fitted", whitening=WhiteningOptions(kind="pca")
    )
    assert plan_of(embedder, collection, one, cpu) == plans[0], "these are of what is done with the rows"


def test_with_shapes_a_stopped_extraction_goes_on_and_other_sizes_are_refused(
    embedder, draw, tmp_path, content_of
):
    collection = draw(30, shapes=SHAPES, unreadable=(9,))
    whole, out = tmp_path / "whole", tmp_path / "d"
    extract(embedder, collection, whole, options=ASPECTS, workers=3)
    interrupted(embedder, collection, out, photos=12, options=ASPECTS)
    other = dataclasses.replace(ASPECTS, aspects=AspectOptions(splits=(0.8, 1.25), sizes=SIZES[::-1]))
    with pytest.raises(ValueError, match=r"unfinished.*\(size: .*choose another --out"):
        extract(embedder, collection, out, options=other)
    with pytest.raises(ValueError, match=r"unfinished.*\(preprocessing: .*shapes.* there, .*square.* here"):
        extract(embedder, collection, out, options=OPTIONS)
    extract(embedder, collection, out, options=ASPECTS)
    assert content_of(whole) == content_of(out)


@pytest.mark.parametrize("num", [1, 3, 4, 5, 21])
@pytest.mark.parametrize("commit_every", [1, 8, 1000])
def test_rows_are_those_of_the_slow_oracle_in_order(embedder, draw, tmp_path, one_thread, num, commit_every):
    collection = draw(num)
    found = extract(embedder, collection, tmp_path / "d", options=OPTIONS, commit_every=commit_every)
    assert found.ids == collection.ids
    assert np.array_equal(found.rows_ND, slow_oracle(embedder, collection, OPTIONS))
    assert found.unreadable == {}
    assert not work_folder(tmp_path / "d").exists()


def test_an_unreadable_photo_is_listed_and_changes_no_other_row(embedder, draw, tmp_path, one_thread):
    whole = extract(embedder, draw(11), tmp_path / "whole", options=OPTIONS)
    collection = draw(11, unreadable=(0, 5, 8, 9, 10))  # of the last batch nothing is left
    shapes, describe = [], embedder.describe
    embedder.describe = lambda pixels, **more: shapes.append(pixels.shape) or describe(pixels, **more)
    found = extract(embedder, collection, tmp_path / "d", options=OPTIONS, commit_every=4)
    left = [1, 2, 3, 4, 6, 7]
    assert shapes == [(4, 16, 16, 3)] * 2, "an unreadable photo keeps its place in the batch"
    assert found.ids == tuple(f"photo-{number}" for number in left)
    assert np.array_equal(found.rows_ND, np.asarray(whole.rows_ND)[left])
    assert set(found.unreadable) == {f"photo-{number}" for number in (0, 5, 8, 9, 10)}
    assert all(found.unreadable.values())
    assert load_descriptors(tmp_path / "d").unreadable == found.unreadable
    assert found.fingerprint != whole.fingerprint, "other content is another identity"


def test_one_artifact_whatever_the_workers_and_blocks(embedder, draw, tmp_path, content_of):
    collection = draw(30, unreadable=(7,))
    outs = []
    for workers, commit_every in ((1, 4), (2, 512), (5, 12)):
        outs.append(tmp_path / f"d-{workers}")
        extract(embedder, collection, outs[-1], options=OPTIONS, workers=workers, commit_every=commit_every)
    assert content_of(outs[0]) == content_of(outs[1]) == content_of(outs[2])


def test_float16_is_rounded_once_at_the_end(embedder, draw, tmp_path, one_thread):
    options = dataclasses.replace(OPTIONS, dtype="float16", scales=(1.0, 0.75))
    found = extract(embedder, draw(9), tmp_path / "d", options=options)
    assert found.rows_ND.dtype == np.float16
    assert np.array_equal(found.rows_ND, slow_oracle(embedder, draw(9), options))
    full = dataclasses.replace(options, dtype="float32")
    assert np.array_equal(found.rows_ND, slow_oracle(embedder, draw(9), full).astype(np.float16))


def test_an_empty_collection_gives_an_empty_artifact(embedder, draw, tmp_path):
    found = extract(embedder, draw(0), tmp_path / "d", options=OPTIONS)
    assert found.rows_ND.shape == (0, embedder.dim)
    assert load_descriptors(tmp_path / "d").ids == ()


def test_photos_that_all_fail_are_a_mistake_and_leave_nothing(embedder, draw, tmp_path):
    collection = dataclasses.replace(draw(3), root=tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"none of 3 photos could be read.*elsewhere"):
        extract(embedder, collection, tmp_path / "d", options=OPTIONS)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["photos"]
    found = extract(embedder, draw(3), tmp_path / "d", options=OPTIONS)
    assert len(found) == 3


def test_a_model_that_gives_nan_is_refused(embedder, draw, tmp_path):
    embedder.layers[0].weight.data[0] = float("nan")
    with pytest.raises(ValueError, match=r"not finite.*photo-0"):
        extract(embedder, draw(3), tmp_path / "d", options=OPTIONS)
    assert not (tmp_path / "d").exists()


def test_training_mode_and_threads_are_no_part_of_the_result(embedder, draw, tmp_path):
    threads = torch.get_num_threads()
    a = extract(embedder.eval(), draw(9), tmp_path / "a", options=OPTIONS)
    torch.set_num_threads(threads + 1)
    try:
        b = extract(embedder.train(), draw(9), tmp_path / "b", options=OPTIONS)
        in_a_new_thread: list[int] = []
        thread = threading.Thread(target=lambda: in_a_new_thread.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert in_a_new_thread == [torch.get_num_threads()] == [threads + 1]
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(a.rows_ND, b.rows_ND)


def test_a_second_call_describes_nothing(embedder, draw, tmp_path, monkeypatch):
    first = extract(embedder, draw(9), tmp_path / "d", options=OPTIONS)
    work_folder(tmp_path / "d").mkdir()  # what a kill between the two last steps leaves
    monkeypatch.setattr(embedder, "describe", None)
    again = extract(embedder, draw(9), tmp_path / "d", options=OPTIONS, workers=7, commit_every=3)
    assert again.fingerprint == first.fingerprint
    assert np.array_equal(again.rows_ND, first.rows_ND)
    assert not work_folder(tmp_path / "d").exists()


def test_a_finished_artifact_that_was_damaged_is_not_returned(embedder, draw, tmp_path):
    extract(embedder, draw(9), tmp_path / "d", options=OPTIONS)
    rows = tmp_path / "d" / "rows.npy"
    rows.write_bytes(rows.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ValueError, match="damaged"):
        extract(embedder, draw(9), tmp_path / "d", options=OPTIONS)


def other_settings(embedder, collection):
    stranger = type(embedder)(seed=1)
    half = collection.select(np.arange(len(collection)) % 2 == 0)
    moved = dataclasses.replace(
        collection,
        photos=collection.photos.set_column(1, "path", [collection.photos["path"].to_pylist()[::-1]]),
    )
    precision = torch.get_float32_matmul_precision()
    assert precision == "highest"
    return {
        "model": (stranger, collection, OPTIONS),
        "size": (embedder, collection, dataclasses.replace(OPTIONS, size=20)),
        "scales": (embedder, collection, dataclasses.replace(OPTIONS, scales=(1.0, 2.0))),
        "batch": (embedder, collection, dataclasses.replace(OPTIONS, batch=8)),
        "dtype": (embedder, collection, dataclasses.replace(OPTIONS, dtype="float16")),
        "collection": (embedder, dataclasses.replace(collection, fingerprint="another"), OPTIONS),
        "selection": (embedder, half, OPTIONS),
        "moved": (embedder, moved, OPTIONS),
    }


@pytest.mark.parametrize(
    "key", ["model", "size", "scales", "batch", "dtype", "collection", "selection", "moved"]
)
def test_other_settings_are_refused_finished_or_not(embedder, draw, tmp_path, key, content_of):
    collection = draw(20)
    other, photos, options = other_settings(embedder, collection)[key]
    named = "selection" if key == "moved" else key
    unfinished, finished = tmp_path / "unfinished", tmp_path / "finished"
    interrupted(embedder, collection, unfinished, photos=12)
    extract(embedder, collection, finished, options=OPTIONS)
    before = content_of(work_folder(unfinished)), content_of(finished)
    with pytest.raises(ValueError, match=rf"unfinished.*\({named}: .*choose another --out"):
        extract(other, photos, unfinished, options=options)
    with pytest.raises(ValueError, match=rf"other settings.*\({named}: .*choose another --out"):
        extract(other, photos, finished, options=options)
    assert (content_of(work_folder(unfinished)), content_of(finished)) == before
    anew = extract(other, photos, tmp_path / "another", options=options)
    assert anew.fingerprint != open_artifact(finished, "descriptors").fingerprint


def test_another_torch_or_another_machine_is_never_mixed_in(embedder, draw, tmp_path, monkeypatch):
    interrupted(embedder, draw(20), tmp_path / "d", photos=12)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "9.9")
        with pytest.raises(ValueError, match=r"runtime: .* there, 'torch 9.9' here"):
            extract(embedder, draw(20), tmp_path / "d", options=OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ABACUS")
        with pytest.raises(ValueError, match=r"instructions: .* 'ABACUS' here"):
            extract(embedder, draw(20), tmp_path / "d", options=OPTIONS)
    machine = open_artifact_of(embedder, draw(20), tmp_path / "d").made_by["machine"]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ABACUS")
    assert machine["instructions"] != "ABACUS"
    extract(embedder, draw(20), tmp_path / "d", options=OPTIONS)  # finished elsewhere: the same identity


def open_artifact_of(embedder, collection, out):
    extract(embedder, collection, out, options=OPTIONS)
    return open_artifact(out, "descriptors")


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-7]),
        lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\x55"),
        lambda file: file.write_bytes(file.read_bytes().replace(b'"unreadable": {}', b'"unreadable":{ }')),
        lambda file: file.unlink(),
    ],
    ids=["empty", "torn", "flipped", "header", "gone"],
)
def test_a_damaged_block_is_made_again_and_only_it(embedder, draw, tmp_path, harm, content_of, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "d"
    extract(embedder, draw(30), whole, options=OPTIONS)
    interrupted(embedder, draw(30), out, photos=28)
    blocks = sorted(work_folder(out).glob("*.block"))
    assert [block.name for block in blocks] == [f"{number:08d}.block" for number in range(3)]
    harm(blocks[1])
    read = []
    module = extract.__globals__
    monkeypatch.setitem(
        module, "load_sized", lambda root, path, size: read.append(path) or load_sized(root, path, size)
    )
    seen = []
    extract(embedder, draw(30), out, options=OPTIONS, progress=lambda done, total: seen.append((done, total)))
    assert sorted(read) == [f"{number:04d}.png" for number in [*range(8, 16), *range(24, 30)]]
    assert seen == [(16, 30), (20, 30), (24, 30), (28, 30), (30, 30)]
    assert content_of(whole) == content_of(out)


def test_a_block_of_another_plan_left_in_the_folder_is_no_block(embedder, draw, tmp_path, one_thread):
    out = tmp_path / "d"
    interrupted(embedder, draw(30), out, photos=28)
    (work_folder(out) / "plan.json").unlink()
    stranger = type(embedder)(seed=1)
    found = extract(stranger, draw(30), out, options=OPTIONS, commit_every=8)
    assert np.array_equal(found.rows_ND, slow_oracle(stranger, draw(30), OPTIONS))


def test_what_has_no_block_yet_does_not_bind(embedder, draw, tmp_path):
    interrupted(embedder, draw(20), tmp_path / "d", photos=4)
    assert (work_folder(tmp_path / "d") / "plan.json").exists()
    other = dataclasses.replace(OPTIONS, size=20)
    assert len(extract(embedder, draw(20), tmp_path / "d", options=other)) == 20


def test_a_continued_extraction_keeps_its_block_size(embedder, draw, tmp_path, content_of):
    whole, out = tmp_path / "whole", tmp_path / "d"
    extract(embedder, draw(30), whole, options=OPTIONS)
    interrupted(embedder, draw(30), out, photos=12)
    seen = []
    extract(
        embedder, draw(30), out, options=OPTIONS, commit_every=20, progress=lambda done, _: seen.append(done)
    )
    assert seen[0] == 8
    assert content_of(whole) == content_of(out)


def test_a_damaged_plan_says_what_to_do(embedder, draw, tmp_path):
    interrupted(embedder, draw(20), tmp_path / "d", photos=12)
    plan = work_folder(tmp_path / "d") / "plan.json"
    for text in ("{", "[]", json.dumps({"settings": {}, "machine": {}})):
        plan.write_text(text)
        with pytest.raises(ValueError, match=r"damaged.*remove .* to start anew"):
            extract(embedder, draw(20), tmp_path / "d", options=OPTIONS)


def test_two_processes_cannot_extract_to_one_place(embedder, draw, tmp_path):
    collection = draw(8)
    refusals = []

    def meanwhile(done: int, total: int) -> None:
        if not refusals:
            with pytest.raises(ValueError, match="another process") as refused:
                extract(embedder, collection, tmp_path / "d", options=OPTIONS)
            refusals.append(refused)

    assert len(extract(embedder, collection, tmp_path / "d", options=OPTIONS, progress=meanwhile)) == 8
    assert len(refusals) == 1


def test_memory_is_bounded_by_workers_not_by_photos(embedder, draw, tmp_path, monkeypatch):
    alive, most, lock = weakref.WeakSet(), [0], threading.Lock()
    module = extract.__globals__
    zeros = np.zeros

    class Batch(np.ndarray):
        """An array that can be watched."""

        def __hash__(self) -> int:
            return id(self)

    def watched(shape, dtype):
        batch = zeros(shape, dtype).view(Batch)
        with lock:
            alive.add(batch)
            most[0] = max(most[0], len(alive))
        return batch

    class Numpy:
        def __getattr__(self, name):
            return watched if name == "zeros" else getattr(np, name)

    monkeypatch.setitem(module, "np", Numpy())
    describe = embedder.describe
    monkeypatch.setattr(embedder, "describe", lambda pixels, **more: describe(np.asarray(pixels), **more))
    extract(embedder, draw(120), tmp_path / "d", options=OPTIONS, workers=3, commit_every=40)
    assert 1 <= most[0] <= 3, "a worker holds one batch of photos at a time"


def test_rows_are_never_all_in_memory(embedder, draw, tmp_path):
    model = type(embedder)(dim=4096)
    collection = draw(320)
    tracemalloc.start()
    try:
        found = extract(model, collection, tmp_path / "d", options=OPTIONS, workers=2, commit_every=16)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(found.rows_ND, np.memmap)
    block_bytes = 16 * 4096 * 4
    assert found.rows_ND.nbytes == 20 * block_bytes
    # a block as parts, joined, as bytes, with its header: five copies for a moment; and the batches under way
    assert peak < 7 * block_bytes


def test_no_more_than_twice_the_workers_are_ahead(embedder):
    in_order = extract.__globals__["_in_order"]
    drawn = []
    results = in_order(lambda item: item * 10, (drawn.append(item) or item for item in range(50)), workers=3)
    for number, result in enumerate(results):
        assert result == number * 10
        assert len(drawn) <= number + 1 + 2 * 3
    assert len(drawn) == 50


def test_an_error_in_a_worker_stops_the_run_and_keeps_the_blocks(embedder, draw, tmp_path, monkeypatch):
    module = extract.__globals__

    def failing(root, path, size):
        if path == "0021.png":
            raise RuntimeError("the disk is gone")
        return load_sized(root, path, size)

    with monkeypatch.context() as patch:
        patch.setitem(module, "load_sized", failing)
        with pytest.raises(RuntimeError, match="the disk is gone"):
            extract(embedder, draw(30), tmp_path / "d", options=OPTIONS, workers=1, commit_every=8)
    assert len(list(work_folder(tmp_path / "d").glob("*.block"))) == 2
    assert not (tmp_path / "d").exists()
    assert threading.active_count() == 1 or all("ThreadPool" not in t.name for t in threading.enumerate())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "gpu7"}, "device: 'gpu7' is not a device"),
        ({"workers": 0}, "workers: must be at least 1"),
        ({"commit_every": 0}, "commit_every: must be at least 1"),
    ],
)
def test_impossible_arguments_are_refused_before_anything_is_written(
    embedder, draw, tmp_path, settings, said
):
    with pytest.raises(ValueError, match=said):
        extract(embedder, draw(2), tmp_path / "d", options=OPTIONS, **settings)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["photos"]


def test_a_missing_accelerator_is_named(embedder, draw, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="finds no CUDA device here; say cpu"):
        extract(embedder, draw(2), tmp_path / "d", options=OPTIONS, device="cuda")
