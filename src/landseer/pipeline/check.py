"""``landseer check``: everything that is wrong, doubled or leaking in a collection, and what its labels look like."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from landseer.cleaning.duplicates import Cluster, Duplicates, Member, find_duplicates
from landseer.cleaning.leaks import (
    LandmarkLeak,
    PhotoLeak,
    landmark_leaks,
    own_landmark_leaks,
    photo_leaks,
    trained_share,
)
from landseer.cleaning.pictures import Comparer, Link
from landseer.cleaning.pool import Pool
from landseer.cleaning.signatures import Signatures, read_signatures
from landseer.datasets.statistics import LabelStatistics, label_statistics
from landseer.evaluation.seen import TrainedShare
from landseer.matching import Matcher, MatchingSetup
from landseer.recipe.check_options import CheckOptions
from landseer.reporting.check_page import (
    CheckPage,
    ClusterCard,
    LandmarkRow,
    LeakCard,
    PhotoCard,
    write_check_page,
)
from landseer.types import SPLITS, Collection, Descriptors

Progress = Callable[[str, int, int | None], None]
_SUMMARY = "check.json"
_SIGNATURES = "signatures"
_SHOWN_CLUSTERS = 40
_SHOWN_MEMBERS = 6
_SHOWN_LEAKS = 40
_SHOWN_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found.  Photos are rows of ``pool``; ``landmarks`` and ``shares`` are by collection."""

    pool: Pool
    options: CheckOptions
    signatures: Signatures
    duplicates: Duplicates
    described: int
    """Photos that had descriptors."""
    leaks: tuple[PhotoLeak, ...]
    landmarks: Mapping[str, tuple[LandmarkLeak, ...]]
    shares: Mapping[str, TrainedShare]
    statistics: LabelStatistics

    @property
    def unreadable(self) -> list[int]:
        """Rows of the photos of the checked collection that cannot be read."""
        return [row for row in self.signatures.unreadable if self.pool.source_N[row] == 0]

    @property
    def conflicts(self) -> list[Cluster]:
        """Clusters of copies that bear different landmarks: one of the labels is wrong."""
        landmark_N = self.pool.landmark_N
        return [
            cluster
            for cluster in self.duplicates.copies
            if len({int(landmark_N[row]) for row in cluster.rows} - {-1}) > 1
        ]

    @property
    def failed(self) -> bool:
        """Whether a photo is unreadable, doubled or leaking."""
        return bool(self.unreadable or self.duplicates.copies or self.leaks)


def check_collection(
    collection: Collection,
    out: Path,
    *,
    against: Mapping[str, Collection] | None = None,
    descriptors: Sequence[Descriptors] = (),
    options: CheckOptions | None = None,
    matching: MatchingSetup | None = None,
    name: str = "collection",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Checked:
    """Check *collection*, called *name*, alone and *against* others, by name; write what was found to the folder *out*.

    *descriptors* are of some or all photos, by their ids; they are needed to find crops and scenes.  *out* gets
    ``report.html``, ``check.json``, and four lists as CSV; an earlier check there is replaced.  What was read of the
    photos stays there, too, so that a check that was stopped, or is repeated, reads none of these again.  Nothing else
    is changed.  Raises ``ValueError`` where *out* is another's, a collection is empty, none of the photos can be read,
    or descriptors do not fit each other.
    """
    options, matching = options or CheckOptions(), matching or MatchingSetup()
    others = dict(against or {})
    _require(collection, out)
    pool = Pool.of(collection, others, name=name)
    known = _descriptors_of(pool, descriptors)
    matcher = matching.matcher(*pool.collections, workers=workers)
    comparer = Comparer(pool, matcher, options)

    def tell(what: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(what, done, total)

    places = [(each.root, path) for each in pool.collections for path in each.paths]
    signatures = read_signatures(
        places, folder=out / _SIGNATURES, workers=workers, progress=tell("reading photos")
    )
    if matching.features is not None and known is not None:
        _keep_features(matcher, pool, known, signatures, tell("finding points"))
    duplicates = find_duplicates(
        pool, signatures, comparer, options=options, descriptors=known, workers=workers, progress=progress
    )
    landmarks = {name: own_landmark_leaks(collection)}
    landmarks |= {other: landmark_leaks(collection, each) for other, each in others.items()}
    checked = Checked(
        pool=pool,
        options=options,
        signatures=signatures,
        duplicates=duplicates,
        described=0 if known is None else len(known),
        leaks=photo_leaks(pool, duplicates),
        landmarks=landmarks,
        shares={
            each: trained_share({name: collection, **others}[each], leaks)
            for each, leaks in landmarks.items()
        },
        statistics=label_statistics(collection),
    )
    _write(checked, out)
    return checked


def _require(collection: Collection, out: Path) -> None:
    if not len(collection):
        raise ValueError("the collection has no photos, so there is nothing to check")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / _SIGNATURES).is_dir())):
        raise ValueError(f"{out} exists and is no earlier check; choose another --out")


