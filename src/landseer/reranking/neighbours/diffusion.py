"""Diffusion over the gallery's graph, solved offline for every photo (Yang et al., AAAI 2019).

A_ij = max(cos(i, j), 0) ^ gamma where i and j are among each other's k nearest others, else 0 (no loops);
S = D^-1/2 A D^-1/2 with D the sums of A's rows; L = I - alpha S.  Offline: c_i = L^-1 e_i for every gallery
photo i, by conjugate gradients in the part of L that belongs to i and its nearest photos, ``truncation`` of
them in all.  Online: f = sum over the query's answers i of max(cos(q, i), 0) ^ gamma c_i, one number a photo.

The conjugate gradients of some photos run in step: their systems are one after the other in one sparse
table, each with its own step lengths, and one that has converged stands still.

Axes: N gallery photos, Q queries, K answers, B systems at once, n photos of a system, M cells, D components.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from landseer.recipe import DiffusionOptions
from landseer.reranking.allowed import Allowed
from landseer.reranking.context import Context, Search
from landseer.reranking.moves import explained, listed, place_of
from landseer.reranking.neighbours.graph import (
    CELLS_AT_ONCE,
    SparseRows,
    batches,
    best_of_each,
    nearest_others,
    pair_cosines,
    starts,
    summed,
    unit_rows,
)
from landseer.storage import open_artifact, read_array, verify, writing
from landseer.types import PADDING, Descriptors, Ranking

_METHOD = "diffusion"
_KIND = "diffusion"
_ONLINE = ("method", "query_neighbours")
"""Options that the offline part does not depend on."""
_SEARCHED_AT_ONCE = 2**23
_HASHED_AT_ONCE = 2**14
_UNREACHED = 2.0
"""Taken off the cosine of photos without a share, so that they stand below all that have one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Diffused:
    """The offline part: c_i of every gallery photo, as rows without their zeros."""

    rows: SparseRows
    gallery: str
    """Which descriptors: their fingerprint, or a digest of ids and rows where they have none."""
    settings: dict[str, Any]
    """The options it was made with, without those of the online part."""


def diffuse(
    ranking: Ranking, context: Context, options: DiffusionOptions, *, explain: bool = False
) -> Ranking:
    """Order the gallery by f, diffused from the first answers of every query.

    The offline part is made once for a context (``keep_diffusion`` gives it one that is there).  Scores are f
    where it is above 0; the answers that the diffusion does not reach follow with their cosine less 2.  A query
    whose row ends in padding stays within its answers.  Raises ``ValueError`` where descriptors are missing or not of
    unit length.
    """
    queries, gallery = context.descriptors(_METHOD, ranking)
    query_QD, gallery_ND = unit_rows(_METHOD, queries), unit_rows(_METHOD, gallery)
    of, diffused = context._kept.get(_KIND, (None, None))
    if of is not gallery or diffused.settings != _offline(options):
        diffused = prepare_diffusion(gallery, options, context.search)
        context._kept[_KIND] = (gallery, diffused)
    rows, allowed = diffused.rows, Allowed.by(ranking)
    positions_QK, scores_QK = (
        np.full_like(ranking.positions_QK, PADDING),
        np.full_like(ranking.scores_QK, -np.inf),
    )
    for part in _query_parts(ranking, rows, options):
        answers = ranking.positions_QK[part]
        query_M, position_M, share_M = _online(answers, query_QD[part], gallery_ND, rows, options)
        old_M, place_M = np.nonzero(answers != PADDING)
        old_position_M = answers[old_M, place_M]
        cosine_M = pair_cosines(query_QD[part], old_M, gallery_ND, old_position_M)
        query = np.concatenate([query_M, old_M])
        position = np.concatenate([position_M, old_position_M])
        score = np.concatenate([share_M, cosine_M - np.float32(_UNREACHED)])
        # of a photo that is there twice the first counts, with its share
        _, first = np.unique(query * np.int64(len(gallery)) + position, return_index=True)
        first = first[allowed.admits(part.start + query[first], position[first])]
        positions_QK[part], scores_QK[part] = best_of_each(
            query[first], position[first], score[first], shape=answers.shape
        )
    after = replace(
        ranking, positions_QK=positions_QK, scores_QK=scores_QK, score_kind="diffusion", reasons=()
    )
    return _explained(ranking, after, options) if explain else after


