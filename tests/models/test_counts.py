"""Sizes of the 2020 winners' B6, as the summary of their Keras model prints them."""

from __future__ import annotations

import torch
from torch import nn

from landseer.losses import MarginHead
from landseer.models import build_embedder
from landseer.recipe import LossOptions, ModelOptions


def keras_count(module: nn.Module) -> int:
    """Parameters, and the running means and variances, which Keras counts among them."""
    state = module.state_dict()
    return sum(value.numel() for key, value in state.items() if not key.endswith("num_batches_tracked"))


def test_b6_with_its_neck_and_head_counts_as_in_keras():
    with torch.device("meta"):  # shapes alone
        embedder = build_embedder(
            ModelOptions(
                backbone="tf_efficientnet_b6", weights="none", pooling="gap", neck="fc-swish", dim=512
            )
        )
        head = MarginHead(embedder.dim, 203_094, options=LossOptions(kind="cosface", margin=0.0))
    assert keras_count(embedder.backbone) == 40_960_136
    assert keras_count(embedder.pooling) == 0
    assert keras_count(embedder.neck) == 1_180_160
    assert keras_count(head) == 103_984_128
