"""Evaluation: protocols, metrics, intervals."""

from landseer.evaluation.gldv2 import Evaluated, evaluate_recognition, evaluate_retrieval
from landseer.evaluation.metrics import (
    average_precision_at_k,
    average_precision_of_hits,
    first_hit,
    global_average_precision,
    mean_average_precision,
    precision_at_k,
    recall_at_k,
)
from landseer.evaluation.table import aligned, comparison_table, per_query_csv

__all__ = [
    "Evaluated",
    "aligned",
    "average_precision_at_k",
    "average_precision_of_hits",
    "comparison_table",
    "evaluate_recognition",
    "evaluate_retrieval",
    "first_hit",
    "global_average_precision",
    "mean_average_precision",
    "per_query_csv",
    "precision_at_k",
    "recall_at_k",
]
