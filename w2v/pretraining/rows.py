"""Rows to learn from: one question each, about one picture or one of two.

A picture is encoded once for all questions about it. What a step holds depends on (seed, step)
alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from w2v import boxes, provenance, torchvision_cpu
from w2v.errors import BadFile
from w2v.pretraining import asking, views
from w2v.pretraining.asking import Asked
from w2v.pretraining.views import View
from w2v.students import families, tiny

torchvision_cpu.install()

import torch  # noqa: E402


class Row(NamedTuple):
    """One question with its answer.

    Args:
        ids: Of tokens.
        counts: What each counts as an answer; 0 outside of it.
        pictures: Their places in the batch.
        box: That is the answer, in shares of the picture, if one is.
    """

    ids: list[int]
    counts: list[float]
    pictures: tuple[int, ...]
    box: tuple[float, ...] | None


class Batch(NamedTuple):
    """Pictures, and rows with questions about them."""

    views: list[View]
    rows: list[Row]
    asked: list[Asked]


COARSE = 0.6
"""What a digit counts as many times as there are digits before it in its number.

The first digit tells most of where a side is, the last is noise to whoever sees few pixels.
"""


class Writer:
    """Writes questions as the student's chat template does.

    Args:
        processor: Of the student.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokens = families.TINY.budget(processor)
        self.image = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._user, self._end = self._ids(f"{tiny.START}user\n"), self._ids(f"{tiny.END}\n")
        self._reply = self._ids(f"{tiny.START}assistant\n")
        first, last = self._ids("<|vision_start|>"), self._ids("<|vision_end|>")
        self._shown = first + [self.image] * self.tokens + last
        named = processor.tokenizer.convert_tokens_to_ids
        self._digits = {named(f"{space}{digit}") for space in ("", "Ġ") for digit in range(10)}

    def _ids(self, text: str) -> list[int]:
        made: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return made

    def opening(self, pictures: int) -> list[int]:
        """Return the ids with which every row about so many pictures begins."""
        return self._user + self._shown * pictures

    def row(self, pictures: tuple[int, ...], question: Asked) -> Row:
        """Return the row of a question about pictures of a batch."""
        said = self.opening(len(pictures)) + self._ids(question.text) + self._end + self._reply
        reply = self._ids(question.answer) + self._end[:1]
        counts = [0.0] * len(said) + self._counts(reply) + [0.0]
        found = boxes.find(question.answer)
        box = tuple(side / boxes.GRID for side in found[0]) if len(found) == 1 else None
        return Row(said + reply + self._end[1:], counts, pictures, box)

    def _counts(self, reply: list[int]) -> list[float]:
        counts, before = [], 0
        for word in reply:
            counts.append(COARSE**before)
            before = before + 1 if word in self._digits else 0
        return counts


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
        """Return single pictures of a step, two of each room."""
        rng = random.Random(provenance.seed_of("views", self.seed, step))
        shown: list[View] = []
        for _ in range(number // 2):
            room = views.Room(self.folder, rng.choice(self._learned))
            shown += [room[rng.randrange(len(room))] for _ in range(2)]
        return shown

    def step(self, step: int, pictures: int, questions: int, pairs: float) -> Batch:
        """Return the pictures and rows of a step.

        Args:
            step: Counted from 0.
            pictures: An even number: they are drawn by twos.
            questions: About each picture.
            pairs: Share of the twos that are shown together, each question being about one.
        """
        rng = random.Random(provenance.seed_of("step", self.seed, step))
        batch = Batch([], [], [])
        for _ in range(pictures // 2):
            if rng.random() < pairs:
                self._add(batch, rng, self._learned, 2, 2 * questions)
            else:
                for _ in range(2):
                    self._add(batch, rng, self._learned, 1, questions)
        return batch

    def apart(self, most: int) -> Batch:
        """Return questions about rooms that nothing is learned from, 20 a room at most."""
        rng = random.Random(provenance.seed_of("measure", self.seed))
        batch = Batch([], [], [])
        for k in range(min(most, 20 * len(self._apart)) // 2):
            self._add(batch, rng, [self._apart[k % len(self._apart)]], 1 + k % 2, 2)
        return batch

    def _add(self, batch: Batch, rng: random.Random, among: Sequence[int], n: int, q: int) -> None:
        """Draw ``n`` pictures of one of some rooms with ``q`` questions, and add them.

        Raises:
            BadFile: The pictures show nothing to ask about.
        """
        for _ in range(100):
            shown = self._draw(rng.choice(among), n, rng)
            asked = list(islice(asking.ask(shown, rng), q))
            if len(asked) == q:
                places = tuple(range(len(batch.views), len(batch.views) + n))
                batch.views.extend(shown)
                batch.rows.extend(self.writer.row(places, question) for question in asked)
                batch.asked.extend(asked)
                return
        raise BadFile(f"{self.folder}: the pictures show too little to ask about")

    def _draw(self, room: int, number: int, rng: random.Random) -> list[View]:
        """Return pictures of a room; two of them as often from about one place as not."""
        found = views.Room(self.folder, room)
        first = rng.randrange(len(found))
        if number == 1:
            return [found[first]]
        near = [k for k in range(len(found)) if 0 < abs(k - first) < views.LOOKS]
        far = [k for k in range(len(found)) if k != first]
        return [found[first], found[rng.choice(near if near and rng.random() < 0.5 else far)]]


def pad(rows: Sequence[Row], filler: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and counts (rows, length), padded on the right to a multiple of eight."""
    longest = -(-max(len(row.ids) for row in rows) // 8) * 8
    ids, counts = torch.full((len(rows), longest), filler), torch.zeros(len(rows), longest)
    for k, row in enumerate(rows):
        ids[k, : len(row.ids)], counts[k, : len(row.ids)] = map(torch.tensor, (row.ids, row.counts))
    return ids, counts


def alike(rows: Sequence[Row], image: int) -> list[list[Row]]:
    """Return the rows of as many pictures and of about one length together: little padding.

    Args:
        rows: Any.
        image: The id that stands for a token of a picture.
    """
    groups: dict[tuple[int, bool], list[Row]] = {}
    for row in rows:
        said = len(row.ids) - row.ids.count(image) - 2 * len(row.pictures)
        groups.setdefault((len(row.pictures), said > LONG), []).append(row)
    return list(groups.values())


LONG = 38
"""Tokens beside pictures and their marks above which a row counts as long."""
