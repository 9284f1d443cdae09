"""Losses over descriptors and label rows."""

from landseer.losses.cosine_softmax import CosineSoftmax, adacos_scale

__all__ = ["CosineSoftmax", "adacos_scale"]
