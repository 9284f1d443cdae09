"""Every option of a run, one dataclass a room.  A value that cannot be is refused here, by its key's name.

A field's meaning stands in the string under it; ``docs/recipes.md`` is generated from these and from those of
``stage_options``, ``loss_options`` and ``aspect_options``.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import Literal

from landseer.recipe.aspect_options import AspectOptions
from landseer.recipe.matching_options import MatchingOptions
from landseer.recipe.recognition_options import RecognitionOptions
from landseer.recipe.reranking_options import BankOptions, RerankingOptions
from landseer.recipe.rules import require, require_folder_name
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
    ibn: bool = False
    """IBN-a: the first norm of each block in stages 1-3 is half instance norm, half BatchNorm (ResNet-like
    backbones)."""
    pooling: Literal["gem", "gap", "cls", "cls+gem"] = "cls"
    """``gem``: generalised mean; ``gap``: average; ``cls``: a ViT's class token; ``cls+gem``: class token and
    generalised mean of the patches side by side, each made unit, twice as wide."""
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
class WhiteningOptions:
    """``[descriptors.whitening]``: a linear map of the rows, fitted on the clean training photos at the end of
    training.  Of an ensemble the joined rows are whitened, not those of its members.
    """

    kind: Literal["none", "pca", "learned"] = "none"
    """``pca``: principal axes of all photos, each scaled to the same variance; ``learned``: what differs between
    photos of one landmark is whitened, then the principal axes are taken."""
    dim: int = 0
    """Components that are kept, the strongest; 0: as many as the photos span."""
    ridge: float = 1.0
    """Added to each axis' variance (``learned``: to the scatter within landmarks) before it is scaled, as a multiple
    of the mean one; the larger it is, the less the axes are scaled.  0: as published, for very many photos."""
    scale: bool = True
    """``false``, for ``pca`` only: the axes are turned and not scaled, which changes cosines by the mean alone."""

    def __post_init__(self) -> None:
        require(self.dim >= 0, "dim", f"must not be negative, not {self.dim}")
        require(self.ridge >= 0, "ridge", f"must not be negative, not {self.ridge}")
        require(
            self.scale or self.kind != "learned",
            "scale",
            'false is for kind = "pca"; "learned" always scales',
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptorOptions:
    """``[descriptors]``: from photos to rows."""

    size: int = 224
    """Side of the square input, pixels; photos are squashed to it."""
    scales: tuple[float, ...] = (1.0,)
    """The input is also seen at these multiples of its size, and the rows are averaged."""
    scale_average: Literal["unit", "raw"] = "unit"
    """Of several scales: what is averaged, unit rows or rows as the neck gives them; the mean is made unit."""
    scale_multiple: int = 0
    """Sides at every scale are rounded down to a multiple of this, and are at least 4 of it (32: at least 128 pixels);
    0: they are rounded to the nearest that the backbone takes, and kept at scale 1."""
    flip: bool = False
    """Photos are also seen mirrored left and right, at every scale, and the rows are averaged as those of scales."""
    aspects: AspectOptions = field(default_factory=AspectOptions)
    renormalise: bool = True
    """Of an ensemble: the concatenated rows are made unit again.  Whitened rows always are."""
    member_weights: Literal["given", "fitted"] = "given"
    """Of an ensemble.  ``fitted``: found, from the given ones, by mAP@100 of the photos held out of training by
    ``[data] validation = "share"``."""
    whitening: WhiteningOptions = field(default_factory=WhiteningOptions)
    batch: int = 32
    """Photos a forward pass; part of the identity, since it may change the last bit."""
    dtype: Literal["float32", "float16"] = "float32"
    """How rows are stored."""

    def __post_init__(self) -> None:
        require(self.size >= 16, "size", f"must be at least 16, not {self.size}")
        require(self.batch >= 1, "batch", f"must be at least 1, not {self.batch}")
        require(
            self.scale_multiple >= 0, "scale_multiple", f"must not be negative, not {self.scale_multiple}"
        )
        require(bool(self.scales), "scales", "needs at least one number, say [1.0]")
        require(all(0 < scale <= 8 for scale in self.scales), "scales", "must lie above 0 and at most 8")

    @property
    def fitted(self) -> bool:
        """Whether rows depend on what a run fits at the end of training: a whitening, or weights of members."""
        return self.whitening.kind != "none" or self.member_weights == "fitted"


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
    every_stage: bool = False
    """Score the model after each stage, too, not only after the last."""
    scored: Literal["here", "elsewhere"] = "here"
    """``elsewhere``: what counts is scored on other photos than this collection's, so a stage may train on
    ``all``; the numbers of this collection are then no measure of anything."""

    def __post_init__(self) -> None:
        require(self.resamples >= 100, "resamples", f"must be at least 100, not {self.resamples}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberOptions:
    """``[[members]]``: one model of an ensemble."""

    name: str
    """Shown in logs and reports."""
    weight: float = 1.0
    """What its unit rows are multiplied by before all members' rows are concatenated."""
    stages: tuple[str, ...] = ()
    """The stages it goes through, by name, in this order."""
    model: ModelOptions = field(default_factory=ModelOptions)
    """``[members.model]``: what is not said here is as in ``[model]``."""
    descriptors: DescriptorOptions = field(default_factory=DescriptorOptions)
    """``[members.descriptors]``: what is not said here is as in ``[descriptors]``."""

    def __post_init__(self) -> None:
        require_folder_name(self.name)
        require(self.weight > 0, "weight", f"must be above 0, not {self.weight}")
        require(len(set(self.stages)) == len(self.stages), "stages", "the same stage stands there twice")


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
    """In order.  ``like = "NAME"`` takes over what an earlier stage says, except its name."""
    descriptors: DescriptorOptions = field(default_factory=DescriptorOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    bank: BankOptions = field(default_factory=BankOptions)
    reranking: tuple[RerankingOptions, ...] = ()
    """Methods, in order; each works on what the one before it left."""
    matching: MatchingOptions = field(default_factory=MatchingOptions)
    """How photos are matched point by point, for ``method = "spatial"``."""
    recognition: RecognitionOptions = field(default_factory=RecognitionOptions)
    evaluation: EvaluationOptions = field(default_factory=EvaluationOptions)
    members: tuple[MemberOptions, ...] = ()
    """Each member goes through stages of its own choice, and their rows are concatenated."""

    def __post_init__(self) -> None:
        require(bool(self.title), "title", "may not be empty")
        require(self.seed >= 0, "seed", f"must not be negative, not {self.seed}")
        names = [stage.name for stage in self.stages]
        require(len(set(names)) == len(names), "stages", "two stages have the same name")
        self._require_members(names)
        self._require_combination()
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
            require(
                stage.judge == "loss" or self.data.validation == "share",
                f"stages[{number}].judge",
                '"mAP" asks and answers with held-out photos of one landmark; say [data] validation = "share"',
            )

    def _require_members(self, stages: list[str]) -> None:
        members = [member.name for member in self.members]
        require(len(set(members)) == len(members), "members", "two members have the same name")
        for member in self.members:
            for stage in member.stages:
                near = difflib.get_close_matches(stage, stages, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(stages) or 'none'}"
                require(stage in stages, f"members.{member.name}.stages", f"no stage {stage!r}; {hint}")
        gone_through = {stage for member in self.members for stage in member.stages}
        idle = [stage for stage in stages if self.members and stage not in gone_through]
        require(not idle, "stages", f"no member goes through {', '.join(map(repr, idle))}")

    def _require_combination(self) -> None:
        whole, unsaid = self.descriptors, DescriptorOptions()
        for member in self.members:
            for key in ("whitening", "member_weights"):
                # taken over from [descriptors] is as good as not said
                require(
                    getattr(member.descriptors, key) in (getattr(whole, key), getattr(unsaid, key)),
                    f"members.{member.name}.descriptors.{key}",
                    "is of the ensemble and not of a member; say it in [descriptors]",
                )
        require(
            whole.member_weights == "given" or (len(self.members) > 1 and self.data.validation == "share"),
            "descriptors.member_weights",
            '"fitted" needs at least two [[members]], and photos that none was trained on: '
            'say [data] validation = "share"',
        )
        dims = [part.model.dim for part in self.parts if part.model.neck != "none"]
        require(
            len(dims) < len(self.parts) or whole.whitening.dim <= sum(dims),
            "descriptors.whitening.dim",
            f"the rows have only {sum(dims)} components, not {whole.whitening.dim}",
        )

    @property
    def parts(self) -> tuple[MemberOptions, ...]:
        """The members, or the one model that goes through all stages as a member called ``model``.

        Their ``descriptors`` say how each sees photos, and nothing of what is done with the rows of all.
        """
        alone = MemberOptions(
            name="model",
            stages=tuple(stage.name for stage in self.stages),
            model=self.model,
            descriptors=self.descriptors,
        )
        unsaid = DescriptorOptions()
        return tuple(
            replace(
                part,
                descriptors=replace(
                    part.descriptors, whitening=unsaid.whitening, member_weights=unsaid.member_weights
                ),
            )
            for part in self.members or (alone,)
        )

    def stages_of(self, member: MemberOptions) -> tuple[StageOptions, ...]:
        """The stages that *member* goes through, in its order."""
        by_name = {stage.name: stage for stage in self.stages}
        return tuple(by_name[name] for name in member.stages)
