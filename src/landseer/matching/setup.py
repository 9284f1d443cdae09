"""What a matcher is made of before there are photos: options, the files of its networks, a folder for its features."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from landseer.matching.matcher import Matcher, make_extractor, make_pairer
from landseer.recipe.matching_options import MatchingOptions
from landseer.storage.artifact import sha256_of
from landseer.types import Collection


@dataclass(frozen=True, kw_only=True)
class MatchingSetup:
    """How photos are matched.  The options decide the result, and so does what is in the files, not where they lie."""

    options: MatchingOptions = field(default_factory=MatchingOptions)
    extractor_weights: Path | None = None
    """XFeat's ONNX file."""
    pairer_weights: Path | None = None
    """LighterGlue's ONNX file."""
    features: Path | None = None
    """Folder in which local features are kept from one command to the next."""

    def matcher(self, *collections: Collection, workers: int | None = None) -> Matcher:
        """A matcher of these collections' photos.

        Raises ``ValueError`` where weights are missing, cannot be used or are given for nothing, and where the folder
        holds features of other settings.
        """
        return Matcher(
            *collections,
            options=self.options,
            extractor=make_extractor(self.options.features, weights=self.extractor_weights),
            pairer=make_pairer(self.options, weights=self.pairer_weights),
            features=self.features,
            workers=workers,
        )

    def digests(self) -> dict[str, str]:
        """sha256 of the files of weights, by what they are for; call ``matcher`` first, which says what is wrong."""
        files = {"extractor weights": self.extractor_weights, "pairer weights": self.pairer_weights}
        return {name: sha256_of(file) for name, file in files.items() if file is not None}
