"""The embedder: a photo's pixels in, one unit row out.  Preprocessing travels with the weights.

Axes: N photos, D descriptor components, C backbone channels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (torch's own short name)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from landseer.models.backbone import build_backbone, normalisation_of, split_tokens
from landseer.models.pooling import GAP, GeM
from landseer.recipe import ModelOptions
from landseer.recipe.load import options_from
from landseer.storage import open_artifact, read_json, verify, writing


class Embedder(nn.Module):
    """Backbone, pooling, neck, unit norm.

    ``mean`` and ``std`` (RGB, of 0..1 values) are those the weights were trained with.
    """

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
        self.options = options
        self.source = source
        self.mean, self.std = tuple(mean), tuple(std)
        self.backbone = backbone
        self.pooling = _pooling(options)
        channels = int(backbone.num_features)
        self.dim = channels if options.neck == "none" else options.dim
        self.neck = _neck(options, channels)
        # not parameters and not saved: facts of the preprocessing, kept beside the weights for their device
        self.register_buffer("_mean", torch.tensor(self.mean).view(1, 3, 1, 1) * 255.0, persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(1, 3, 1, 1) * 255.0, persistent=False)

    @property
    def size_multiple(self) -> int:
        """What a side of the input must be a multiple of, pixels (a ViT's patch; 1 for the rest)."""
        patch = getattr(getattr(self.backbone, "patch_embed", None), "patch_size", 1)
        return int(patch if isinstance(patch, int) else patch[0])

    def require_size(self, size: int, where: str) -> None:
        """Refuse an input *size* this backbone cannot take; *where* names the recipe's key."""
        multiple = self.size_multiple
        if size % multiple:
            near = max(multiple, round(size / multiple) * multiple)
            raise ValueError(
                f"{where}: {self.options.backbone} needs a multiple of {multiple}, not {size}; try {near}"
            )

    def pooled(self, pixels: Tensor) -> Tensor:
        """Pooled features ``[N, C]``, before the neck, of normalised pixels ``[N, 3, H, W]``."""
        positions, token = split_tokens(self.backbone, self.backbone.forward_features(pixels))
        if self.options.pooling != "cls":
            return self.pooling(positions)
        if token is None:
            raise ValueError(f'model.pooling: {self.options.backbone} has no class token; use "gem" or "gap"')
        return token.float()

    def forward(self, pixels: Tensor) -> Tensor:
        """Unit descriptors ``[N, D]`` of normalised pixels ``[N, 3, H, W]``."""
        return F.normalize(self.neck(self.pooled(pixels)).float(), dim=1)

    def normalise(self, photos_NHWC: Tensor | np.ndarray) -> Tensor:
        """Pixels ``[N, 3, H, W]`` ready for ``forward`` from RGB bytes ``[N, H, W, 3]``."""
        photos = torch.as_tensor(photos_NHWC).to(self._mean.device)
        pixels = photos.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
        return pixels.sub_(self._mean).div_(self._std)

    @torch.inference_mode()
    def describe(self, photos_NHWC: Tensor | np.ndarray, *, scales: Sequence[float] = (1.0,)) -> np.ndarray:
        """Unit rows float32 ``[N, D]`` of RGB bytes ``[N, H, W, 3]``; leaves the embedder in evaluation mode.

        With several *scales* the unit rows of each are averaged and made unit again.
        """
        if self.training:
            self.eval()
        pixels = self.normalise(photos_NHWC)
        rows = torch.stack([self.forward(_rescaled(pixels, scale, self.size_multiple)) for scale in scales])
        unit = rows[0] if len(scales) == 1 else F.normalize(rows.mean(dim=0), dim=1)
        return unit.cpu().numpy()

    @property
    def fingerprint(self) -> str:
        """Identity of what the embedder computes: its options, preprocessing and every weight's bytes."""
        digest = hashlib.sha256(
            json.dumps([asdict(self.options), self.mean, self.std], sort_keys=True).encode()
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
    return embedder.to(memory_format=torch.channels_last).eval()


def save_embedder(embedder: Embedder, path: Path, *, made_by: Mapping[str, object]) -> None:
    """Write a model folder: ``weights.safetensors`` and ``model.json``."""
    with writing(path, "model", made_by={**made_by, "embedder": embedder.fingerprint}) as part:
        state = {key: value.detach().cpu().contiguous() for key, value in embedder.state_dict().items()}
        save_file(state, part / "weights.safetensors")
        facts = {
            "options": asdict(embedder.options),
            "source": embedder.source,
            "mean": embedder.mean,
            "std": embedder.std,
        }
        (part / "model.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


def load_embedder(path: Path) -> Embedder:
    """The embedder of a model folder; nothing else is needed, no network and no original weights."""
    manifest = open_artifact(path, "model")
    verify(path, manifest)
    facts = read_json(path / "model.json")
    options = options_from(ModelOptions, facts["options"])
    backbone, _ = build_backbone(replace(options, weights="none"), weights=None)
    embedder = Embedder(options, backbone, source=facts["source"], mean=facts["mean"], std=facts["std"])
    embedder.load_state_dict(load_file(path / "weights.safetensors"))
    return embedder.to(memory_format=torch.channels_last).eval()


def _pooling(options: ModelOptions) -> nn.Module:
    if options.pooling == "gem":
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


def _rescaled(pixels: Tensor, scale: float, multiple: int) -> Tensor:
    if scale == 1.0:
        return pixels
    size = [max(1, round(side * scale / multiple)) * multiple for side in pixels.shape[2:]]
    resized = F.interpolate(pixels, size=size, mode="bicubic", align_corners=False, antialias=scale < 1)
    return resized.contiguous(memory_format=torch.channels_last)
