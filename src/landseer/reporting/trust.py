"""How far recognition can be trusted: what the page says and draws of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from landseer.evaluation import Confidences, Reliability, confidences_in, reliability, trade_off
from landseer.reporting import figures


@dataclass(frozen=True, kw_only=True)
class Trust:
    """The queries behind the numbers of recognition, and whether confidences are probabilities.

    Both tables are those of ``evaluate_recognition``.
    """

    per_query: pa.Table
    baseline_per_query: pa.Table | None
    """Of the same model untrained."""
    calibrated: bool
    calibration: str
    """In words: on what, or why not."""


def trust_of(part: Trust) -> dict[str, Any]:
    """What the section is made of; ``None`` for a figure that there is nothing to draw of."""
    now = confidences_in(part.per_query)
    before = None if part.baseline_per_query is None else confidences_in(part.baseline_per_query)
    found = {
        "num": len(now.shown_Q),
        "num_shown": int(now.shown_Q.sum()),
        "calibrated": part.calibrated,
        "calibration": part.calibration,
        "trade_off": None,
        "reliability": None,
        "error": None,
    }
    accepted = [table["accepted"] for table in (part.per_query, part.baseline_per_query) if table is not None]
    if now.shown_Q.any() and not now.shown_Q.all():
        found["trade_off"] = _trade_off(now, before, accepted, calibrated=part.calibrated)
    if part.calibrated and np.isfinite(now.confidence_Q).any():
        found["reliability"], found["error"] = _reliability(now, before)
    return found


def _trade_off(
    now: Confidences, before: Confidences | None, accepted: Sequence[pa.ChunkedArray], *, calibrated: bool
) -> Markup:
    lines, chosen, words = [], [], []
    for found, accepted_Q, name in reversed(
        list(zip((now, before), accepted, ("trained", "untrained"), strict=False))
    ):
        assert found is not None
        false_T, recall_T = trade_off(found)
        lines.append(figures.Line(x=false_T.tolist(), y=recall_T.tolist(), style=name))
        if calibrated:
            sure_Q = accepted_Q.combine_chunks().to_numpy(zero_copy_only=False)
            false = float(sure_Q[~found.shown_Q].mean())
            right = float((sure_Q & found.right_Q)[found.shown_Q].mean())
            chosen.append(figures.Line(x=[false], y=[right], style=name))
            words.append(f"{name} {right:.2f} at {false:.2f} false accepts")
    text = "Share of the known named rightly against false accepts, at every threshold"
    label = f"{text}; at the calibrated one {', '.join(words)}." if words else f"{text}."
    return figures.trade_off_figure(lines, chosen, label=label)


def _reliability(now: Confidences, before: Confidences | None) -> tuple[Markup, float]:
    diagram = reliability(now)
    old = reliability(before) if before is not None and np.isfinite(before.confidence_Q).any() else None
    label = f"Reliability diagram of {int(diagram.count_B.sum())} predictions: expected calibration error "
    label += f"{diagram.expected_calibration_error:.3f}"
    label += f", untrained {old.expected_calibration_error:.3f}." if old else "."
    drawn = figures.reliability_figure(_drawn(diagram), None if old is None else _drawn(old), label=label)
    return drawn, diagram.expected_calibration_error


def _drawn(diagram: Reliability) -> figures.Calibration:
    return figures.Calibration(
        edges=diagram.edges.tolist(),
        count_B=diagram.count_B.tolist(),
        confidence_B=diagram.confidence_B.tolist(),
        accuracy_B=diagram.accuracy_B.tolist(),
    )
