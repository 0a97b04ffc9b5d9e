"""The vision side learns first, as a detector does: what each part of a picture shows, and where.

A VLM's eyes have seen before its language side meets them. Here a linear layer reads from each
token of a picture which things are there, their boxes in the whole picture, colours and depths;
it is thrown away afterwards. From words alone the eyes would learn the same, a hundred times
slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from w2v import torchvision_cpu
from w2v.pretraining.asking import NAMES
from w2v.pretraining.views import View
from w2v.teachers.sim import materials

torchvision_cpu.install()

import torch  # noqa: E402

COLORS = tuple(materials.COLORS)
COVERED = 0.3
"""Share of a cell that a box covers where the thing counts as being there."""
_PLACES = {name: place for place, name in enumerate(NAMES)}
_TINTS = {name: place for place, name in enumerate(COLORS)}
_PER_NAME = 1 + 4 + 1 + len(COLORS)
_BOX, _DEPTH, _TINT = slice(1, 5), 5, slice(6, _PER_NAME)
FAR = 8.0
"""Meters that count as 1."""


class Truth(NamedTuple):
    """What each cell of pictures shows, by name: (P, cells, names) and one axis more.

    ``there`` is 0 or 1, ``box`` in shares of the picture, ``depth`` in units of 8 m, ``tint`` the
    place of the colour or -1.
    """

    there: torch.Tensor
    box: torch.Tensor
    depth: torch.Tensor
    tint: torch.Tensor


def truth(views: Sequence[View], grid: int) -> Truth:
    """Return what the cells of pictures show; of two things of a name, the larger."""
    shape = len(views), grid * grid, len(NAMES)
    there, box = np.zeros(shape, np.float32), np.zeros((*shape, 4), np.float32)
    depth, tint = np.zeros(shape, np.float32), np.full(shape, -1)
    for k, view in enumerate(views):
        height, width = view.frame.shape[:2]
        for sight in reversed(view.sights):  # the largest last
            sides = np.array(sight.box, np.float32) / (width, height, width, height)
            cells, name = _cells(sides, grid), _PLACES[sight.label]
            there[k, cells, name], box[k, cells, name] = 1, sides
            depth[k, cells, name] = min(sight.depth / FAR, 1.0)
            tint[k, cells, name] = _TINTS.get(sight.color, -1)
    return Truth(*map(torch.from_numpy, (there, box, depth, tint)))


def _cells(sides: np.ndarray, grid: int) -> np.ndarray:
    """Return the cells that a box covers, and that of its middle, row by row."""
    edges = np.arange(grid) / grid
    x1, y1, x2, y2 = sides
    wide = np.clip(np.minimum(x2, edges + 1 / grid) - np.maximum(x1, edges), 0, None) * grid
    high = np.clip(np.minimum(y2, edges + 1 / grid) - np.maximum(y1, edges), 0, None) * grid
    covered = np.outer(high, wide) >= COVERED
    row, column = (min(grid - 1, int(m * grid)) for m in ((y1 + y2) / 2, (x1 + x2) / 2))
    covered[row, column] = True
    return np.flatnonzero(covered)


class Reader(torch.nn.Linear):  # type: ignore[misc]
    """Reads all that from tokens (P, cells, width)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, len(NAMES) * _PER_NAME)

    def loss(self, tokens: torch.Tensor, told: Truth) -> torch.Tensor:
        """Return how far what is read lies from the truth."""
        read = self(tokens).unflatten(-1, (len(NAMES), _PER_NAME)).float()
        there = told.there > 0
        weight = torch.where(there, 5.0, 1.0)
        made = torch.nn.functional.binary_cross_entropy_with_logits(
            read[..., 0], told.there, weight=weight
        )
        seen = read[there]
        made = 20 * made + 5 * (seen[:, _BOX] - told.box[there]).abs().mean()
        made = made + (seen[:, _DEPTH] - told.depth[there]).abs().mean()
        tints = told.tint[there]
        known = tints >= 0
        if known.any():
            made = made + torch.nn.functional.cross_entropy(seen[known][:, _TINT], tints[known])
        return made
