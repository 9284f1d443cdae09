"""Rankings that another tool made.

Axes: Q queries, N photos of the gallery, K answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from landseer.storage.artifact import fingerprint_of, open_artifact, sha256_of
from landseer.storage.foreign.arrays import LISTINGS, Held, arrays_in, choose
from landseer.storage.foreign.ids import GALLERY_LIST, QUERY_LIST, ids_of
from landseer.storage.foreign.lists import ORDER, Listed, ranking_of_list
from landseer.storage.foreign.reading import existing, split_member
from landseer.storage.foreign.submissions import (
    RECOGNITION_HEADER,
    RETRIEVAL_HEADER,
    header_of,
    read_retrieval_submission,
)
from landseer.storage.foreign.trec import RUN_COLUMNS, read_trec_run
from landseer.storage.foreign.writing import write_whole
from landseer.storage.nouns import load_ranking
from landseer.types import PADDING, Ranking

FORMATS = ("folder", "positions", "ranks", "trec", "submission", "csv")
CSV_HEADER = ("query", "gallery", "score")
_POSITIONS = ("positions", "indices", "ranks", "I")
_SCORES = ("scores", "similarities")
_DISTANCES = ("distances", "D")

Ids = Sequence[str] | Path | None


def read_ranking(
    path: str | Path, *, query_ids: Ids = None, gallery_ids: Ids = None, format: str | None = None
) -> Ranking:
    """A ranking of this program's folder, or of a file of any other tool.

    *format*, told by the file itself where it is None:

    - ``positions``: an array ``[Q, K]`` of gallery positions from 0, best first, short rows ended by -1;
    - ``ranks``: the same turned, ``[N, Q]``, as revisitop has it;
    - ``trec``: a run, ``qid Q0 docid rank score tag``;
    - ``submission``: header ``id,images``;
    - ``csv``: header ``query,gallery,score``, or without the score in order.

    Arrays (``.npy``, ``.npz``, ``.mat``, ``.h5``, ``.pt``, ``.safetensors``, ``.pkl``) need *query_ids* and
    *gallery_ids*: lists, or paths that ``read_ids`` reads; of a ``gnd_*.pkl`` these are ``qimlist`` and
    ``imlist``.  Scores come from an array ``scores`` of the file (``distances`` count downwards), or from
    ``STEM.scores.npy`` beside it; without any they say the order only (``score_kind`` "order").  Text files know
    their ids; given ones fix which there may be, and their order.

    Raises ``ValueError``, one line, for what is damaged, does not fit its ids, or can be read in two ways.
    """
    file, key = split_member(path)
    existing(file)
    queries, gallery = ids_of(query_ids, name=QUERY_LIST), ids_of(gallery_ids, name=GALLERY_LIST)
    kind = format or _format_of(file)
    if kind not in FORMATS:
        raise ValueError(f"unknown format {kind!r} of a ranking (known: {', '.join(FORMATS)})")
    if kind == "folder":
        return _of_folder(file, queries, gallery)
    if kind == "trec":
        return read_trec_run(file, query_ids=queries, gallery_ids=gallery)
    if kind == "submission":
        return read_retrieval_submission(file, query_ids=queries, gallery_ids=gallery)
    if kind == "csv":
        return _of_csv(file, queries, gallery)
    if queries is None or gallery is None:
        missing = "queries" if queries is None else "gallery"
        raise ValueError(f"{file} holds positions and names no photos; give the ids of its {missing}")
    return _of_array(file, key, queries, gallery, None if kind == "positions" and format is None else kind)


def needs_ids(path: str | Path, *, format: str | None = None) -> bool:
    """Whether *path* holds numbers only, so that ``read_ranking`` must be told which photos are meant."""
    file, _ = split_member(path)
    existing(file)
    return (format or _format_of(file)) in ("positions", "ranks")


def fingerprint_of_source(path: str | Path) -> str:
    """The identity of what *path* holds: a folder's own fingerprint, or one over the bytes of a foreign file."""
    file, key = split_member(path)
    existing(file)
    if not file.is_dir():
        return fingerprint_of("foreign", sha256_of(file), key)
    kinds = ("ranking", "descriptors", "report")
    manifest_kind = next((kind for kind in kinds if _is_artifact(file, kind)), kinds[0])
    return open_artifact(file, manifest_kind).fingerprint


