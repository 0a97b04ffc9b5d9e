"""The vision side learns first, as a detector does: what each part of a picture shows, and where.

A VLM's eyes have seen before its language side meets them. Here a linear layer reads from each
token of a picture which thing it shows, its box in the whole picture, its colour and depth; it is
thrown away afterwards. What it reads is written alike in every token, so that the language side
needs to learn one way of reading only.
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
NOTHING = len(NAMES)
"""What a cell shows where no thing is."""
FAR = 8.0
"""Meters that count as 1."""
_PLACES = {name: place for place, name in enumerate(NAMES)}
_TINTS = {name: place for place, name in enumerate(COLORS)}
_WIDTHS = (NOTHING + 1, 4, 1, len(COLORS))


class Truth(NamedTuple):
    """What the cells of pictures show: (P, cells) and one axis more for ``box``.

    ``name`` is a place in ``NAMES`` or ``NOTHING``, ``box`` in shares of the picture, ``depth`` in
    units of 8 m, ``tint`` the place of the colour, or -1.
    """

    name: torch.Tensor
    box: torch.Tensor
    depth: torch.Tensor
    tint: torch.Tensor


def truth(views: Sequence[View], grid: int) -> Truth:
    """Return what the cells of pictures show, row by row; of several things, the smallest box."""
    shape = len(views), grid * grid
    name, tint = np.full(shape, NOTHING), np.full(shape, -1)
    box, depth = np.zeros((*shape, 4), np.float32), np.zeros(shape, np.float32)
    for k, view in enumerate(views):
        height, width = view.frame.shape[:2]
        sides = np.array([sight.box for sight in view.sights], np.float32)
        sides /= np.array([width, height, width, height], np.float32)
        for n in np.argsort(-np.prod(sides[:, 2:] - sides[:, :2], axis=1), kind="stable"):
            sight, cells = view.sights[n], _cells(sides[n], grid)
            name[k, cells], box[k, cells] = _PLACES[sight.label], sides[n]
            depth[k, cells], tint[k, cells] = sight.depth / FAR, _TINTS.get(sight.color, -1)
    return Truth(*map(torch.from_numpy, (name, box, depth, tint)))


def _cells(sides: np.ndarray, grid: int) -> np.ndarray:
    """Return the cells whose middles a box covers, and that of its own middle."""
    middles = (np.arange(grid) + 0.5) / grid
    x1, y1, x2, y2 = sides
    covered = np.outer((middles >= y1) & (middles <= y2), (middles >= x1) & (middles <= x2))
    row, column = (min(grid - 1, int(m * grid)) for m in ((y1 + y2) / 2, (x1 + x2) / 2))
    covered[row, column] = True
    return np.flatnonzero(covered)


class Reader(torch.nn.Linear):  # type: ignore[misc]
    """Reads all that from tokens (P, cells, width)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, sum(_WIDTHS))

    def read(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return scores of names, boxes, depths and scores of colours, as told by ``Truth``."""
        name, box, depth, tint = self(tokens).float().split(_WIDTHS, -1)
        return name, box, depth[..., 0], tint

    def loss(self, tokens: torch.Tensor, told: Truth) -> torch.Tensor:
        """Return how far what is read lies from the truth."""
        name, box, depth, tint = self.read(tokens)
        entropy = torch.nn.functional.cross_entropy
        there, known = told.name != NOTHING, told.tint >= 0
        made = entropy(name.flatten(0, 1), told.name.flatten())
        made = made + 5 * (box - told.box)[there].abs().mean()
        made = made + (depth - told.depth)[there].abs().mean()
        return made + 0.5 * entropy(tint[known], told.tint[known])
