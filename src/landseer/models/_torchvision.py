"""Let torchvision import beside a torch that has no CUDA: the one act this package does at import.

torchvision's published wheels register the Python side of ``nms`` and ``qnms`` against compiled operators
that fail to load without CUDA libraries, and its import stops there.  Declaring the two operators, only where
they are missing, is enough for transforms and timm; nothing here computes with them.
"""

from __future__ import annotations

import torch

_SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[torch.library.Library] = []  # the declarations last as long as this object does


def _declare_missing_operators() -> None:
    if torch.version.cuda is not None or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for signature in _SIGNATURES:
        library.define(signature)
    _kept.append(library)


_declare_missing_operators()
