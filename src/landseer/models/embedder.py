"""The embedder: a photo's pixels in, one unit row out.  Preprocessing travels with the weights.

Axes: N photos, D descriptor components, C backbone channels.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own short name)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from landseer.models.backbone import (
    build_backbone,
    has_class_token,
    normalisation_of,
    only_size,
    split_tokens,
)
from landseer.models.pooling import GAP, GeM
from landseer.recipe import DescriptorOptions, ModelOptions
from landseer.recipe import fingerprint as fingerprint_of_options
from landseer.recipe.load import options_from
from landseer.storage import open_artifact, read_json, verify, writing


class Embedder(nn.Module):
    """Backbone, pooling, neck, unit norm.

    ``channels`` is the width of the pooled features, ``dim`` that of a descriptor; ``mean`` and ``std`` (RGB, of
    0..1 values) are those the weights were trained with.
    """

    backbone: Any  # timm's models share no type that tells what they have
    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        options: ModelOptions,
        backbone: nn.Module,
        *,
        source: str,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        if options.pooling in ("cls", "cls+gem") and not has_class_token(backbone):
            raise ValueError(f'model.pooling: {options.backbone} has no class token; use "gem" or "gap"')
        self.options = options
        self.source = source
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.backbone = backbone
        self.pooling = _pooling(options)
        self.channels = int(self.backbone.num_features) * (2 if options.pooling == "cls+gem" else 1)
        self.dim = self.channels if options.neck == "none" else options.dim
        self.neck = _neck(options, self.channels)
        # not parameters and not saved: facts of the preprocessing, kept beside the weights for their device
        self.register_buffer("_mean", torch.tensor(self.mean).view(1, 3, 1, 1) * 255.0, persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(1, 3, 1, 1) * 255.0, persistent=False)

    @property
    def size_multiple(self) -> int:
        """What a side of the input must be a multiple of, pixels (a ViT's patch; 1 for the rest)."""
        patch: Any = getattr(getattr(self.backbone, "patch_embed", None), "patch_size", 1)
        return int(patch if isinstance(patch, int) else patch[0])

    def require_size(self, size: int | tuple[int, int], where: str) -> None:
        """Refuse an input this backbone cannot take; *where* names the recipe's key.

        *size* is the side of a square or (width, height), pixels.
        """
        sides = (size, size) if isinstance(size, int) else size
        said = size if isinstance(size, int) else f"{size[0]} x {size[1]}"
        only = only_size(self.backbone)
        if only is not None and any(side != only for side in sides):
            raise ValueError(
                f"{where}: {self.options.backbone} takes {only} px and no other size, not {said}"
            )
        multiple = self.size_multiple
        if any(side % multiple for side in sides):
            fitting = [max(multiple, round(side / multiple) * multiple) for side in sides]
            near = fitting[0] if isinstance(size, int) else f"{fitting[0]} x {fitting[1]}"
            raise ValueError(
                f"{where}: {self.options.backbone} needs a multiple of {multiple}, not {said}; try {near}"
            )

    def scaled_size(self, size: tuple[int, int], scale: float, multiple: int = 0) -> tuple[int, int]:
        """(width, height) at which an input of *size* (width, height) is seen at *scale*, pixels.

        Without *multiple* each side is the nearest that the backbone takes.  With it each side is rounded down to a
        multiple of it, at scale 1 too, and is at least 4 of it: 32 gives the 128 px of Yokoo et al. (2019).
        Raises ``ValueError`` for a size the backbone cannot take.
        """
        if multiple:
            # 320 * 0.7 may fall short of 224 by a rounding
            steps = [max(4, math.floor(side * scale / multiple + 1e-9)) for side in size]
            scaled = steps[0] * multiple, steps[1] * multiple
            self.require_size(scaled, "descriptors.scale_multiple")
        elif scale == 1.0:
            scaled = size
        else:
            patch = self.size_multiple
            steps = [max(1, round(side * scale / patch)) for side in size]
            scaled = steps[0] * patch, steps[1] * patch
            self.require_size(scaled, "descriptors.scales")
        return scaled

    def pooled(self, pixels: Tensor) -> Tensor:
        """Pooled features ``[N, channels]``, before the neck, of normalised pixels ``[N, 3, H, W]``."""
        positions, token = split_tokens(self.backbone, self.backbone.forward_features(pixels))
        if self.options.pooling in ("gem", "gap"):
            return self.pooling(positions)
        assert token is not None, "a backbone without a class token was refused"
        if self.options.pooling == "cls":
            return token.float()
        # each half made unit, as SALAD does with its class token (Izquierdo and Civera, CVPR 2024) and the
        # ensembles do with their parts: else the longer half alone would decide, and which one is longer
        # follows from the weights and from p, not from what the halves know
        halves = (token.float(), self.pooling(positions))
        return torch.cat([F.normalize(half, dim=1) for half in halves], dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Unit descriptors ``[N, D]`` of normalised pixels ``[N, 3, H, W]``."""
        return F.normalize(self.neck(self.pooled(pixels)).float(), dim=1)

    def normalise(self, photos_NHWC: Tensor | np.ndarray) -> Tensor:
        """Pixels ``[N, 3, H, W]`` ready for ``forward`` from RGB bytes ``[N, H, W, 3]``."""
        photos = torch.as_tensor(photos_NHWC).to(self._mean.device)
        # a copy always: the next line works in place, and the caller's photos are the caller's
        pixels = photos.permute(0, 3, 1, 2).to(torch.float32, copy=True, memory_format=torch.channels_last)
        return pixels.sub_(self._mean).div_(self._std)

    @torch.inference_mode()
    def describe(
        self,
        photos_NHWC: Tensor | np.ndarray,
        *,
        scales: Sequence[float] = (1.0,),
        scale_average: Literal["unit", "raw"] = "unit",
        scale_multiple: int = 0,
        flip: bool = False,
    ) -> np.ndarray:
        """Unit rows float32 ``[N, D]`` of RGB bytes ``[N, H, W, 3]``; leaves the embedder in evaluation mode.

        With several *scales* the rows of each are averaged, ``unit`` or ``raw`` as the neck gives them, and made
        unit; with *flip* so are those of the photos mirrored left and right, at every scale.  ``scaled_size`` says
        how large the photos are at each.  Raises ``ValueError`` for a scale the backbone cannot take.
        """
        if self.training:
            self.eval()
        pixels = self.normalise(photos_NHWC)
        seen = self._seen(pixels, scales, scale_multiple, flip)
        if scale_average == "raw":
            rows = torch.stack([self.neck(self.pooled(photos)).float() for photos in seen])
        else:
            rows = torch.stack([self.forward(photos) for photos in seen])
        unit = scale_average == "unit" and len(rows) == 1
        return (rows[0] if unit else F.normalize(rows.mean(dim=0), dim=1)).cpu().numpy()

    def _seen(self, pixels: Tensor, scales: Sequence[float], multiple: int, flip: bool) -> Iterator[Tensor]:
        """The input in every way in which it is looked at, one after the other, so that no more are in memory."""
        for scale in scales:
            photos = self._rescaled(pixels, scale, multiple)
            yield photos
            if flip:
                yield photos.flip(3).contiguous(memory_format=torch.channels_last)

    def _rescaled(self, pixels: Tensor, scale: float, multiple: int) -> Tensor:
        height, width = pixels.shape[2:]
        to_width, to_height = self.scaled_size((width, height), scale, multiple)
        if (to_width, to_height) == (width, height):
            return pixels
        # without it what shrinks would alias
        antialias = to_width < width or to_height < height
        resized = F.interpolate(
            pixels, size=(to_height, to_width), mode="bicubic", align_corners=False, antialias=antialias
        )
        return resized.contiguous(memory_format=torch.channels_last)

    @property
    def fingerprint(self) -> str:
        """Identity of what the embedder computes: its options, preprocessing and every weight's bytes."""
        digest = hashlib.sha256(
            json.dumps([fingerprint_of_options(self.options), self.mean, self.std]).encode()
        )
        for key, value in sorted(self.state_dict().items()):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def build_embedder(options: ModelOptions, *, weights: Path | None = None, seed: int = 0) -> Embedder:
    """An embedder as the recipe describes it, before any training.

    *weights* is the FILE of ``--weights``; *seed* decides what starts at random.
    Raises ``ValueError`` where the backbone or its weights cannot be had.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone, source = build_backbone(options, weights=weights)
        mean, std = normalisation_of(backbone)
        embedder = Embedder(
            options, backbone, source=source, mean=options.mean or mean, std=options.std or std
        )
    return _ready(embedder)


def remade(
    embedder: Embedder,
    *,
    pooling: Literal["gem", "gap"] | None = None,
    gem_p: float | None = None,
    new_neck: bool = False,
    seed: int = 0,
) -> Embedder:
    """A copy of *embedder* with another pooling or exponent, or with pooling and neck as before any training.

    What is not named stays, an exponent that was learned included.  *seed* decides how a new neck starts.
    Raises ``ValueError`` where the neck stays but the pooling has another width.
    """
    options = replace(
        embedder.options,
        pooling=pooling or embedder.options.pooling,
        gem_p=gem_p or embedder.options.gem_p,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Embedder(
            options,
            copy.deepcopy(embedder.backbone),
            source=embedder.source,
            mean=embedder.mean,
            std=embedder.std,
        )
    made.to(embedder._mean.device)
    if not new_neck and options.neck != "none" and made.channels != embedder.channels:
        raise ValueError(
            f"pooling: {options.pooling!r} gives {made.channels} components and the neck was made for "
            f"{embedder.channels}, those of {embedder.options.pooling!r}; keep the pooling"
        )
    if not new_neck:
        made.neck.load_state_dict(embedder.neck.state_dict())
        if options.pooling == embedder.options.pooling and gem_p is None:
            made.pooling.load_state_dict(embedder.pooling.state_dict())
    return _ready(made)


def save_embedder(
    embedder: Embedder,
    path: Path,
    *,
    made_by: Mapping[str, object],
    descriptors: DescriptorOptions | None = None,
) -> None:
    """Write a model folder: ``weights.safetensors`` and ``model.json``.

    *descriptors* says how the embedder wants to see photos; ``preset_of`` reads it back.
    """
    with writing(path, "model", made_by={**made_by, "embedder": embedder.fingerprint}) as part:
        state = {key: value.detach().cpu().contiguous() for key, value in embedder.state_dict().items()}
        save_file(state, part / "weights.safetensors")
        facts: dict[str, object] = {
            "options": asdict(embedder.options),
            "source": embedder.source,
            "mean": embedder.mean,
            "std": embedder.std,
        }
        if descriptors is not None:
            facts["descriptors"] = asdict(descriptors)
        (part / "model.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


def load_embedder(path: Path) -> Embedder:
    """The embedder of a model folder; nothing else is needed, no network and no original weights."""
    manifest = open_artifact(path, "model")
    verify(path, manifest)
    facts = read_json(path / "model.json")
    options = options_from(ModelOptions, facts["options"])
    with torch.random.fork_rng(devices=[]):  # what starts at random here is overwritten below
        backbone, _ = build_backbone(replace(options, weights="none"), weights=None)
        embedder = Embedder(options, backbone, source=facts["source"], mean=facts["mean"], std=facts["std"])
    embedder.load_state_dict(load_file(path / "weights.safetensors"))
    return _ready(embedder)


def preset_of(path: Path) -> DescriptorOptions:
    """How the embedder of a model folder wants to see photos; the defaults where the folder does not say."""
    verify(path, open_artifact(path, "model"), "model.json")
    return options_from(DescriptorOptions, read_json(path / "model.json").get("descriptors", {}))


def _ready(embedder: Embedder) -> Embedder:
    # convolutions on a CPU are faster with the channels innermost
    return embedder.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def _pooling(options: ModelOptions) -> nn.Module:
    if options.pooling in ("gem", "cls+gem"):
        return GeM(options.gem_p, learned=options.gem_learned)
    return GAP() if options.pooling == "gap" else nn.Identity()


def _neck(options: ModelOptions, channels: int) -> nn.Module:
    if options.neck == "none":
        return nn.Identity()
    fc = nn.Linear(channels, options.dim, bias=options.neck_bias)
    nn.init.xavier_uniform_(fc.weight)
    if fc.bias is not None:
        nn.init.zeros_(fc.bias)
    if options.neck == "fc-swish":
        return nn.Sequential(fc, nn.SiLU())
    if options.neck == "fc-bn":
        norm = nn.BatchNorm1d(options.dim)
        norm.bias.requires_grad_(not options.freeze_bn_bias)
        return nn.Sequential(fc, norm)
    return nn.Sequential(fc)
