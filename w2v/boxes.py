"""Boxes: pixels inside, integers 0-1000 in text, and the measures between two of them.

A box is ``(x1, y1, x2, y2)``, x right, y down. Light on purpose: plain Python, no arrays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from w2v.records import Quad

GRID = 1000
_BOX = re.compile(r"\[\s*" + r"\s*,\s*".join([r"([-+]?\d+(?:\.\d+)?)"] * 4) + r"\s*\]")


def to_grid(xyxy: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """Return a pixel box on the integer grid 0..1000, rounding half to even, clamped."""
    x1, y1, x2, y2 = xyxy
    across, down = GRID / width, GRID / height
    return _clamped(x1 * across), _clamped(y1 * down), _clamped(x2 * across), _clamped(y2 * down)


def _clamped(value: float) -> int:
    whole = round(value)
    return whole if 0 <= whole <= GRID else min(GRID, max(0, whole))


def say(grid: Sequence[float]) -> str:
    """Write a grid box as ``[x1, y1, x2, y2]``."""
    return "[{}, {}, {}, {}]".format(*grid)


def find(text: str) -> list[Quad]:
    """Return every ``[a, b, c, d]`` in a text, as written: not ordered, not clamped."""
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in _BOX.findall(text)]


def area(box: Sequence[float]) -> float:
    """Return width x height, 0 for a box turned inside out."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def iou(one: Sequence[float], two: Sequence[float]) -> float:
    """Return intersection over union in [0, 1]; 0 where both are empty."""
    if one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]:
        return 0.0  # apart, as most are
    shared = area(
        (
            max(one[0], two[0]),
            max(one[1], two[1]),
            min(one[2], two[2]),
            min(one[3], two[3]),
        )
    )
    whole = area(one) + area(two) - shared
    return shared / whole if whole > 0 else 0.0
