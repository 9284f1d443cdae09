"""How each noun lies in its artifact folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from landseer.storage.artifact import open_artifact, read_array, read_json, read_table, verify, writing
from landseer.types import Collection, Descriptors, Number, Ranking, Report, Truth

_REASONS = "reasons.parquet"
_STEPS = "steps.json"
_FIGURES = ("value", "low", "high")
_TRUTH_SCHEMA = pa.schema(
    [
        pa.field("query", pa.string()),
        pa.field("relevant", pa.list_(pa.string())),
        pa.field("junk", pa.list_(pa.string())),
        pa.field("landmarks", pa.list_(pa.int64())),
        pa.field("split", pa.string()),
        pa.field("recognition_split", pa.string()),
    ]
)


def save_collection(
    collection: Collection,
    path: Path,
    *,
    made_by: Mapping[str, Any],
    parents: Mapping[str, str] | None = None,
    summary: Mapping[str, Any] | None = None,
) -> Collection:
    """Write ``photos.parquet``, ``landmarks.parquet``, ``place.json`` and, where known, ``truth.parquet``.

    *summary* is what the import found wrong.  Returns the collection with its fingerprint.
    """
    with writing(path, "collection", made_by=made_by, parents=parents, machine_facts=("place.json",)) as part:
        pq.write_table(collection.photos, part / "photos.parquet")
        pq.write_table(collection.landmarks, part / "landmarks.parquet")
        if collection.truth is not None:
            pq.write_table(_truth_table(collection.truth), part / "truth.parquet")
        if summary is not None:
            _write_json(part / "summary.json", summary)
        _write_json(part / "place.json", {"root": str(collection.root.resolve())})
    return replace(collection, fingerprint=open_artifact(path, "collection").fingerprint)


def load_collection(path: Path, *, root: Path | None = None) -> Collection:
    """Read a collection folder; *root*: where its photos lie now, if not where they lay at the import."""
    manifest = open_artifact(path, "collection")
    verify(path, manifest)
    place = Path(read_json(path / "place.json")["root"])
    truth = path / "truth.parquet"
    return Collection(
        photos=read_table(path / "photos.parquet"),
        landmarks=read_table(path / "landmarks.parquet"),
        root=root or place,
        truth=_truth_of(read_table(truth)) if truth.name in manifest.files else None,
        fingerprint=manifest.fingerprint,
    )


def load_truth(path: Path) -> Truth:
    """The truth of a collection folder.  Raises ``ValueError`` where the collection has none."""
    truth = load_collection(path).truth
    if truth is None:
        raise ValueError(
            f"{path} holds no truth (no query with known answers); import one with a solution file"
        )
    return truth


def save_descriptors(
    descriptors: Descriptors,
    path: Path,
    *,
    made_by: Mapping[str, Any],
    parents: Mapping[str, str] | None = None,
    fingerprint: str | None = None,
) -> Descriptors:
    """Write ``rows.npy``, ``ids.parquet``, ``unreadable.json``; returns them with their fingerprint."""
    facts = {**made_by, "metric": descriptors.metric, "normalised": descriptors.normalised}
    with writing(path, "descriptors", made_by=facts, parents=parents, fingerprint=fingerprint) as part:
        np.save(part / "rows.npy", descriptors.rows_ND, allow_pickle=False)
        pq.write_table(pa.table({"id": pa.array(descriptors.ids, pa.string())}), part / "ids.parquet")
        _write_json(part / "unreadable.json", dict(descriptors.unreadable))
    return replace(descriptors, fingerprint=open_artifact(path, "descriptors").fingerprint)


@contextmanager
def writing_descriptors(
    path: Path,
    *,
    ids: Sequence[str],
    dim: int,
    dtype: np.dtype,
    made_by: Mapping[str, Any],
    parents: Mapping[str, str] | None = None,
    fingerprint: str | None = None,
    unreadable: Mapping[str, str] | None = None,
    normalised: bool = True,
) -> Iterator[Callable[[np.ndarray], None]]:
    """``save_descriptors`` of rows that come in pieces: gives a function that appends ``[M, dim]`` rows.

    *normalised* declares that they are unit rows.  No more than one piece is in memory.  The pieces must add up to
    one row for each of *ids*, else ``ValueError`` and nothing is written.
    """
    if len(set(ids)) != len(ids):
        raise ValueError("a photo id occurs more than once among the descriptors")
    facts = {**made_by, "metric": "cosine", "normalised": normalised}
    written = 0
    with writing(path, "descriptors", made_by=facts, parents=parents, fingerprint=fingerprint) as part:
        with (part / "rows.npy").open("wb") as file:
            header = {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": (len(ids), dim),
            }
            np.lib.format.write_array_header_1_0(file, header)

            def append(rows_MD: np.ndarray) -> None:
                nonlocal written
                if rows_MD.shape[1:] != (dim,) or rows_MD.dtype != dtype:
                    raise ValueError(f"rows are {rows_MD.dtype} {rows_MD.shape}, not {dtype} [M, {dim}]")
                file.write(np.ascontiguousarray(rows_MD).data)
                written += len(rows_MD)

            yield append
        if written != len(ids):
            raise ValueError(f"{len(ids)} ids but {written} descriptor rows")
        pq.write_table(pa.table({"id": pa.array(ids, pa.string())}), part / "ids.parquet")
        _write_json(part / "unreadable.json", dict(unreadable or {}))


def load_descriptors(
    path: Path, *, made_by: str | None = None, mmap: bool = False, check: bool = True
) -> Descriptors:
    """Read a descriptors folder; *check* compares every file's sha256, *mmap* leaves the rows on disk."""
    manifest = open_artifact(path, "descriptors", made_by=made_by)
    if check:
        verify(path, manifest)
    return Descriptors(
        ids=tuple(read_table(path / "ids.parquet")["id"].to_pylist()),
        rows_ND=read_array(path / "rows.npy", mmap=mmap),
        metric=manifest.made_by["metric"],
        normalised=manifest.made_by["normalised"],
        fingerprint=manifest.fingerprint,
        unreadable=read_json(path / "unreadable.json"),
    )


