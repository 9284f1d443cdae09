"""Training: one stage at a time, from a collection's training photos only."""

from landseer.training.neck import start_neck
from landseer.training.stage import Stage, load_losses, load_stage_model, save_stage, train_stage
from landseer.training.subset import Subset, training_subset

__all__ = [
    "Stage",
    "Subset",
    "load_losses",
    "load_stage_model",
    "save_stage",
    "start_neck",
    "train_stage",
    "training_subset",
]
