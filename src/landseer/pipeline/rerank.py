"""Re-ranking where the rooms meet: what votes, what the methods are given, and a ranking folder re-ranked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from landseer.matching import Matcher, MatchingSetup
from landseer.models import join_descriptors
from landseer.pipeline.setting import Watch
from landseer.recipe import BankOptions, Recipe, RerankingOptions, SpatialOptions, fingerprint, load_recipe
from landseer.reranking import Bank, Context, Match, Reranked, Step, rerank, without_removed
from landseer.storage import load_collection, save_ranking
from landseer.storage.foreign import needs_ids, read_descriptors, read_ranking
from landseer.types import Collection, Descriptors, Ranking

Triple = tuple[Descriptors | None, Descriptors | None, Descriptors | None]
"""Queries, gallery and vote bank as one model describes them."""

logger = logging.getLogger(__name__)


def bank_photos(collection: Collection, options: BankOptions) -> Collection:
    """The labelled training photos of *collection* that may vote.

    Raises ``ValueError`` where there is none.
    """
    photos = collection.photos
    voting = pc.and_(pc.equal(photos["split"], "train"), pc.is_valid(photos["landmark"]))
    if options.subset == "clean":
        voting = pc.and_(voting, photos["clean"])
    found = collection.select(voting)
    if not len(found):
        raise ValueError(
            f"the collection has no {options.subset} training photo with a landmark that could vote"
        )
    return found


def photos_without_landmark(collection: Collection) -> Collection:
    """The training photos known to show no landmark.  Raises ``ValueError`` where there is none."""
    photos = collection.photos
    found = collection.select(pc.and_(pc.equal(photos["split"], "train"), pc.equal(photos["kind"], "none")))
    if not len(found):
        raise ValueError(
            "recognition.penalty: the collection has no training photo of kind none, known to show no landmark; "
            "leave the penalty out"
        )
    return found


def bank_of(collection: Collection, descriptors: Descriptors, options: BankOptions | None = None) -> Bank:
    """The vote bank of those photos of *descriptors* that *options* lets vote (None: all), with their labels.

    A photo's country is its own, else that of its landmark.  Raises ``ValueError`` where a photo is not in
    *collection*, or none may vote.
    """
    known = collection if options is None else bank_photos(collection, options)
    row_of = {photo: row for row, photo in enumerate(known.ids)}
    chosen = [photo for photo in descriptors.ids if photo in row_of]
    if len(chosen) < len(descriptors):
        there = set(collection.ids)
        strange = next((photo for photo in descriptors.ids if photo not in there), None)
        if strange is not None:
            raise ValueError(
                f"the vote bank has a photo {strange!r} that the collection does not know; give the collection it is of"
            )
        descriptors = descriptors.take(chosen)
    if not chosen:
        raise ValueError("no photo of the vote bank is a training photo with a landmark; see [bank] subset")
    row_M = np.array([row_of[photo] for photo in chosen], np.int64)
    country_N, countries = _countries(known)
    return Bank(
        ids=descriptors.ids,
        landmark_N=known.landmark_N[row_M],
        country_N=country_N[row_M],
        countries=countries,
        descriptors=descriptors,
    )


def _countries(collection: Collection) -> tuple[np.ndarray, tuple[str, ...]]:
    """Country of each photo, int16 (-1: not known), and their codes."""
    of_landmark = dict(
        zip(
            collection.landmarks["landmark"].to_pylist(),
            collection.landmarks["country"].to_pylist(),
            strict=True,
        )
    )
    found = [
        own or of_landmark.get(landmark)
        for own, landmark in zip(
            collection.photos["country"].to_pylist(), collection.landmark_N.tolist(), strict=True
        )
    ]
    names = tuple(sorted({name for name in found if name}))
    code_of = {name: code for code, name in enumerate(names)}
    return np.array([code_of.get(name or "", -1) for name in found], np.int16), names


def context_of(
    joint: Triple,
    collection: Collection | None,
    options: BankOptions | None = None,
    models: Sequence[Triple] = (),
    *,
    match: Match | None = None,
) -> Context:
    """What re-rankers are given: *joint*, which was searched, and the *models* of an ensemble, each alone.

    *collection* labels the banks, *match* counts inliers.  Raises ``ValueError`` where a bank has no labels.
    """
    return replace(
        _single(joint, collection, options),
        match=match,
        models=tuple(_single(model, collection, options) for model in models),
    )


def _single(model: Triple, collection: Collection | None, options: BankOptions | None) -> Context:
    queries, gallery, bank = model
    if bank is None:
        return Context(queries=queries, gallery=gallery)
    if collection is None:
        raise ValueError(
            "the vote bank needs its labels: give the collection that its photos are of (--data)"
        )
    return Context(queries=queries, gallery=gallery, bank=bank_of(collection, bank, options))


def _joint(models: Sequence[Triple]) -> Triple:
    """Several models as one, whose cosines are the means of theirs."""
    if len(models) < 2:
        return models[0] if models else (None, None, None)
    joined = []
    for parts in zip(*models, strict=True):
        rows = [part for part in parts if part is not None]
        joined.append(join_descriptors(rows, [1.0] * len(rows)) if rows else None)
    queries, gallery, bank = joined
    return queries, gallery, bank


def matches(recipe: Recipe) -> bool:
    """Whether a method of the recipe's chain matches photos point by point."""
    return any(isinstance(options, SpatialOptions) for options in recipe.reranking)


