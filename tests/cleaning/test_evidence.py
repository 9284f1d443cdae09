"""The rule of Yokoo et al. as a loop over every pair, against rounds with early exit."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landseer.cleaning import Compared, Goal, Neighbours, PairStore, evidence, gather


class World:
    """Photos of some labels, their lists, and inliers of any two; counts who asks for what."""

    def __init__(self, seed: int, num: int, labels: int, most: int) -> None:
        rng = np.random.default_rng(seed)
        self.label_N = rng.integers(-1, labels, num)
        self.inliers_NN = np.triu(rng.integers(0, 8, (num, num)), 1)
        self.inliers_NN = self.inliers_NN + self.inliers_NN.T
        self.lists = [
            rng.permutation(
                [p for p in range(num) if p != n and self.label_N[p] == self.label_N[n] >= 0]
            ).astype(np.int32)[:most]
            for n in range(num)
        ]
        self.ids = [f"p{n}" for n in range(num)]
        self.key_N = rng.integers(1, 2**63, num).astype(np.uint64)
        self.asked: list[frozenset[str]] = []

    @property
    def neighbours(self) -> Neighbours:
        return Neighbours(
            offsets_N1=np.cumsum([0, *map(len, self.lists)]),
            positions_M=np.concatenate([np.empty(0, np.int32), *self.lists]),
            agreement_N=np.zeros(len(self.ids), np.float32),
            others_N3=np.full((len(self.ids), 3), -1, np.int32),
        )

    def verify(self, pairs):
        self.asked += [frozenset(pair) for pair in pairs]
        counts = [self.inliers_NN[int(a[1:]), int(b[1:])] for a, b in pairs]
        return np.array(counts, np.int64), np.ones(len(pairs), bool)

    def gather(self, goal: Goal, store: PairStore | None = None, **more):
        photos = Compared(
            ids=self.ids,
            label_N=self.label_N,
            key_N=self.key_N,
            verify_pairs=self.verify,
            store=store or PairStore(None, {}),
        )
        return gather(self.neighbours, photos, goal, **more)

    def proven_by_loop(self, goal: Goal) -> list[bool]:
        return [
            sum(self.inliers_NN[photo, other] >= goal.inliers for other in listed) >= goal.neighbours
            for photo, listed in enumerate(self.lists)
        ]


WORLDS = st.builds(
    World, st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 4), st.integers(1, 12)
)
GOALS = st.builds(Goal, neighbours=st.integers(1, 5), inliers=st.integers(1, 7))


def proven(found, goal: Goal) -> list[bool]:
    return (found.best_NF[:, goal.neighbours - 1] >= goal.inliers).tolist()


@given(WORLDS, GOALS)
def test_early_exit_never_changes_the_decision(world, goal):
    found = world.gather(goal)
    assert proven(found, goal) == world.proven_by_loop(goal)
    assert len(set(world.asked)) == len(world.asked) == found.verified, "a pair is verified at most once"


@given(WORLDS, GOALS, st.integers(1, 7))
def test_the_size_of_a_batch_changes_nothing_but_the_work_at_once(world, goal, size):
    whole = world.gather(goal)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "_PHOTOS_AT_ONCE", size)
        patch.setattr(evidence, "_PAIRS_AT_ONCE", size)
        parts = world.gather(goal)
    assert np.array_equal(whole.best_NF, parts.best_NF)
    assert np.array_equal(whole.position_NF, parts.position_NF)
    assert (whole.possible, whole.listed, whole.verified) == (parts.possible, parts.listed, parts.verified)


@given(WORLDS, st.integers(1, 5))
def test_every_pair_gives_the_best_neighbours_of_the_loop(world, need):
    found = world.gather(Goal(neighbours=need, inliers=4, every_pair=True))
    pairs = {frozenset((n, int(p))) for n, listed in enumerate(world.lists) for p in listed}
    assert found.verified == found.possible == len(pairs)
    assert found.listed == sum(map(len, world.lists))
    for photo, listed in enumerate(world.lists):
        best = sorted(((-world.inliers_NN[photo, p], place, p) for place, p in enumerate(listed)))
        best = [(-count, int(p)) for count, _, p in best if count][:10]
        assert found.best_NF[photo][: len(best)].tolist() == [count for count, _ in best]
        assert found.position_NF[photo][: len(best)].tolist() == [p for _, p in best]
        assert not found.best_NF[photo][len(best) :].any()


@given(WORLDS, GOALS)
def test_only_who_is_asked_for_is_proven_or_given_up(world, goal):
    asked_N = np.arange(len(world.ids)) % 2 == 0
    found = world.gather(goal, asked_N=asked_N)
    want = np.array(world.proven_by_loop(goal))
    assert np.array_equal(np.array(proven(found, goal))[asked_N], want[asked_N])
    lists = {frozenset((f"p{n}", f"p{p}")) for n in np.flatnonzero(asked_N) for p in world.lists[n]}
    assert set(world.asked) <= lists


def test_no_more_pairs_are_asked_for_than_are_lacking():
    """One photo with ten neighbours of its label that all agree: three pairs prove it, and three more for each of the
    others that those do not prove already."""
    world = World(0, 11, 1, 0)
    world.label_N[:] = 0
    world.inliers_NN = np.full((11, 11), 40)
    world.lists = [np.array([p for p in range(11) if p != n], np.int32) for n in range(11)]
    found = world.gather(Goal(neighbours=3, inliers=30))
    assert found.possible == 55
    assert found.listed == 110
    assert found.verified <= 33
    asked = np.zeros(11, bool)
    asked[4] = True
    assert world.gather(Goal(neighbours=3, inliers=30), asked_N=asked).verified == 3


class Killed(Exception):
    pass


@settings(max_examples=30)
@given(world=WORLDS, goal=GOALS, after=st.integers(0, 30), every=st.integers(1, 9))
def test_work_that_was_stopped_goes_on_to_the_same_result(tmp_path_factory, world, goal, after, every):
    folder = tmp_path_factory.mktemp("store")
    whole = world.gather(goal)
    first, world.asked, verify = len(world.asked), [], world.verify

    def dies(pairs):
        if len(world.asked) >= after:
            raise Killed
        return verify(pairs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "_PAIRS_AT_ONCE", 3)
        patch.setattr(world, "verify", dies)
        # pairs are asked for three at a time, so the last ones may be asked for before it dies
        with pytest.raises(Killed) if first > after + 3 else suppress(Killed):
            world.gather(goal, PairStore(folder, {}, commit_every=every))
    before, world.asked = set(world.asked), []
    again = world.gather(goal, PairStore(folder, {}))
    assert np.array_equal(whole.best_NF, again.best_NF)
    assert np.array_equal(whole.position_NF, again.position_NF)
    assert before.isdisjoint(world.asked), "what was kept is not matched again"
    assert again.verified + again.known == whole.verified
    assert again.known == len(before)


@settings(max_examples=25)
@given(WORLDS, GOALS)
def test_what_another_goal_left_behind_does_not_change_the_result(tmp_path_factory, world, goal):
    folder = tmp_path_factory.mktemp("store")
    alone = world.gather(goal)
    world.gather(Goal(neighbours=1, inliers=1, every_pair=True), PairStore(folder, {}))
    world.asked = []
    after = world.gather(goal, PairStore(folder, {}))
    assert world.asked == []
    assert np.array_equal(alone.best_NF, after.best_NF)


def test_progress_ends_with_every_photo():
    world, told = World(3, 30, 2, 8), []
    world.gather(Goal(neighbours=2, inliers=4), watch=lambda *facts: told.append(facts))
    done = [facts[0] for facts in told]
    assert done == sorted(done)
    assert told[-1][:2] == (30, 30)
