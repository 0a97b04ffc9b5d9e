"""Rows to learn from: one picture or two, and as many questions as fit.

A picture is encoded once for all questions about it. What row n of step k holds depends on
(seed, k, n) alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from w2v import provenance, torchvision_cpu
from w2v.errors import BadFile
from w2v.pretraining import asking, views
from w2v.pretraining.asking import Asked
from w2v.pretraining.views import View
from w2v.students import families, tiny

torchvision_cpu.install()

import torch  # noqa: E402

IGNORED = -100
"""The label of what is no answer."""


class Row(NamedTuple):
    """Token ids, which of them are answers, and the pictures."""

    ids: list[int]
    answers: list[bool]
    views: Sequence[View]


class Writer:
    """Writes questions as the student's chat template does.

    Args:
        processor: Of the student.
        tokens: Of text in one row, about.
    """

    def __init__(self, processor: Any, tokens: int) -> None:
        self.processor, self.tokens = processor, tokens
        budget = families.TINY.budget(processor)
        self._user, self._end = self._ids(f"{tiny.START}user\n"), self._ids(f"{tiny.END}\n")
        self._reply = self._ids(f"{tiny.START}assistant\n")
        marks = (
            self._ids(mark) for mark in ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
        )
        first, pad, last = marks
        self._shown = first + pad * budget + last

    def _ids(self, text: str) -> list[int]:
        made: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return made

    def row(self, shown: Sequence[View], asked: Iterator[Asked]) -> Row:
        """Return a row of as many questions as fit; one at least, unless there is none."""
        ids: list[int] = []
        answers: list[bool] = []
        room = self.tokens + len(shown) * len(self._shown)
        for turn, question in enumerate(asked):
            said = self._user + (self._shown * len(shown) if turn == 0 else [])
            said = said + self._ids(question.text) + self._end + self._reply
            reply = self._ids(question.answer) + self._end[:1]
            if turn and len(ids) + len(said) + len(reply) + 1 > room:
                break
            ids += said + reply + self._end[1:]
            answers += [False] * len(said) + [True] * len(reply) + [False]
        return Row(ids, answers, shown)


def held_out(room: int) -> bool:
    """Return whether a room is kept apart to measure on: one of fifty."""
    return room % 50 == 0


class Rooms:
    """Draws pictures and questions.

    Args:
        folder: Of ``views.make``.
        number: Of rooms in it.
        writer: Writes the rows.
        seed: Of the draws.
    """

    def __init__(self, folder: Path, number: int, writer: Writer, seed: int) -> None:
        self.folder, self.writer, self.seed = folder, writer, seed
        self._learned = [room for room in range(number) if not held_out(room)]
        self._apart = [room for room in range(number) if held_out(room)]

    def views(self, step: int, number: int) -> list[View]:
        """Return single pictures of a step, four of each room."""
        rng = random.Random(self.seed * 1_000_003 + step)
        shown: list[View] = []
        for _ in range(number // 4):
            room = views.Room(self.folder, rng.choice(self._learned))
            shown += [room[rng.randrange(len(room))] for _ in range(4)]
        return shown

    def row(self, step: int, number: int, pairs: float) -> Row:
        """Return one row of a step, with two pictures in a share ``pairs`` of all cases.

        Raises:
            BadFile: The pictures show nothing to ask about.
        """
        for attempt in range(20):
            rng = random.Random(provenance.seed_of("row", self.seed, step, number, attempt))
            shown = self._draw(rng.choice(self._learned), 1 + (rng.random() < pairs), rng)
            row = self.writer.row(shown, asking.ask(shown, rng))
            if row.ids:
                return row
        raise BadFile(f"{self.folder}: the pictures show nothing to ask about")

    def apart(self, most: int) -> Iterator[tuple[Row, Asked]]:
        """Yield rows of one question each about rooms that nothing is learned from, 20 a room."""
        for k in range(min(most, 20 * len(self._apart))):
            rng = random.Random(provenance.seed_of("measure", self.seed, k))
            shown = self._draw(rng.choice(self._apart), 1 + k % 2, rng)
            if question := next(asking.ask(shown, rng), None):
                yield self.writer.row(shown, iter([question])), question

    def _draw(self, room: int, number: int, rng: random.Random) -> list[View]:
        """Return pictures of a room; two of them as often from about one place as not."""
        found = views.Room(self.folder, room)
        first = rng.randrange(len(found))
        if number == 1:
            return [found[first]]
        near = [k for k in range(len(found)) if 0 < abs(k - first) < views.LOOKS]
        far = [k for k in range(len(found)) if k != first]
        return [found[first], found[rng.choice(near if rng.random() < 0.5 else far)]]


def collate(rows: Sequence[Row], processor: Any, *, left: bool = False) -> dict[str, Any]:
    """Return a batch as the model takes it, padded on the right, or on the ``left`` to go on."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), processor.tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for k, row in enumerate(rows):
        told, start = torch.tensor(row.ids), longest - len(row.ids) if left else 0
        place = slice(start, start + len(told))
        ids[k, place], mask[k, place] = told, 1
        labels[k, place] = torch.where(torch.tensor(row.answers), told, IGNORED)
    image = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "mm_token_type_ids": (ids == image).int(),
        **encode([view for row in rows for view in row.views], processor),
    }


def encode(shown: Sequence[View], processor: Any) -> Any:
    """Return pictures as the vision side takes them."""
    frames = [torch.from_numpy(view.frame).permute(2, 0, 1) for view in shown]
    return processor.image_processor(images=frames, return_tensors="pt")
