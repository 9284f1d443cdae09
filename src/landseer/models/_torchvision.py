"""Let torchvision import beside a torch that has no CUDA: the one act this package does at import.

torchvision's published wheels register the Python side of ``nms`` and ``qnms`` against compiled operators
that fail to load without CUDA libraries, and its import stops there.  Declaring the two operators, only where
they are missing, is enough for transforms and timm; nothing here computes with them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

_SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[torch.library.Library] = []  # the declarations last as long as this object does


def _operators_load() -> bool:
    """Whether torchvision's own operators are there, or can be brought in."""
    if hasattr(torch.ops.torchvision, "nms"):
        return True
    found = find_spec("torchvision")
    folders = found.submodule_search_locations if found else None
    for compiled in [file for folder in folders or [] for file in Path(folder).glob("_C*.so")]:
        try:
            # asked, not guessed from torch.version: a torchvision built for the CPU loads, and a second
            # declaration beside its own would end the process
            torch.ops.load_library(str(compiled))
        except OSError:
            return False
    return hasattr(torch.ops.torchvision, "nms")


def _declare_missing_operators() -> None:
    if _operators_load():
        return
    library = torch.library.Library("torchvision", "DEF")
    for signature in _SIGNATURES:
        library.define(signature)
    _kept.append(library)


_declare_missing_operators()
