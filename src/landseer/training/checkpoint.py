"""Checkpoints of a stage: folders that appear whole or not at all, hold no pickle, and give back every bit.

A checkpoint is named after its place, EPOCH-BATCH, so that names sort as time does.  The last two are kept, and the
one that was judged best.  Of several processes the first writes and all read; what is written does not tell how many
there were, but for the random numbers of each.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module, ModuleDict, Parameter

from landseer.losses import ShardedHead
from landseer.storage import open_artifact, read_json, remove_leftovers, verify, writing
from landseer.training import distributed
from landseer.training.state import State

KIND = "checkpoint"
_LAST = 2
_GONE = ".gone-"
_log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints in *folder* of the one training that *identity* stands for."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder = folder
        self.identity = identity

    def save(self, state: State, *, best: bool = False) -> None:
        """Write *state*, then drop what is no longer needed; *best*: no epoch was judged better."""
        name = f"{state.epoch:05d}-{state.batch:08d}"
        if best:
            state.best = name
        tensors = _tensors(state)
        if distributed.rank() == 0:
            self._write(name, state, tensors)
        distributed.barrier()

    def _write(self, name: str, state: State, tensors: dict[str, Tensor]) -> None:
        with writing(self.folder / name, KIND, made_by={"identity": self.identity}) as part:
            save_file(tensors, part / "state.safetensors")
            (part / "state.json").write_text(json.dumps(_facts(state), indent=2, sort_keys=True) + "\n")
        for old in self._found()[:-_LAST]:
            if old.name != state.best:
                _drop(old)

    def newest(self) -> Path | None:
        """The newest whole checkpoint, the same for all processes.

        One that the disk has damaged is dropped for the one before it, with a warning.  Raises ``ValueError``
        where the checkpoints are another training's.
        """
        found = self._newest() if distributed.rank() == 0 else None
        return distributed.of_first(found)

    def _newest(self) -> Path | None:
        self._clear()
        for path in reversed(self._found()):
            try:
                manifest = open_artifact(path, KIND)
                verify(path, manifest)
            except ValueError as error:
                _log.warning("%s; going on from the checkpoint before it", error)
                _drop(path)
                continue
            if manifest.made_by.get("identity") != self.identity:
                raise ValueError(
                    f"{self.folder} belongs to a training with other settings, photos or starting weights; "
                    "remove it or choose another folder"
                )
            return path
        return None

    def load(self, path: Path, state: State) -> None:
        """Bring *state* and torch's random numbers to what they were when *path* was written."""
        tensors = load_file(path / "state.safetensors")
        facts = read_json(path / "state.json")
        for name, module in _modules(state).items():
            load_whole(module, _below(tensors, f"{name}/"))
        for number, parameter in enumerate(_parameters(state)):
            rows_of = _holder(state, parameter)
            for key, value in _below(tensors, f"optimiser/{number}/").items():
                if rows_of is not None and key != "step":
                    value = rows_of.slice_rows(value)
                # counts stay where torch keeps them; the rest lies in memory as the parameter does
                laid = value if key == "step" else torch.empty_like(parameter, dtype=value.dtype).copy_(value)
                state.optimiser.state[parameter][key] = laid
        if facts["scaler"]:
            state.scaler.load_state_dict(facts["scaler"])
        for key in ("epoch", "batch", "step", "best", "waited", "unreadable"):
            setattr(state, key, facts[key])
        state.least_penalty = float("inf") if facts["least_penalty"] is None else facts["least_penalty"]
        # with another number of processes a new one goes on with the random numbers it was begun with
        own = f"random/{distributed.rank()}"
        if f"{own}/cpu" in tensors:
            torch.set_rng_state(tensors[f"{own}/cpu"])
        if f"{own}/cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors[f"{own}/cuda"])

    def weights(self, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The judged weights (embedder, head) of the checkpoint called *name*."""
        path = self.folder / name
        verify(path, open_artifact(path, KIND))
        tensors = load_file(path / "state.safetensors")
        averaged = _below(tensors, "average/")
        found = averaged or tensors
        mark = "." if averaged else "/"
        return _below(found, f"embedder{mark}"), _below(found, f"head{mark}")

    def clear(self) -> None:
        """Drop them all, once what they lead to is safe."""
        self._clear()
        for path in self._found():
            _drop(path)

    def _found(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and path.name[0].isdigit())

    def _clear(self) -> None:
        """Remove what killed processes left half written or half deleted."""
        if not self.folder.is_dir():
            return
        for path in list(self.folder.iterdir()):
            if path.name.startswith(_GONE):
                shutil.rmtree(path, ignore_errors=True)
            elif ".part-" in path.name:
                remove_leftovers(self.folder / path.name[1:].split(".part-")[0])


def _drop(path: Path) -> None:
    # renamed first: a half deleted folder must not be taken for a checkpoint
    gone = path.with_name(_GONE + path.name)
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def whole_state(module: Module) -> dict[str, Tensor]:
    """The state of *module* on the CPU; of a sharded head, all processes' rows in the first one, and none elsewhere."""
    if isinstance(module, ShardedHead):
        return module.full_state() or {}
    if isinstance(module, ModuleDict):
        return {
            f"{name}.{key}": value
            for name, part in module.items()
            for key, value in whole_state(part).items()
        }
    return {key: value.detach().to("cpu", copy=True) for key, value in module.state_dict().items()}


def load_whole(module: Module, state: dict[str, Tensor]) -> None:
    """Bring *module* to a ``whole_state``; a sharded head takes its rows."""
    if isinstance(module, ShardedHead):
        module.load_full_state(state)
    elif isinstance(module, ModuleDict):
        for name, part in module.items():
            load_whole(part, _below(state, f"{name}."))
    else:
        module.load_state_dict(state)


def _modules(state: State) -> dict[str, Module]:
    found: dict[str, Module] = {"embedder": state.embedder, "head": state.head}
    return found if state.average is None else {**found, "average": state.average}


def _parameters(state: State) -> list[Parameter]:
    return [parameter for group in state.optimiser.param_groups for parameter in group["params"]]


def _holder(state: State, parameter: Parameter) -> ShardedHead | None:
    """The sharded head that *parameter* is of, if one is."""
    head = state.head
    sharded = isinstance(head, ShardedHead) and any(parameter is own for own in head.parameters())
    return head if isinstance(head, ShardedHead) and sharded else None


def _tensors(state: State) -> dict[str, Tensor]:
    """Everything a checkpoint holds, in the first process; the others help to gather it."""
    found = {
        f"{name}/{key}": value
        for name, module in _modules(state).items()
        for key, value in whole_state(module).items()
    }
    for number, parameter in enumerate(_parameters(state)):
        rows_of = _holder(state, parameter)
        for key, value in state.optimiser.state[parameter].items():
            if not isinstance(value, Tensor):
                continue
            gathered = value if rows_of is None or key == "step" else rows_of.gather_rows(value)
            if gathered is not None:
                found[f"optimiser/{number}/{key}"] = gathered
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    for number, (cpu, gpu) in enumerate(distributed.everyones((torch.get_rng_state(), cuda))):
        found[f"random/{number}/cpu"] = cpu
        if gpu is not None:
            found[f"random/{number}/cuda"] = gpu
    return {key: value.detach().cpu().contiguous() for key, value in found.items()}


def _facts(state: State) -> dict[str, Any]:
    facts: dict[str, Any] = {
        key: getattr(state, key) for key in ("epoch", "batch", "step", "best", "waited", "unreadable")
    }
    facts["least_penalty"] = state.least_penalty if state.least_penalty < float("inf") else None
    facts["scaler"] = state.scaler.state_dict()
    return facts


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
