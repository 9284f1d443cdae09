"""What an index keeps beside its model: how its answers are re-ranked, and how landmarks are recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from landseer.recipe import (
    LandmarkCountryOptions,
    NearestLabelOptions,
    RecognitionOptions,
    RerankingOptions,
    SpatialOptions,
    TwoStageOptions,
    load_recipe,
    recipe_from,
)
from landseer.reranking import Bank
from landseer.search import LivingIndex, open_index

_KEPT = ("reranking", "recognition")
_VOTING = (TwoStageOptions, LandmarkCountryOptions, NearestLabelOptions)


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """How an index answers beyond the search."""

    reranking: tuple[RerankingOptions, ...]
    """Methods in order; those that need votes are passed over while no labelled photo is near."""
    recognition: RecognitionOptions

    def chain(self, bank: Bank | None) -> tuple[RerankingOptions, ...]:
        """The methods that can be used with this bank."""
        return tuple(
            options for options in self.reranking if bank is not None or not isinstance(options, _VOTING)
        )


def settings_of(index: LivingIndex) -> IndexSettings:
    """Those that the index was built with."""
    kept = {key: index.settings[key] for key in _KEPT if key in index.settings}
    recipe = recipe_from({"title": "index", **kept})
    return IndexSettings(reranking=recipe.reranking, recognition=recipe.recognition)


def kept_of(recipe: Path | None) -> dict[str, Any]:
    """What an index keeps of ``[[reranking]]`` and ``[recognition]`` of *recipe*, to go among its settings.

    Raises ``ValueError`` for what an index that answers one query after the other cannot do.
    """
    if recipe is None:
        return {}
    found = load_recipe(recipe)
    if found.recognition.most_queries is not None:
        raise ValueError(
            f"{recipe}: recognition.most_queries makes an answer depend on what else is asked, and an index is asked "
            "one query after the other; leave it out"
        )
    if any(isinstance(options, SpatialOptions) for options in found.reranking):
        raise ValueError(
            f'{recipe}: reranking by method "spatial" reads every answer\'s photo, which an index does not do while '
            "it is asked; leave it out"
        )
    return {
        **({"reranking": _plain(found.reranking)} if found.reranking else {}),
        "recognition": asdict(found.recognition),
    }


def keep_recipe(index: str | Path, recipe: Path) -> IndexSettings:
    """Let the index keep ``[[reranking]]`` and ``[recognition]`` of *recipe* in the place of its own.

    Returns what it keeps now.
    """
    kept = kept_of(recipe)
    with open_index(index, write=True) as opened:
        opened.keep({**without_kept(opened.settings), **kept})
        return settings_of(opened)


def without_kept(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an index but those that ``kept_of`` gives."""
    return {key: value for key, value in settings.items() if key not in _KEPT}


def _plain(chain: Sequence[RerankingOptions]) -> list[dict[str, Any]]:
    return [asdict(options) for options in chain]
