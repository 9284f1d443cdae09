"""Backbones: timm models without their classifier, fed by the hub, a file or chance.

Axes: N photos, C channels, H and W of a feature map, T tokens.
"""

from __future__ import annotations

import difflib
import http.client
import pickle
import ssl
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import landseer.models._torchvision  # noqa: F401  (before timm, which imports torchvision)
from landseer.models.ibn import give_ibn, holds_ibn, with_ibn
from landseer.recipe import ModelOptions
from landseer.storage.artifact import sha256_of

_RESIZABLE = ("vision_transformer", "vision_transformer_hybrid", "deit", "eva")
"""timm's modules whose models take ``dynamic_img_size``."""
_OF_ONE_STRIDE = ("senet",)
"""timm's modules whose models have stages as a ResNet's but take no ``output_stride``."""
_HEADS = ("head", "fc_norm", "attn_pool", "pre_logits")
"""What timm's models have between their features and their classifier."""
_HUB_NAMES = ("model.safetensors", "pytorch_model.bin")
_ANSWER_S = 5
_USE_A_FILE = 'use a recipe with model.weights = "file" and give --weights FILE'


def require_possible(options: ModelOptions, *, weights: Path | None) -> None:
    """Raise ``ValueError`` for an unknown name, and where a file is missing or given in vain; nothing is built."""
    if (options.weights == "file") != (weights is not None):
        raise ValueError(
            'model.weights is "file", so the file must be given: add --weights FILE'
            if weights is None
            else f'--weights was given but model.weights is {options.weights!r}; only "file" takes a file'
        )
    _require_known(options.backbone)


def build_backbone(options: ModelOptions, *, weights: Path | None) -> tuple[nn.Module, str]:
    """The backbone of *options* with its weights loaded, and a word on where they came from.

    *weights* is the FILE of ``--weights``, given exactly where the recipe says ``weights = "file"``.
    Raises ``ValueError`` for an unknown name, a file that does not fit, or a hub that cannot be reached.
    """
    require_possible(options, weights=weights)
    extra = _extra_arguments(options)
    if options.weights == "hub":
        backbone, source = _from_hub(options, extra)
    else:
        backbone, source = _bare(options, extra), "random"
        if weights is not None:
            load_weights(backbone, weights)
            source = f"file sha256 {sha256_of(weights)[:16]}"
    if options.last_stride == 1:
        _take_last_stride(backbone)
    if options.linear_first_block:
        _make_first_block_linear(backbone, options.backbone)
    return backbone, source


def load_weights(backbone: nn.Module, file: Path) -> None:
    """Load a safetensors or pth file into *backbone*; a classifier is left out, all else must fit.

    The weights may lie under ``state_dict`` or ``model``; half-precision ones are widened.  Raises
    ``ValueError`` that names the first key that does not fit.
    """
    state = _read_state(file)
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file} holds no weights by name; give a state dict as .safetensors or .pth")
    _fill(backbone, state, file)


def _fill(backbone: nn.Module, state: dict[str, Any], file: Path) -> None:
    own = backbone.state_dict()
    tensors = with_ibn({key: value for key, value in state.items() if isinstance(value, Tensor)}, backbone)
    # timm's constructor was asked for no classifier, so a classifier in the file is expected to be left over
    given = {key: value for key, value in tensors.items() if key in own}
    # a BatchNorm's count of its steps changes nothing here, and files of before 2018 have none
    missing = [key for key in own if key not in given and not key.endswith(".num_batches_tracked")]
    if missing:
        odd_norms = holds_ibn(tensors) and not holds_ibn(own)
        advice = (
            "it is of a backbone with IBN, so say model.ibn = true" if odd_norms else "check model.backbone"
        )
        raise ValueError(
            f"{file} does not fit this backbone: it lacks {len(missing)} of {len(own)} tensors, "
            f"first {missing[0]!r}; {advice}"
        )
    odd = [key for key, value in given.items() if value.shape != own[key].shape]
    if odd:
        raise ValueError(
            f"{file} does not fit this backbone: {odd[0]!r} is {tuple(given[odd[0]].shape)}, "
            f"not {tuple(own[odd[0]].shape)}; check model.backbone"
        )
    backbone.load_state_dict({**own, **given})  # copies, and so widens half precision


