"""An index is searched by photo, described by its own model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landseer.pipeline.indexing.model import IndexModel, Work, model_of
from landseer.pipeline.indexing.photos import ROOT_COLUMN, collection_at, root_of
from landseer.pipeline.indexing.settings import settings_of
from landseer.search import LivingIndex, open_index
from landseer.types import Descriptors

_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What an index answers to one query photo."""

    query: str
    answers: tuple[Mapping[str, Any], ...]
    """Best first: ``rank`` from 1, ``score``, and all that the index knows, at least ``id``; ``path`` is complete."""
    unreadable: str | None = None
    """Why the query could not be read; then there are no answers."""


def search_index(
    index: str | Path,
    photos: Iterable[str | Path],
    *,
    k: int = 10,
    where: str | None = None,
    recall: float | None = None,
    rerank: bool = False,
    workers: int | None = None,
    device: str = "cpu",
) -> list[Answers]:
    """The *k* photos of the index most like each of *photos*, among those that *where* selects.

    With *recall* by the index's search structure, as ``LivingIndex.search`` has it.  The photos are described by the
    index's own model.  With *rerank* the answers are put in order by what the index keeps of a recipe, and have a
    reason ``why`` where that moved them.  One that cannot be read gets no answers and the reason.
    Raises ``ValueError`` for a wrong filter, before the model is loaded, and where the index is damaged.
    """
    asked = [str(photo) for photo in photos]
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    work = Work(workers=workers, device=device)
    with open_index(index) as opened:
        if where is not None:
            opened.check_filter(where)
        if rerank:
            _require_reranking(opened, recall)
        wish = _Wish(k=k, where=where, recall=recall, rerank=rerank)
        return _answers(opened, asked, work, wish)


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What is wanted of the answers."""

    k: int
    where: str | None
    recall: float | None
    rerank: bool


def _answers(index: LivingIndex, asked: Sequence[str], work: Work, wish: _Wish) -> list[Answers]:
    """The answers of one state, by the model of that state."""
    for _ in range(_ATTEMPTS):
        before = index.model
        try:
            rows, reasons = _described(asked, model_of(index), work)
            found = {} if rows is None else _found(index, rows, work, wish, model=before)
        except ValueError:
            if index.model == before:
                raise  # else a rebuild ended meanwhile, and the new model answers
        else:
            return [
                Answers(query=query, answers=found.get(str(number), ()), unreadable=reasons.get(str(number)))
                for number, query in enumerate(asked)
            ]
    raise ValueError(f"{index.path} changes its model faster than it can be asked; try again")


def _found(
    index: LivingIndex, rows: Descriptors, work: Work, wish: _Wish, *, model: str
) -> dict[str, tuple[Mapping[str, Any], ...]]:
    """Query -> its answers."""
    if not wish.rerank:
        ranking = index.search(
            rows, k=wish.k, where=wish.where, model=model, device=work.device, recall=wish.recall
        )
        return {query: _known(index, ranking.answers(n)) for n, query in enumerate(ranking.query_ids)}
    from landseer.pipeline.online.answering import reranked

    return {
        query: tuple(
            {
                "rank": answer.rank,
                "score": answer.score,
                **answer.record,
                "path": place_of(index, answer.record),
                "why": answer.why,
            }
            for answer in answers
        )
        for query, answers in reranked(index, rows, k=wish.k, where=wish.where).items()
    }


def _require_reranking(index: LivingIndex, recall: float | None) -> None:
    if recall is not None:
        raise ValueError("re-ranking looks at exact answers; leave out --recall or --rerank")
    if not settings_of(index).reranking:
        raise ValueError(
            f"{index.path} keeps no re-ranking; landseer index rebuild INDEX --recipe FILE gives it that of a recipe"
        )


def _described(
    asked: Sequence[str], model: IndexModel, work: Work
) -> tuple[Descriptors | None, dict[str, str]]:
    """Descriptors of the photos at these paths, each with its place as id, and place -> reason of the others."""
    paths: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for number, text in enumerate(asked):
        place = Path(text).resolve()
        try:
            path = place.relative_to(place.anchor).as_posix()
            path.encode()
        except UnicodeEncodeError:
            reasons[str(number)] = "a name that is not UTF-8"
        else:
            paths[str(number)] = path
    if not paths:
        return None, reasons
    with tempfile.TemporaryDirectory() as folder:
        collection = collection_at(Path(Path.cwd().anchor), paths, split="query")
        rows, bad = model.describe(collection, Path(folder) / "queries", work)
        return rows, {**reasons, **bad}


def _known(index: LivingIndex, answers: Sequence[tuple[str, float]]) -> tuple[Mapping[str, Any], ...]:
    """The answers with what the index knows of each; one that was removed meanwhile is left out."""
    records = index.photos(photo for photo, _ in answers)
    there = [(records[photo], score) for photo, score in answers if photo in records]
    return tuple(
        {"rank": rank, "score": score, **record, "path": place_of(index, record)}
        for rank, (record, score) in enumerate(there, start=1)
    )


def place_of(index: LivingIndex, record: Mapping[str, Any]) -> str | None:
    """Where the photo of *record* lies, as far as the index knows."""
    path, root = record.get("path"), record.get(ROOT_COLUMN)
    return path if path is None or root is None else str(root_of(index, root) / path)
