"""What a ranking allows its queries, against sets; rankings of a living index without what was removed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landseer.recipe import ExpansionOptions, ReciprocalOptions
from landseer.reranking import Context, rerank, without_removed
from landseer.reranking.allowed import Allowed
from landseer.search import search_exact
from landseer.search.living import LivingIndex
from landseer.types import PADDING, Descriptors, Ranking

NUM = 6
ROWS = st.lists(st.lists(st.integers(0, NUM - 1), unique=True, max_size=4), min_size=1, max_size=5)


def ranking_of(rows, ids=tuple("abcdef"), width=4, reasons=()):
    positions_QK = np.full((len(rows), width), PADDING, np.int64)
    for row, answers in zip(positions_QK, rows, strict=True):
        row[: len(answers)] = answers
    return Ranking(
        query_ids=tuple(f"q{q}" for q in range(len(rows))),
        gallery_ids=ids,
        positions_QK=positions_QK,
        scores_QK=np.where(positions_QK == PADDING, -np.inf, 0.5).astype(np.float32),
        reasons=reasons,
    )


@given(ROWS)
def test_a_short_row_allows_its_answers_and_a_full_one_all(rows):
    allowed = Allowed.by(ranking_of(rows))
    query_M, position_M = (axis.ravel() for axis in np.indices((len(rows), NUM)))
    want = [len(rows[q]) == 4 or p in rows[q] for q, p in zip(query_M, position_M, strict=True)]
    assert allowed.admits(query_M, position_M).tolist() == want
    assert allowed.admits(query_M[:0], position_M[:0]).tolist() == []


def test_removed_photos_leave_the_gallery():
    ids = ("a", "", "c", "", "e", "f")
    found = without_removed(ranking_of([[5, 0, 2, 4], [4], []], ids, reasons=({5: "why"}, {}, {})))
    assert found.gallery_ids == ("a", "c", "e", "f")
    assert found.positions_QK.tolist() == [[3, 0, 1, 2], [2, -1, -1, -1], [-1] * 4]
    assert [photo for photo, _ in found.answers(0)] == ["f", "a", "c", "e"]
    assert found.reasons == ({3: "why"}, {}, {})
    whole = ranking_of([[1]])
    assert without_removed(whole) is whole
    with pytest.raises(ValueError, match="an answer of the ranking has been removed"):
        without_removed(ranking_of([[1]], ids))


def unit(rng, num, prefix):
    rows = rng.standard_normal((num, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Descriptors(ids=tuple(f"{prefix}{n}" for n in range(num)), rows_ND=rows)


def test_a_living_ranking_is_reranked_like_one_of_the_photos_that_are_left(tmp_path):
    rng = np.random.default_rng(0)
    photos, queries = unit(rng, 60, "p"), unit(rng, 3, "q")
    with LivingIndex.create(tmp_path / "I", model="m", dim=8) as index:
        index.add(photos, [{"id": photo} for photo in photos.ids], model="m")
        index.remove(photos.ids[10:25])
        living = index.search(queries, k=12)
    assert "" in living.gallery_ids
    chain = (ReciprocalOptions(k1=5, k2=2), ExpansionOptions(query_neighbours=3))
    with pytest.raises(ValueError, match="living index with removed photos; re-rank without_removed"):
        rerank(living, chain, Context(queries=queries, gallery=photos))
    ranking = without_removed(living)
    left = photos.take(ranking.gallery_ids)
    found = rerank(ranking, chain, Context(queries=queries, gallery=left)).ranking
    plain = rerank(search_exact(queries, left, k=12), chain, Context(queries=queries, gallery=left)).ranking
    assert np.array_equal(found.positions_QK, plain.positions_QK)
    assert np.array_equal(found.scores_QK, plain.scores_QK)