def write_ranks(ranking: Ranking, path: Path) -> None:
    """Write the positions as revisitop orders them: int64 ``[K, Q]``, a query a column, K = N where all are ranked.

    Raises ``ValueError`` where a row is padded, which that order cannot say.
    """
    if np.any(ranking.positions_QK == PADDING):
        raise ValueError(
            "a query has fewer answers than others, which an array of ranks cannot say; write a TREC run"
        )
    with write_whole(path) as part, part.open("wb") as file:
        np.save(file, np.ascontiguousarray(ranking.positions_QK.T), allow_pickle=False)


def _is_artifact(folder: Path, kind: str) -> bool:
    try:
        open_artifact(folder, kind)
    except ValueError:
        return False
    return True


def _format_of(file: Path) -> str:
    if file.is_dir():
        return "folder"
    if file.suffix.lower() in LISTINGS:
        return "positions"  # or ranks: the shape tells
    header = header_of(file)
    if header == RETRIEVAL_HEADER:
        return "submission"
    if header in (CSV_HEADER, CSV_HEADER[:2]):
        return "csv"
    if header == RECOGNITION_HEADER:
        raise ValueError(f"{file} is a recognition submission (id,landmarks), not a ranking")
    if len(" ".join(header).split()) == len(RUN_COLUMNS):
        return "trec"
    raise ValueError(
        f"{file} is no ranking that is recognised; known: arrays of positions, a TREC run ({' '.join(RUN_COLUMNS)}), "
        f"and tables with the header {','.join(CSV_HEADER)} or {','.join(RETRIEVAL_HEADER)}"
    )


def _of_folder(folder: Path, queries: tuple[str, ...] | None, gallery: tuple[str, ...] | None) -> Ranking:
    if queries is not None or gallery is not None:
        raise ValueError(f"{folder} is a ranking folder and knows its ids; leave out what names them")
    return load_ranking(folder)


def _of_csv(file: Path, queries: tuple[str, ...] | None, gallery: tuple[str, ...] | None) -> Ranking:
    types = {"query": pa.string(), "gallery": pa.string(), "score": pa.float64()}
    convert = pacsv.ConvertOptions(column_types=types, strings_can_be_null=False, null_values=[])
    try:
        table = pacsv.read_csv(file, convert_options=convert)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as a CSV table: {str(error).splitlines()[0]}") from None
    if tuple(table.column_names) not in (CSV_HEADER, CSV_HEADER[:2]):
        raise ValueError(
            f"{file}: the header is {','.join(table.column_names)!r}, not {','.join(CSV_HEADER)!r}"
        )
    listed = Listed(
        path=file,
        queries=table["query"].combine_chunks(),
        photos=table["gallery"].combine_chunks(),
        score_M=table["score"].to_numpy() if "score" in table.column_names else None,
        where=lambda m: f"row {m + 2}",
    )
    return ranking_of_list(listed, query_ids=queries, gallery_ids=gallery)


def _of_array(
    file: Path, key: str | None, queries: tuple[str, ...], gallery: tuple[str, ...], kind: str | None
) -> Ranking:
    held = arrays_in(file)
    name = _key_of_positions(file, held, key)
    found = _whole_numbers(file, held[name].read())
    turned = _is_turned(file, found.shape, len(queries), len(gallery), kind)
    positions_QK = np.ascontiguousarray(found.T if turned else found)
    _check_positions(file, positions_QK, queries, len(gallery))
    scores = _scores_of(file, held, found.shape)
    if scores is None:
        scores_QK = np.broadcast_to(
            -np.arange(positions_QK.shape[1], dtype=np.float32), positions_QK.shape
        ).copy()
    else:
        scores_QK = np.ascontiguousarray(scores.T if turned else scores)
        _check_scores(file, scores_QK, positions_QK, queries)
    scores_QK[positions_QK == PADDING] = -np.inf
    return Ranking(
        query_ids=queries,
        gallery_ids=gallery,
        positions_QK=positions_QK,
        scores_QK=scores_QK,
        score_kind=ORDER if scores is None else "foreign",
    )


def _key_of_positions(file: Path, held: dict[str, Held], key: str | None) -> str:
    usual = [name for name in _POSITIONS if name in held]
    return choose(file, held, usual[0] if key is None and len(usual) == 1 else key)


