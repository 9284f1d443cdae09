"""Landseer: find every photo of the same landmark, say which one it is, and train the models that do so."""