def normalisation_of(backbone: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """RGB mean and std (of 0..1 values) that timm records for this architecture's published weights."""
    facts = _facts_of(backbone)
    return tuple(facts.get("mean", (0.485, 0.456, 0.406))), tuple(facts.get("std", (0.229, 0.224, 0.225)))


def only_size(backbone: nn.Module) -> int | None:
    """Side of the only square input *backbone* takes, pixels, or None where it takes many."""
    facts = _facts_of(backbone)
    if not facts.get("fixed_input_size") or getattr(backbone, "dynamic_img_size", False):
        return None
    return int(facts["input_size"][-1])


def has_class_token(backbone: nn.Module) -> bool:
    """Whether *backbone* is a ViT whose first token stands for the whole photo."""
    return getattr(backbone, "cls_token", None) is not None


def split_tokens(backbone: nn.Module, features: Tensor) -> tuple[Tensor, Tensor | None]:
    """What ``forward_features`` gives as positions and, for a ViT with one, the class token ``[N, C]``.

    Positions are a map ``[N, C, H, W]``, or tokens ``[N, T, C]`` without class, distillation and register
    tokens.
    """
    if features.ndim == 3:
        known = has_class_token(backbone)
        prefix = int(getattr(backbone, "num_prefix_tokens", known))
        return features[:, prefix:], features[:, 0] if known else None
    if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
        features = features.permute(0, 3, 1, 2)
    return features, None


def _facts_of(backbone: nn.Module) -> dict[str, Any]:
    facts: Any = getattr(backbone, "pretrained_cfg", None)
    return facts or {}


def _require_known(name: str) -> None:
    import timm

    architecture = name.partition(".")[0]
    if timm.is_model(architecture):
        with suppress(RuntimeError):  # what timm raises for a tag it does not know
            timm.models.get_pretrained_cfg(name)
            return
        tagged = sorted(timm.list_pretrained(f"{architecture}.*"))
        near = difflib.get_close_matches(name, tagged, n=1, cutoff=0.0) or [architecture]
    else:
        near = difflib.get_close_matches(architecture, timm.list_models(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"model.backbone: timm {timm.__version__} has no model {name!r}{hint}")


def _read_state(file: Path) -> Any:
    advice = "give a .safetensors or .pth file"
    if not file.is_file():
        raise ValueError(f"weights {file} do not exist; {advice}")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        # weights_only: a checkpoint from elsewhere must not run code
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # torch's own message tells how to lift the ban, which is no advice for a file from elsewhere
        raise ValueError(
            f"weights {file} are no checkpoint of plain tensors, and nothing else is unpickled; {advice}"
        ) from None
    except Exception as error:  # noqa: BLE001  damaged bytes surface as any exception in both readers
        raise ValueError(f"weights {file} cannot be read ({_first_line(error)}); {advice}") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _extra_arguments(options: ModelOptions) -> dict[str, Any]:
    from timm.models import is_model_in_modules

    # the pooling stays the weights' own although it is never called: without it some ViTs have other norms
    extra: dict[str, Any] = {"num_classes": 0}
    if options.pad_type:
        extra["pad_type"] = options.pad_type
    if options.last_stride == 1 and not is_model_in_modules(options.backbone, _OF_ONE_STRIDE):
        extra["output_stride"] = 16
    if is_model_in_modules(options.backbone, _RESIZABLE):
        extra["dynamic_img_size"] = True  # any size divisible by the patch; timm interpolates the positions
    return extra


def _create(name: str, extra: dict[str, Any], **pretrained: Any) -> nn.Module:
    import timm

    try:
        return timm.create_model(name, **pretrained, **extra)
    except (TypeError, NotImplementedError, AssertionError) as error:
        raise ValueError(f"model: {name} does not take these options ({_first_line(error)})") from None


def _bare(options: ModelOptions, extra: dict[str, Any]) -> nn.Module:
    """The backbone as before any loading, with what loading must find in place."""
    backbone = _create(options.backbone, extra)
    _drop_head(backbone)
    if options.ibn:
        give_ibn(backbone, options.backbone)
    return backbone


def _from_hub(options: ModelOptions, extra: dict[str, Any]) -> tuple[nn.Module, str]:
    import timm

    name = options.backbone
    facts = timm.models.get_pretrained_cfg(name)
    if facts is None or not facts.hf_hub_id:
        raise ValueError(f"the hub has no weights for {name}; {_USE_A_FILE}")
    file = _hub_file(facts.hf_hub_id)
    # timm's own loading on the local file, for the changes of layout it knows for each architecture
    overlay = {"file": str(file), "hf_hub_id": None}
    with_classifier = {key: value for key, value in extra.items() if key != "num_classes"}
    try:
        # without the classifier timm would let any weight be missing and leave it random
        whole = _create(name, with_classifier, pretrained=True, pretrained_cfg_overlay=overlay)
    except ValueError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged file surfaces as any exception in its reader
        raise ValueError(
            f"{file} does not hold the weights of {name} ({_first_line(error)}); remove it from the hub's cache"
        ) from None
    backbone = _bare(options, extra)
    _fill(backbone, whole.state_dict(), file)
    return backbone, f"hub {facts.hf_hub_id} sha256 {sha256_of(file)[:16]}"


def _hub_file(repository: str) -> Path:
    """The weights of a hub repository: from the local cache, or downloaded once where they are not there."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    for filename in _HUB_NAMES:
        with suppress(LocalEntryNotFoundError):
            return Path(hf_hub_download(repository, filename, local_files_only=True))
    missing = f"the weights of {repository} are not on this machine"
    advice = f"go online once, or {_USE_A_FILE}"
    if not _hub_answers():
        raise ValueError(f"{missing} and the hub cannot be reached; {advice}")
    reason = ""
    for filename in _HUB_NAMES:
        try:
            return Path(hf_hub_download(repository, filename))
        except RemoteEntryNotFoundError:
            reason = f"it holds no {filename}"
        except Exception as error:  # noqa: BLE001  the client lets those of its HTTP library through
            reason = _first_line(error)
            break
    raise ValueError(f"{missing} and could not be downloaded ({reason}); {advice}")


def _hub_answers() -> bool:
    """Whether anything answers there at all: the client alone retries for minutes before it gives up."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies().get("all", "").startswith("socks"):
        return True  # the client goes through it, urllib cannot
    ask = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310  the user's own setting
    try:
        urllib.request.urlopen(ask, timeout=_ANSWER_S).close()  # noqa: S310
    except urllib.error.HTTPError:
        return True
    except OSError as error:
        # certificates are judged by the client, which may trust others
        return isinstance(getattr(error, "reason", None), ssl.SSLError)
    except (ValueError, http.client.HTTPException):
        return False
    return True


def _take_last_stride(backbone: nn.Module) -> None:
    """Let the last stage see the pixels next to each other: timm dilates it where it takes the stride away.

    The published systems with a last stride of 1 changed the stride alone (Luo et al., CVPRW 2019).
    """
    from timm.layers import AvgPool2dSame
    from timm.models.senet import SENet

    if isinstance(backbone, SENet):  # asked of timm it would be refused, see _OF_ONE_STRIDE
        for module in backbone.layer4.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
    for module in list(backbone.modules()):
        for name, part in list(module.named_children()):
            # a shortcut that averaged 2x2 pixels into one has none to average without the stride; timm's stand-in
            # would blur it and move it by half a pixel
            if isinstance(part, AvgPool2dSame) and part.stride == (1, 1):
                setattr(module, name, nn.Identity())
        if isinstance(module, nn.Conv2d) and max(module.dilation) > 1:
            module.dilation = (1, 1)
            if module.padding != (0, 0):  # else TensorFlow's, which is worked out at each call
                module.padding = (module.kernel_size[0] // 2, module.kernel_size[1] // 2)


def _drop_head(backbone: nn.Module) -> None:
    """Take away what only a classifier would use (ConvNeXt's last norm, say).

    Weights that no descriptor sees would never get a gradient, which halts distributed training, and layer-wise
    rates would count them as the last layer.
    """
    for name in _HEADS:
        part = getattr(backbone, name, None)
        if isinstance(part, nn.Module) and any(True for _ in part.parameters()):
            setattr(backbone, name, nn.Identity())


def _make_first_block_linear(backbone: nn.Module, name: str) -> None:
    try:
        norm = backbone.get_submodule("blocks.0.0.bn1")
        norm.get_submodule("act")
    except AttributeError:
        raise ValueError(
            f"model.linear_first_block: {name} has no activation at blocks.0.0.bn1; "
            "it is for EfficientNet-like backbones"
        ) from None
    norm.act = nn.Identity()