def _whole_numbers(file: Path, values: np.ndarray) -> np.ndarray:
    """int64 positions; MATLAB keeps whole numbers as floats, which is well."""
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    if values.dtype.kind == "f" and not np.array_equal(whole, values):
        raise ValueError(f"{file} holds {values.dtype} that are not whole numbers; positions are expected")
    return whole


def _is_turned(
    file: Path, shape: tuple[int, ...], num_queries: int, num_gallery: int, kind: str | None
) -> bool:
    """Whether an array has a query a column, by its shape or as *kind* says."""
    height, width = shape
    can_be = {
        "positions": height == num_queries and width <= num_gallery,
        "ranks": width == num_queries and height <= num_gallery,
    }
    if kind is not None:
        fits = [kind] if can_be[kind] else []
    else:
        fits = [name for name, possible in can_be.items() if possible]
    if not fits:
        wanted = {"positions": f"[{num_queries}, K]", "ranks": f"[N, {num_queries}]"}
        shown = wanted[kind] if kind else " nor ".join(wanted.values())
        raise ValueError(
            f"{file} is [{height}, {width}], not {shown}, for {num_queries} queries and a gallery of {num_gallery}"
        )
    if len(fits) > 1:
        raise ValueError(
            f"{file} is [{height}, {width}] for {num_queries} queries, so it can be read in two ways; say format "
            "'positions' (a query a row) or 'ranks' (a query a column)"
        )
    return fits[0] == "ranks"


def _check_positions(
    file: Path, positions_QK: np.ndarray, queries: tuple[str, ...], num_gallery: int
) -> None:
    strange = (positions_QK < PADDING) | (positions_QK >= num_gallery)
    if strange.any():
        row, column = (int(part[0]) for part in np.nonzero(strange))
        found = int(positions_QK[row, column])
        hint = "; do its positions count from 1, as MATLAB's do? take 1 off" if found == num_gallery else ""
        raise ValueError(
            f"{file}: answer {column + 1} of query {queries[row]!r} is position {found}, and the gallery ends at "
            f"{num_gallery - 1}{hint}"
        )
    padded = positions_QK == PADDING
    if np.any(padded[:, :-1] & ~padded[:, 1:]):
        row = int(np.nonzero((padded[:, :-1] & ~padded[:, 1:]).any(axis=1))[0][0])
        raise ValueError(f"{file}: query {queries[row]!r} has an answer after a -1, which only ends a row")
    ordered = np.sort(positions_QK, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PADDING)
    if twice.any():
        row, column = (int(part[0]) for part in np.nonzero(twice))
        raise ValueError(f"{file}: query {queries[row]!r} has position {ordered[row, column]} twice")


def _scores_of(file: Path, held: dict[str, Held], shape: tuple[int, ...]) -> np.ndarray | None:
    """float32 scores of the shape of the positions, from the file or from beside it; None where there are none."""
    beside = file.with_name(f"{file.stem}.scores.npy")
    named = [name for name in (*_SCORES, *_DISTANCES) if name in held and held[name].kind == "number"]
    if named:
        values, sign = held[named[0]].read(), -1 if named[0] in _DISTANCES else 1
    elif beside.exists():
        values, sign = arrays_in(beside)[""].read(), 1
    else:
        return None
    if values.shape != shape or values.dtype.kind not in "fiu":
        raise ValueError(
            f"{file}: scores are {values.dtype} {list(values.shape)} and positions {list(shape)}; one of each is needed"
        )
    return sign * values.astype(np.float32)


def _check_scores(
    file: Path, scores_QK: np.ndarray, positions_QK: np.ndarray, queries: tuple[str, ...]
) -> None:
    answered = positions_QK != PADDING
    if np.any(~np.isfinite(scores_QK) & answered):
        row = int(np.nonzero((~np.isfinite(scores_QK) & answered).any(axis=1))[0][0])
        raise ValueError(f"{file}: query {queries[row]!r} has a score that is not a finite number")
    rises = (scores_QK[:, 1:] > scores_QK[:, :-1]) & answered[:, 1:]
    if rises.any():
        row = int(np.nonzero(rises.any(axis=1))[0][0])
        raise ValueError(
            f"{file}: the scores of query {queries[row]!r} rise along its answers; if they are distances, call the "
            "array 'distances'"
        )
