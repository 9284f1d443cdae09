"""Photos to places: what joins, what does not, and that order, names and later photos change nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.cleaning.grouping import group_photos
from landseer.cleaning.links import Places, mutual_neighbours, places_of, strangers_of
from landseer.recipe.grouping_options import GroupingOptions
from landseer.types import Descriptors

DIM = 48


def described(rows, ids=None):
    rows = np.asarray(rows, np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    names = ids or [f"p{n:04d}" for n in range(len(rows))]
    return Descriptors(ids=tuple(names), rows_ND=unit.astype(np.float32))


def world(seed, *, places=6, photos=8, strangers=40, noise=0.6):
    """Photos around the middles of places, and strangers; labels, -1 for strangers."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(places, DIM))
    rows = np.repeat(middles, photos, axis=0) + noise * rng.normal(size=(places * photos, DIM))
    rows = np.concatenate([rows, rng.normal(size=(strangers, DIM))])
    return rows, np.concatenate([np.repeat(np.arange(places), photos), np.full(strangers, -1)])


def parts(grouping):
    return {frozenset(group.members) for group in grouping.groups}


OPTIONS = GroupingOptions(mode="descriptors", neighbours=10, likeness=3.5)


def test_places_are_found_and_strangers_stay_alone():
    rows, label_N = world(0)
    photos = described(rows)
    found = group_photos(photos, OPTIONS)
    want = {frozenset(photos.ids[n] for n in np.flatnonzero(label_N == place)) for place in range(6)}
    assert want <= parts(found)
    inside = set().union(*want)
    assert len(set(found.alone) - inside) >= 36  # two strangers may be alike by chance


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_order_makes_no_difference_and_no_photo_is_in_two_groups(seed):
    rng = np.random.default_rng(seed)
    rows, _ = world(seed, places=4, photos=6, strangers=20, noise=rng.uniform(0.2, 1.2))
    rows = np.round(rows, 1)  # ties happen
    rows[rng.integers(0, len(rows), 6)] = rows[0]
    photos = described(rows)
    order = rng.permutation(len(rows))
    proven = {frozenset(rng.choice(photos.ids, 2, replace=False)) for _ in range(30)}

    def count(pairs):
        return np.array([9 * (frozenset(pair) in proven) for pair in pairs])

    options = GroupingOptions(neighbours=40, likeness=3.0)
    found = group_photos(photos, options, count=count)
    turned = photos.take([photos.ids[n] for n in order])
    assert group_photos(turned, options, count=count) == found
    members = [photo for group in found.groups for photo in group.members]
    assert sorted([*members, *found.alone]) == sorted(photos.ids)
    assert [len(group) for group in found.groups] == sorted(map(len, found.groups), reverse=True)
    assert [group.number for group in found.groups] == list(range(1, len(found.groups) + 1))


def test_a_chain_of_photos_is_not_one_place():
    """Each next to the next, the ends strangers: single links would join all 40."""
    turn = np.linspace(0, 3.0, 40)
    chain = np.zeros((40, DIM))
    chain[:, 0], chain[:, 1] = np.cos(turn), np.sin(turn)
    rng = np.random.default_rng(0)
    photos = described(np.concatenate([chain, rng.normal(size=(200, DIM))]))
    found = group_photos(photos, GroupingOptions(mode="descriptors", neighbours=5, likeness=4.0))
    row_of = {photo: n for n, photo in enumerate(photos.ids)}
    chained = [group for group in found.groups if row_of[group.medoid] < 40]
    assert len(chained) > 1
    assert max(len(group) for group in chained) < 40
    assert sum(len(group) for group in chained) == 40


def test_average_linkage_is_that_of_a_slow_loop():
    """Where every pair is linked: join the two groups of the highest mean likeness until none is high enough."""
    for seed in range(5):
        rows, _ = world(seed, places=3, photos=5, strangers=8, noise=0.9)
        photos = described(rows)
        options = GroupingOptions(
            mode="descriptors", neighbours=len(rows), likeness=2.0, near=0.0, proven=-100.0
        )
        scale = strangers_of(photos)
        cosine = photos.rows_ND.astype(np.float64) @ photos.rows_ND.astype(np.float64).T
        groups = [{n} for n in range(len(rows))]

        def mean(pair, groups=groups, cosine=cosine, scale=scale):
            a, b = pair
            cosines = cosine[np.ix_(sorted(groups[a]), sorted(groups[b]))]
            return (cosines.mean() - scale.cosine) / scale.spread

        # links that are not alike enough by themselves are none
        linked = (cosine - scale.cosine) / scale.spread >= 2.0
        while True:
            able = [
                (a, b)
                for a in range(len(groups))
                for b in range(a)
                if any(linked[i, j] for i in groups[a] for j in groups[b])
            ]
            best = max(able, key=mean, default=None)
            if best is None or mean(best) < 2.0:
                break
            groups[best[0]] |= groups[best[1]]
            del groups[best[1]]
        want = {frozenset(photos.ids[n] for n in group) for group in groups if len(group) > 1}
        assert parts(group_photos(photos, options)) == want


