"""An approximate search over a gallery: built, tuned, measured and kept.

Axes: Q queries, N gallery rows, M rows of a sample, K answers, D components.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from landseer.search.approximate.candidates import best_of, in_parts
from landseer.search.approximate.codes import Codes
from landseer.search.approximate.fitting import Answers, fit
from landseer.search.approximate.plan import Plan, choose
from landseer.search.approximate.tuning import Measured
from landseer.search.certified import Prepared, prepare
from landseer.search.exact import require_fit, search_exact, search_unproven
from landseer.search.scores import norm_bounds
from landseer.storage import Manifest, open_artifact, writing
from landseer.storage.artifact import fingerprint_of
from landseer.types import PADDING, Descriptors, Ranking

KIND = "structure"
FILE = "codes.faiss"
_ROWS_AT_ONCE = 2**14
_MANY = 64
"""From so many queries on a scan of a byte a component takes less than codes do."""


def build_approximate(
    gallery: Descriptors | Prepared,
    *,
    k: int = 100,
    recall: float = 0.95,
    queries: Descriptors | None = None,
    memory_bytes: int | None = None,
    seed: int = 0,
) -> Approximate:
    """A search of *gallery* that finds *recall* of the *k* true answers on average, as soon as can be.

    It is tuned and measured on samples of the gallery, or of *queries* where they are given: which are
    best of the kind that will be asked.  Where codes do not reach the recall, or would not be faster, it
    searches exactly, and its ``plan`` says why.  *memory_bytes* bounds what is kept beside the rows.  Equal
    arguments, threads and faiss give an equal search, but for rows whose codes score the same.

    Raises ``ValueError`` where arguments are out of range, a row holds a NaN or an infinity, or *queries*
    are too few or do not fit the gallery.
    """
    rows = gallery.gallery if isinstance(gallery, Prepared) else gallery
    plan = choose(len(rows), rows.dim, k=k, recall=recall, memory_bytes=memory_bytes)
    if queries is not None:
        require_fit(queries, rows, k=k)
    source = _Gallery(gallery)
    codes, plan, measured = fit(source, plan, queries=queries, seed=seed)
    return Approximate(_Gallery(_ready(source.gallery, plan)), codes, plan, measured)


class Approximate:
    """A gallery with its codes, its plan and the recall that was measured.  Threads may share it."""

    def __init__(self, source: _Gallery, codes: Codes | None, plan: Plan, measured: Measured) -> None:
        self._source, self._codes = source, codes
        self.plan, self.measured = plan, measured

    def search(self, queries: Descriptors, *, k: int | None = None) -> Ranking:
        """The *k* best of the photos that are found for every query (by default, the plan's k).

        Scores are those of exact search, and so is the order: equal scores by lower position.  More answers
        than the plan's k are searched exactly.  Raises ``ValueError`` where queries and gallery do not fit
        each other, or a query holds a NaN or an infinity.
        """
        rows, k = self._source.rows, self.plan.k if k is None else k
        if self._codes is None or k > self.plan.k:
            return search_exact(queries, self._source.gallery, k=k)
        require_fit(queries, rows, k=k)
        found = self._source.scanned(queries, k=k) if self.plan.prepared and len(queries) >= _MANY else None
        if found is None:
            found = self._source.approximate(self._codes, self.plan, queries, k=k)
        positions_QK, scores_QK = found
        return Ranking(
            query_ids=queries.ids,
            gallery_ids=rows.ids,
            positions_QK=positions_QK,
            scores_QK=scores_QK,
            score_kind="cosine" if queries.normalised and rows.normalised else "dot",
            gallery_fingerprint=rows.fingerprint,
        )

    def save(self, path: Path, *, replace: bool = False) -> None:
        """Write codes, plan and measurement as one artifact; the rows are no part of it."""
        facts = {"plan": asdict(self.plan), "measured": asdict(self.measured)}
        with writing(
            path, KIND, made_by=facts, parents={"gallery": _content_of(self._source.rows)}, replace=replace
        ) as part:
            if self._codes is not None:
                (part / FILE).write_bytes(self._codes.to_bytes().data)


def load_approximate(path: Path, gallery: Descriptors | Prepared) -> Approximate:
    """What ``Approximate.save`` wrote, for the gallery it was built for.

    Raises ``ValueError`` where it is damaged, or was built for other rows.
    """
    rows = gallery.gallery if isinstance(gallery, Prepared) else gallery
    manifest = open_artifact(path, KIND)
    if manifest.parents.get("gallery") != _content_of(rows):
        raise ValueError(f"{path} was built for other descriptors; build it again")
    codes, plan, measured = read_codes(path, manifest)
    return Approximate(_Gallery(_ready(gallery, plan)), codes, plan, measured)


def _ready(gallery: Descriptors | Prepared, plan: Plan) -> Descriptors | Prepared:
    """As the plan wants it."""
    if isinstance(gallery, Prepared) == plan.prepared:
        return gallery
    return gallery.gallery if isinstance(gallery, Prepared) else prepare(gallery)


def read_codes(path: Path, manifest: Manifest) -> tuple[Codes | None, Plan, Measured]:
    """What an artifact keeps; checksums are compared before faiss sees a byte.

    Raises ``ValueError`` where it is damaged.
    """
    plan, measured = Plan(**manifest.made_by["plan"]), Measured(**manifest.made_by["measured"])
    if plan.kind == "exact":
        return None, plan, measured
    codes = Codes.from_bytes(np.frombuffer(read_checked(path, manifest, FILE), np.uint8))
    if len(codes) != plan.num_rows:
        raise ValueError(f"{path / FILE} has codes of {len(codes)} rows, not {plan.num_rows}; build it again")
    return codes, plan, measured


def read_checked(path: Path, manifest: Manifest, name: str) -> bytes:
    """A file of an artifact, these very bytes compared with the manifest; ``ValueError`` on a difference."""
    try:
        content = (path / name).read_bytes()
    except OSError as error:
        raise ValueError(f"{path / name} cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != manifest.files[name]["sha256"]:
        raise ValueError(f"{path / name} is damaged (its sha256 changed); build it again")
    return content


class _Gallery:
    """Plain or prepared descriptors as a source of codes."""

    def __init__(self, gallery: Descriptors | Prepared) -> None:
        self.gallery = gallery
        self.rows = gallery.gallery if isinstance(gallery, Prepared) else gallery
        self.metric, self.normalised = self.rows.metric, self.rows.normalised
        self._norm_N = (
            gallery.norm_N if isinstance(gallery, Prepared) else norm_bounds(self.rows.rows_ND, self.rows.ids)
        )

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, place_M: np.ndarray) -> np.ndarray:
        return self.rows.rows_ND[place_M]

    def pieces(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            yield self.rows.rows_ND[start : start + _ROWS_AT_ONCE]

    def exact(self, queries: Descriptors, *, k: int) -> Answers:
        found = search_exact(queries, self.gallery, k=k)
        return found.positions_QK, found.scores_QK

    def approximate(self, codes: Codes, plan: Plan, queries: Descriptors, *, k: int) -> Answers:
        norm_Q = norm_bounds(queries.rows_ND, queries.ids)
        positions_QK = np.full((len(queries), k), PADDING, np.int64)
        scores_QK = np.full((len(queries), k), -np.inf, np.float32)

        def answer(part: slice) -> None:
            found = codes.find(
                queries.rows_ND[part], num=max(plan.num_candidates, k), num_probes=plan.num_probes
            )
            positions_QK[part], scores_QK[part] = best_of(
                found,
                queries.rows_ND[part],
                norm_Q[part],
                self.rows.rows_ND,
                self._norm_N,
                k=k,
            )

        in_parts(answer, len(queries))
        return positions_QK, scores_QK

    def scanned(self, queries: Descriptors, *, k: int) -> Answers | None:
        if not isinstance(self.gallery, Prepared):
            self.gallery = prepare(self.rows)
        return search_unproven(queries, self.gallery, k=k)


def _content_of(rows: Descriptors) -> str:
    """Tells these rows and ids from others: crc32, which finds accidents, not malice."""
    crc = zlib.crc32("\0".join(rows.ids).encode())
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        crc = zlib.crc32(np.ascontiguousarray(rows.rows_ND[start : start + _ROWS_AT_ONCE]).data, crc)
    return fingerprint_of(crc, list(rows.rows_ND.shape), str(rows.rows_ND.dtype))
