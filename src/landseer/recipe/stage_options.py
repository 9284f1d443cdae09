"""The options of one stage of training.  A value that cannot be is refused here, by its key's name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from landseer.recipe.aspect_options import AspectOptions
from landseer.recipe.loss_options import LossOptions
from landseer.recipe.rules import require, require_folder_name


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationOptions:
    """``[stages.augmentation]``: what may happen to a training photo, in this order."""

    crop: float = 1.0
    """Smallest share of each side that a random crop keeps; 1 means no crop."""
    flip: float = 0.5
    """Share of the photos that are mirrored left and right."""
    shear_deg: float = 0.0
    """Largest angle by which upright lines lean, degrees to either side."""
    shear_probability: float = 1.0
    """Share of the photos that are sheared."""
    brightness: float = 0.0
    """Largest relative change of brightness."""
    contrast: float = 0.0
    """Largest relative change of contrast."""
    tone_probability: float = 1.0
    """Share of the photos whose brightness and contrast change."""
    rescale: float = 0.0
    """Largest relative change of the height and, apart, of the width of the window that fills the picture."""
    pad: float = 0.0
    """Black border before a crop back to the size, as a share of the side."""
    erase: float = 0.0
    """Share of the photos in which a box is erased, with the mean that the model subtracts."""
    erase_smallest: float = 0.02
    """Smallest share of the picture that a box covers."""
    erase_largest: float = 0.2
    """Largest share of the picture that a box covers."""
    erase_ratio: float = 0.3
    """A box is at least this and at most the inverse of this as high as it is wide."""

    def __post_init__(self) -> None:
        for key in ("flip", "shear_probability", "tone_probability", "erase"):
            require(0 <= getattr(self, key) <= 1, key, f"must lie in 0..1, not {getattr(self, key)}")
        for key in ("crop", "erase_ratio"):
            require(
                0 < getattr(self, key) <= 1, key, f"must be above 0 and at most 1, not {getattr(self, key)}"
            )
        require(
            0 <= self.shear_deg < 90, "shear_deg", f"must be at least 0 and below 90, not {self.shear_deg}"
        )
        for key in ("brightness", "contrast", "rescale", "pad"):
            require(
                0 <= getattr(self, key) < 1, key, f"must be at least 0 and below 1, not {getattr(self, key)}"
            )
        for key in ("erase_smallest", "erase_largest"):
            require(0 < getattr(self, key) < 1, key, f"must be above 0 and below 1, not {getattr(self, key)}")
        require(
            self.erase_smallest <= self.erase_largest,
            "erase_smallest",
            f"must not be above erase_largest ({self.erase_largest}), not {self.erase_smallest}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions:
    """``[[stages]]``: one stage of training, in order."""

    name: str
    """Shown in logs and reports."""
    collection: str = ""
    """Name of the collection it learns from, given as ``--also NAME=COLLECTION``; empty: the run's own."""
    subset: Literal["clean", "c2x", "full", "all"] = "clean"
    """``clean``: photos marked clean; ``c2x``: every training photo of a landmark of ``clean``; ``full``: every
    labelled training photo; ``all``: with the index and query photos of the same landmarks, which only a run
    that is scored elsewhere may learn from."""
    sampler: Literal["shuffle", "id-uniform", "continents"] = "shuffle"
    """``shuffle``: every photo once an epoch; ``id-uniform``: ``batch / photos_each`` landmarks a step, whatever
    their size; ``continents``: fixed shares of continents and, within each, of clean photos."""
    photos_each: int = 4
    """For ``id-uniform``: photos of each landmark in a step."""
    size: int = 224
    """Side of the square training input, pixels."""
    aspects: AspectOptions = field(default_factory=AspectOptions)
    epochs: int = 10
    """Passes over the subset."""
    judge: Literal["loss", "mAP"] = "loss"
    """What an epoch is judged by where photos are held out: their cross entropy, or mAP@100 among themselves (with
    the cross entropy logged beside it)."""
    patience: int = 0
    """Stop when no epoch was judged better for this many epochs, and keep the best weights; 0: never."""
    batch: int = 64
    """Photos a step."""
    accumulate: int = 1
    """Parts that a step's photos go through the model in, one after the other, to save memory."""
    optimiser: Literal["sgd", "adamw"] = "adamw"
    """The update rule."""
    momentum: float = 0.9
    """For SGD."""
    lr: float = 1e-3
    """Learning rate of the head at its peak."""
    neck_lr: float = 1.0
    """The pooling's and neck's learning rate as a multiple of ``lr``; 0 freezes them."""
    backbone_lr: float = 1.0
    """The backbone's learning rate as a multiple of ``lr``; 0 freezes it."""
    bias_lr: float = 1.0
    """The biases' learning rate as a multiple of what their layer has."""
    layer_decay: float = 1.0
    """Each block of the backbone learns at this multiple of the rate of the block behind it."""
    weight_decay: float = 1e-4
    """Decoupled for AdamW, L2 for SGD; on weight matrices only, never on biases, norms and the head."""
    pull: float = 0.0
    """How strongly backbone, pooling and neck are drawn back to where the stage began: a step moves them this times
    their rate of the way there (L2-SP, Li et al., ICML 2018, decoupled like AdamW's decay); 0: not at all."""
    clip: float = 0.0
    """Largest norm of the gradient of all weights together; 0: not clipped."""
    schedule: Literal["cosine", "constant", "inverse-time"] = "cosine"
    """The rate after the warm-up: a cosine down to ``final_lr``, its peak, or peak / (1 + ``lr_decay`` steps)."""
    span: tuple[float, ...] = (0.0, 1.0)
    """The part of the schedule that the stage goes through: (0.8, 1.0) goes on where a stage with (0.0, 0.8) ended."""
    warmup: float = 0.1
    """Share of the schedule in which the rate rises linearly."""
    warmup_start: float = 0.0
    """The rate that the warm-up rises from, as a share of the peak."""
    final_lr: float = 0.0
    """For ``cosine``: the rate it falls to, as a share of the peak."""
    lr_decay: float = 0.0
    """For ``inverse-time``: the decay a step."""
    keep: Literal["all", "all-but-head", "backbone"] = "all-but-head"
    """What goes on from the stage before.  ``all``: the head, too, each landmark's row by its id; new landmarks
    start as ``head_start`` says; ``backbone``: pooling, neck and head start anew."""
    head_start: Literal["random", "means"] = "random"
    """``means``: each landmark's row starts as the mean descriptor of its photos."""
    pooling: Literal["", "gem", "gap"] = ""
    """Pooling from this stage on; empty: as before."""
    gem_p: float | None = None
    """Exponent of the generalised mean from this stage on; left out: as before."""
    bn: Literal["normal", "frozen-statistics", "frozen"] = "normal"
    """BatchNorm of the backbone: trained as usual, with stored statistics, or with its scale and bias fixed, too."""
    compile: bool = False
    """Compile backbone, pooling and neck (``torch.compile``): faster steps after a slow first one."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """What the model computes in (the head and the loss stay in float32); ``fp16`` needs a CUDA device."""
    ema: float = 0.0
    """Decay a step of the running average of all weights, which is what the stage leaves; 0: none."""
    interpolate: float = 1.0
    """Final weights = (1 - a) those at the stage's start + a those at its end, with a given here."""
    loss: LossOptions = field(default_factory=LossOptions)
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)

    def __post_init__(self) -> None:
        require_folder_name(self.name)
        require(self.size >= 16, "size", f"must be at least 16, not {self.size}")
        for key in ("epochs", "batch", "accumulate", "photos_each"):
            require(getattr(self, key) >= 1, key, f"must be at least 1, not {getattr(self, key)}")
        require(self.lr > 0, "lr", f"must be above 0, not {self.lr}")
        for key in (
            "patience",
            "neck_lr",
            "backbone_lr",
            "bias_lr",
            "weight_decay",
            "pull",
            "clip",
            "lr_decay",
        ):
            require(getattr(self, key) >= 0, key, f"must not be negative, not {getattr(self, key)}")
        most = self.lr * max(self.neck_lr, self.backbone_lr) * max(1.0, self.bias_lr)
        near = not self.pull or self.pull * most <= 1
        require(near, "pull", f"at a rate of {most:g} a step would lead beyond the start")
        for key in ("warmup", "warmup_start", "final_lr", "interpolate"):
            require(0 <= getattr(self, key) <= 1, key, f"must lie in 0..1, not {getattr(self, key)}")
        for key in ("momentum", "ema"):
            require(
                0 <= getattr(self, key) < 1, key, f"must be at least 0 and below 1, not {getattr(self, key)}"
            )
        require(
            0 < self.layer_decay <= 1, "layer_decay", f"must be above 0 and at most 1, not {self.layer_decay}"
        )
        self._require_span()
        require(self.gem_p is None or self.gem_p > 0, "gem_p", f"must be above 0, not {self.gem_p}")
        require(self.accumulate <= self.batch, "accumulate", f"a step has {self.batch} photos, too few")
        require(
            not self.aspects.sizes or self.sampler == "shuffle",
            "sampler",
            f'batches of one shape are shuffled ones, so with aspects it must be "shuffle", not {self.sampler!r}',
        )
        if self.sampler == "id-uniform":
            parts = self.photos_each * self.accumulate
            require(
                self.batch % parts == 0,
                "batch",
                f"must be a multiple of photos_each times accumulate ({parts}), not {self.batch}",
            )

    def _require_span(self) -> None:
        rising = len(self.span) == 2 and 0 <= self.span[0] < self.span[1] <= 1
        require(rising, "span", f"needs two rising numbers in 0..1, not {list(self.span)}")
        require(
            tuple(self.span) == (0.0, 1.0) or self.schedule == "cosine",
            "span",
            f'is for schedule = "cosine", not {self.schedule!r}',
        )
