"""Which photos stand in which batch: exact by the seed, the same for any number of ranks, resumable anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.datasets.samplers import (
    OTHER,
    POOLS,
    RATIOS,
    AspectGrouped,
    BatchMixture,
    ContinentAware,
    Drawn,
    IdUniform,
    Part,
    PhotoMixture,
    SampledPart,
    Shuffle,
    bin_of,
    continents_in,
)
from landseer.datasets.samplers.base import exact_shares
from landseer.recipe import AspectOptions
from landseer.types import LANDMARK_SCHEMA, PHOTO_SCHEMA, Collection

SEEDS = st.integers(0, 2**40)
# two of the templates of Yokoo et al.: five bins of shapes, and three
FIVE = AspectOptions(
    splits=(0.67, 0.77, 1.33, 1.5), sizes=((512, 352), (512, 384), (448, 448), (384, 512), (352, 512))
)
THREE = AspectOptions(splits=(0.77, 1.33), sizes=((512, 384), (448, 448), (384, 512)))


def whole(sampler, *, seed=0, epoch=0, start=0):
    """The batches as one rank sees them, as lists."""
    return [batch.tolist() for batch in sampler.batches(seed=seed, epoch=epoch, start=start)]


def flat(batches):
    return [position for batch in batches for position in batch]


def continents(**counts):
    """A ContinentAware's columns: ``Asia=(clean, noisy)`` photos, ``_`` for a blank in a name."""
    continent, clean = [], []
    for name, (num_clean, num_noisy) in counts.items():
        continent += [POOLS.index(name.replace("_", " "))] * (num_clean + num_noisy)
        clean += [True] * num_clean + [False] * num_noisy
    return {"continent_N": np.array(continent, dtype=np.int8), "clean_N": np.array(clean, dtype=np.bool_)}


EVERYWHERE = {name.replace(" ", "_"): (5, 3) for name in POOLS}


@st.composite
def shuffles(draw, least=1):
    return Shuffle(num_photos=draw(st.integers(least, 60)), batch=draw(st.integers(1, 70)))


@st.composite
def id_uniforms(draw):
    rng = np.random.default_rng(draw(SEEDS))
    landmark_N = rng.integers(draw(st.integers(1, 9)), size=draw(st.integers(1, 50))) * 7
    return IdUniform(
        landmark_N=landmark_N,
        landmarks=draw(st.integers(1, len(set(landmark_N.tolist())))),
        photos=draw(st.integers(1, 6)),
        epoch_batches=draw(st.none() | st.integers(1, 25)),
    )


@st.composite
def continent_awares(draw):
    sizes = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=8, max_size=8))
    sizes[2] = (sizes[2][0] + 1, sizes[2][1] + 1)
    columns = continents(**{name.replace(" ", "_"): size for name, size in zip(POOLS, sizes, strict=True)})
    length = draw(st.none() | st.integers(1, 120))
    return ContinentAware(
        **columns,
        length=length,
        batch=draw(st.integers(1, length or len(columns["clean_N"]))),
        clean_share=draw(st.sampled_from([0.0, 0.29, 0.66, 1.0])),
    )


@st.composite
def aspects(draw):
    rng = np.random.default_rng(draw(SEEDS))
    options = draw(st.sampled_from([FIVE, THREE]))
    ratio_N = np.exp(rng.normal(scale=0.4, size=draw(st.integers(1, 60))))
    largest = max(Counter(bin_of(options, ratio_N).tolist()).values())
    return AspectGrouped(ratio_N=ratio_N, aspects=options, batch=draw(st.integers(1, largest)))


@st.composite
def photo_mixtures(draw):
    small, large = draw(st.integers(1, 8)), draw(st.integers(1, 30))
    share = draw(st.sampled_from([0.1, 0.5, 0.8]))
    parts = (
        Part(position_N=np.arange(small), probability=share),
        Part(position_N=np.arange(small, small + large), probability=1 - share),
    )
    # ten photos or more: a tenth of them is at least one
    return PhotoMixture(parts=parts, batch=draw(st.integers(5, 12)), epoch_batches=draw(st.integers(2, 9)))


@st.composite
def batch_mixtures(draw):
    first, second = draw(shuffles()), draw(id_uniforms())
    share = draw(st.sampled_from([0.2, 0.5, 0.75]))
    offset = first.num_photos
    parts = (
        SampledPart(sampler=first, position_N=np.arange(offset), probability=share),
        SampledPart(
            sampler=second, position_N=np.arange(offset, offset + second.num_photos), probability=1 - share
        ),
    )
    return BatchMixture(parts=parts, epoch_batches=draw(st.integers(4, 15)))


