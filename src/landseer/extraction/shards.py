"""One extraction in parts, each a process of its own on any machine, and the parts joined again.

Part i of n takes whole batches, so that no row depends on how many parts there are: what ``merge_shards`` writes is
what one process would have written, to the bit on the same kind of machine, with the same fingerprint.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from landseer.extraction.plan import SHARD, Plan, difference, selection
from landseer.storage import load_descriptors, open_artifact, writing_descriptors
from landseer.storage.artifact import Manifest
from landseer.types import Collection, Descriptors

SELECTION = "selection"
_WHOLE = "whole"
_ROWS_AT_ONCE = 2**14


@dataclass(frozen=True, slots=True)
class Shard:
    """Part *number*, from 1, of the *of* parts of an extraction."""

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ValueError(f"shard {self}: the first of 8 is 1/8, the last 8/8")

    @staticmethod
    def named(text: str) -> Shard:
        """What ``3/8`` names.  Raises ``ValueError`` for anything else."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if found is None:
            raise ValueError(f"shard {text!r}: say the third of eight as 3/8")
        return Shard(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def of_collection(self, collection: Collection, batches: Sequence[int]) -> Collection:
        """The photos of this part; it begins where a batch begins, whichever of the sizes *batches* is meant."""
        batch = math.lcm(*batches)
        num = -(-len(collection) // batch)
        start, stop = (num * part // self.of * batch for part in (self.number - 1, self.number))
        place_N = np.arange(len(collection))
        return collection.select((place_N >= start) & (place_N < stop))

    def mark(self, plan: Plan, whole: Collection) -> Plan:
        """*plan*, of this part, as the part of *whole* that it is."""
        return replace(plan, settings={**plan.settings, SHARD: str(self), _WHOLE: selection(whole)})


def merge_shards(shards: Sequence[Path], out: Path) -> Descriptors:
    """Join the descriptors of all parts of one extraction, in any order, to the folder *out*.

    Where *out* is there already with the same content, it is returned as it is.  At no time is more than a piece of
    rows in memory; the rows returned are a memory map.  Raises ``ValueError`` where a part is missing, damaged, there
    twice, or of other settings than the first, and where *out* is something else; nothing is written then.
    """
    manifests = _in_order(shards)
    paths = list(manifests)
    parts = [load_descriptors(path, mmap=True) for path in paths]
    unreadable = {photo: reason for part in parts for photo, reason in part.unreadable.items()}
    first = manifests[paths[0]]
    plan = Plan(
        settings=_whole(first.made_by["settings"]),
        machine=_together([manifest.made_by["machine"] for manifest in manifests.values()]),
    )
    fingerprint = plan.fingerprint(unreadable)
    if out.exists():
        if open_artifact(out, "descriptors").fingerprint != fingerprint:
            raise ValueError(f"{out} holds other descriptors; choose another --out")
        return load_descriptors(out, mmap=True)
    ids = tuple(photo for part in parts for photo in part.ids)
    if not ids:
        raise ValueError(f"no photo of any part could be read; see {paths[0] / 'unreadable.json'}")
    with writing_descriptors(
        out,
        ids=ids,
        dim=parts[0].dim,
        dtype=parts[0].rows_ND.dtype,
        made_by={"settings": plan.settings, "machine": plan.machine},
        parents=first.parents,
        fingerprint=fingerprint,
        unreadable=unreadable,
        normalised=parts[0].normalised,
    ) as append:
        for part in parts:
            for start in range(0, len(part), _ROWS_AT_ONCE):
                append(part.rows_ND[start : start + _ROWS_AT_ONCE])
    return load_descriptors(out, mmap=True, check=False)


def _in_order(paths: Sequence[Path]) -> dict[Path, Manifest]:
    """The manifests of all parts, each once, in their order."""
    if not paths:
        raise ValueError("nothing to merge; name the descriptors of every part")
    manifests = {path: open_artifact(path, "descriptors") for path in paths}
    place: dict[Shard, Path] = {}
    for path, manifest in manifests.items():
        settings = manifest.made_by.get("settings", {})
        if SHARD not in settings:
            raise ValueError(f"{path} is no part of an extraction; landseer extract --shard makes those")
        shard = Shard.named(settings[SHARD])
        other = difference(_whole(settings), _whole(manifests[paths[0]].made_by["settings"]))
        if other:
            raise ValueError(f"{path} is a part of another extraction than {paths[0]} ({other})")
        if shard in place:
            raise ValueError(f"{place[shard]} and {path} are both part {shard}; leave one out")
        place[shard] = path
    numbers = {shard.of for shard in place}
    if len(numbers) > 1:
        one, other_ = (next(shard for shard in place if shard.of == of) for of in sorted(numbers)[:2])
        raise ValueError(
            f"{place[one]} is part {one} and {place[other_]} part {other_}; merge parts of one cut"
        )
    missing = [number for number in range(1, max(numbers) + 1) if Shard(number, max(numbers)) not in place]
    if missing:
        listed = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise ValueError(f"of {max(numbers)} parts these are missing: {listed}; extract them with --shard")
    return {place[shard]: manifests[place[shard]] for shard in sorted(place, key=lambda each: each.number)}


def _whole(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the extraction that a part's are of."""
    return {
        # each member of an ensemble names the photos, too
        key: settings[_WHOLE] if key.rpartition(": ")[2] == SELECTION else value
        for key, value in settings.items()
        if key not in (SHARD, _WHOLE)
    }


def _together(machines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Facts of all machines; where they differ, every value."""
    together: dict[str, Any] = {}
    for key in machines[0]:
        values = sorted({str(machine.get(key)) for machine in machines})
        together[key] = machines[0][key] if len(values) == 1 else ", ".join(values)
    return together
