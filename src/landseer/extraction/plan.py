"""What a row depends on: settings that identify the result, and machine facts that touch its last bits."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from landseer.recipe import DescriptorOptions
from landseer.storage.artifact import fingerprint_of
from landseer.types import Collection

if TYPE_CHECKING:
    from landseer.models import Embedder

THREADS = 1
"""Threads inside one forward pass on a CPU.  Batches run side by side instead: it is faster, and the rows
do not depend on how many cores a machine has."""


SHARD = "shard"
"""The setting that says which part of an extraction a shard is."""
CROP = "crop"
"""The column of a collection that says which part of a photo is meant."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a row depends on."""

    settings: Mapping[str, Any]
    """Settings and input; another value is another result."""
    machine: Mapping[str, Any]
    """Kind of processor and versions of the decoders: they may change a row's last bit, so one extraction is
    never continued across a change, but they are no part of the identity."""

    @property
    def is_part(self) -> bool:
        """Whether it describes a shard, to be merged with others."""
        return SHARD in self.settings

    def fingerprint(self, unreadable: Iterable[str] = ()) -> str:
        """Identity of the result: equal settings on equal input give an equal string.

        *unreadable* are the ids of photos that could not be read; without their rows it is another result.
        """
        return fingerprint_of("descriptors", self.settings, sorted(unreadable))


def plan_of(
    embedder: Embedder, collection: Collection, options: DescriptorOptions, device: torch.device
) -> Plan:
    """The plan of describing *collection* by *embedder* on *device*."""
    aspects = options.aspects.sizes
    shape = "the size of its bin of shapes" if aspects else "a square"
    return Plan(
        settings={
            "model": embedder.fingerprint,
            "dim": embedder.dim,
            "collection": collection.fingerprint,
            "selection": selection(collection),
            "size": options.size if not aspects else [list(size) for size in aspects],
            "splits": list(options.aspects.splits),
            "scales": list(options.scales),
            "scale_average": options.scale_average,
            "scale_multiple": options.scale_multiple,
            # named only where it is asked for, so that descriptors made before it could be keep their identity
            **({"flip": True} if options.flip else {}),
            **({"crop": "to the box of the column crop"} if any(crops_of(collection)) else {}),
            "batch": options.batch,
            "dtype": options.dtype,
            "preprocessing": f"squashed to {shape}, bicubic",
            "runtime": f"torch {torch.__version__}",
            "device": device.type,
            "precision": f"float32, matrix products {torch.get_float32_matmul_precision()}",
            "threads": THREADS,
        },
        machine={
            "processor": platform.machine(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            "decoders": f"pillow {version('pillow')}, pillow-heif {version('pillow-heif')}",
        },
    )


Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of a photo as it is stored."""


def crops_of(collection: Collection) -> list[Box | None]:
    """The box that each photo is cropped to before it is described, of the column ``crop``; None: it is seen whole.

    Numbers are rounded to whole pixels.  A column of that name that holds no lists is about something else.  Raises
    ``ValueError`` for a box that is none.
    """
    known = CROP in collection.photos.column_names
    if not known or not pa.types.is_list(collection.photos.schema.field(CROP).type):
        return [None] * len(collection)
    return [
        _box(photo, values)
        for photo, values in zip(collection.ids, collection.photos[CROP].to_pylist(), strict=True)
    ]


def _box(photo: str, values: Any) -> Box | None:
    if values is None:
        return None
    try:
        left, top, right, bottom = (round(side) for side in values)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"photo {photo!r}: its {CROP} must be four numbers, left, top, right and bottom, not {values!r}"
        ) from None
    return left, top, right, bottom


def require_sizes(embedder: Embedder, options: DescriptorOptions) -> None:
    """Raise ``ValueError`` for an input size that *embedder* cannot take, at any of the scales."""
    for number, (width, height) in enumerate(options.aspects.sizes):
        embedder.require_size((width, height), f"descriptors.aspects.sizes[{number}]")
    if not options.aspects.sizes:
        embedder.require_size(options.size, "descriptors.size")
    for width, height in options.aspects.sizes or ((options.size, options.size),):
        for scale in options.scales:
            embedder.scaled_size((width, height), scale, options.scale_multiple)


def difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str | None:
    """The first setting in which two sides differ, in words; ``None`` where they are equal."""
    for key in sorted(ours.keys() | theirs.keys()):
        if theirs.get(key) != ours.get(key):
            return f"{key}: {theirs.get(key)!r} there, {ours.get(key)!r} here"
    return None


def selection(collection: Collection) -> str:
    """Digest of the photos chosen, in order: a collection keeps its fingerprint when part of it is taken."""
    digest = hashlib.sha256()
    for column in ("id", "path"):
        for chunk in collection.photos[column].chunks:
            for value in chunk:
                text = value.as_py().encode()
                digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()[:16]
