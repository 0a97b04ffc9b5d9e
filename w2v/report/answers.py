"""Which kinds of answers there are, how many of each, and a fair sample of them. Light."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from w2v import boxes, motion, phrases
from w2v.provenance import draw
from w2v.records import Question

COLUMNS, ROWS = ("left", "middle", "right"), ("top", "centre", "bottom")


def spoken(question: Question) -> str:
    """Return the answer in words: for a choice, the text of the option."""
    if question.form != "choice" or len(question.answer) != 1:
        return question.answer
    place = phrases.LETTERS.find(question.answer)
    return question.options[place] if 0 <= place < len(question.options) else question.answer


def kind(question: Question) -> str:
    """Return which kind of answer this is: the verbs of moves, the place of a box, or the words.

    Two answers of one kind look alike to a student that guesses.
    """
    said = spoken(question)
    if moves := motion.parse(said):
        return "; ".join(move.verb for move in moves)
    if found := boxes.find(said):
        x1, y1, x2, y2 = found[0]
        column, row = (
            min(2, max(0, int((a + b) / 2 * 3 / boxes.GRID))) for a, b in ((x1, x2), (y1, y2))
        )
        return f"{ROWS[row]} {COLUMNS[column]}"
    if question.task_type in phrases.PHRASES:
        truth = phrases.read_truth(
            question.task_type, question.form, question.options, question.answer
        )
        if truth is not None:
            return phrases.PHRASES[question.task_type].words[not truth]
    return said if len(said) <= 40 else said[:37] + "..."


@dataclass
class Tally:
    """What was met of one task: how many, of which kinds, and a sample of each kind."""

    task_type: str
    kinds: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    weight: float = 0.0
    samples: dict[str, list[tuple[int, str, Question]]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many questions were met."""
        return self.kinds.total()

    @property
    def constant(self) -> float:
        """The share that whoever always gives the commonest kind of answer would get right."""
        return max(self.kinds.values(), default=0) / max(1, self.count)

    def add(self, question: Question, number: int, seed: int) -> None:
        """Count a question; keep it where it is among the ``number`` drawn of its kind."""
        found = kind(question)
        self.kinds[found] += 1
        self.forms[question.form] += 1
        self.weight += question.weight
        drawn = (-draw(1 << 62, "sheet", seed, question.id), question.id, question)
        kept = self.samples.setdefault(found, [])
        # Compared without the question: records have no order.
        if len(kept) < number:
            heapq.heappush(kept, drawn)
        elif kept and drawn[:2] > kept[0][:2]:
            heapq.heapreplace(kept, drawn)

    def sample(self, number: int) -> list[Question]:
        """Return up to ``number`` questions, the kinds of answers in turn, commonest first."""
        turns = [
            [q for *_, q in sorted(self.samples[name], key=lambda drawn: drawn[:2], reverse=True)]
            for name, _ in sorted(self.kinds.items(), key=lambda item: (-item[1], item[0]))
        ]
        longest = max(map(len, turns), default=0)
        dealt = [turn[k] for k in range(longest) for turn in turns if k < len(turn)]
        return dealt[:number]


def tally(questions: Iterable[Question], number: int = 12, seed: int = 0) -> dict[str, Tally]:
    """Count questions by task, keeping a sample that no order of reading changes.

    Args:
        questions: Read once; only the samples are kept.
        number: Questions to keep of each kind of answer.
        seed: Another seed, another sample.
    """
    found: dict[str, Tally] = {}
    for question in questions:
        name = question.task_type
        found.setdefault(name, Tally(name)).add(question, number, seed)
    return dict(sorted(found.items()))


def sample(questions: Sequence[Question], number: int, seed: int = 0) -> list[Question]:
    """Return up to ``number`` of the questions of one task, different answers first."""
    counted = Tally("")
    for question in questions:
        counted.add(question, number, seed)
    return counted.sample(number)
