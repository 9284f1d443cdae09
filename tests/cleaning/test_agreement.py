"""Groups against labels: the numbers are those of loops over all pairs."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.cleaning.agreement import agreement

PARTING = st.integers(1, 14).flatmap(
    lambda num: st.tuples(*(st.lists(st.integers(-1, 3), min_size=num, max_size=num) for _ in range(2)))
)


def by_loops(groups, labels):
    """The four cells of Hubert and Arabie's table, pair by pair; below 0: equal to nothing."""
    both = group = label = every = 0
    for a, b in combinations(range(len(groups)), 2):
        one, other = groups[a] == groups[b] >= 0, labels[a] == labels[b] >= 0
        both, group, label, every = both + (one and other), group + one, label + other, every + 1
    neither = every - group - label + both
    only_group, only_label = group - both, label - both
    # the form with the four cells (Steinley 2004), not ours
    under = (both + only_group) * (only_group + neither) + (both + only_label) * (only_label + neither)
    rand = 2 * (both * neither - only_group * only_label) / under if under else 1.0
    return both / group if group else 1.0, both / label if label else 1.0, rand


@given(PARTING)
def test_it_agrees_with_a_loop_over_pairs(parting):
    groups, labels = parting
    found = agreement(np.array(groups), np.array(labels))
    assert (found.precision, found.recall, found.rand) == pytest.approx(by_loops(groups, labels))


def test_an_example_by_hand():
    # 0 0 0 | 1 1 against 5 5 6 | 6 6: pairs together in both: one and one
    found = agreement(np.array([0, 0, 0, 1, 1]), np.array([5, 5, 6, 6, 6]))
    assert (found.precision, found.recall, found.pairs) == (0.5, 0.5, 4)
    assert found.rand == pytest.approx((2 - 1.6) / (4 - 1.6))


def test_names_of_groups_do_not_matter_and_equal_partings_score_one():
    labels = np.array([3, 3, 1, 1, -1, 0, 0, 0])
    again = np.array([7, 7, 2, 2, -1, 9, 9, 9])
    assert agreement(again, labels) == agreement(labels, labels)
    assert agreement(labels, labels).rand == 1 and math.isclose(agreement(labels, labels).precision, 1)


def test_nothing_together_is_nothing_wrong():
    found = agreement(np.array([-1, -1, -1]), np.array([4, 4, -1]))
    assert (found.precision, found.recall) == (1, 0)
    with pytest.raises(ValueError, match=r"each photo needs a group and a label, not \(2,\) and \(3,\)"):
        agreement(np.array([1, 2]), np.array([1, 2, 3]))
