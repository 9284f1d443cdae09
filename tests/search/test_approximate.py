"""Approximate search: scores and order are the definition's, and the recall it tells is the recall it has."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from landseer.cli import cli
from landseer.search import build_approximate, choose, load_approximate, prepare, score, search_exact
from landseer.search.approximate import codes, fitting, plan
from landseer.search.approximate.candidates import best_of
from landseer.search.approximate.tuning import measured
from landseer.search.scores import norm_bounds
from landseer.storage import load_ranking, open_artifact, save_descriptors
from landseer.types import PADDING, Descriptors

DIM, NUM, K = 32, 3000, 10


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Codes for galleries that a test can build, and tuning on few queries."""
    monkeypatch.setattr(plan, "_FEWEST_ROWS", 500)
    monkeypatch.setattr(plan, "_CANDIDATE_COMPONENTS", 0)
    monkeypatch.setattr(fitting, "SAMPLE", 100)


def clustered(num, *, seed=0, spread=0.5, size=20, dim=DIM):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, num // size), dim))
    rows = centres[rng.integers(len(centres), size=num)] + spread * rng.standard_normal((num, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def descriptors(rows, prefix="g", **facts):
    return Descriptors(ids=tuple(f"{prefix}{n}" for n in range(len(rows))), rows_ND=rows, **facts)


@pytest.fixture(scope="module")
def world():
    rows = clustered(NUM + 50)
    return descriptors(rows[50:]), descriptors(rows[:50], "q")


def slow_recall(found, truth):
    """The share of answers no worse than the true last one, a loop at a time."""
    shares = []
    for row, true in zip(found.scores_QK, truth.scores_QK, strict=True):
        shares.append(sum(value >= true[-1] for value in row) / len(true))
    return sum(shares) / len(shares)


def test_scores_and_order_are_the_definitions(world):
    gallery, queries = world
    found = build_approximate(gallery, k=K, recall=0.9).search(queries)
    for query, positions, scores in zip(queries.rows_ND, found.positions_QK, found.scores_QK, strict=True):
        assert len(set(positions.tolist())) == K
        true = [(-score(query, gallery.rows_ND[n]), n) for n in positions]
        assert true == sorted(true)
        assert [-value for value, _ in true] == list(scores)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("listed", [False, True])
def test_the_recall_asked_for_is_reached_with_fewer_rows_scored(world, monkeypatch, dtype, listed):
    gallery, queries = world
    if listed:
        monkeypatch.setattr(plan, "_ROWS_FOR_LISTS", 1000)
    gallery = descriptors(gallery.rows_ND.astype(dtype))
    made = build_approximate(gallery, k=K, recall=0.9)
    assert made.plan.kind == ("lists" if listed else "codes")
    assert K < made.plan.num_candidates < NUM // 10
    found, truth = made.search(queries), search_exact(queries, gallery, k=K)
    assert 0.85 < slow_recall(found, truth) < 1
    assert made.measured.low - 0.04 < slow_recall(found, truth) < made.measured.high + 0.04
    assert (made.measured.name, made.measured.num_queries) == ("recall@10", 100)
    assert made.measured.low < made.measured.value < made.measured.high


def test_neighbours_that_share_no_lists_are_all_scanned(monkeypatch):
    monkeypatch.setattr(plan, "_ROWS_FOR_LISTS", 1000)
    rows = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
    made = build_approximate(descriptors(rows, normalised=False), k=100, recall=0.9)
    assert (made.plan.kind, made.plan.num_lists, made.plan.num_probes) == ("codes", 0, 0)


def test_all_rows_as_candidates_are_exact_search(world):
    gallery, queries = world
    made = build_approximate(gallery, k=K, recall=0.9)
    made.plan = replace(made.plan, num_candidates=NUM)
    found, truth = made.search(queries), search_exact(queries, gallery, k=K)
    assert np.array_equal(found.positions_QK, truth.positions_QK)
    assert np.array_equal(found.scores_QK, truth.scores_QK)
    assert (found.query_ids, found.gallery_ids) == (queries.ids, gallery.ids)


def test_the_queries_own_row_is_no_proof_of_recall(monkeypatch):
    """Each row finds itself; were that counted, recall@1 would always be 1."""
    rows = clustered(1500, spread=2.0)
    made = build_approximate(descriptors(rows), k=1, recall=0.6)
    assert made.plan.kind == "codes"
    assert 0.6 <= made.measured.value < 1


def test_given_queries_tune_it(world):
    """They are harder than the gallery's own rows, so they take more candidates."""
    gallery, _ = world
    strangers = descriptors(clustered(200, seed=9, spread=3.0), "s")
    own = build_approximate(gallery, k=K, recall=0.9)
    theirs = build_approximate(gallery, k=K, recall=0.9, queries=strangers)
    assert theirs.measured.num_queries == 100
    assert theirs.plan.num_candidates > own.plan.num_candidates
    with pytest.raises(ValueError, match="39 queries do not show a recall; give 40 or more"):
        build_approximate(gallery, k=K, queries=strangers.take(strangers.ids[:39]))


def test_what_does_not_reach_the_recall_is_exact_search_and_says_so(world, monkeypatch, caplog):
    gallery, queries = world
    monkeypatch.setattr(fitting, "tuned", lambda codes, chosen, *_: replace(chosen, num_candidates=K + 1))
    made = build_approximate(gallery, k=K, recall=0.97)
    assert made.plan.kind == "exact"
    assert "codes reached a recall@10 0." in made.plan.reason and "not 0.97" in made.plan.reason
    assert made.plan.reason in caplog.text
    assert str(made.measured) == "recall@10 1, by definition"
    truth = search_exact(queries, gallery, k=K)
    assert np.array_equal(made.search(queries).positions_QK, truth.positions_QK)


def test_codes_that_would_take_longer_are_not_used(world, monkeypatch):
    monkeypatch.setattr(plan, "_CANDIDATE_COMPONENTS", 2**15)
    made = build_approximate(world[0], k=K, recall=0.9)
    assert made.plan.kind == "exact" and "take longer" in made.plan.reason


def test_more_answers_than_it_was_tuned_for_are_exact(world):
    gallery, queries = world
    made = build_approximate(gallery, k=K, recall=0.9)
    truth = search_exact(queries, gallery, k=K + 1)
    assert np.array_equal(made.search(queries, k=K + 1).positions_QK, truth.positions_QK)
    assert made.search(queries, k=3).positions_QK.shape == (50, 3)


def test_equal_seeds_give_equal_searches(world):
    gallery, queries = world
    one, same, other = (build_approximate(gallery, k=K, recall=0.9, seed=seed) for seed in (0, 0, 1))
    assert (one.plan, one.measured) == (same.plan, same.measured)
    assert np.array_equal(one.search(queries).positions_QK, same.search(queries).positions_QK)
    assert one.measured != other.measured


def test_saved_and_loaded_it_is_the_same(world, tmp_path):
    gallery, queries = world
    made = build_approximate(gallery, k=K, recall=0.9)
    made.save(tmp_path / "codes")
    back = load_approximate(tmp_path / "codes", gallery)
    assert (back.plan, back.measured) == (made.plan, made.measured)
    assert np.array_equal(back.search(queries).positions_QK, made.search(queries).positions_QK)
    other = gallery.rows_ND.copy()
    other[NUM - 1, 5] += 1e-3
    with pytest.raises(ValueError, match="was built for other descriptors"):
        load_approximate(tmp_path / "codes", descriptors(other))


def test_a_flipped_byte_never_reaches_faiss(world, tmp_path, monkeypatch):
    gallery, _ = world
    build_approximate(gallery, k=K, recall=0.9).save(tmp_path / "codes")
    monkeypatch.setattr(
        codes.Codes, "from_bytes", lambda content: pytest.fail("faiss was given damaged bytes")
    )
    file = tmp_path / "codes" / "codes.faiss"
    whole = file.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(whole), 40).tolist():
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(ValueError, match="is damaged"):
            load_approximate(tmp_path / "codes", gallery)
    shutil.rmtree(tmp_path / "codes")
    with pytest.raises(ValueError, match="not a folder"):
        load_approximate(tmp_path / "codes", gallery)


def test_the_callers_threads_stay_as_they_were(world):
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(before + 3)
    try:
        made = build_approximate(world[0], k=K, recall=0.9)
        made.search(world[1])
        assert faiss.omp_get_max_threads() == before + 3
    finally:
        faiss.omp_set_num_threads(before)


def test_threads_may_share_it(world):
    gallery, queries = world
    made = build_approximate(gallery, k=K, recall=0.9)
    expected = made.search(queries).positions_QK
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.__setitem__(n, made.search(queries).positions_QK))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(np.array_equal(one, expected) for one in found.values())