def test_a_proof_joins_what_is_less_alike_but_never_strangers():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(200, DIM))
    rows[1] = rows[0] + 1.5 * rng.normal(size=DIM)  # somewhat alike
    photos = described(rows)
    likeness = strangers_of(photos).likeness(photos.rows_ND[[0]] @ photos.rows_ND.T)[0]
    assert 1.5 < likeness[1] < 5.0
    stranger = int(np.argmin(np.abs(likeness - 0.5)))
    pairs = {frozenset((photos.ids[0], photos.ids[n])) for n in (1, stranger)}

    def count(asked):
        return np.array([50 * (frozenset(pair) in pairs) for pair in asked])

    options = GroupingOptions(neighbours=199)
    assert parts(group_photos(photos, options)) == set()
    found = group_photos(photos, options, count=count)
    assert parts(found) == {frozenset(photos.ids[:2])}
    assert found.groups[0].proven == 1.0
    assert parts(group_photos(photos, options, count=count, inliers=51)) == set()


def test_two_groups_that_are_proven_each_are_joined_by_a_proof_only():
    """However alike: a model that never saw two landmarks may well take them for one."""
    rows, _ = world(1, places=1, photos=8, strangers=100, noise=0.4)
    photos = described(rows)
    first, second = photos.ids[:4], photos.ids[4:8]

    def count_within(*groups):
        return lambda pairs: np.array([20 * any({*pair} <= {*group} for group in groups) for pair in pairs])

    options = GroupingOptions(neighbours=10, likeness=3.0)
    whole = frozenset(photos.ids[:8])
    assert whole in parts(group_photos(photos, options))
    assert {frozenset(first), frozenset(second)} <= parts(
        group_photos(photos, options, count=count_within(first, second))
    )
    # one that is proven takes in photos that are not, and a proof between the two joins them
    assert whole in parts(group_photos(photos, options, count=count_within(first)))
    between = (photos.ids[0], photos.ids[4])
    assert whole in parts(group_photos(photos, options, count=count_within(first, second, between)))


def test_where_and_when_count_where_they_are_known():
    rows, label_N = world(1, places=1, photos=6, strangers=100, noise=0.5)
    photos = described(rows)
    unknown = np.full(len(rows), np.nan)
    place = frozenset(photos.ids[:6])
    assert place in parts(group_photos(photos, OPTIONS))
    # half of them in Paris, half in Rome: two places, however alike
    lat, lon = unknown.copy(), unknown.copy()
    lat[:3], lon[:3], lat[3:6], lon[3:6] = 48.858, 2.294, 41.890, 12.492
    apart = group_photos(photos, OPTIONS, places=places_of(lat, lon, unknown))
    assert {frozenset(photos.ids[:3]), frozenset(photos.ids[3:6])} <= parts(apart)
    # likeness that does not suffice does so within five minutes, or a hundred metres
    strict = GroupingOptions(mode="descriptors", neighbours=10, likeness=0.0, proven=0.0)
    likeness = strangers_of(photos).likeness((photos.rows_ND[0] @ photos.rows_ND[1])[None])[0]
    bar = GroupingOptions(mode="descriptors", neighbours=20, likeness=likeness + 0.5, near=1.0)
    pair = photos.take(photos.ids[:2] + photos.ids[6:])
    minutes = np.where(np.arange(len(pair)) < 2, np.arange(len(pair)) * 4.0, np.nan)
    nowhere = np.full(len(pair), np.nan)
    scale = strangers_of(photos)
    assert strict.near == 1.0 and label_N[0] == label_N[1]
    for given_places, joined in (
        (None, False),
        (places_of(nowhere, nowhere, minutes), True),
        (places_of(nowhere, nowhere, minutes * 2), False),
        (
            places_of(np.where(minutes >= 0, 10.0005, np.nan), np.where(minutes >= 0, 20.0, np.nan), nowhere),
            True,
        ),
    ):
        found = group_photos(pair, bar, places=given_places, strangers=scale)
        assert (frozenset(pair.ids[:2]) in parts(found)) == joined


def test_groups_in_two_towns_are_not_joined_by_photos_of_unknown_place():
    rows, _ = world(1, places=1, photos=6, strangers=100, noise=0.5)
    photos = described(rows)
    lat, lon = np.full((2, len(rows)), np.nan)
    lat[0], lon[0], lat[3], lon[3] = 48.858, 2.294, 41.890, 12.492
    found = group_photos(photos, OPTIONS, places=places_of(lat, lon, np.full(len(rows), np.nan)))
    both = {photos.ids[0], photos.ids[3]}
    assert not any(both <= set(group.members) for group in found.groups)
    assert sum(len({*photos.ids[:6]} & {*group.members}) for group in found.groups) >= 5


