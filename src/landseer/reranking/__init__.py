"""Re-ranking and recognition: what the neighbours of a query say about it."""

from landseer.reranking.recognition import recognise_nearest

__all__ = ["recognise_nearest"]
