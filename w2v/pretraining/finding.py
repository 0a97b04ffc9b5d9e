"""Where is the thing of that name? Asked of hidden states directly, beside the questions.

The language side learns to look into a picture only once there is something to be seen in its
tokens. So a small layer, thrown away afterwards, takes a name in the words' own embedding, attends
over the tokens of a picture, and reads off the box, depth and colour of the thing it is given to.
Another reads the box off the language side's states while it answers.
"""

from __future__ import annotations

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
_TINTS = {name: place for place, name in enumerate(COLORS)}


class Truth(NamedTuple):
    """Things, each the only one of its name in a picture.

    ``picture`` (T,) and ``name`` (T,) are places in the pictures and in ``NAMES``; ``box`` (T, 4)
    is in shares of the picture, ``depth`` (T,) in units of 8 m, ``tint`` (T,) a place in
    ``COLORS`` or -1.
    """

    picture: torch.Tensor
    name: torch.Tensor
    box: torch.Tensor
    depth: torch.Tensor
    tint: torch.Tensor


def truth(views: Sequence[View]) -> Truth:
    """Return what can be found in pictures by its name."""
    found = []
    for place, view in enumerate(views):
        height, width = view.frame.shape[:2]
        often = Counter(sight.label for sight in view.sights)
        for sight in view.sights:
            if often[sight.label] == 1:
                x1, y1, x2, y2 = sight.box
                box = (x1 / width, y1 / height, x2 / width, y2 / height)
                name, tint = NAMES.index(sight.label), _TINTS.get(sight.color, -1)
                found.append((place, name, box, sight.depth / FAR, tint))
    pictures, names, boxes, depths, tints = zip(*found, strict=True)
    return Truth(*map(torch.tensor, (pictures, names, boxes, depths, tints)))


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
        """Return how far what is found lies from the truth, and the median error of a box."""
        said = self(tokens, words, told)
        error = (said[:, :4].sigmoid() - told.box).abs()
        known = told.tint >= 0
        colors = functional.cross_entropy(said[known, 5:], told.tint[known])
        made = 5 * error.mean() + (said[:, 4] - told.depth).abs().mean() + 0.5 * colors
        return made, float(error.detach().mean(1).median())


class Pointer(torch.nn.Linear):  # type: ignore[misc]
    """Reads the box that an answer is about to tell off the hidden states of a middle layer.

    Told by digits alone, a model of this size is long in learning to look anywhere; a distance
    says at every step in which direction it is wrong. Thrown away afterwards, as the finder is.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, 4)

    def loss(self, states: torch.Tensor, boxes: torch.Tensor) -> tuple[Any, float]:
        """Return how far the boxes read off states (S, width) lie from boxes (S, 4) in shares.

        And the median error of a side; both are 0 where there is no state.
        """
        if not len(states):
            return states.sum(), 0.0
        error = (self(states).float().sigmoid() - boxes).abs()
        return 5 * error.mean(), float(error.detach().mean(1).median())