def test_queries_that_do_not_fit_are_refused(world):
    made = build_approximate(world[0], k=K, recall=0.9)
    with pytest.raises(ValueError, match="queries have 4 components and the gallery 32"):
        made.search(descriptors(np.ones((1, 4), np.float32)))
    with pytest.raises(ValueError, match="'g0' holds a NaN"):
        made.search(descriptors(np.full((1, DIM), np.nan, np.float32)))
    assert made.search(world[1].take(())).positions_QK.shape == (0, K)


def test_candidates_with_equal_scores_come_by_position():
    rows = np.ones((8, 4), np.float32)
    norms = norm_bounds(rows, list("abcdefgh"))
    candidates = np.array([[6, -1, 2, 4], [-1, -1, 7, -1]])
    positions, scores = best_of(candidates, rows[:2], norms[:2], rows, norms, k=3)
    assert positions.tolist() == [[2, 4, 6], [7, PADDING, PADDING]]
    assert scores.tolist() == [[4, 4, 4], [4, -np.inf, -np.inf]]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("seed", range(8))
def test_the_best_of_hard_candidates_are_the_definitions(seed, dtype):
    """Equal, nearly equal, vanishing and huge rows, against a loop over the definition."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, size=(60, 6)).astype(np.float64)
    rows *= (1 + 2.0**-10) ** rng.integers(-1, 2, size=(60, 6)) if seed % 2 else 1
    rows[rng.random(60) < 0.2] *= 10.0 ** float(rng.integers(-30 if dtype == np.float32 else -4, 4))
    if seed == 7 and dtype == np.float32:
        rows[:3] *= 2.0**90
    rows = rows.astype(dtype)
    queries = rng.choice(rows, 4).astype(dtype)
    candidates = np.array([rng.choice(60, 50, replace=False) for _ in queries])
    candidates[:, :5] = -1
    norms = (norm_bounds(each, [""] * 60) for each in (queries, rows))
    positions, scores = best_of(candidates, queries, next(norms), rows, next(norms), k=7)
    for query, row_C, found, values in zip(queries, candidates, positions, scores, strict=True):
        true = sorted((-score(query, rows[n]), n) for n in row_C if n >= 0)[:7]
        assert [(-value, n) for n, value in zip(found, values, strict=True)] == true


@pytest.mark.parametrize(
    ("num", "dim", "how", "kind", "reason"),
    [
        (499, 64, {}, "exact", "as fast for 499 rows"),
        (600, 64, {"k": 300}, "exact", "as fast for 600 rows"),
        (10**5, 16, {}, "exact", "codes need 32 components"),
        (10**5, 66, {}, "exact", "in fours, not 66"),
        (10**5, 64, {"recall": 1.0}, "exact", "no sample shows a recall of 1"),
        (10**5, 64, {"memory_bytes": 10**5}, "exact", "bytes of memory, not 100000"),
        (10**5, 64, {}, "codes", "lists would not make 100000 rows faster"),
        (10**6, 64, {}, "lists", "neighbours share lists"),
    ],
)
def test_the_rule(num, dim, how, kind, reason):
    chosen = choose(num, dim, **{"k": 10, "recall": 0.9, **how})
    assert chosen.kind == kind
    assert reason in chosen.reason


def test_memory_decides_how_much_is_kept():
    """A byte a component and half a byte for 2; the half alone, or for 4; and 24 or 32 bytes a row for what else is."""
    rich, middling, poor = (
        choose(10**5, 512, k=10, recall=0.9, memory_bytes=most) for most in (None, 2 * 10**7, 10**7)
    )
    assert (rich.components, rich.prepared, rich.memory_bytes) == (2, True, 10**5 * (512 + 128 + 32))
    assert (middling.components, middling.prepared, middling.memory_bytes) == (2, False, 10**5 * (128 + 24))
    assert (poor.components, poor.prepared, poor.memory_bytes) == (4, False, 10**5 * (64 + 24))
    assert choose(100, 512, k=10, recall=0.9).memory_bytes == 100 * (512 + 16)
    assert not choose(100, 512, k=10, recall=0.9, memory_bytes=10**4).prepared


@pytest.mark.parametrize(("k", "recall"), [(0, 0.9), (10, 0.0), (10, 1.01)])
def test_impossible_wishes_are_refused(k, recall):
    with pytest.raises(ValueError, match="recall must be above 0 and at most 1, k at least 1"):
        choose(1000, 64, k=k, recall=recall)


def test_the_interval_is_wilsons():
    """81 of 263: 0.2553 to 0.3662 (Newcombe, Statistics in Medicine 17, 1998, method 3)."""
    found = measured("recall@1", np.array([1.0] * 81 + [0.0] * 182))
    assert found.value == pytest.approx(81 / 263)
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=2e-4), pytest.approx(0.3662, abs=2e-4))


def test_a_perfect_sample_is_no_proof_of_perfection():
    found = measured("recall@10", np.ones(100))
    assert found.value == found.high == 1
    assert found.low == pytest.approx(100 / (100 + 1.959964**2))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        difficulty = rng.beta(18, 2, size=200)  # queries differ, as they do
        found = measured("recall@20", rng.binomial(20, difficulty) / 20)
        covered += found.low <= 0.9 <= found.high
    assert 0.93 < covered / 1000 < 0.975


def test_a_prepared_gallery_gives_the_same(world):
    gallery, queries = world
    plain, ready = (build_approximate(each, k=K, recall=0.9) for each in (gallery, prepare(gallery)))
    assert plain.plan == ready.plan
    assert np.array_equal(plain.search(queries).positions_QK, ready.search(queries).positions_QK)


def test_many_queries_are_scanned_and_few_looked_up(world, monkeypatch):
    gallery, queries = world
    many = descriptors(np.concatenate([queries.rows_ND, -queries.rows_ND]), "q")
    made = build_approximate(gallery, k=K, recall=0.9)
    assert made.plan.prepared and "for many queries together" in str(made.plan)
    how = []
    for name in ("scanned", "approximate"):
        answer = getattr(made._source, name)
        monkeypatch.setattr(made._source, name, lambda *a, n=name, f=answer, **k: how.append(n) or f(*a, **k))
    found, truth = made.search(many), search_exact(many, gallery, k=K)
    made.search(queries)
    assert how == ["scanned", "approximate"]
    assert slow_recall(found, truth) > 0.95
    for query, positions, scores in zip(many.rows_ND, found.positions_QK, found.scores_QK, strict=True):
        true = [(-score(query, gallery.rows_ND[n]), n) for n in positions]
        assert true == sorted(true) and [-value for value, _ in true] == list(scores)


def test_the_lower_of_two_recalls_is_told(world, monkeypatch):
    """The scan misses the best answer of every query; told is that, and where it is too little, the scan is out."""
    gallery, _ = world

    def missing(self, queries, *, k):
        found = search_exact(queries, self.rows, k=k + 1)
        return found.positions_QK[:, [0, *range(2, k + 1)]], found.scores_QK[:, [0, *range(2, k + 1)]]

    monkeypatch.setattr("landseer.search.approximate.build._Gallery.scanned", missing)
    assert build_approximate(gallery, k=K, recall=0.85).measured.value == pytest.approx(0.9)
    strict = build_approximate(gallery, k=K, recall=0.92)
    assert strict.plan.kind == "codes" and not strict.plan.prepared
    assert strict.measured.value >= 0.92


def test_without_the_memory_no_bytes_are_kept(world):
    made = build_approximate(world[0], k=K, recall=0.9, memory_bytes=NUM * 60)
    assert made.plan.kind == "codes" and not made.plan.prepared
    assert made.plan.memory_bytes <= NUM * 60


def test_rank_tells_the_recall_and_keeps_it(world, tmp_path, monkeypatch):
    for name, rows in zip(("gallery", "queries"), world, strict=True):
        save_descriptors(rows, tmp_path / name, made_by={"model": "m"})
    monkeypatch.chdir(tmp_path)
    asked = ["rank", "--queries", "queries", "--gallery", "gallery", "-k", "10"]
    done = CliRunner().invoke(cli, [*asked, "--recall", "0.9", "--out", "ranking"])
    assert done.exit_code == 0, done.output
    made_by = open_artifact(tmp_path / "ranking", "ranking").made_by
    assert made_by["search"] == "approximate" and made_by["plan"]["kind"] == "codes"
    assert made_by["measured"]["value"] >= 0.9
    assert f"recall@10 {made_by['measured']['value']:.4f} (95 % interval " in done.output
    assert f"{made_by['plan']['num_candidates']} candidates a query" in done.output
    done = CliRunner().invoke(cli, [*asked, "--recall", "1", "--out", "all"])
    assert "recall@10 1, by definition\nexact search: no sample shows a recall of 1" in done.output
    truth = search_exact(world[1], world[0], k=K)
    assert np.array_equal(load_ranking(tmp_path / "all").positions_QK, truth.positions_QK)
