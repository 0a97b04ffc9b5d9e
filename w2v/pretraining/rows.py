"""Rows to learn from: pictures, and questions about them of which none knows of the others.

A picture is encoded once for all questions about it, and what comes before a question is read once
for all of them. What a step holds depends on (seed, step) alone.
"""

from __future__ import annotations

import math
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

Target = tuple[float, ...]
"""What an answer tells in numbers: x1, y1, x2, y2 of a box, then how far right and down."""
UNTOLD = (math.nan,) * 6


class Row(NamedTuple):
    """One or two pictures and questions about them, each as if it were the only one.

    Args:
        ids: Of tokens: the pictures, then each question with its answer.
        blocks: What each token belongs to: 0 the pictures, k the k-th question. A token sees
            its own block and the pictures.
        places: Of each token, were its question the only one.
        answers: Where the answer of each question lies: from its first token to before its last.
        pictures: Their places in the batch.
        targets: What each answer tells in numbers.
    """

    ids: list[int]
    blocks: list[int]
    places: list[int]
    answers: list[range]
    pictures: tuple[int, ...]
    targets: list[Target]


class Padded(NamedTuple):
    """Rows of one length, (rows, length) each, as ``Row`` tells; nothing is said outside answers.

    ``targets`` (rows, length, 6) tells at each token of an answer what that tells, NaN elsewhere.
    """

    ids: torch.Tensor
    blocks: torch.Tensor
    places: torch.Tensor
    said: torch.Tensor
    targets: torch.Tensor


class Batch(NamedTuple):
    """Pictures, rows with questions about them, and each question with its pictures' places."""

    views: list[View]
    rows: list[Row]
    asked: list[tuple[tuple[int, ...], Asked]]


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

    def _ids(self, text: str) -> list[int]:
        made: list[int] = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return made

    def opening(self, pictures: int) -> list[int]:
        """Return the ids with which every row about so many pictures begins."""
        return self._user + self._shown * pictures

    def row(self, pictures: tuple[int, ...], questions: Sequence[Asked]) -> Row:
        """Return the row of questions about pictures of a batch."""
        ids = self.opening(len(pictures))
        row = Row(ids, [0] * len(ids), [*range(len(ids))], [], pictures, [])
        start = len(ids)
        for block, question in enumerate(questions, 1):
            asked = self._ids(question.text) + self._end + self._reply
            reply = self._ids(question.answer) + self._end
            first = len(row.ids) + len(asked)
            row.answers.append(range(first, first + len(reply) - 1))
            row.ids.extend(asked + reply)
            row.blocks.extend([block] * len(asked + reply))
            row.places.extend(range(start, start + len(asked + reply)))
            row.targets.append(target(question.answer))
        return row


def target(answer: str) -> Target:
    """Return what an answer tells in numbers, in shares of the picture; NaN what it does not."""
    found, way = boxes.find(answer), asking.way(answer)
    if len(found) == 1:
        return (*(side / boxes.GRID for side in found[0]), *UNTOLD[4:])
    return UNTOLD if way is None else (*UNTOLD[:4], *(far / boxes.GRID for far in way))


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
                batch.rows.append(self.writer.row(places, asked))
                batch.asked.extend((places, question) for question in asked)
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


def pad(rows: Sequence[Row], filler: int) -> Padded:
    """Return rows padded on the right to a multiple of eight; padding is a block of its own."""
    shape = len(rows), -(-max(len(row.ids) for row in rows) // 8) * 8
    ids, blocks = torch.full(shape, filler), torch.full(shape, -1)
    places, said = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)
    targets = torch.full((*shape, len(UNTOLD)), math.nan)
    for k, row in enumerate(rows):
        ids[k, : len(row.ids)] = torch.tensor(row.ids)
        blocks[k, : len(row.ids)] = torch.tensor(row.blocks)
        places[k, : len(row.ids)] = torch.tensor(row.places)
        for answer, told in zip(row.answers, row.targets, strict=True):
            said[k, answer.start : answer.stop] = True
            targets[k, answer.start : answer.stop] = torch.tensor(told)
    return Padded(ids, blocks, places, said, targets)


def alike(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows about as many pictures together: they are about as long."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(len(row.pictures), []).append(row)
    return list(groups.values())
