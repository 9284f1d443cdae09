"""Photos that come as bytes, seen as the index's model sees photos: decoded apart, described together.

Axes: B photos, H and W of an input in pixels, D components, R and C rows and columns of a feature map.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from landseer.datasets.samplers import bin_of
from landseer.extraction.extract import device_of
from landseer.models import Embedder, Ensemble, Member
from landseer.models.backbone import split_tokens
from landseer.photos import decode, size_of
from landseer.photos.decode import decode_resized
from landseer.pipeline.indexing.model import IndexModel
from landseer.pipeline.online.attention import Box, main_object
from landseer.recipe import DescriptorOptions


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """A photo, or a part of one, decoded to what each member of the model wants."""

    width: int
    """Of the whole photo, upright, in pixels."""
    height: int
    crop: Box | None
    """The part that is meant, in fractions of the upright photo; None: all."""
    pixels: tuple[np.ndarray, ...]
    """RGB uint8 ``[H, W, 3]``, one a member of the model."""
    model: str
    """Fingerprint of the model that it was decoded for."""


class Eye:
    """The model of an index, awake.  ``look`` may be called by any number of threads, ``describe`` too."""

    def __init__(self, model: IndexModel, *, device: str = "cpu", threads: int | None = None) -> None:
        self.model = model
        self.device = device_of(device)
        self._threads = threads
        opened, options = model.opened
        if isinstance(opened, Ensemble):
            self.members: tuple[tuple[Embedder, DescriptorOptions], ...] = tuple(
                map(_seen_by, opened.members)
            )
        else:
            assert options is not None, "only an ensemble comes without"
            self.members = ((opened, options),)
        for embedder, _ in self.members:
            embedder.to(self.device).eval()
        self._watched = _Watched(self.members[0][0])

    def look(self, data: bytes, crop: Box | None = None) -> Seen:
        """Decode the photo in *data*, or what *crop* shows of it.  Raises ``UnreadablePhoto``.

        A crop's edges are rounded to whole pixels; it has at least one.
        """
        width, height = size_of(data)
        if crop is None:
            pixels = tuple(
                np.array(decode_resized(data, _input(options, width, height))) for _, options in self.members
            )
        else:
            left, top, right, bottom = _in_pixels(crop, width, height)
            part = Image.fromarray(decode(data)).crop((left, top, right, bottom))
            pixels = tuple(
                np.array(part.resize(_input(options, *part.size), Image.Resampling.BICUBIC))
                for _, options in self.members
            )
        return Seen(width=width, height=height, crop=crop, pixels=pixels, model=self.model.fingerprint)

    def describe(self, seen: Sequence[Seen]) -> tuple[np.ndarray, list[Box | None]]:
        """Descriptors ``[B, D]``, and where the main object of each seems to be, in fractions of the whole photo."""
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        with self._watched.keeping() as maps:
            parts = [
                self._member(number, seen, maps if not number else None)
                for number in range(len(self.members))
            ]
        opened, _ = self.model.opened
        rows_BD = opened.join(parts) if isinstance(opened, Ensemble) else parts[0]
        boxes = [
            None if energy is None else _within(each.crop, main_object(energy))
            for each, energy in zip(seen, maps.energies or [None] * len(seen), strict=True)
        ]
        return rows_BD.astype(self.model.rows.get("dtype", "float32"), copy=False), boxes

    def _member(self, number: int, seen: Sequence[Seen], maps: _Maps | None) -> np.ndarray:
        """The rows of one member, each size of input in a pass of its own."""
        embedder, options = self.members[number]
        rows_BD = np.empty((len(seen), embedder.dim), np.float32)
        energies: list[np.ndarray | None] = [None] * len(seen)
        for shape in dict.fromkeys(each.pixels[number].shape for each in seen):
            places = [place for place, each in enumerate(seen) if each.pixels[number].shape == shape]
            rows_BD[places] = embedder.describe(
                np.stack([seen[place].pixels[number] for place in places]),
                scales=options.scales,
                scale_average=options.scale_average,
                scale_multiple=options.scale_multiple,
                flip=options.flip,
            )
            if maps is not None:
                for place, energy in zip(places, maps.taken(len(places), shape), strict=True):
                    energies[place] = energy
        if maps is not None:
            maps.energies = energies
        return rows_BD


class _Maps:
    """What one thread keeps of the passes it makes."""

    def __init__(self, multiple: int) -> None:
        self.multiple = multiple
        self.first: torch.Tensor | None = None
        self.energies: list[np.ndarray | None] = []

    def taken(self, num: int, shape: tuple[int, ...]) -> list[np.ndarray | None]:
        """How strongly each position spoke, ``[R, C]`` a photo, at the first scale; None where nothing was seen."""
        found, self.first = self.first, None
        if found is None or len(found) != num:
            return [None] * num
        if found.ndim == 3:
            rows, columns = shape[0] // self.multiple, shape[1] // self.multiple
            if rows * columns != found.shape[1]:  # the first scale was not the plain one
                return [None] * num
            found = found.transpose(1, 2).reshape(num, -1, rows, columns)
        # how much a position agrees with the photo as a whole: what makes up the descriptor is what it shows
        whole = torch.nn.functional.normalize(found.float().mean(dim=(2, 3), keepdim=True), dim=1)
        energy = (found.float() * whole).sum(dim=1).clamp_(min=0)
        return list(energy.cpu().numpy())


class _Watched:
    """Sees the last features of an embedder pass by, in the thread that asked for them."""

    def __init__(self, embedder: Embedder) -> None:
        self._here = threading.local()
        self._multiple = embedder.size_multiple
        self._backbone = embedder.backbone
        pooling: Any = embedder.pooling
        norm: Any = getattr(embedder.backbone, "norm", None)
        if not isinstance(pooling, torch.nn.Identity):
            pooling.register_forward_hook(lambda _, given, __: self._keep(given[0]))
        elif isinstance(norm, torch.nn.Module):  # a ViT's last layer; nothing pools its positions
            norm.register_forward_hook(lambda _, __, made: self._keep(split_tokens(self._backbone, made)[0]))

    @contextmanager
    def keeping(self) -> Iterator[_Maps]:
        """What passes in this thread within the block."""
        self._here.maps = maps = _Maps(self._multiple)
        try:
            yield maps
        finally:
            del self._here.maps

    def _keep(self, positions: torch.Tensor) -> None:
        maps: _Maps | None = getattr(self._here, "maps", None)
        if maps is not None and maps.first is None:
            maps.first = positions.detach()


def _seen_by(member: Member) -> tuple[Embedder, DescriptorOptions]:
    return member.embedder, member.descriptors


def _input(options: DescriptorOptions, width: int, height: int) -> tuple[int, int]:
    """(width, height) at which the model sees a photo of that shape."""
    if not options.aspects.sizes:
        return options.size, options.size
    across, down = options.aspects.sizes[int(bin_of(options.aspects, np.array(height / width)))]
    return across, down


def _in_pixels(crop: Box, width: int, height: int) -> tuple[int, int, int, int]:
    left, top = min(round(crop[0] * width), width - 1), min(round(crop[1] * height), height - 1)
    return left, top, max(left + 1, round(crop[2] * width)), max(top + 1, round(crop[3] * height))


def _within(crop: Box | None, box: Box | None) -> Box | None:
    """A box in fractions of the crop, in fractions of the photo."""
    if box is None or crop is None:
        return box
    left, top, right, bottom = crop
    across, down = right - left, bottom - top
    return (left + box[0] * across, top + box[1] * down, left + box[2] * across, top + box[3] * down)
