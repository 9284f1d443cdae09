"""Backbones: timm models without their classifier, fed by the hub, a file or chance."""

from __future__ import annotations

import difflib
import hashlib
import pickle
import socket
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import landseer.models._torchvision  # noqa: F401  (before timm, which imports torchvision)
from landseer.recipe import ModelOptions


def build_backbone(options: ModelOptions, *, weights: Path | None) -> tuple[nn.Module, str]:
    """The backbone of *options* with its weights loaded, and a word on where they came from.

    *weights* is the FILE of ``--weights`` and must be given exactly where the recipe says ``weights = "file"``.
    Raises ``ValueError`` for an unknown name, a file that does not fit, or a hub that cannot be reached.
    """
    import timm

    if (options.weights == "file") != (weights is not None):
        raise ValueError(
            'model.weights is "file", so the file must be given: add --weights FILE'
            if weights is None
            else f'--weights was given but model.weights is {options.weights!r}; only "file" takes a file'
        )
    if not timm.is_model(options.backbone):
        near = difflib.get_close_matches(options.backbone.split(".")[0], timm.list_models(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"model.backbone: timm {timm.__version__} has no model {options.backbone!r}{hint}")
    extra = _extra_arguments(options)
    if options.weights == "hub":
        backbone, source = _from_hub(options.backbone, extra)
    else:
        backbone, source = _create(options.backbone, extra), "random"
        if weights is not None:
            load_weights(backbone, weights)
            source = f"file sha256 {_sha256(weights)[:16]}"
    if options.linear_first_block:
        _make_first_block_linear(backbone, options.backbone)
    return backbone, source


def load_weights(backbone: nn.Module, file: Path) -> None:
    """Load a safetensors or pth file into *backbone*; the classifier's weights are left out, all else must fit.

    Half-precision weights are widened.  Raises ``ValueError`` that names the first keys that do not fit.
    """
    state = _read_state(file)
    for wrapper in ("state_dict", "model"):
        if wrapper in state and isinstance(state[wrapper], dict):
            state = state[wrapper]
    own = backbone.state_dict()
    # timm's constructor was asked for no classifier, so a classifier in the file is expected to be left over
    given = {
        key: value.float() if value.is_floating_point() else value
        for key, value in state.items()
        if key in own
    }
    missing = [key for key in own if key not in given]
    if missing:
        raise ValueError(
            f"{file} does not fit this backbone: it lacks {len(missing)} of {len(own)} tensors, "
            f"first {missing[0]!r}; check model.backbone"
        )
    odd = [key for key, value in given.items() if value.shape != own[key].shape]
    if odd:
        raise ValueError(
            f"{file} does not fit this backbone: {odd[0]!r} is {tuple(given[odd[0]].shape)}, "
            f"not {tuple(own[odd[0]].shape)}; check model.backbone"
        )
    backbone.load_state_dict(given)


def _read_state(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"weights {file} do not exist; give a .safetensors or .pth file")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        # weights_only: a checkpoint from elsewhere must not run code
        return torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ValueError(
            f"weights {file} cannot be read ({reason}); give a .safetensors or .pth file"
        ) from None
    except Exception as error:  # noqa: BLE001  safetensors raises its own type, which derives from Exception alone
        raise ValueError(
            f"weights {file} cannot be read ({error}); give a .safetensors or .pth file"
        ) from None


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _extra_arguments(options: ModelOptions) -> dict[str, Any]:
    extra: dict[str, Any] = {"num_classes": 0, "global_pool": ""}
    if options.pad_type:
        extra["pad_type"] = options.pad_type
    if options.last_stride == 1:
        extra["output_stride"] = 16
    if options.backbone.startswith("vit_"):
        extra["dynamic_img_size"] = True  # any size divisible by the patch; timm interpolates the positions
    return extra


def _create(name: str, extra: dict[str, Any], **pretrained: Any) -> nn.Module:
    import timm

    try:
        return timm.create_model(name, **pretrained, **extra)
    except TypeError as error:
        raise ValueError(f"model: {name} does not take these options ({error})") from None


def _from_hub(name: str, extra: dict[str, Any]) -> tuple[nn.Module, str]:
    import timm

    facts = timm.models.get_pretrained_cfg(name)
    if facts is None or not facts.hf_hub_id:
        raise ValueError(
            f'the hub has no weights for {name}; set model.weights = "file" and give --weights FILE'
        )
    file = _hub_file(facts.hf_hub_id)
    # timm's own loading on the local file, for the changes of layout it knows for each architecture
    backbone = _create(
        name, extra, pretrained=True, pretrained_cfg_overlay={"file": str(file), "hf_hub_id": None}
    )
    return backbone, f"hub {facts.hf_hub_id} sha256 {_sha256(file)[:16]}"


def _hub_file(repository: str) -> Path:
    """The weights of a hub repository: from the local cache where they are, downloaded once where they are not."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    for filename in ("model.safetensors", "pytorch_model.bin"):
        try:
            return Path(hf_hub_download(repository, filename, local_files_only=True))
        except LocalEntryNotFoundError:
            continue
    missing = f"the weights of {repository} are not on this machine"
    advice = 'go online once, or set model.weights = "file" and give --weights FILE'
    if not _hub_answers():
        raise ValueError(f"{missing} and the hub cannot be reached; {advice}")
    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except (OSError, ValueError) as error:  # every error of the hub's client derives from one of the two
        raise ValueError(
            f"{missing} and could not be downloaded ({str(error).splitlines()[0]}); {advice}"
        ) from None


def _hub_answers() -> bool:
    """Whether a connection can be opened at all: the client alone would retry for a minute before it gives up."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():
        return True
    host = urllib.parse.urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((host.hostname, host.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def _make_first_block_linear(backbone: nn.Module, name: str) -> None:
    try:
        backbone.get_submodule("blocks.0.0.bn1").act = nn.Identity()
    except AttributeError:
        raise ValueError(
            f"model.linear_first_block: {name} has no blocks.0.0.bn1; it is for EfficientNet-like backbones"
        ) from None


def normalisation_of(backbone: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """RGB mean and std (of 0..1 values) that timm records for this architecture's published weights."""
    facts = getattr(backbone, "pretrained_cfg", None) or {}
    return tuple(facts.get("mean", (0.485, 0.456, 0.406))), tuple(facts.get("std", (0.229, 0.224, 0.225)))


def split_tokens(backbone: nn.Module, features: Tensor) -> tuple[Tensor, Tensor | None]:
    """What ``forward_features`` gives as positions and, for a ViT with one, the class token ``[N, C]``."""
    if features.ndim == 3:
        prefix = int(getattr(backbone, "num_prefix_tokens", 0))
        return features[:, prefix:], features[:, 0] if prefix else None
    return features, None
