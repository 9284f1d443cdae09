"""Matching: points of photos, pairs of points, and the geometry on which they agree."""

from landseer.matching.describe import Budget, budget_of, describe_photo, describe_photos
from landseer.matching.features import Extractor, LocalFeatures, Pairer
from landseer.matching.learned import LighterGlue, XFeat
from landseer.matching.matcher import Matcher, make_extractor, make_pairer
from landseer.matching.pairing import MutualRatio, mutual_pairs
from landseer.matching.rootsift import RootSift
from landseer.matching.setup import MatchingSetup
from landseer.matching.shelf import Photo, Shelf
from landseer.matching.verification import Verified, match_features, verify

__all__ = [
    "Budget",
    "Extractor",
    "LighterGlue",
    "LocalFeatures",
    "Matcher",
    "MatchingSetup",
    "MutualRatio",
    "Pairer",
    "Photo",
    "RootSift",
    "Shelf",
    "Verified",
    "XFeat",
    "budget_of",
    "describe_photo",
    "describe_photos",
    "make_extractor",
    "make_pairer",
    "match_features",
    "mutual_pairs",
    "verify",
]
