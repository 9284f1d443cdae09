"""Every option of a run, one dataclass a room.  A value that cannot be is refused here, by its key's name.

A field's meaning stands in the string under it; ``docs/recipes.md`` is generated from these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


def _require(holds: bool, key: str, rule: str) -> None:
    if not holds:
        raise ValueError(f"{key}: {rule}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """``[model]``: backbone + pooling + neck + unit norm."""

    backbone: str = "vit_small_patch14_dinov2.lvd142m"
    """A timm model name."""
    weights: Literal["hub", "file", "none"] = "hub"
    """``hub``: timm's own, downloaded once; ``file``: the FILE given as ``--weights``; ``none``: random."""
    linear_first_block: bool = False
    """Drop the activation after the very first block (MobileNet-EdgeTPU weights trained without it)."""
    pad_type: Literal["", "same"] = ""
    """``same``: TensorFlow's padding, for weights that came from there."""
    last_stride: Literal[1, 2] = 2
    """1 keeps the last stage at twice the resolution (ResNet-like backbones)."""
    pooling: Literal["gem", "gap", "cls"] = "cls"
    """``gem``: generalised mean; ``gap``: average; ``cls``: a ViT's class token."""
    gem_p: float = 3.0
    """Exponent of the generalised mean."""
    gem_learned: bool = False
    """Train the exponent."""
    neck: Literal["none", "fc", "fc-bn", "fc-swish"] = "none"
    """What follows the pooling: nothing, FC, FC + BatchNorm, FC + swish."""
    neck_bias: bool = True
    """Whether the FC has a bias."""
    neck_start: Literal["random", "whitening"] = "random"
    """``whitening``: the FC starts as the discriminative whitening of the training photos' features."""
    neck_ridge: float = 1.0
    """For ``whitening``: added to the within-landmark scatter, as a multiple of its mean eigenvalue."""
    dim: int = 512
    """Components of a descriptor; without a neck the backbone's own number of channels holds."""
    freeze_bn_bias: bool = False
    """Keep the neck BatchNorm's bias at 0."""
    mean: tuple[float, ...] = ()
    """RGB mean subtracted after scaling to 0..1; empty: what the weights say."""
    std: tuple[float, ...] = ()
    """RGB divisor; empty: what the weights say."""
    substitute_for: str = ""
    """The backbone or weights this one stands in for, shown wherever its numbers are."""

    def __post_init__(self) -> None:
        _require(bool(self.backbone), "backbone", "may not be empty; give a timm model name")
        _require(self.gem_p > 0, "gem_p", f"must be above 0, not {self.gem_p}")
        _require(self.neck_ridge > 0, "neck_ridge", f"must be above 0, not {self.neck_ridge}")
        _require(
            self.neck_start == "random" or self.neck in ("fc", "fc-bn"),
            "neck_start",
            f'whitening is a linear map, so it needs neck = "fc" or "fc-bn", not {self.neck!r}',
        )
        _require(self.dim >= 1, "dim", f"must be at least 1, not {self.dim}")
        _require(len(self.mean) in (0, 3), "mean", "needs three numbers (R, G, B) or none")
        _require(len(self.std) in (0, 3), "std", "needs three numbers (R, G, B) or none")
        _require(all(value > 0 for value in self.std), "std", "must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """``[data]``: which training photos of the collection a run may see."""

    min_photos: int = 2
    """Landmarks with fewer training photos are left out of training."""

    def __post_init__(self) -> None:
        _require(self.min_photos >= 1, "min_photos", f"must be at least 1, not {self.min_photos}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions:
    """``[[stages]]``: one stage of training, in order."""

    name: str
    """Shown in logs and reports."""
    subset: Literal["clean", "full"] = "clean"
    """``clean``: photos marked clean; ``full``: every labelled training photo."""
    size: int = 224
    """Side of the square training input, pixels."""
    epochs: int = 10
    """Passes over the subset."""
    batch: int = 64
    """Photos a step."""
    optimiser: Literal["sgd", "adamw"] = "adamw"
    """The update rule; SGD has momentum 0.9."""
    lr: float = 1e-3
    """Learning rate of the head at its peak."""
    neck_lr: float = 1.0
    """The pooling's and neck's learning rate as a multiple of ``lr``; 0 freezes them."""
    backbone_lr: float = 1.0
    """The backbone's learning rate as a multiple of ``lr``; 0 freezes it."""
    weight_decay: float = 1e-4
    """Decoupled for AdamW, L2 for SGD; on weight matrices only, never on biases, norms and the head."""
    warmup: float = 0.1
    """Share of all steps in which the rate rises linearly; a cosine to 0 follows."""
    head_start: Literal["random", "means"] = "random"
    """``means``: each landmark's row starts as the mean descriptor of its photos."""
    scale: float = 0.0
    """Scale s of the cosine softmax; 0 means AdaCos' fixed sqrt(2) ln(C - 1)."""
    margin: float = 0.0
    """Subtracted from the target cosine (CosFace)."""
    bn: Literal["normal", "frozen-statistics"] = "normal"
    """BatchNorm of the backbone: trained as usual, or with stored statistics."""
    flip: bool = True
    """Mirror half of the photos."""
    crop: float = 1.0
    """Smallest share of each side that a random crop keeps; 1 means no crop."""
    jitter: float = 0.0
    """Largest relative change of brightness and contrast."""
    interpolate: float = 1.0
    """Final weights = (1 - a) those at the stage's start + a those at its end, with a given here."""

    def __post_init__(self) -> None:
        _require(bool(self.name), "name", "may not be empty")
        _require(self.size >= 16, "size", f"must be at least 16, not {self.size}")
        for key in ("epochs", "batch"):
            _require(getattr(self, key) >= 1, key, f"must be at least 1, not {getattr(self, key)}")
        _require(self.lr > 0, "lr", f"must be above 0, not {self.lr}")
        for key in ("neck_lr", "backbone_lr", "weight_decay", "scale", "jitter"):
            _require(getattr(self, key) >= 0, key, f"must not be negative, not {getattr(self, key)}")
        for key in ("warmup", "interpolate", "margin"):
            _require(0 <= getattr(self, key) <= 1, key, f"must lie in 0..1, not {getattr(self, key)}")
        _require(0 < self.crop <= 1, "crop", f"must be above 0 and at most 1, not {self.crop}")
        _require(self.jitter < 1, "jitter", f"must be below 1, not {self.jitter}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptorOptions:
    """``[descriptors]``: from photos to rows."""

    size: int = 224
    """Side of the square input, pixels; photos are squashed to it."""
    scales: tuple[float, ...] = (1.0,)
    """The input is also seen at these multiples of ``size``; unit rows are averaged."""
    batch: int = 32
    """Photos a forward pass; part of the identity, since it may change the last bit."""
    dtype: Literal["float32", "float16"] = "float32"
    """How rows are stored."""

    def __post_init__(self) -> None:
        _require(self.size >= 16, "size", f"must be at least 16, not {self.size}")
        _require(self.batch >= 1, "batch", f"must be at least 1, not {self.batch}")
        _require(bool(self.scales), "scales", "needs at least one number, say [1.0]")
        _require(all(0 < scale <= 8 for scale in self.scales), "scales", "must lie above 0 and at most 8")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """``[search]``: how answers are found."""

    k: int = 100
    """Answers a query."""

    def __post_init__(self) -> None:
        _require(self.k >= 1, "k", f"must be at least 1, not {self.k}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """``[evaluation]``: what the run is scored by."""

    protocol: Literal["gldv2"] = "gldv2"
    """``gldv2``: mAP@100 and GAP as the Google Landmark challenges score them."""
    resamples: int = 2000
    """Bootstrap resamples behind each interval."""

    def __post_init__(self) -> None:
        _require(self.resamples >= 100, "resamples", f"must be at least 100, not {self.resamples}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One file, a whole run."""

    title: str
    """Named in reports and results."""
    seed: int = 0
    """Every random choice follows from it."""
    model: ModelOptions = field(default_factory=ModelOptions)
    data: DataOptions = field(default_factory=DataOptions)
    stages: tuple[StageOptions, ...] = ()
    descriptors: DescriptorOptions = field(default_factory=DescriptorOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)

    def __post_init__(self) -> None:
        _require(bool(self.title), "title", "may not be empty")
        _require(self.seed >= 0, "seed", f"must not be negative, not {self.seed}")
        names = [stage.name for stage in self.stages]
        _require(len(set(names)) == len(names), "stages", "two stages have the same name")
