"""Input sizes by the shape of a photo.  A value that cannot be is refused here, by its key's name."""

from __future__ import annotations

from dataclasses import dataclass

from landseer.recipe.rules import require


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectOptions:
    """``[stages.aspects]``, ``[descriptors.aspects]``: an input size for each bin of shapes, instead of a square."""

    splits: tuple[float, ...] = ()
    """Where height / width passes from one bin to the next, rising."""
    sizes: tuple[tuple[int, ...], ...] = ()
    """[width, height] of each bin in pixels, widest bin first; empty: every photo is squashed to a square."""

    def __post_init__(self) -> None:
        bins = len(self.splits) + 1 if self.splits or self.sizes else 0
        require(
            len(self.sizes) == bins,
            "sizes",
            f"{len(self.splits)} splits make {len(self.splits) + 1} bins, not {len(self.sizes)}",
        )
        require(
            all(low < high for low, high in zip((0.0, *self.splits), self.splits, strict=False)),
            "splits",
            f"must be above 0 and rise, not {list(self.splits)}",
        )
        for size in self.sizes:
            require(
                len(size) == 2 and min(size) >= 16,
                "sizes",
                f"each is [width, height] of at least 16 pixels, not {list(size)}",
            )