def matcher_of(recipe: Recipe, setup: MatchingSetup, photos: Collection | None) -> Matcher | None:
    """The matcher of *photos* that the chain of *recipe* asks for, by its ``[matching]``; None where it asks for none.

    Raises ``ValueError`` where *photos* or weights are missing, and where files are given that nothing uses.
    """
    if not matches(recipe):
        for flag, given in (
            ("--extractor-weights", setup.extractor_weights),
            ("--pairer-weights", setup.pairer_weights),
            ("--features", setup.features),
        ):
            if given is not None:
                raise ValueError(
                    f'{flag}: nothing uses {given}, for the recipe has no [[reranking]] method = "spatial"; '
                    "leave it out"
                )
        return None
    if photos is None:
        raise ValueError(
            "spatial matches photos: give the collection of the queries and the gallery (--data)"
        )
    return replace(setup, options=recipe.matching).matcher(photos)


def prepare_matching(
    matcher: Matcher, ranking: Ranking, chain: Sequence[RerankingOptions], watch: Watch
) -> Match:
    """What counts inliers for the photos of *ranking*, checked before the work begins.

    Where the matcher keeps features in a folder, those of the queries and their first answers are put there now, if
    the chain matches before anything else; what other methods bring in is described when it comes.  *watch* is told
    of that, and of every query that is matched.  Raises ``ValueError`` where a photo is not in the collection, or no
    photo can be read.
    """
    matcher.require([*ranking.query_ids, *ranking.gallery_ids])
    if matcher.shelf is not None and isinstance(chain[0], SpatialOptions):
        first = ranking.positions_QK[:, : chain[0].first]
        answers = [ranking.gallery_ids[position] for position in np.unique(first[first >= 0])]
        described = list(dict.fromkeys([*ranking.query_ids, *answers]))
        matcher.prepare(
            described, progress=lambda done, total: watch("describing points of photos", done, total, {})
        )
    done, total = 0, len(ranking) * sum(isinstance(options, SpatialOptions) for options in chain)

    def match(query: str, photos: Sequence[str]) -> list[int]:
        nonlocal done
        found = matcher.match(query, photos)
        done += 1
        watch("matching photos", done, total, {})
        return found

    return match


def tell_unreadable(matcher: Matcher) -> None:
    """Log how many photos could not be read, and so match nothing."""
    if matcher.unreadable:
        photo, reason = next(iter(matcher.unreadable.items()))
        logger.warning(
            "%d photos could not be read and match nothing, the first %r: %s",
            len(matcher.unreadable),
            photo,
            reason,
        )


