"""Every option of a run, one dataclass a room.  A value that cannot be is refused here, by its key's name.

A field's meaning stands in the string under it; ``docs/recipes.md`` is generated from these and from those of
``stage_options`` and ``loss_options``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from landseer.recipe.rules import require
from landseer.recipe.stage_options import StageOptions


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
        require(bool(self.backbone), "backbone", "may not be empty; give a timm model name")
        require(self.gem_p > 0, "gem_p", f"must be above 0, not {self.gem_p}")
        require(self.neck_ridge > 0, "neck_ridge", f"must be above 0, not {self.neck_ridge}")
        require(
            self.neck_start == "random" or self.neck in ("fc", "fc-bn"),
            "neck_start",
            f'whitening is a linear map, so it needs neck = "fc" or "fc-bn", not {self.neck!r}',
        )
        require(self.dim >= 1, "dim", f"must be at least 1, not {self.dim}")
        require(len(self.mean) in (0, 3), "mean", "needs three numbers (R, G, B) or none")
        require(len(self.std) in (0, 3), "std", "needs three numbers (R, G, B) or none")
        require(all(value > 0 for value in self.std), "std", "must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """``[data]``: which training photos of the collection a run may see, and which it only watches."""

    min_photos: int = 2
    """Landmarks with fewer training photos are left out of training."""
    validation: Literal["none", "one-each", "share"] = "none"
    """Photos that no stage trains on, for the validation loss.  ``one-each``: one of each landmark with at least
    4 clean training photos; ``share``: ``validation_share`` of each landmark's clean training photos, rounded down."""
    validation_share: float = 0.2
    """For ``share``: which share of each landmark."""

    def __post_init__(self) -> None:
        require(self.min_photos >= 1, "min_photos", f"must be at least 1, not {self.min_photos}")
        share = self.validation_share
        require(0 < share < 1, "validation_share", f"must be above 0 and below 1, not {share}")


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
        require(self.size >= 16, "size", f"must be at least 16, not {self.size}")
        require(self.batch >= 1, "batch", f"must be at least 1, not {self.batch}")
        require(bool(self.scales), "scales", "needs at least one number, say [1.0]")
        require(all(0 < scale <= 8 for scale in self.scales), "scales", "must lie above 0 and at most 8")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """``[search]``: how answers are found."""

    k: int = 100
    """Answers a query."""

    def __post_init__(self) -> None:
        require(self.k >= 1, "k", f"must be at least 1, not {self.k}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """``[evaluation]``: what the run is scored by."""

    protocol: Literal["gldv2"] = "gldv2"
    """``gldv2``: mAP@100 and GAP as the Google Landmark challenges score them."""
    resamples: int = 2000
    """Bootstrap resamples behind each interval."""
    scored: Literal["here", "elsewhere"] = "here"
    """``elsewhere``: what counts is scored on other photos than this collection's, so a stage may train on
    ``all``; the numbers of this collection are then no measure of anything."""

    def __post_init__(self) -> None:
        require(self.resamples >= 100, "resamples", f"must be at least 100, not {self.resamples}")


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
        require(bool(self.title), "title", "may not be empty")
        require(self.seed >= 0, "seed", f"must not be negative, not {self.seed}")
        names = [stage.name for stage in self.stages]
        require(len(set(names)) == len(names), "stages", "two stages have the same name")
        for number, stage in enumerate(self.stages):
            require(
                stage.subset != "all" or self.evaluation.scored == "elsewhere",
                f"stages[{number}].subset",
                '"all" trains on the index and query photos that this run is scored on; use "full", '
                'or say [evaluation] scored = "elsewhere"',
            )
            require(
                stage.patience == 0 or self.data.validation != "none",
                f"stages[{number}].patience",
                'needs photos to validate on; say [data] validation = "one-each" or "share"',
            )
