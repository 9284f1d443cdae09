"""Re-ranking by who is near whom, without labels: expansion, k-reciprocal, diffusion, traversal."""