def test_kilometres_are_those_of_the_map():
    places = places_of(np.array([48.8584, 51.5007, np.nan]), np.array([2.2945, -0.1246, 0.0]), np.zeros(3))
    assert places.km(np.array([0]), np.array([1]))[0] == pytest.approx(341, abs=2)  # Eiffel Tower to Big Ben
    assert np.isnan(places.km(np.array([0]), np.array([2]))[0])
    with pytest.raises(ValueError, match=r"3 times need positions \[3, 3\]"):
        Places(point_N3=np.zeros((2, 3)), minute_N=np.zeros(3))


def test_photos_that_come_later_join_the_groups_that_are_there():
    rows, label_N = world(2, places=5, photos=10, strangers=60)
    photos = described(rows)
    early = [photo for n, photo in enumerate(photos.ids) if n % 10 < 6 and label_N[n] != 4]
    before = group_photos(photos.take(early), OPTIONS)
    known = {photo: group.number for group in before.groups for photo in group.members}
    after = group_photos(
        photos, OPTIONS, known=known, seen=frozenset(early), strangers=before.strangers, first=1
    )
    number_of = {photo: group.number for group in after.groups for photo in group.members}
    assert {photo: number_of[photo] for photo in known} == known
    for place in range(5):
        numbers = {number_of[photos.ids[n]] for n in np.flatnonzero(label_N == place)}
        assert len(numbers) == 1, "new photos belong to the group of their place"
        assert (numbers <= set(known.values())) == (place != 4), "the place that nobody had seen is new"
    nothing_new = group_photos(
        photos.take(early), OPTIONS, known=known, seen=frozenset(early), strangers=before.strangers
    )
    assert parts(nothing_new) == parts(before)


def test_groups_that_are_there_are_never_joined_with_each_other():
    rows, _ = world(4, places=1, photos=12, strangers=60, noise=0.3)
    photos = described(rows)
    known = {photo: 7 + (n % 2) for n, photo in enumerate(photos.ids[:8])}
    found = group_photos(photos, OPTIONS, known=known)
    number_of = {photo: group.number for group in found.groups for photo in group.members}
    assert {photo: number_of[photo] for photo in known} == known
    assert {number_of[photo] for photo in photos.ids[8:12]} <= {7, 8}
    assert min(n for n in number_of.values() if n not in (7, 8)) > 8 if len(found.groups) > 2 else True


def test_mutual_neighbours_are_those_of_a_loop():
    rng = np.random.default_rng(5)
    photos = described(rng.normal(size=(60, 8)))
    cosine = photos.rows_ND @ photos.rows_ND.T
    np.fill_diagonal(cosine, -np.inf)
    lists = [set(np.argsort(-cosine[n])[:4].tolist()) for n in range(60)]
    want = {(a, b) for a in range(60) for b in range(a + 1, 60) if b in lists[a] and a in lists[b]}
    found = set(zip(*(part.tolist() for part in mutual_neighbours(photos, 4)), strict=True))
    assert found == want
    new_N = np.arange(60) % 7 == 0
    some = set(zip(*(part.tolist() for part in mutual_neighbours(photos, 4, new_N=new_N)), strict=True))
    assert some == {pair for pair in want if new_N[list(pair)].any()}


def test_a_group_tells_its_medoid_its_spread_and_how_sure_it_is():
    rows, _ = world(6, places=3, photos=7, strangers=50)
    photos = described(rows)
    for group in group_photos(photos, OPTIONS).groups:
        own = photos.take(group.members).rows_ND.astype(np.float64)
        means = [np.delete(own @ row, n).mean() for n, row in enumerate(own)]
        assert int(np.argmax(means)) == 0 and means == sorted(means, reverse=True)
        assert group.spread == pytest.approx(np.mean(1 - own[1:] @ own[0]))
        assert 0 < group.confidence <= 1 and group.proven == 0


@pytest.mark.parametrize("num", [0, 1, 2])
def test_few_photos_are_no_trouble(num):
    found = group_photos(described(np.ones((num, DIM)).cumsum(axis=1)), OPTIONS)
    assert sum(len(group) for group in found.groups) + len(found.alone) == num


def test_equal_photos_everywhere_are_no_trouble():
    found = group_photos(described(np.ones((50, DIM))), OPTIONS)
    assert sum(len(group) for group in found.groups) + len(found.alone) == 50


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"neighbours": 0}, "neighbours: must be at least 1"),
        ({"least": 1}, "least: must be at least 2"),
        ({"inliers": 0}, "inliers: must be at least 1"),
        ({"far_km": 0.0}, "far_km: must be above 0"),
        ({"near": -1.0}, "near: must not be negative"),
        ({"proven": 9.0}, "proven: must be at most likeness"),
    ],
)
def test_impossible_options_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        GroupingOptions(**changed)
