"""Re-ranking and recognition by the votes of labelled photos."""