ANY = st.one_of(shuffles(), id_uniforms(), continent_awares(), aspects(), photo_mixtures(), batch_mixtures())


# What holds for every sampler


@settings(max_examples=60)
@given(ANY, SEEDS, st.integers(0, 50))
def test_an_epoch_has_the_batches_it_says_and_known_positions(sampler, seed, epoch):
    batches = list(sampler.batches(seed=seed, epoch=epoch))
    assert len(batches) == sampler.num_batches() >= 1
    for batch in batches:
        assert batch.dtype == np.int64 and batch.ndim == 1 and len(batch) >= 1
        assert batch.min() >= 0 and batch.max() < sampler.num_photos


@settings(max_examples=60)
@given(ANY, SEEDS, st.integers(0, 50), st.data())
def test_resuming_anywhere_gives_the_tail(sampler, seed, epoch, data):
    start = data.draw(st.integers(0, sampler.num_batches()))
    assert (
        whole(sampler, seed=seed, epoch=epoch, start=start) == whole(sampler, seed=seed, epoch=epoch)[start:]
    )


@settings(max_examples=60)
@given(ANY, SEEDS, st.integers(0, 50), st.integers(2, 4), st.data())
def test_the_ranks_together_see_the_batch_of_one(sampler, seed, epoch, world, data):
    alone = whole(sampler, seed=seed, epoch=epoch)
    start = data.draw(st.integers(0, len(alone)))
    try:
        ranks = [
            [b.tolist() for b in sampler.batches(seed=seed, epoch=epoch, rank=rank, world=world, start=start)]
            for rank in range(world)
        ]
    except ValueError as error:
        assert f"too few for {world} ranks" in str(error)
        # a rank without a photo is the one reason to refuse
        assert smallest_cut(sampler) < world
        return
    assert smallest_cut(sampler) >= world
    assert [flat(shares) for shares in zip(*ranks, strict=True)] == alone[start:]
    for shares in zip(*ranks, strict=True):
        lengths = [len(share) for share in shares]
        assert max(lengths) - min(lengths) <= (1 if not landmark_wise(sampler) else 6) and min(lengths) >= 1


def landmark_wise(sampler):
    return isinstance(sampler, IdUniform | BatchMixture)


def smallest_cut(sampler):
    """The number of ranks that a batch is enough for."""
    if isinstance(sampler, BatchMixture):
        return min(smallest_cut(part.sampler) for part in sampler.parts)
    return sampler.landmarks if isinstance(sampler, IdUniform) else sampler.batch_photos