def rerank_into(
    ranking: Ranking,
    chain: Sequence[RerankingOptions],
    context: Context,
    out: Path,
    *,
    made_by: Mapping[str, Any],
    parents: Mapping[str, str],
    explain: bool = False,
) -> Reranked:
    """Re-rank and write the ranking folder *out*, which tells what each method cost."""
    done = rerank(ranking, chain, context, explain=explain)
    facts = {**made_by, "reranking": [asdict(options) for options in chain]}
    save_ranking(
        done.ranking, out, made_by=facts, parents=parents, steps=[asdict(step) for step in done.steps]
    )
    return done


def rerank_folder(
    ranking: str | Path,
    recipe: Path,
    out: Path,
    *,
    queries: Sequence[str | Path] = (),
    gallery: Sequence[str | Path] = (),
    bank: Sequence[str | Path] = (),
    data: Path | None = None,
    root: Path | None = None,
    matching: MatchingSetup | None = None,
    explain: bool = False,
    watch: Watch | None = None,
) -> tuple[Step, ...]:
    """Re-rank the ranking folder or file *ranking* by ``[[reranking]]`` of *recipe* into the folder *out*.

    *queries*, *gallery* and *bank* name descriptor folders or files, one each a model; *data* the collection
    that labels the bank, and whose photos (below *root*, if they have moved) are matched; *matching* the files with
    which they are, while how is said by the recipe.  Of a ranking of a living index, removed photos leave the gallery;
    descriptors may be in another order than it and of more photos.  Raises ``ValueError`` for a recipe without
    re-ranking, where *out* exists, and where a method lacks what it needs; nothing is written then.
    """
    options = load_recipe(recipe)
    if not options.reranking:
        raise ValueError(f"{recipe} has no [[reranking]]; docs/reranking.md lists the methods")
    if out.exists():
        raise ValueError(f"{out} exists already; remove it or choose another --out")
    num = max(len(queries), len(gallery), len(bank))
    for flag, given in (("--queries", queries), ("--gallery", gallery), ("--bank", bank)):
        if given and len(given) != num:
            raise ValueError(
                f"{flag} was given {len(given)} times, but {num} models are named; once for each, please"
            )
    collection = None if data is None else load_collection(data, root=root)
    setup = matching or MatchingSetup()
    matcher = matcher_of(options, setup, collection)
    models = [
        (
            read_descriptors(queries[place]) if queries else None,
            read_descriptors(gallery[place]) if gallery else None,
            read_descriptors(bank[place]) if bank else None,
        )
        for place in range(num)
    ]
    joint = _joint(models)
    found = without_removed(_read_ranking(ranking, joint))
    joint, models = _of_gallery(found, joint), [_of_gallery(found, model) for model in models]
    match = None
    if matcher is not None:
        match = prepare_matching(matcher, found, options.reranking, watch or (lambda *_: None))
    context = context_of(joint, collection, options.bank, models if num > 1 else (), match=match)
    parents = {
        name if number == 0 else f"{name} {number + 1}": rows.fingerprint
        for number, triple in enumerate(models)
        for name, rows in zip(("queries", "gallery", "bank"), triple, strict=True)
        if rows is not None
    }
    done = rerank_into(
        found,
        options.reranking,
        context,
        out,
        made_by={"recipe": fingerprint(options), **setup.digests()},
        parents=parents,
        explain=explain,
    )
    if matcher is not None:
        tell_unreadable(matcher)
    return done.steps


def _of_gallery(ranking: Ranking, model: Triple) -> Triple:
    """*model* with the gallery's rows as *ranking* has its photos, where it has a row of each of them."""
    queries, gallery, bank = model
    if (
        gallery is None
        or gallery.ids == ranking.gallery_ids
        or not set(ranking.gallery_ids) <= set(gallery.ids)
    ):
        return model  # what re-ranks says what is wrong
    return queries, gallery.take(ranking.gallery_ids), bank


def _read_ranking(ranking: str | Path, joint: Triple) -> Ranking:
    """A ranking folder or file; where it names no photos they are those of the descriptors, in their order."""
    queries, gallery, _ = joint
    if not needs_ids(ranking):
        return read_ranking(ranking)
    return read_ranking(
        ranking,
        query_ids=None if queries is None else queries.ids,
        gallery_ids=None if gallery is None else gallery.ids,
    )
