"""Describe every photo by each member of an ensemble, and put the rows side by side.

Axes: N photos that all members could read, M photos of a member's own table, B of a block, D components.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from landseer.extraction.extract import Progress, device_of, extract
from landseer.extraction.plan import Plan, plan_of, require_sizes
from landseer.extraction.shards import Shard
from landseer.extraction.work import existing, held
from landseer.recipe import DescriptorOptions
from landseer.storage import load_descriptors, writing_descriptors
from landseer.types import Collection, Descriptors

if TYPE_CHECKING:
    from landseer.models import Ensemble, Member

_BLOCK_ROWS = 2048


def extract_ensemble(
    ensemble: Ensemble,
    collection: Collection,
    out: Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
    commit_every: int = 512,
    shard: Shard | None = None,
) -> Descriptors:
    """Describe *collection* by every member, in its own way, and write the joined rows to *out*.

    Members are extracted one after the other, as ``extract`` does, to ``.NAME.members`` beside *out*: killed at
    any moment, the same call keeps the members that are whole and goes on with the one that is not, and the
    result is the same to the bit.  Rows are joined, and whitened, as ``Ensemble.join`` says, a few at a time; a
    photo that one member cannot read has no row.  Members' rows are kept in float32 until then; the joined ones are
    float16 where every member says so.  Without ``ensemble.unit`` the rows have one length, but not length 1, and so
    are declared not normalised: their scores are dot products, in the order of the cosines.

    Where *out* is there already with the same settings, it is returned as it is.  *shard* is as for ``extract``.
    *progress* counts each photo once a member.  Raises ``ValueError`` for what ``extract`` refuses, before any
    member is begun where it is a size, and where no photo could be read by all.
    """
    place = device_of(device)
    for member in ensemble.members:
        require_sizes(member.embedder, member.descriptors)
    part = collection
    if shard is not None:
        part = shard.of_collection(collection, [member.descriptors.batch for member in ensemble.members])
    plan = _plan_of(ensemble, part, place)
    if shard is not None:
        plan = shard.mark(plan, collection)
    folder = out.parent / f".{out.name}.members"
    if out.exists():
        found = existing(out, plan)
        shutil.rmtree(folder, ignore_errors=True)  # there if a kill fell between the two last steps
        return found
    try:
        with held(folder, out):
            parts = [
                extract(
                    member.embedder,
                    part,
                    folder / member.name,
                    options=_precise(member),
                    workers=workers,
                    progress=progress and _share(progress, number, len(ensemble.members)),
                    device=device,
                    commit_every=commit_every,
                    # all of the part, which may be without a photo that can be read, as a whole may not
                    shard=None if shard is None else Shard(1, 1),
                )
                for number, member in enumerate(ensemble.members)
            ]
            _join(ensemble, parts, part, out, plan)
            shutil.rmtree(folder)
    finally:
        with suppress(OSError):  # it is kept where something is in it
            folder.rmdir()
    return load_descriptors(out, mmap=True, check=False)


def _join(
    ensemble: Ensemble, parts: Sequence[Descriptors], collection: Collection, out: Path, plan: Plan
) -> None:
    """Write the rows of the photos that every part has, in the collection's order."""
    unreadable: dict[str, str] = {}
    for part in reversed(parts):  # of several reasons the first member's stands
        unreadable.update(part.unreadable)
    ids = tuple(photo for photo in collection.ids if photo not in unreadable)
    if not ids and unreadable and not plan.is_part:
        raise ValueError(f"none of {len(collection)} photos could be read by every member of the ensemble")
    row_N_of = [np.flatnonzero([photo not in unreadable for photo in part.ids]) for part in parts]
    dtype = np.dtype(plan.settings["dtype"])
    with writing_descriptors(
        out,
        ids=ids,
        dim=ensemble.dim,
        dtype=dtype,
        unreadable=unreadable,
        normalised=ensemble.unit,
        made_by={"settings": plan.settings, "machine": plan.machine},
        parents={"model": ensemble.fingerprint, "collection": collection.fingerprint},
        fingerprint=plan.fingerprint(unreadable),
    ) as append:
        for start in range(0, len(ids), _BLOCK_ROWS):
            rows = [
                part.rows_ND[row_N[start : start + _BLOCK_ROWS]]
                for part, row_N in zip(parts, row_N_of, strict=True)
            ]
            append(ensemble.join(rows).astype(dtype, copy=False))


def _plan_of(ensemble: Ensemble, collection: Collection, device: torch.device) -> Plan:
    """What a joined row depends on: every member's plan, by its place, and how they are joined."""
    plans = [plan_of(member.embedder, collection, _precise(member), device) for member in ensemble.members]
    half = all(member.descriptors.dtype == "float16" for member in ensemble.members)
    settings: Mapping[str, object] = {
        "members": len(plans),
        "weights": [float(member.weight) for member in ensemble.members],
        "unit": ensemble.unit,
        "dtype": "float16" if half else "float32",
        **({} if ensemble.whitening is None else {"whitening": ensemble.whitening.fingerprint}),
        **{
            f"member {number}: {key}": value
            for number, plan in enumerate(plans)
            for key, value in plan.settings.items()
        },
    }
    return Plan(settings=settings, machine=plans[0].machine)


def _precise(member: Member) -> DescriptorOptions:
    """As the member wants it, but rounded once only, when all are joined."""
    return replace(member.descriptors, dtype="float32")


def _share(progress: Progress, number: int, members: int) -> Callable[[int, int], None]:
    return lambda done, total: progress(number * total + done, members * total)