@pytest.mark.parametrize(
    "sampler",
    [
        Shuffle(num_photos=500, batch=20),
        IdUniform(landmark_N=np.arange(500) % 50, landmarks=10, photos=2),
        ContinentAware(**continents(**EVERYWHERE), length=500, batch=20),
        AspectGrouped(ratio_N=np.linspace(0.5, 2, 500), aspects=FIVE, batch=20),
        PhotoMixture(parts=(Part(position_N=np.arange(500), probability=1.0),), batch=20, epoch_batches=25),
        BatchMixture(
            parts=(
                SampledPart(
                    sampler=Shuffle(num_photos=500, batch=20), position_N=np.arange(500), probability=1.0
                ),
            ),
            epoch_batches=25,
        ),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_seeds_and_epochs_differ_and_repeat(sampler):
    once = whole(sampler, seed=1, epoch=2)
    assert once == whole(sampler, seed=1, epoch=2)
    others = [(2, 2), (1, 3), (2, 1)]
    assert all(whole(sampler, seed=seed, epoch=epoch) != once for seed, epoch in others)


def one_of_each():
    continent_aware = ContinentAware(continent_N=np.arange(64) % 8, clean_N=np.arange(64) % 3 == 0, batch=8)
    id_uniform = IdUniform(landmark_N=np.arange(64) % 9, landmarks=4, photos=3)
    aspect_grouped = AspectGrouped(
        ratio_N=1 + np.arange(64) % 5 / 4,
        aspects=AspectOptions(splits=(1.4,), sizes=((16, 16), (16, 32))),
        batch=8,
    )
    parts = (np.arange(64), np.arange(32))
    return {
        "shuffle": Shuffle(num_photos=64, batch=8),
        "id-uniform": id_uniform,
        "continent-aware": continent_aware,
        "aspect-grouped": aspect_grouped,
        "photos": PhotoMixture(
            parts=tuple(Part(position_N=part, probability=0.5) for part in parts), batch=8, epoch_batches=5
        ),
        "batches": BatchMixture(
            parts=tuple(
                SampledPart(sampler=sampler, position_N=np.arange(64), probability=1 / 3)
                for sampler in (continent_aware, id_uniform, aspect_grouped)
            ),
            epoch_batches=6,
        ),
    }


def digests():
    """What every sampler draws, in eight letters each: a run that is resumed relies on it."""
    return {
        name: hashlib.sha256(json.dumps(whole(sampler, seed=5, epoch=1)).encode()).hexdigest()[:8]
        for name, sampler in one_of_each().items()
    }


def test_what_is_drawn_stays_what_it_was():
    assert digests() == {
        "shuffle": "5ffdb1c6",
        "id-uniform": "2047e69f",
        "continent-aware": "7d4eeb31",
        "aspect-grouped": "7bdc0b69",
        "photos": "e27b880c",
        "batches": "c12daa32",
    }


def test_another_process_with_another_hash_seed_draws_the_same():
    program = (
        "import importlib.util, json, sys\n"
        "spec = importlib.util.spec_from_file_location('samplers', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(json.dumps(module.digests()))\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program, __file__],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(printed) == digests()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"seed": -1}, "seed: must not be negative, not -1"),
        ({"epoch": -1}, "epoch: must not be negative, not -1"),
        ({"world": 0}, "world: must be at least 1, not 0"),
        ({"rank": 2, "world": 2}, "rank: must lie in 0..1, not 2"),
        ({"rank": -1}, "rank: must lie in 0..0, not -1"),
        ({"start": 4}, "start: an epoch has 3 batches, so it cannot start at 4"),
        ({"start": -1}, "start: an epoch has 3 batches, so it cannot start at -1"),
        ({"world": 5}, "a batch has 4 parts, too few for 5 ranks"),
    ],
)
@pytest.mark.parametrize("mixed", [False, True])
def test_a_place_that_cannot_be_is_refused_at_the_call(place, message, mixed):
    sampler = Shuffle(num_photos=12, batch=4)
    if mixed:
        part = SampledPart(sampler=sampler, position_N=np.arange(12), probability=1.0)
        sampler = BatchMixture(parts=(part,), epoch_batches=3)
    with pytest.raises(ValueError, match=re.escape(message)):
        sampler.batches(**{"seed": 0, "epoch": 0, **place})


# Shuffle


@given(shuffles(), SEEDS, st.integers(0, 1000))
def test_shuffle_is_the_permutation_of_seed_and_epoch(sampler, seed, epoch):
    order = np.random.default_rng([seed, epoch]).permutation(sampler.num_photos).tolist()
    size = min(sampler.batch, sampler.num_photos)
    assert whole(sampler, seed=seed, epoch=epoch) == [
        order[first : first + size] for first in range(0, sampler.num_photos - size + 1, size)
    ]


def test_shuffle_keeps_the_only_batch_and_drops_an_uneven_last_one():
    assert sorted(flat(whole(Shuffle(num_photos=3, batch=8)))) == [0, 1, 2]
    assert [len(batch) for batch in whole(Shuffle(num_photos=11, batch=4))] == [4, 4]
    assert sorted(flat(whole(Shuffle(num_photos=12, batch=4)))) == list(range(12))


# IdUniform


@given(id_uniforms(), SEEDS, st.integers(0, 20))
def test_id_uniform_holds_p_landmarks_and_k_photos_of_each(sampler, seed, epoch):
    has = Counter(sampler.landmark_N.tolist())
    for batch in whole(sampler, seed=seed, epoch=epoch):
        assert len(batch) == sampler.landmarks * sampler.photos
        groups = [batch[first : first + sampler.photos] for first in range(0, len(batch), sampler.photos)]
        seen = [{int(sampler.landmark_N[position]) for position in group} for group in groups]
        assert all(len(landmarks) == 1 for landmarks in seen)
        assert len(set.union(*seen)) == sampler.landmarks
        for group, (landmark,) in zip(groups, seen, strict=True):
            assert len(set(group)) == min(sampler.photos, has[landmark])


def test_id_uniform_deals_every_landmark_before_one_comes_back():
    # 10 landmarks, 3 a batch: rounds of 3 batches, in which 9 landmarks come once
    sampler = IdUniform(landmark_N=np.arange(40) % 10, landmarks=3, photos=2, epoch_batches=9)
    batches = whole(sampler)
    for first in (0, 3, 6):
        dealt = Counter(position % 10 for position in flat(batches[first : first + 3]))
        assert set(dealt.values()) == {2} and len(dealt) == 9


def test_id_uniform_sees_small_and_large_landmarks_equally_often():
    landmark_N = np.repeat([3, 5, 8, 9], [1, 10, 100, 1000])
    sampler = IdUniform(landmark_N=landmark_N, landmarks=3, photos=4, epoch_batches=5)
    seen = Counter()
    photos_of_5 = Counter()
    for epoch in range(400):
        positions = np.array(flat(whole(sampler, epoch=epoch)))
        seen.update(landmark_N[positions].tolist())
        photos_of_5.update(positions[landmark_N[positions] == 5].tolist())
    # 2,000 batches, each landmark in 3 of 4: 6,000 photos; standard deviation 4 sqrt(2000 x 3/16) = 77
    assert all(abs(count - 6000) < 4 * 77 for count in seen.values()) and len(seen) == 4
    # each of the 10 photos in 4 of 10 drawings of its landmark: 600; standard deviation below 25
    assert all(abs(count - 600) < 4 * 25 for count in photos_of_5.values()) and len(photos_of_5) == 10


def test_an_epoch_of_id_uniform_holds_as_many_photos_as_there_are():
    assert IdUniform(landmark_N=np.arange(100) % 20, landmarks=4, photos=3).num_batches() == 8
    assert IdUniform(landmark_N=np.arange(5), landmarks=4, photos=3).num_batches() == 1


# ContinentAware


def slow_shares(total, weights):
    """Largest remainder, in fractions, one at a time."""
    quotas = [Fraction(weight) * total / sum(map(Fraction, weights)) for weight in weights]
    counts = [int(quota) for quota in quotas]
    while sum(counts) < total:
        rest = [quota - count for quota, count in zip(quotas, counts, strict=True)]
        counts[rest.index(max(rest))] += 1
    return counts


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=9).filter(any))
def test_exact_shares_agree_with_fractions(total, weights):
    assert exact_shares(total, weights) == slow_shares(total, weights)