def save_ranking(
    ranking: Ranking,
    path: Path,
    *,
    made_by: Mapping[str, Any],
    parents: Mapping[str, str] | None = None,
    steps: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write ``positions.npy``, ``scores.npy``, ``queries.parquet``, ``gallery.parquet`` and any ``reasons.parquet``.

    *steps*, what making it cost step by step, is kept in ``steps.json`` and is no part of its identity.
    """
    facts = {**made_by, "score_kind": ranking.score_kind, "gallery_fingerprint": ranking.gallery_fingerprint}
    with writing(path, "ranking", made_by=facts, parents=parents, machine_facts=(_STEPS,)) as part:
        np.save(part / "positions.npy", ranking.positions_QK, allow_pickle=False)
        np.save(part / "scores.npy", ranking.scores_QK, allow_pickle=False)
        pq.write_table(pa.table({"id": pa.array(ranking.query_ids, pa.string())}), part / "queries.parquet")
        pq.write_table(pa.table({"id": pa.array(ranking.gallery_ids, pa.string())}), part / "gallery.parquet")
        if ranking.reasons:
            pq.write_table(_reasons_table(ranking), part / _REASONS)
        if steps:
            _write_json(part / _STEPS, list(steps))


def load_ranking(path: Path) -> Ranking:
    """Read a ranking folder, every file checked."""
    manifest = open_artifact(path, "ranking")
    verify(path, manifest)
    query_ids = tuple(read_table(path / "queries.parquet")["id"].to_pylist())
    return Ranking(
        query_ids=query_ids,
        gallery_ids=tuple(read_table(path / "gallery.parquet")["id"].to_pylist()),
        positions_QK=read_array(path / "positions.npy"),
        scores_QK=read_array(path / "scores.npy"),
        score_kind=manifest.made_by["score_kind"],
        gallery_fingerprint=manifest.made_by["gallery_fingerprint"],
        reasons=_reasons_of(read_table(path / _REASONS), len(query_ids))
        if _REASONS in manifest.files
        else (),
    )


def load_steps(path: Path) -> list[dict[str, Any]]:
    """What making a ranking folder cost, step by step; nothing where that was not kept."""
    manifest = open_artifact(path, "ranking")
    found: list[dict[str, Any]] = read_json(path / _STEPS) if _STEPS in manifest.files else []
    return found


def _reasons_table(ranking: Ranking) -> pa.Table:
    found = [(row, *entry) for row, reasons in enumerate(ranking.reasons) for entry in reasons.items()]
    columns = zip(*found, strict=True) if found else ((), (), ())
    kinds = {"query": pa.int64(), "position": pa.int64(), "why": pa.string()}
    return pa.table(
        {
            name: pa.array(list(column), kind)
            for (name, kind), column in zip(kinds.items(), columns, strict=True)
        }
    )


def _reasons_of(table: pa.Table, num_queries: int) -> tuple[Mapping[int, str], ...]:
    reasons: tuple[dict[int, str], ...] = tuple({} for _ in range(num_queries))
    for entry in table.to_pylist():
        reasons[entry["query"]][entry["position"]] = entry["why"]
    return reasons


def save_report(
    report: Report,
    path: Path,
    *,
    tables: Mapping[str, pa.Table] | None = None,
    parents: Mapping[str, str] | None = None,
) -> None:
    """Write ``report.json`` and one Parquet file for each of *tables* (per-query results, say)."""
    with writing(path, "report", made_by=dict(report.made_by), parents=parents) as part:
        _write_json(part / "report.json", _report_fields(report))
        for name, table in (tables or {}).items():
            pq.write_table(table, part / f"{name}.parquet")


def load_report(path: Path) -> Report:
    """Read a report folder, every file checked."""
    manifest = open_artifact(path, "report")
    verify(path, manifest)
    found = read_json(path / "report.json")
    return Report(
        title=found["title"],
        numbers=tuple(_number_of(fields) for fields in found["numbers"]),
        protocol=found["protocol"],
        made_by=found["made_by"],
    )


def _truth_table(truth: Truth) -> pa.Table:
    columns = (
        truth.query_ids,
        truth.relevant,
        truth.junk,
        truth.landmarks,
        truth.split,
        truth.recognition_split,
    )
    table = pa.table(
        [pa.array(list(column), entry.type) for column, entry in zip(columns, _TRUTH_SCHEMA, strict=True)],
        schema=_TRUTH_SCHEMA,
    )
    # only a graded truth has the column, so that the others keep their bytes and their fingerprints
    hard = pa.array(list(truth.hard), pa.list_(pa.string()))
    return table.append_column("hard", hard) if truth.hard else table


def _truth_of(table: pa.Table) -> Truth:
    def nested(name: str) -> tuple[tuple[Any, ...], ...]:
        return tuple(tuple(entry) for entry in table[name].to_pylist())

    return Truth(
        query_ids=tuple(table["query"].to_pylist()),
        relevant=nested("relevant"),
        junk=nested("junk"),
        landmarks=nested("landmarks"),
        split=tuple(table["split"].to_pylist()),
        recognition_split=tuple(table["recognition_split"].to_pylist()),
        hard=nested("hard") if "hard" in table.column_names else (),
    )


def _report_fields(report: Report) -> dict[str, Any]:
    """The report as JSON knows it: a figure that is NaN (measured on no query) becomes null."""
    fields = asdict(report)
    for number in fields["numbers"]:
        for key in _FIGURES:
            number[key] = None if math.isnan(number[key]) else number[key]
    return fields


def _number_of(fields: Mapping[str, Any]) -> Number:
    return Number(**{**fields, **{key: math.nan for key in _FIGURES if fields[key] is None}})


def _write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