def _descriptors_of(pool: Pool, descriptors: Sequence[Descriptors]) -> Descriptors | None:
    """One row for each photo of the pool that any of *descriptors* has, the first that has it."""
    if not descriptors:
        return None
    dims = sorted({each.dim for each in descriptors})
    if len(dims) > 1:
        raise ValueError(
            f"descriptors of {dims[0]} and {dims[-1]} components cannot be compared; use one model's"
        )
    place_of: dict[str, tuple[int, int]] = {}
    for number, each in enumerate(descriptors):
        for row, photo in enumerate(each.ids):
            place_of.setdefault(photo, (number, row))
    found = [(key, place_of[shown]) for key, shown in _shown_ids(pool) if shown in place_of]
    if not found:
        raise ValueError(
            "no photo of the collection is among the descriptors; were they made from another one?"
        )
    return Descriptors(
        ids=tuple(key for key, _ in found),
        rows_ND=np.stack([descriptors[number].rows_ND[row] for _, (number, row) in found]),
        metric=descriptors[0].metric,
        normalised=all(each.normalised for each in descriptors),
    )


def _shown_ids(pool: Pool) -> Iterator[tuple[str, str]]:
    return ((key, pool.shown_id(row)) for row, key in enumerate(pool.ids))


def _keep_features(
    matcher: Matcher,
    pool: Pool,
    known: Descriptors,
    signatures: Signatures,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Put the local features of the photos that will be compared by points in their folder."""
    unreadable = {pool.ids[row] for row in signatures.unreadable}
    matcher.prepare([photo for photo in known.ids if photo not in unreadable], progress=progress)


def check_facts(checked: Checked) -> dict[str, Any]:
    """What a check found as plain values, for JSON."""
    pool, found = checked.pool, checked.duplicates
    name = pool.names[0]
    ours_N = pool.source_N == 0
    unreadable = set(checked.signatures.unreadable)
    plain = [
        row for row in np.flatnonzero(ours_N & ~checked.signatures.hashed_N).tolist() if row not in unreadable
    ]
    return {
        "collection": name,
        "fingerprint": pool.collections[0].fingerprint,
        "photos": len(pool.collections[0]),
        "unreadable": len(checked.unreadable),
        "too_plain_for_a_hash": len(plain),
        "with_descriptors": checked.described,
        "duplicates": {
            **{kind: _cluster_facts(found, kind) for kind in ("bytes", "picture", "scene")},
            "photos_to_spare": sum(len(cluster.members) for cluster in found.copies),
            "with_different_landmarks": len(checked.conflicts),
            "pairs_compared": found.compared,
        },
        "photo_leaks": {
            "photos": len({leak.later for leak in checked.leaks}),
            "from_to": dict(sorted(Counter(_way(pool, leak) for leak in checked.leaks).items())),
        },
        "landmarks_trained_on": {
            each: {
                **asdict(share),
                "share": share.share,
                "landmarks": len({leak.landmark for leak in checked.landmarks[each]}),
                "how": dict(Counter(leak.how for leak in checked.landmarks[each])),
            }
            for each, share in checked.shares.items()
        },
        "labels": checked.statistics.to_dict(),
        "options": asdict(checked.options),
    }


def _cluster_facts(found: Duplicates, kind: str) -> dict[str, int]:
    clusters = [cluster for cluster in (*found.copies, *found.scenes) if cluster.kind == kind]
    return {"clusters": len(clusters), "photos": sum(len(cluster.rows) for cluster in clusters)}


def _way(pool: Pool, leak: PhotoLeak) -> str:
    source = int(pool.source_N[leak.later])
    where = f" of {pool.names[source]}" if source else ""
    return f"{_split(pool, leak.earlier)} -> {_split(pool, leak.later)}{where}"


def _split(pool: Pool, row: int) -> str:
    return SPLITS[int(pool.split_N[row])]


def _write(checked: Checked, out: Path) -> None:
    """The lists, the page, and last the summary; each appears whole or stays as it was."""
    lists = {
        "unreadable.csv": _unreadable_rows(checked),
        "duplicates.csv": _duplicate_rows(checked),
        "leaks.csv": _leak_rows(checked),
        "landmarks.csv": _landmark_rows(checked),
    }
    for file, rows in lists.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        _put(out / file, text.getvalue())
    write_check_page(_page(checked), out / "report.html")
    facts = check_facts(checked)
    _put(out / _SUMMARY, json.dumps(facts, indent=2, sort_keys=True, allow_nan=False) + "\n")


def _put(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}); choose another --out") from None
    finally:
        part.unlink(missing_ok=True)


def _unreadable_rows(checked: Checked) -> Iterator[Sequence[object]]:
    pool = checked.pool
    yield ("photo", "path", "split", "reason")
    for row in checked.unreadable:
        yield pool.shown_id(row), pool.paths[row], _split(pool, row), checked.signatures.unreadable[row]


def _duplicate_rows(checked: Checked) -> Iterator[Sequence[object]]:
    pool = checked.pool
    yield (
        *("cluster", "kind", "photo", "path", "split", "landmark", "keep", "same_as_kept"),
        *("mirrored", "likeness", "overlap", "inliers"),
    )
    for number, cluster in enumerate((*checked.duplicates.copies, *checked.duplicates.scenes), start=1):
        yield number, cluster.kind, *_photo(pool, cluster.kept), "yes", "", *_evidence(None)
        for member in cluster.members:
            keep = "yes" if member.same == "scene" else "no"
            evidence = _evidence(member.link)
            yield number, cluster.kind, *_photo(pool, member.row), keep, member.same, *evidence


def _photo(pool: Pool, row: int) -> tuple[str, str, str, object]:
    landmark = int(pool.landmark_N[row])
    return pool.shown_id(row), pool.paths[row], _split(pool, row), "" if landmark < 0 else landmark


def _evidence(link: Link | None) -> tuple[object, object, object, object]:
    if link is None:
        return "", "", "", ""
    likeness = "" if np.isnan(link.likeness) else link.likeness
    inliers = "" if link.inliers is None else link.inliers
    return "yes" if link.mirrored else "no", likeness, link.overlap, inliers


def _leak_rows(checked: Checked) -> Iterator[Sequence[object]]:
    pool = checked.pool
    yield (
        *("photo", "path", "split", "landmark", "collection", "kind", "copies", "likeness", "overlap"),
        *("earlier_photo", "earlier_path", "earlier_split", "earlier_landmark"),
    )
    for leak in checked.leaks:
        source = pool.names[int(pool.source_N[leak.later])]
        _, likeness, overlap, _ = _evidence(leak.link)
        yield (
            *_photo(pool, leak.later),
            *(source, leak.kind, leak.copies, likeness, overlap),
            *_photo(pool, leak.earlier),
        )


def _landmark_rows(checked: Checked) -> Iterator[Sequence[object]]:
    yield (
        "collection",
        "landmark",
        "name",
        "how",
        "queries",
        "trained_landmark",
        "trained_name",
        "train_photos",
    )
    for source, leaks in checked.landmarks.items():
        for leak in leaks:
            yield (
                *(source, leak.landmark, leak.name, leak.how, leak.queries),
                *(leak.trained, leak.trained_name, leak.photos),
            )


def _page(checked: Checked) -> CheckPage:
    pool, found = checked.pool, checked.duplicates
    conflicts = {cluster.kept for cluster in checked.conflicts}
    # what says most stands first: labels that contradict each other, then the largest
    copies = sorted(found.copies, key=lambda c: (c.kept not in conflicts, -len(c.members), c.kept))
    scenes = sorted(found.scenes, key=lambda c: (-len(c.members), c.kept))
    leaks = sorted(checked.leaks, key=lambda leak: (-int(pool.split_N[leak.later]), leak.later))
    return CheckPage(
        title=f"Check of {pool.names[0]}",
        facts=check_facts(checked),
        statistics=checked.statistics,
        unreadable=[
            (pool.shown_id(row), checked.signatures.unreadable[row])
            for row in checked.unreadable[:_SHOWN_ROWS]
        ],
        copies=[_cluster_card(checked, cluster, conflicts) for cluster in copies[:_SHOWN_CLUSTERS]],
        scenes=[_cluster_card(checked, cluster, set()) for cluster in scenes[: _SHOWN_CLUSTERS // 4]],
        leaks=[_leak_card(checked, leak) for leak in leaks[:_SHOWN_LEAKS]],
        num_leaks=len(leaks),
        landmarks=[
            LandmarkRow(
                collection=source,
                name=leak.name,
                how=leak.how,
                queries=leak.queries,
                trained_name=leak.trained_name,
                photos=leak.photos,
            )
            for source, leaks_of in checked.landmarks.items()
            for leak in sorted(leaks_of, key=lambda leak: -leak.queries)[:_SHOWN_ROWS]
        ],
    )


def _cluster_card(checked: Checked, cluster: Cluster, conflicts: set[int]) -> ClusterCard:
    shown = [_photo_card(checked.pool, cluster.kept, "keep" if cluster.kind != "scene" else "")]
    shown += [_photo_card(checked.pool, m.row, _words(m)) for m in cluster.members[: _SHOWN_MEMBERS - 1]]
    return ClusterCard(
        kind=cluster.kind,
        photos=tuple(shown),
        num_photos=len(cluster.rows),
        conflict=cluster.kept in conflicts,
    )


def _words(member: Member) -> str:
    return "equal bytes" if member.link is None else _link_words(member.link)


def _link_words(link: Link) -> str:
    """How two photos are known to be the same, in words."""
    if link.kind == "scene":
        return f"same scene, {link.inliers} points"
    how = "mirrored, " if link.mirrored else ""
    if link.overlap < 1:
        how += f"{link.overlap:.0%} shared, "
    return f"{how}likeness {link.likeness:.2f}"


def _leak_card(checked: Checked, leak: PhotoLeak) -> LeakCard:
    words = "equal bytes" if leak.link is None else _link_words(leak.link)
    return LeakCard(
        earlier=_photo_card(checked.pool, leak.earlier, ""),
        later=_photo_card(checked.pool, leak.later, ""),
        how=words,
        copies=leak.copies,
    )


def _photo_card(pool: Pool, row: int, note: str) -> PhotoCard:
    source, landmark = int(pool.source_N[row]), int(pool.landmark_N[row])
    card = PhotoCard(
        id=pool.shown_id(row),
        root=pool.root(row),
        path=pool.paths[row],
        split=_split(pool, row),
        landmark="" if landmark < 0 else pool.collections[source].name_of(landmark),
        note=note,
    )
    return replace(card, split=f"{card.split} of {pool.names[source]}") if source else card
