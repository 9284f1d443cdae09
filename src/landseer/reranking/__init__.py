"""Re-ranking and recognition: what the neighbours of a query say about it."""

from landseer.reranking.allowed import without_removed
from landseer.reranking.chain import Reranked, Step, num_moved, rerank
from landseer.reranking.context import Bank, Context, Match, Search
from landseer.reranking.neighbours.diffusion import (
    keep_diffusion,
    load_diffusion,
    prepare_diffusion,
    save_diffusion,
)
from landseer.reranking.voting.calibration import Threshold, calibrate
from landseer.reranking.voting.recognition import RecognisedCountries, recognise, recognise_countries

__all__ = [
    "Bank",
    "Context",
    "Match",
    "RecognisedCountries",
    "Reranked",
    "Search",
    "Step",
    "Threshold",
    "calibrate",
    "keep_diffusion",
    "load_diffusion",
    "num_moved",
    "prepare_diffusion",
    "recognise",
    "recognise_countries",
    "rerank",
    "save_diffusion",
    "without_removed",
]
