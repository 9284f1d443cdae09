"""Cleaning: noisy labels, duplicates, leaks, grouping."""

from landseer.cleaning.decide import REASONS, Decision, Evidence, SweepRow, decide, sweep
from landseer.cleaning.descriptors import centre_margin
from landseer.cleaning.duplicates import Cluster, Duplicates, find_duplicates
from landseer.cleaning.evidence import Compared, Goal, Inliers, gather
from landseer.cleaning.hamming import near_pairs
from landseer.cleaning.leaks import landmark_leaks, landmarks_trained_on, photo_leaks
from landseer.cleaning.neighbours import NO_LANDMARK, UNLABELLED, Neighbours, find_neighbours
from landseer.cleaning.overrides import read_overrides
from landseer.cleaning.pool import Pool
from landseer.cleaning.signatures import Signatures, read_signatures
from landseer.cleaning.store import PairStore

__all__ = [
    "NO_LANDMARK",
    "REASONS",
    "UNLABELLED",
    "Cluster",
    "Compared",
    "Decision",
    "Duplicates",
    "Evidence",
    "Goal",
    "Inliers",
    "Neighbours",
    "PairStore",
    "Pool",
    "Signatures",
    "SweepRow",
    "centre_margin",
    "decide",
    "find_duplicates",
    "find_neighbours",
    "gather",
    "landmark_leaks",
    "landmarks_trained_on",
    "near_pairs",
    "photo_leaks",
    "read_overrides",
    "read_signatures",
    "sweep",
]
