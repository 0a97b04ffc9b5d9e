"""Where is the thing of that name? Asked of hidden states directly, beside the questions.

The language side learns to look into a picture only once there is something to be seen in its
tokens. So a small layer, thrown away afterwards, takes a name in the words' own embedding, attends
over the tokens of a picture, and reads off the box, depth and colour of the thing it is given to.
Each token also tells which things lie in its own part of the picture: by boxes alone the vision
side is long in telling things apart. Another layer reads boxes and distances off the language
side's states while it answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from w2v import torchvision_cpu
from w2v.pretraining.asking import NAMES
from w2v.pretraining.views import View
from w2v.teachers.sim import materials

torchvision_cpu.install()

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

COLORS = tuple(materials.COLORS)
FAR = 8.0
"""Meters that count as 1."""
HEADS = 4
FINE = 4
"""Cells along a side of what one token shows."""
_TINTS = {name: place for place, name in enumerate(COLORS)}


class Truth(NamedTuple):
    """Things, each the only one of its name in a picture.

    ``picture`` (T,) and ``name`` (T,) are places in the pictures and in ``NAMES``; ``box`` (T, 4)
    is in shares of the picture, ``depth`` (T,) in units of 8 m, ``tint`` (T,) a place in
    ``COLORS`` or -1. ``cells`` (P, rows, columns, names) tells what share of each cell of each
    picture lies in a box of that name; it is told of all things.
    """

    picture: torch.Tensor
    name: torch.Tensor
    box: torch.Tensor
    depth: torch.Tensor
    tint: torch.Tensor
    cells: torch.Tensor


def truth(views: Sequence[View], grid: int) -> Truth:
    """Return what can be found in pictures by its name, and what is where on a grid of cells."""
    found = []
    cells = torch.zeros(len(views), grid, grid, len(NAMES))
    for place, view in enumerate(views):
        height, width = view.frame.shape[:2]
        for sight in view.sights:
            x1, y1, x2, y2 = sight.box
            covered = _covered(y1 / height, y2 / height, grid).unsqueeze(1)
            covered = covered * _covered(x1 / width, x2 / width, grid)
            of_name = cells[place, :, :, NAMES.index(sight.label)]
            torch.maximum(of_name, covered, out=of_name)
        often = Counter(sight.label for sight in view.sights)
        for sight in view.sights:
            if often[sight.label] == 1:
                x1, y1, x2, y2 = sight.box
                box = (x1 / width, y1 / height, x2 / width, y2 / height)
                name, tint = NAMES.index(sight.label), _TINTS.get(sight.color, -1)
                found.append((place, name, box, sight.depth / FAR, tint))
    picture, name, box, depth, tint = map(torch.tensor, zip(*found, strict=True))
    return Truth(picture, name, box, depth, tint, cells)


def _covered(start: float, end: float, grid: int) -> torch.Tensor:
    """Return the share of each of ``grid`` parts of a side that lies from start to end."""
    parts = torch.arange(grid)
    return ((end * grid - parts).clamp(0, 1) - (start * grid - parts).clamp(0, 1)).clamp(min=0)


class Finder(torch.nn.Module):  # type: ignore[misc]
    """Finds things by their names.

    Where a token lies is told to it: the vision side turns by differences of places only, so it
    cannot know, while the language side is told by its own rotation.

    Args:
        width: Of the tokens.
        length: Tokens of a picture.
        tokenizer: Tells which words of the vocabulary a name consists of.
        words: Size of the vocabulary.
    """

    spelled: torch.Tensor

    def __init__(self, width: int, length: int, tokenizer: Any, words: int) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.randn(length, width) * width**-0.5)
        self.ask = torch.nn.Linear(width, 2 * width)
        self.show = torch.nn.Linear(width, 2 * width)
        self.tell = torch.nn.Linear(width, width)
        self.say = torch.nn.Sequential(
            torch.nn.LayerNorm(width),
            torch.nn.Linear(width, width),
            torch.nn.GELU(),
            torch.nn.Linear(width, 5 + len(COLORS)),
        )
        self.cells = torch.nn.Linear(width, FINE**2 * len(NAMES))
        spelled = torch.zeros(len(NAMES), words)
        for place, name in enumerate(NAMES):
            ids = tokenizer(f" {name}", add_special_tokens=False)["input_ids"]
            for word in ids:
                spelled[place, word] += 1 / len(ids)
        self.register_buffer("spelled", spelled, persistent=False)

    def forward(self, tokens: torch.Tensor, words: torch.Tensor, asked: Truth) -> torch.Tensor:
        """Return, for each thing asked for, scores of its box (4), depth (1) and colours.

        Args:
            tokens: Of the pictures, (P, tokens, width).
            words: The embedding of the vocabulary.
            asked: Its ``picture`` and ``name`` are read.
        """
        shown = tokens[asked.picture] + self.place
        number, length, _ = shown.shape
        query = self.ask((self.spelled @ words)[asked.name]).view(number, HEADS, 1, -1)
        key, value = (
            layer(shown).view(number, length, HEADS, -1).transpose(1, 2)
            for layer in (self.show, self.tell)
        )
        gathered = functional.scaled_dot_product_attention(query, key, value)
        said: torch.Tensor = self.say(gathered.flatten(1)).float()
        return said

    def loss(self, tokens: torch.Tensor, words: torch.Tensor, told: Truth) -> tuple[Any, float]:
        """Return how far what is found, and what lies in cells, is from the truth.

        And the median error of a side of a box, in shares of the picture.
        """
        said = self(tokens, words, told)
        error = (said[:, :4].sigmoid() - told.box).abs()
        known = told.tint >= 0
        colors = functional.cross_entropy(said[known, 5:], told.tint[known])
        made = 5 * error.mean() + (said[:, 4] - told.depth).abs().mean() + 0.5 * colors
        made = made + len(NAMES) * self._map(tokens, told.cells)
        return made, float(error.detach().mean(1).median())

    def _map(self, tokens: torch.Tensor, told: torch.Tensor) -> Any:
        """Return the cross entropy of what each token says is in its own cells."""
        number, length, _ = tokens.shape
        grid = math.isqrt(length)
        said = self.cells(tokens).view(number, grid, grid, FINE, FINE, -1)
        said = said.transpose(2, 3).reshape(told.shape)
        return functional.binary_cross_entropy_with_logits(said.float(), told)


class Pointer(torch.nn.Linear):  # type: ignore[misc]
    """Reads the numbers that an answer is about to tell off the hidden states of a middle layer.

    Told by words alone, a model of this size is long in learning to look anywhere; a distance
    says at every step in which direction it is wrong. Thrown away afterwards, as the finder is.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, 6)

    def loss(self, states: torch.Tensor, targets: torch.Tensor) -> tuple[Any, float]:
        """Return how far what is read off lies from what is told, and the median error of a box.

        Args:
            states: Of answers, (S, width).
            targets: Boxes and distances (S, 6) in shares of the picture; NaN what is not told.
        """
        read = self(states).float()
        read = torch.cat([read[:, :4].sigmoid(), read[:, 4:].tanh()], 1)
        known = ~targets.isnan()
        errors = (read - targets.nan_to_num()).abs() * known
        boxes = errors[known[:, 0], :4].detach().mean(1)
        median = float(boxes.median()) if len(boxes) else 0.0
        return 5 * errors.sum() / known.sum().clamp(min=1), median