def prepare_diffusion(gallery: Descriptors, options: DiffusionOptions, search: Search) -> Diffused:
    """The offline part, which depends on the gallery alone: a search of each photo and a linear system each.

    Time grows with N ``truncation``, memory with the cells that are not 0, at most N ``truncation``.
    Raises ``ValueError`` where the descriptors are not of unit length.
    """
    unit_rows(_METHOD, gallery)
    laplacian = _laplacian(gallery, options, search)
    num_N = np.zeros(len(gallery), np.int64)
    columns, values = [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for first, near_Bn in _truncated(gallery, options, search):
        size = near_Bn.shape[1]
        step = max(1, CELLS_AT_ONCE // (size * max(1, round(laplacian.num_R.mean()))))
        for start in range(0, len(near_Bn), step):
            near = near_Bn[start : start + step]
            share_Bn = _solve(_systems(laplacian, near), near.shape, options).astype(np.float32)
            row_M, place_M = np.nonzero(share_Bn > 0)
            rows = slice(first + start, first + start + len(near))
            num_N[rows] = np.bincount(row_M, minlength=len(near))
            columns.append(near[row_M, place_M].astype(np.int32))
            values.append(share_Bn[row_M, place_M])
    cells = SparseRows(
        start_R=starts(num_N), column_M=np.concatenate(columns), value_M=np.concatenate(values)
    )
    return Diffused(rows=cells, gallery=_identity(gallery), settings=_offline(options))


def keep_diffusion(context: Context, diffused: Diffused) -> None:
    """Give *context* the offline part, so that ``diffuse`` does not make it anew for the same options.

    Raises ``ValueError`` where it was made from other descriptors than those of the context's gallery.
    """
    if context.gallery is None or diffused.gallery != _identity(context.gallery):
        raise ValueError("the offline part of the diffusion was made from other descriptors; make it again")
    context._kept[_KIND] = (context.gallery, diffused)


def save_diffusion(diffused: Diffused, path: Path) -> None:
    """Write ``start.npy``, ``columns.npy`` and ``values.npy``."""
    parents = {"gallery": diffused.gallery}
    with writing(path, _KIND, made_by=diffused.settings, parents=parents) as part:
        np.save(part / "start.npy", diffused.rows.start_R, allow_pickle=False)
        np.save(part / "columns.npy", diffused.rows.column_M, allow_pickle=False)
        np.save(part / "values.npy", diffused.rows.value_M, allow_pickle=False)


def load_diffusion(path: Path, gallery: Descriptors, options: DiffusionOptions) -> Diffused:
    """Read a diffusion folder, every file checked.

    Raises ``ValueError`` where it was made from other descriptors or with other options.
    """
    manifest = open_artifact(path, _KIND)
    verify(path, manifest)
    rows = SparseRows(
        start_R=read_array(path / "start.npy"),
        column_M=read_array(path / "columns.npy"),
        value_M=read_array(path / "values.npy"),
    )
    diffused = Diffused(rows=rows, gallery=manifest.parents["gallery"], settings=dict(manifest.made_by))
    if diffused.gallery != _identity(gallery) or diffused.settings != _offline(options):
        raise ValueError(f"{path} was made from other descriptors or with other options; make it again")
    return diffused


def _offline(options: DiffusionOptions) -> dict[str, Any]:
    return {key: value for key, value in asdict(options).items() if key not in _ONLINE}


def _identity(gallery: Descriptors) -> str:
    """What tells these descriptors from others; reads them all where they have no fingerprint."""
    if gallery.fingerprint:
        return gallery.fingerprint
    digest = hashlib.sha256(repr((gallery.ids, gallery.rows_ND.shape, gallery.rows_ND.dtype)).encode())
    for start in range(0, len(gallery), _HASHED_AT_ONCE):
        digest.update(np.ascontiguousarray(gallery.rows_ND[start : start + _HASHED_AT_ONCE]).data)
    return digest.hexdigest()[:16]


def _truncated(
    gallery: Descriptors, options: DiffusionOptions, search: Search
) -> Iterator[tuple[int, np.ndarray]]:
    """(first photo, positions ``[B, n]``) of each photo and its nearest: the photo itself first."""
    size = min(options.truncation, len(gallery))
    step = max(1, _SEARCHED_AT_ONCE // max(1, size))
    for first in range(0, len(gallery), step):
        ids = gallery.ids[first : first + step]
        asked = replace(gallery, ids=ids, rows_ND=gallery.rows_ND[first : first + step])
        near_Bn = search(asked, gallery, k=size).positions_QK
        own_B = np.arange(first, first + len(ids))
        place_B = np.where(near_Bn == own_B[:, None], np.arange(size), size - 1).min(axis=1)
        for place in np.unique(place_B):  # nearly always 0: only equal photos come before
            rows = place_B == place
            near_Bn[rows, 1 : place + 1] = near_Bn[rows, :place]
        near_Bn[:, 0] = own_B
        yield first, near_Bn


def _laplacian(gallery: Descriptors, options: DiffusionOptions, search: Search) -> SparseRows:
    """L, its diagonal included, by rising column."""
    total = len(gallery)
    near_NK, cosine_NK = nearest_others(gallery, search, k=min(options.neighbours, total))
    row_M, place_M = np.nonzero(near_NK != PADDING)
    column_M = near_NK[row_M, place_M]
    weight_M = np.maximum(cosine_NK[row_M, place_M].astype(np.float64), 0) ** options.gamma
    order_M = np.argsort(row_M * total + column_M)
    row_M, column_M, weight_M = row_M[order_M], column_M[order_M], weight_M[order_M]
    mutual_M = np.isin(column_M * total + row_M, row_M * total + column_M, assume_unique=True) & (
        weight_M > 0
    )
    row_M, column_M, weight_M = row_M[mutual_M], column_M[mutual_M], weight_M[mutual_M]
    degree_N = np.bincount(row_M, weights=weight_M, minlength=total)
    value_M = -options.alpha * weight_M / np.sqrt(degree_N[row_M] * degree_N[column_M])
    diagonal_N = np.arange(total)
    row, column, value = summed(
        np.concatenate([row_M, diagonal_N]),
        np.concatenate([column_M, diagonal_N]),
        np.concatenate([value_M, np.ones(total)]),
        num_columns=max(1, total),
    )
    return SparseRows(
        start_R=starts(np.bincount(row, minlength=total)), column_M=column.astype(np.int32), value_M=value
    )


def _systems(laplacian: SparseRows, near_Bn: np.ndarray) -> SparseRows:
    """The parts of L that belong to each row of *near_Bn*, one after the other: rows and columns B n."""
    size = near_Bn.shape[1]
    place_N = np.full(len(laplacian), PADDING, np.int32)
    nums, columns, values = [], [], []
    for system, near_n in enumerate(near_Bn):
        place_N[near_n] = np.arange(size)
        row_M, cell_M = laplacian.cells(near_n)
        place_M = place_N[laplacian.column_M[cell_M]]
        kept_M = place_M != PADDING
        nums.append(np.bincount(row_M[kept_M], minlength=size))
        columns.append(place_M[kept_M].astype(np.int64) + system * size)
        values.append(laplacian.value_M[cell_M[kept_M]])
        place_N[near_n] = PADDING
    return SparseRows(
        start_R=starts(np.concatenate(nums)),
        column_M=np.concatenate(columns),
        value_M=np.concatenate(values),
    )


def _solve(systems: SparseRows, shape: tuple[int, int], options: DiffusionOptions) -> np.ndarray:
    """For each system the x of L x = e_0: float64 ``[B, n]``."""
    first_R = systems.start_R[:-1]  # no row is empty: the diagonal is there
    x_Bn = np.zeros(shape)
    r_Bn = np.zeros(shape)
    r_Bn[:, 0] = 1
    p_Bn = r_Bn.copy()
    square_B = np.ones(len(r_Bn))
    for _ in range(options.iterations):
        going_B = square_B > options.tolerance**2
        if not going_B.any():
            break
        product_Bn = np.add.reduceat(systems.value_M * p_Bn.ravel()[systems.column_M], first_R).reshape(shape)
        curve_B = np.einsum("bn,bn->b", p_Bn, product_Bn)
        step_B = np.where(going_B, square_B / np.where(going_B, curve_B, 1), 0)
        x_Bn += step_B[:, None] * p_Bn
        r_Bn -= step_B[:, None] * product_Bn
        new_B = np.einsum("bn,bn->b", r_Bn, r_Bn)
        p_Bn *= np.where(going_B, new_B / np.where(going_B, square_B, 1), 1)[:, None]
        p_Bn += np.where(going_B, 1, 0)[:, None] * r_Bn
        square_B = np.where(going_B, new_B, square_B)
    return x_Bn


def _query_parts(ranking: Ranking, rows: SparseRows, options: DiffusionOptions) -> Iterator[slice]:
    """Queries together as long as the rows of their answers fit."""
    first = ranking.positions_QK[:, : options.query_neighbours]
    cost_Q = np.where(first != PADDING, rows.num_R[first] if len(rows) else 0, 0).sum(axis=1)
    return batches(cost_Q)


def _online(
    answers_BK: np.ndarray,
    query_BD: np.ndarray,
    gallery_ND: np.ndarray,
    rows: SparseRows,
    options: DiffusionOptions,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(query, position, f) ``[M]`` wherever f is above 0."""
    answers_BK = answers_BK[:, : options.query_neighbours]
    query_M, place_M = np.nonzero(answers_BK != PADDING)
    answer_M = answers_BK[query_M, place_M]
    cosine_M = pair_cosines(query_BD, query_M, gallery_ND, answer_M).astype(np.float64)
    weight_M = np.maximum(cosine_M, 0) ** options.gamma
    of_M, cell_M = rows.cells(answer_M)
    share_M = weight_M[of_M] * rows.value_M[cell_M]
    query, position, share = summed(query_M[of_M], rows.column_M[cell_M], share_M, num_columns=len(rows))
    share = share.astype(np.float32)
    return query[share > 0], position[share > 0], share[share > 0]


def _explained(before: Ranking, after: Ranking, options: DiffusionOptions) -> Ranking:
    def why(query: int, position: int) -> str:
        first = before.positions_QK[query, : options.query_neighbours]
        names = listed([before.gallery_ids[answer] for answer in first if answer != PADDING])
        share = after.scores_QK[query, place_of(after, query, position)]
        if share <= 0:
            return f"what spreads from {names} along mutual neighbours does not reach it"
        return f"of what spreads from {names} along mutual neighbours {share:.3g} reaches it"

    return replace(after, reasons=explained(before, after, why))
