"""What a stage leaves, and the folder that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import load_file, save_file

from landseer.losses import MarginHead
from landseer.models import Embedder, load_embedder, save_embedder
from landseer.recipe import DescriptorOptions
from landseer.storage import open_artifact, read_table, verify, writing
from landseer.training.head import KeptHead
from landseer.training.log import Entry

_VALIDATION = pa.schema(
    [
        ("stage", pa.string()),
        ("step", pa.int64()),
        ("epoch", pa.int64()),
        ("validation_loss", pa.float64()),
        ("validation_map", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage leaves: the embedder, the head with its label space, and the losses on the way."""

    embedder: Embedder
    head: MarginHead
    landmark_C: np.ndarray
    losses: tuple[Entry, ...]
    """Of every step."""
    validation: tuple[Entry, ...] = ()
    """Of every epoch, where photos were held out."""
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def kept_head(self) -> KeptHead:
        """The head as the next stage may go on with it."""
        state = {key: value.detach().cpu() for key, value in self.head.state_dict().items()}
        return KeptHead(state=state, landmark_C=self.landmark_C)


def save_stage(
    result: Stage,
    path: Path,
    *,
    made_by: Mapping[str, object],
    parents: Mapping[str, str],
    descriptors: DescriptorOptions | None = None,
) -> None:
    """Write a stage folder: the model folder ``model``, the head, its label space and the losses.

    *descriptors* is how the model wants to see photos.
    """
    with writing(path, "stage", made_by=made_by, parents=parents) as part:
        save_embedder(result.embedder, part / "model", made_by=made_by, descriptors=descriptors)
        state = {key: value.contiguous() for key, value in result.kept_head.state.items()}
        save_file(state, part / "head.safetensors")
        pq.write_table(
            pa.table({"landmark": pa.array(result.landmark_C, pa.int64())}), part / "labels.parquet"
        )
        pq.write_table(
            pa.Table.from_pylist([dict(entry) for entry in result.losses]), part / "losses.parquet"
        )
        validation = pa.Table.from_pylist([dict(entry) for entry in result.validation], schema=_VALIDATION)
        pq.write_table(validation, part / "validation.parquet")
        unreadable = pa.table(
            {
                "id": pa.array(list(result.unreadable), pa.string()),
                "reason": pa.array(list(result.unreadable.values()), pa.string()),
            }
        )
        pq.write_table(unreadable, part / "unreadable.parquet")


def load_stage_model(path: Path, *, made_by: str | None = None) -> Embedder:
    """The embedder a stage folder holds, every file checked."""
    verify(path, open_artifact(path, "stage", made_by=made_by))
    return load_embedder(path / "model")


def load_stage_head(path: Path) -> KeptHead:
    """The head a stage folder holds, with its label space."""
    verify(path, open_artifact(path, "stage"), "head.safetensors", "labels.parquet")
    landmarks = read_table(path / "labels.parquet")["landmark"].to_numpy()
    return KeptHead(
        state=load_file(path / "head.safetensors"), landmark_C=np.asarray(landmarks, dtype=np.int64)
    )


def load_losses(path: Path) -> list[dict[str, float | int | str]]:
    """The loss of every step of a stage folder."""
    verify(path, open_artifact(path, "stage"), "losses.parquet")
    return list(read_table(path / "losses.parquet").to_pylist())


def load_validation(path: Path) -> list[dict[str, float | int | str]]:
    """The validation loss of every epoch of a stage folder; empty where nothing was held out."""
    verify(path, open_artifact(path, "stage"), "validation.parquet")
    return list(read_table(path / "validation.parquet").to_pylist())
