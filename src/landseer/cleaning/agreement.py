"""How well groups agree with labels, counted over pairs of photos (Rand 1971; Hubert and Arabie 1985)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of the pairs in one group the share with one label, of the pairs with one label the share in one group."""

    precision: float
    recall: float
    rand: float
    """Adjusted Rand index: 1 where groups are the labels, about 0 where they have nothing to do with them."""
    pairs: int
    """In one group."""


def agreement(group_N: np.ndarray, label_N: np.ndarray) -> Agreement:
    """Compare two partings of the same photos, int64 ``[N]`` each; below 0: alone, in a group of its own.

    Without a pair in one group the precision is 1, without one with one label the recall is.
    """
    if group_N.shape != label_N.shape or group_N.ndim != 1:
        raise ValueError(f"each photo needs a group and a label, not {group_N.shape} and {label_N.shape}")
    own_N = -2 - np.arange(len(group_N))
    groups_N, labels_N = (np.where(part_N < 0, own_N, part_N) for part_N in (group_N, label_N))
    together = _pairs(np.stack([groups_N, labels_N], axis=1))
    grouped, labelled = _pairs(groups_N[:, None]), _pairs(labels_N[:, None])
    every = len(group_N) * (len(group_N) - 1) // 2
    by_chance = grouped * labelled / every if every else 0.0
    most = (grouped + labelled) / 2
    return Agreement(
        precision=together / grouped if grouped else 1.0,
        recall=together / labelled if labelled else 1.0,
        rand=(together - by_chance) / (most - by_chance) if most != by_chance else 1.0,
        pairs=grouped,
    )


def _pairs(rows_NK: np.ndarray) -> int:
    """How many pairs of rows are equal."""
    if not len(rows_NK):
        return 0
    _, counts = np.unique(rows_NK, axis=0, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())
