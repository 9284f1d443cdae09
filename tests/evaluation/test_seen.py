"""How much of what is asked was trained on."""

import pyarrow as pa

from landseer.evaluation.seen import TrainedShare, share_trained_on


def test_each_query_counts_once_and_unknown_ones_apart():
    table = pa.table({"query": ["a", "b", "c", "d", "a"], "seen": [True, False, None, True, True]})
    found = share_trained_on(table)
    assert (found.queries, found.seen, found.unknown, found.share) == (4, 2, 1, 2 / 3)
    assert str(found) == "2 of 3 queries (66.7%) show a landmark trained on; of 1 more it is not known"


def test_where_nothing_is_known_no_share_is_told():
    found = TrainedShare(queries=3, seen=0, unknown=3)
    assert found.share is None
    assert str(found).startswith("of none of 3 queries is it known")
    assert (
        str(TrainedShare(queries=2, seen=0, unknown=0)) == "0 of 2 queries (0.0%) show a landmark trained on"
    )
