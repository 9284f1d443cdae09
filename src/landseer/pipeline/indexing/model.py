"""The model of an index: kept in its folder, and put to work on photos.

It lies in ``models/FINGERPRINT`` and is named in the index's settings, so that whoever adds or searches needs
nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from landseer.extraction.extract import device_of
from landseer.extraction.plan import require_sizes
from landseer.models import Ensemble
from landseer.photos import UnreadablePhoto, load_sized
from landseer.pipeline.model import Opened, describe, load_model, open_model, save_model
from landseer.search import LivingIndex
from landseer.storage.artifact import fingerprint_of
from landseer.types import Collection, Descriptors

Progress = Callable[[str, int, int | None], None]
"""Told what is going on, units done, units in all (None: not known yet)."""

MODELS = "models"
PART = ".describing"
"""Folder in the index with the part under way; only the one writer touches it."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """How photos are described here: on what, by how many threads, how many at a time, and who is told."""

    workers: int | None = None
    device: str = "cpu"
    commit_every: int = 1000
    progress: Progress | None = None

    def __post_init__(self) -> None:
        """Refuse before long work what describing would refuse."""
        device_of(self.device)
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers: must be at least 1, not {self.workers}")
        if self.commit_every < 1:
            raise ValueError(f"commit_every: must be at least 1, not {self.commit_every}")

    def parts(self, total: int) -> Iterator[tuple[int, int]]:
        """(start, size) of each part.

        Each is at most as long as all before it together and one photo more, so that also with a slow model it
        is soon told how long it takes, and the first photos are soon found.
        """
        start = 0
        while start < total:
            size = min(start + 1, self.commit_every, total - start)
            yield start, size
            start += size

    def tell(self, what: str, done: int, total: int | None) -> None:
        """Tell whoever wants to know."""
        if self.progress is not None:
            self.progress(what, done, total)


@dataclass(frozen=True, kw_only=True)
class IndexModel:
    """A model, or an ensemble, as an index has it."""

    opened: Opened

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights and of the way the model sees photos: both make a descriptor."""
        model, options = self.opened
        # an ensemble's own fingerprint covers how its members see photos
        return fingerprint_of("index model", model.fingerprint, None if options is None else asdict(options))

    @property
    def name(self) -> str:
        """Where it lies in the index's folder."""
        return f"{MODELS}/{self.fingerprint}"

    @property
    def rows(self) -> Mapping[str, Any]:
        """What an index must know of its descriptors, as ``LivingIndex.create`` takes it."""
        model, options = self.opened
        if isinstance(model, Ensemble):
            half = all(member.descriptors.dtype == "float16" for member in model.members)
            return {
                "model": self.fingerprint,
                "dim": model.dim,
                "normalised": model.unit,
                "dtype": "float16" if half else "float32",
            }
        assert options is not None, "only an ensemble comes without"
        return {"model": self.fingerprint, "dim": model.dim, "dtype": options.dtype}

    @property
    def normalised(self) -> bool:
        """Whether its rows are unit rows."""
        return bool(self.rows.get("normalised", True))

    def keep_in(self, index: LivingIndex) -> None:
        """Put it into the index's folder, where a call that was killed has not done so."""
        folder = index.path / self.name
        if not folder.exists():
            save_model(self.opened, folder, made_by={"index": self.fingerprint})

    def describe(
        self, collection: Collection, folder: Path, work: Work, *, before: int = 0, total: int = 0
    ) -> tuple[Descriptors | None, Mapping[str, str]]:
        """Descriptors of *collection*, made in *folder*, and id -> reason of photos that could not be read.

        There are no descriptors where none could be.  Progress counts photos from *before* to *total*.
        """

        def tell(done: int, rounds: int) -> None:  # an ensemble counts a photo once a member
            work.tell("describing photos", before + done * len(collection) // rounds, total)

        try:
            rows = describe(
                self.opened, collection, folder, workers=work.workers, device=work.device, progress=tell
            )
        except ValueError:
            reasons = _if_none_can_be_read(collection)
            if reasons is None:
                raise
            return None, reasons
        return rows, rows.unreadable


def model_named(source: Path | None, weights: Path | None, work: Work) -> IndexModel:
    """The model that ``open_model`` gives, able to see photos as it wants to."""
    work.tell("loading the model", 0, 1)
    return _checked(IndexModel(opened=open_model(source, weights=weights)))


def model_of(index: LivingIndex) -> IndexModel:
    """The model in the index.  Raises ``ValueError`` where it has none, or not the one it was built with."""
    fingerprint, named = index.model, index.settings.get("model")
    if not isinstance(named, str):
        raise ValueError(f"{index.path} names no model, so it cannot describe photos; build one from photos")
    folder = index.path / named
    if not folder.exists():
        raise ValueError(f"{folder} is missing; run the landseer index build that made the index again")
    model = _checked(IndexModel(opened=load_model(folder)))
    if model.fingerprint != fingerprint:
        raise ValueError(f"{folder} is not the model that {index.path} was built with; restore it")
    return model


@contextmanager
def describing(index: LivingIndex) -> Iterator[Path]:
    """An empty folder in the index for a part; what a killed process left there is no matter."""
    folder = index.path / PART
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def lines_of(unreadable: Mapping[str, str]) -> tuple[str, ...]:
    """``'id': reason`` for each."""
    return tuple(f"{photo!r}: {reason}" for photo, reason in unreadable.items())


def clear_models(index: LivingIndex) -> None:
    """Delete the models that neither the index nor its rebuild under way names; for the one writer."""
    named = (index.settings.get("model"), f"{MODELS}/{index.info().rebuild}")
    for folder in (index.path / MODELS).glob("*"):
        if f"{MODELS}/{folder.name}" not in named:
            shutil.rmtree(folder, ignore_errors=True)


def _checked(model: IndexModel) -> IndexModel:
    opened, options = model.opened
    if isinstance(opened, Ensemble):
        for member in opened.members:
            require_sizes(member.embedder, member.descriptors)
    else:
        assert options is not None, "only an ensemble comes without"
        require_sizes(opened, options)
    return model


def _if_none_can_be_read(collection: Collection) -> dict[str, str] | None:
    """Id -> reason, or None where a photo can be read.  A part of an index may be all broken; an extraction not."""
    reasons: dict[str, str] = {}
    for photo, path in zip(collection.ids, collection.paths, strict=True):
        try:
            load_sized(collection.root, path, (8, 8))
        except UnreadablePhoto as error:
            reasons[photo] = error.reason
        else:
            return None
    return reasons
