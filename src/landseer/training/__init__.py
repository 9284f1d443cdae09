"""Training: stages of a recipe, from a collection's training photos only, crash-proof."""

from landseer.training.folder import (
    Stage,
    load_losses,
    load_stage_head,
    load_stage_model,
    load_validation,
    save_stage,
)
from landseer.training.head import KeptHead
from landseer.training.log import Callback, Entry, tensorboard_callback
from landseer.training.neck import start_neck
from landseer.training.stage import finish_stage, train_stage
from landseer.training.subset import Subset, hold_out, training_subset, validation_subset

__all__ = [
    "Callback",
    "Entry",
    "KeptHead",
    "Stage",
    "Subset",
    "finish_stage",
    "hold_out",
    "load_losses",
    "load_stage_head",
    "load_stage_model",
    "load_validation",
    "save_stage",
    "start_neck",
    "tensorboard_callback",
    "train_stage",
    "training_subset",
    "validation_subset",
]