@given(
    st.integers(0, 10**6),
    st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=9).filter(any),
)
def test_exact_shares_sum_to_the_total_and_round_each(total, weights):
    shares = exact_shares(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - total * weight / sum(weights)) < 1 + 1e-6
        assert share == 0 or weight > 0


def test_of_equal_remainders_the_first_wins():
    # 8.4, 2.4 and 1.2; in binary the first remainder is a hair below the second
    assert exact_shares(12, [0.7, 0.2, 0.1]) == [9, 2, 1]


def test_the_worked_example_of_a_hundred_photos():
    sampler = ContinentAware(**continents(**EVERYWHERE), length=100, batch=10)
    assert sampler.drawn() == {
        "Asia": Drawn(clean=33, noisy=17),
        "Europe": Drawn(clean=13, noisy=7),
        "Africa": Drawn(clean=9, noisy=6),
        "North America": Drawn(clean=6, noisy=4),
        "South America": Drawn(clean=1, noisy=1),
        "Antarctica": Drawn(clean=0, noisy=1),
        "Oceania": Drawn(clean=0, noisy=1),
        OTHER: Drawn(clean=0, noisy=1),
    }
    assert list(sampler.drawn()) == list(POOLS)


@given(continent_awares(), SEEDS, st.integers(0, 20))
def test_the_list_has_the_asked_length_and_the_counts_it_says(sampler, seed, epoch):
    drawn = sampler.draw(seed=seed, epoch=epoch)
    assert len(drawn) == sampler.epoch_photos
    counts = Counter(
        (POOLS[continent], bool(clean))
        for continent, clean in zip(sampler.continent_N[drawn], sampler.clean_N[drawn], strict=True)
    )
    for name, split in sampler.drawn().items():
        assert (counts[name, True], counts[name, False]) == (split.clean, split.noisy)
    assert flat(whole(sampler, seed=seed, epoch=epoch)) == (
        drawn[: len(drawn) // sampler.batch * sampler.batch].tolist()
    )


@given(continent_awares())
def test_every_continent_has_its_ratio_renormalised_over_those_that_have_photos(sampler):
    may = {True: sampler.clean_share > 0, False: sampler.clean_share < 1}
    has = {
        (name, clean): may[clean]
        and bool(np.any((sampler.continent_N == place) & (sampler.clean_N == clean)))
        for place, name in enumerate(POOLS)
        for clean in (True, False)
    }
    ratios = {name: RATIOS[name] * (has[name, True] or has[name, False]) for name in POOLS}
    for name, split in sampler.drawn().items():
        num = split.clean + split.noisy
        assert abs(num - sampler.epoch_photos * ratios[name] / sum(ratios.values())) < 1
        if has[name, True] and has[name, False]:
            assert split.clean == int(Fraction(str(sampler.clean_share)) * num)
        else:
            assert split == Drawn(clean=num * has[name, True], noisy=num * (not has[name, True]))


def test_empty_pools_leave_their_share_to_the_others():
    # Asia and Europe stand 5 : 2; Asia has no noisy photo, Europe no clean one
    sampler = ContinentAware(**continents(Asia=(4, 0), Europe=(0, 4)), length=70, batch=7)
    drawn = {name: split for name, split in sampler.drawn().items() if split != Drawn(clean=0, noisy=0)}
    assert drawn == {"Asia": Drawn(clean=50, noisy=0), "Europe": Drawn(clean=0, noisy=20)}


def test_a_share_of_clean_that_is_whole_is_not_rounded_down():
    # in binary 0.29 x 100 is 28.999999999999996
    sampler = ContinentAware(
        **continents(Asia=(1, 1)), length=100, batch=1, ratios={"Asia": 1.0}, clean_share=0.29
    )
    assert sampler.drawn()["Asia"] == Drawn(clean=29, noisy=71)


def test_photos_of_a_pool_are_drawn_alike_and_stand_anywhere():
    sampler = ContinentAware(**continents(**EVERYWHERE), length=100, batch=100)
    asia = POOLS.index("Asia")
    seen, places = Counter(), []
    for epoch in range(300):
        drawn = sampler.draw(seed=7, epoch=epoch)
        seen.update(drawn.tolist())
        places += np.flatnonzero(sampler.continent_N[drawn] == asia).tolist()
    clean = np.flatnonzero((sampler.continent_N == asia) & sampler.clean_N)
    # 33 drawings from 5 photos in 300 epochs: 1,980 each; standard deviation sqrt(9900 x 4/25) = 40
    assert all(abs(seen[position] - 1980) < 4 * 40 for position in clean.tolist())
    # a half of every place: the mean place is 49.5, its standard deviation below 29 / sqrt(15000)
    assert abs(np.mean(places) - 49.5) < 4 * 29 / 15000**0.5


def collection(*countries):
    num = len(countries)
    columns = {
        "id": [f"p{number}" for number in range(num)],
        "path": ["p.jpg"] * num,
        "kind": ["landmark"] * num,
        "clean": [True] * num,
        "split": ["train"] * num,
        "country": list(countries),
    }
    photos = pa.table(
        {field.name: pa.array(columns.get(field.name, [None] * num), field.type) for field in PHOTO_SCHEMA},
        schema=PHOTO_SCHEMA,
    )
    return Collection(photos=photos, landmarks=LANDMARK_SCHEMA.empty_table(), root=Path())


def test_the_continent_of_a_photo_is_that_of_its_country():
    codes = continents_in(collection("JP", None, "NA", "FR", "US", "JP", "BR", "AQ", "XK", "NZ"))
    assert codes.dtype == np.int8
    assert [POOLS[code] for code in codes] == [
        "Asia",
        OTHER,
        "Africa",
        "Europe",
        "North America",
        "Asia",
        "South America",
        "Antarctica",
        "Europe",
        "Oceania",
    ]
    assert continents_in(collection(None, None)).tolist() == [POOLS.index(OTHER)] * 2
    assert len(continents_in(collection())) == 0
    with pytest.raises(ValueError, match="'UK' is no ISO 3166-1"):
        continents_in(collection("UK"))


# AspectGrouped


@given(aspects(), SEEDS, st.integers(0, 20))
def test_a_batch_holds_one_bin_and_no_photo_comes_twice(sampler, seed, epoch):
    bins = [sum(ratio >= split for split in sampler.aspects.splits) for ratio in sampler.ratio_N]
    batches = whole(sampler, seed=seed, epoch=epoch)
    seen = Counter(flat(batches))
    assert set(seen.values()) == {1}
    for batch in batches:
        assert len(batch) == sampler.batch
        assert len({bins[position] for position in batch}) == 1
        assert sampler.size_of(np.array(batch)) == sampler.aspects.sizes[bins[batch[0]]]
    # all but an uneven rest of each bin is there
    there = Counter(bins[position] for position in seen)
    assert all(there[b] == num // sampler.batch * sampler.batch for b, num in Counter(bins).items())
    assert sampler.num_never_seen == sum(num for num in Counter(bins).values() if num < sampler.batch)


def test_an_uneven_rest_changes_and_bins_are_mixed():
    sampler = AspectGrouped(ratio_N=np.repeat([0.5, 1.0, 1.2], 11), aspects=THREE, batch=5)
    seen, first_bins = Counter(), Counter()
    for epoch in range(60):
        batches = whole(sampler, epoch=epoch)
        seen.update(flat(batches))
        first_bins[sampler.size_of(np.array(batches[0]))] += 1
    assert len(seen) == 33 and max(seen.values()) <= 60
    # 6 batches, 2 of them wide: 20 of 60 epochs begin so, standard deviation 3.7
    assert abs(first_bins[512, 384] - 20) < 15 and abs(first_bins[448, 448] - 40) < 15


def test_photos_of_usual_cameras_fall_into_their_bins():
    ratios = np.array([2 / 3, 0.67, 3 / 4, 0.77, 1.0, 1.33, 4 / 3, 1.5, 16 / 9])
    assert bin_of(FIVE, ratios).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert bin_of(THREE, ratios).tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]


def test_without_splits_there_is_one_bin():
    one = AspectOptions(sizes=((64, 48),))
    assert bin_of(one, np.array([0.1, 1.0, 9.0])).tolist() == [0, 0, 0]
    assert bin_of(AspectOptions(), np.array([0.5])).dtype == np.int64
    assert AspectGrouped(ratio_N=np.ones(3), aspects=one, batch=2).size_of(np.arange(3)) == (64, 48)


# Mixtures


def two_parts(share, small=7, large=30):
    return (
        Part(position_N=np.arange(small), probability=share),
        Part(position_N=np.arange(small, small + large), probability=1 - share),
    )


@given(photo_mixtures(), SEEDS, st.integers(0, 5))
def test_a_mixture_of_photos_has_exact_shares(sampler, seed, epoch):
    positions = np.array(flat(whole(sampler, seed=seed, epoch=epoch)))
    total = sampler.epoch_batches * sampler.batch
    assert len(positions) == total
    for part, num in zip(sampler.parts, sampler.photos_by_part(), strict=True):
        assert np.isin(positions, part.position_N).sum() == num
        assert abs(num - part.probability * total) < 1


@pytest.mark.parametrize("mixed", ["photos", "batches"])
def test_a_part_is_gone_through_before_a_photo_comes_back_over_epochs(mixed):
    if mixed == "photos":
        sampler = PhotoMixture(parts=two_parts(0.3), batch=10, epoch_batches=2)
    else:
        parts = tuple(
            SampledPart(
                sampler=Shuffle(num_photos=len(part.position_N), batch=1),
                position_N=part.position_N,
                probability=part.probability,
            )
            for part in two_parts(0.3)
        )
        sampler = BatchMixture(parts=parts, epoch_batches=20)
    everything = np.array(flat(flat(whole(sampler, epoch=epoch)) for epoch in range(21)))
    for part in sampler.parts:
        run = everything[np.isin(everything, part.position_N)]
        size = len(part.position_N)
        assert len(run) == {7: 6, 30: 14}[size] * 21
        orders = set()
        for first in range(0, len(run) - size + 1, size):
            assert sorted(run[first : first + size]) == part.position_N.tolist()
            orders.add(tuple(run[first : first + size]))
        assert len(orders) > 7


def test_shuffles_drawn_together_go_on_in_the_next_block():
    # 30,000 photos fit twice into a block; the third pass is in the next
    part = Part(position_N=np.arange(30000), probability=1.0)
    sampler = PhotoMixture(parts=(part,), batch=1000, epoch_batches=45)
    run = flat(flat(whole(sampler, epoch=epoch)) for epoch in range(2))
    passes = [run[first : first + 30000] for first in (0, 30000, 60000)]
    assert all(sorted(order) == list(range(30000)) for order in passes)
    assert passes[0] != passes[1] != passes[2] != passes[0]


def test_a_mixture_of_batches_takes_each_from_one_part_in_random_order():
    parts = (
        SampledPart(sampler=Shuffle(num_photos=40, batch=4), position_N=np.arange(40), probability=0.75),
        SampledPart(sampler=Shuffle(num_photos=40, batch=8), position_N=np.arange(40, 80), probability=0.25),
    )
    sampler = BatchMixture(parts=parts, epoch_batches=20)
    assert sampler.batches_by_part() == [15, 5]
    first_is_second = 0
    for epoch in range(200):
        batches = whole(sampler, epoch=epoch)
        of_part = [{position >= 40 for position in batch} for batch in batches]
        assert all(len(parts_seen) == 1 for parts_seen in of_part)
        assert [len(batch) for batch in batches] == [8 if True in seen else 4 for seen in of_part]
        assert sum(True in seen for seen in of_part) == 5
        first_is_second += True in of_part[0]
    assert abs(first_is_second - 50) < 4 * 6.2  # sqrt(200 x 3/16)


def test_photos_of_a_part_stand_anywhere_in_a_mixture_of_photos():
    sampler = PhotoMixture(parts=two_parts(0.25), batch=10, epoch_batches=4)
    of_first = [np.array(flat(whole(sampler, epoch=epoch))) < 7 for epoch in range(300)]
    assert {int(places.sum()) for places in of_first} == {10}
    # a quarter of 300 epochs at each place: 75; standard deviation sqrt(300 x 3/16) = 7.5
    assert np.all(np.abs(np.sum(of_first, axis=0) - 75) < 4 * 7.5)


def test_equal_parts_are_not_shuffled_alike():
    positions = (np.arange(40), np.arange(40, 80))
    sampler = Shuffle(num_photos=40, batch=40)
    parts = tuple(SampledPart(sampler=sampler, position_N=part, probability=0.5) for part in positions)
    for mixture in (
        BatchMixture(parts=parts, epoch_batches=2),
        PhotoMixture(parts=parts, batch=40, epoch_batches=2),
    ):
        run = flat(whole(mixture))
        first = [position for position in run if position < 40]
        second = [position - 40 for position in run if position >= 40]
        assert sorted(first) == sorted(second) and first != second


def test_a_mixture_may_hold_subsets_of_one_collection():
    clean = SampledPart(
        sampler=Shuffle(num_photos=3, batch=3), position_N=np.array([9, 2, 4]), probability=0.5
    )
    every = SampledPart(sampler=Shuffle(num_photos=10, batch=10), position_N=np.arange(10), probability=0.5)
    batches = whole(BatchMixture(parts=(clean, every), epoch_batches=2))
    assert sorted(sorted(batch) for batch in batches) == [list(range(10)), [2, 4, 9]]


def test_a_mixture_of_mixtures_is_a_sampler():
    inner = PhotoMixture(parts=two_parts(0.5), batch=6, epoch_batches=3)
    part = SampledPart(sampler=inner, position_N=np.arange(37), probability=1.0)
    assert [len(batch) for batch in whole(BatchMixture(parts=(part,), epoch_batches=7))] == [6] * 7


# What cannot be


ONE_CONTINENT = continents(Asia=(2, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shuffle(num_photos=0, batch=4), "num_photos: must be at least 1, not 0"),
        (lambda: Shuffle(num_photos=4, batch=0), "batch: must be at least 1, not 0"),
        (
            lambda: IdUniform(landmark_N=np.array([1, 1, 2]), landmarks=3, photos=1),
            "landmarks: 3 a batch are more than the 2 there are",
        ),
        (
            lambda: IdUniform(landmark_N=np.array([1, -1]), landmarks=1, photos=1),
            "a photo has no landmark",
        ),
        (lambda: IdUniform(landmark_N=np.array([1]), landmarks=0, photos=1), "landmarks: must be at least 1"),
        (lambda: IdUniform(landmark_N=np.array([1]), landmarks=1, photos=-2), "photos: must be at least 1"),
        (
            lambda: IdUniform(landmark_N=np.array([1]), landmarks=1, photos=1, epoch_batches=0),
            "epoch_batches: must be at least 1",
        ),
        (
            lambda: IdUniform(landmark_N=np.zeros(0, dtype=np.int64), landmarks=1, photos=1),
            "landmark_N: there is no photo",
        ),
        (
            lambda: IdUniform(landmark_N=np.zeros((2, 2), dtype=np.int64), landmarks=1, photos=1),
            "landmark_N: must have one value a photo",
        ),
        (lambda: ContinentAware(**ONE_CONTINENT, batch=5), "batch: 5 photos are more than the 4 of an epoch"),
        (lambda: ContinentAware(**ONE_CONTINENT, batch=1, length=0), "length: must be at least 1"),
        (
            lambda: ContinentAware(**ONE_CONTINENT, batch=1, ratios={"Asia": 0.9}),
            "ratios: must sum to 1, not 0.9",
        ),
        (
            lambda: ContinentAware(**ONE_CONTINENT, batch=1, ratios={"Asia": 1.5, "Europe": -0.5}),
            "ratios: must lie in 0..1, not 1.5",
        ),
        (
            lambda: ContinentAware(**ONE_CONTINENT, batch=1, ratios={"Asia": float("nan")}),
            "ratios: must lie in 0..1, not nan",
        ),
        (
            lambda: ContinentAware(**ONE_CONTINENT, batch=1, ratios={"Atlantis": 1.0}),
            "ratios: unknown continent 'Atlantis'",
        ),
        (
            lambda: ContinentAware(**ONE_CONTINENT, batch=1, ratios={"Europe": 1.0}),
            "none of the continents with a ratio above 0 has a photo",
        ),
        (
            lambda: ContinentAware(**continents(Asia=(0, 3)), batch=1, clean_share=1.0),
            "none of the continents with a ratio above 0 has a photo",
        ),
        (lambda: ContinentAware(**ONE_CONTINENT, batch=1, clean_share=1.1), "clean_share: must lie in 0..1"),
        (
            lambda: ContinentAware(continent_N=np.array([8]), clean_N=np.array([True]), batch=1),
            "continent_N: must lie in 0..7",
        ),
        (
            lambda: ContinentAware(continent_N=np.array([0]), clean_N=np.array([1]), batch=1),
            "clean_N: must have one bool for each of 1 photos, not int64",
        ),
        (
            lambda: AspectGrouped(ratio_N=np.array([1.0, 0.5]), aspects=THREE, batch=2),
            "batch: no bin of shapes has 2 photos; the largest has 1",
        ),
        (
            lambda: AspectGrouped(ratio_N=np.array([1.0, 0.0]), aspects=THREE, batch=1),
            "ratio_N: height / width must be above 0",
        ),
        (
            lambda: AspectGrouped(ratio_N=np.array([np.nan]), aspects=THREE, batch=1),
            "ratio_N: height / width",
        ),
        (lambda: AspectGrouped(ratio_N=np.array([1.0]), aspects=THREE, batch=0), "batch: must be at least 1"),
        (
            lambda: AspectGrouped(ratio_N=np.array([1.0, 0.5]), aspects=THREE, batch=1).size_of(np.arange(2)),
            "the photos lie in 2 bins",
        ),
        (
            lambda: AspectGrouped(ratio_N=np.array([1.0]), aspects=AspectOptions(), batch=1),
            "aspects: no sizes are said",
        ),
        (lambda: Part(position_N=np.arange(3), probability=0.0), "leave out a part with none"),
        (lambda: Part(position_N=np.array([-1]), probability=0.5), "positions are whole numbers from 0"),
        (lambda: Part(position_N=np.array([0.5]), probability=0.5), "positions are whole numbers from 0"),
        (
            lambda: SampledPart(
                sampler=Shuffle(num_photos=3, batch=1), position_N=np.arange(4), probability=0.5
            ),
            "sampler: it draws from 3 photos, the part has 4",
        ),
        (lambda: PhotoMixture(parts=(), batch=1, epoch_batches=1), "parts: a mixture needs at least one"),
        (
            lambda: PhotoMixture(parts=two_parts(0.5)[:1], batch=1, epoch_batches=1),
            "probability: must sum to 1, not 0.5",
        ),
        (
            lambda: PhotoMixture(parts=two_parts(0.01), batch=4, epoch_batches=5),
            "part 0, of probability 0.01, gets none of the 20 photos",
        ),
        (lambda: PhotoMixture(parts=two_parts(0.5), batch=0, epoch_batches=5), "batch: must be at least 1"),
        (lambda: BatchMixture(parts=(), epoch_batches=0), "epoch_batches: must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


# The document


def test_the_document_tells_the_truth():
    page = (Path(__file__).parents[2] / "docs" / "samplers.md").read_text(encoding="utf-8")
    program, shapes = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict = {}
    exec(program, names)
    assert len(names["positions"]) == 32 and names["sampler"].num_batches() == 15
    exec(shapes, names)
    grouped = names["sampler"]
    assert grouped.aspects == THREE and grouped.num_batches() == 4 + 9 + 11, "of 90, 187 and 223 photos"
    table = {
        cells[0]: cells[1:]
        for cells in (
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in page.split("## Continents")[1].split("## ")[0].splitlines()
            if line.startswith("|")
        )
    }
    drawn = ContinentAware(**continents(**EVERYWHERE), length=100, batch=1).drawn()
    assert table["clean"] == [str(drawn[name].clean) for name in table[""]]
    assert table["noisy"] == [str(drawn[name].noisy) for name in table[""]]
    assert sorted(table[""]) == sorted(POOLS)
