"""Makes a torchvision wheel that is linked to CUDA usable with a CPU-only torch.

Such a wheel's native library cannot load, and then ``import torchvision`` dies because the
operator ``torchvision::nms`` is unknown; transformers takes its image processors from
torchvision wherever the package is present, and dies with it. ``install`` puts an import hook in
place: free until torchvision is imported, out of the way where the native library loads, and
otherwise it declares the missing operators, with a non-maximum suppression in plain torch.
Decoding by ``torchvision.io`` stays unavailable.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_NATIVE = ("_C.so", "_C_stable.so", "_C.pyd")


def install() -> None:
    """Put the hook in place, once per process, before anything imports torchvision."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Prepares the ground when torchvision is about to be imported; never finds anything."""

    def __init__(self) -> None:
        self.seen = False
        self.operators: Any = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        """Declare the operators before torchvision, and lift its veto before its ``ops``."""
        if fullname == "torchvision" and not self.seen:
            self.seen = True
            spec = importlib.machinery.PathFinder.find_spec(fullname, path)
            if spec is not None and spec.origin and not _loads(Path(spec.origin).parent):
                self.operators = _declare()
        elif fullname == "torchvision.ops" and self.operators is not None:
            # Its modules bind this check as they load, which is next. The flag behind it stays as
            # it is: version checks would look for operators that are not there.
            vars(sys.modules["torchvision.extension"])["_assert_has_ops"] = lambda: None


def _loads(folder: Path) -> bool:
    """Return whether the native library of the torchvision in this folder can be loaded."""
    import torch

    for path in (folder / name for name in _NATIVE):
        if path.exists():
            try:
                torch.ops.load_library(str(path))
            except OSError:
                continue
            return True
    return False


def _declare() -> Any:
    """Return the operators, declared; they live as long as the returned object."""
    import torch

    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    operators.impl("nms", _nms, "CPU")
    return operators


def _nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of the (N, 4) xyxy boxes kept, best score first."""
    import torch

    order = scores.argsort(descending=True, stable=True)
    x1, y1, x2, y2 = dets.unbind(1)
    area = (x2 - x1) * (y2 - y1)
    kept = []
    while order.numel():
        best, rest = order[0], order[1:]
        kept.append(best)
        width = (torch.minimum(x2[best], x2[rest]) - torch.maximum(x1[best], x1[rest])).clamp(0)
        height = (torch.minimum(y2[best], y2[rest]) - torch.maximum(y1[best], y1[rest])).clamp(0)
        shared = width * height
        order = rest[~(shared / (area[best] + area[rest] - shared) > iou_threshold)]
    return torch.stack(kept) if kept else order.new_empty(0)
