"""Evaluation: protocols, metrics, intervals, paired tests."""

from landseer.evaluation.calibration import (
    Confidences,
    Reliability,
    confidences_in,
    confidences_of,
    false_accept_rate,
    reliability,
    trade_off,
)
from landseer.evaluation.chunks import merge_rankings
from landseer.evaluation.metrics import (
    average_precision_at_k,
    average_precision_of_hits,
    first_hit,
    global_average_precision,
    mean_average_precision,
    precision_at_k,
    recall_at_k,
)
from landseer.evaluation.paired import Difference, PairedTest, compare, holm, paired_gap_test, paired_test
from landseer.evaluation.paired_gap import PairedPool
from landseer.evaluation.protocol import Protocol
from landseer.evaluation.protocols import (
    PROTOCOLS,
    Gldv2,
    Ilias,
    Knn,
    Places,
    Revisited,
    protocol_for,
)
from landseer.evaluation.recognition import (
    Calibrated,
    evaluate_recognition,
    is_calibrated,
    recognition_in,
)
from landseer.evaluation.scoring import Evaluated, evaluate, evaluate_mistakes, evaluate_retrieval
from landseer.evaluation.table import (
    aligned,
    comparison_table,
    difference_table,
    latex_table,
    mistakes_table,
    per_query_csv,
)
from landseer.evaluation.truths import truth_by_landmark, truth_within

__all__ = [
    "PROTOCOLS",
    "Calibrated",
    "Confidences",
    "Difference",
    "Evaluated",
    "Gldv2",
    "Ilias",
    "Knn",
    "PairedPool",
    "PairedTest",
    "Places",
    "Protocol",
    "Reliability",
    "Revisited",
    "aligned",
    "average_precision_at_k",
    "average_precision_of_hits",
    "compare",
    "comparison_table",
    "confidences_in",
    "confidences_of",
    "difference_table",
    "evaluate",
    "evaluate_mistakes",
    "evaluate_recognition",
    "evaluate_retrieval",
    "false_accept_rate",
    "first_hit",
    "global_average_precision",
    "holm",
    "is_calibrated",
    "latex_table",
    "mean_average_precision",
    "merge_rankings",
    "mistakes_table",
    "paired_gap_test",
    "paired_test",
    "per_query_csv",
    "precision_at_k",
    "protocol_for",
    "recall_at_k",
    "recognition_in",
    "reliability",
    "trade_off",
    "truth_by_landmark",
    "truth_within",
]
