"""A reward that cannot be pleased without looking.

It forgives how an answer is wrapped and worded (``w2v.rewards.reading``) and nothing else: one
answer only, amounts on a relative scale, what a blind answer would get subtracted where it is
known (D1: the box copied from the question), and a length cost without a cliff. The gold answer
earns exactly 1.0 in every form.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from w2v import boxes, motion, phrases
from w2v.errors import BadOption
from w2v.kinds import Grade
from w2v.records import Gold, Move, Quad
from w2v.rewards import reading

TASKS = ("A1", "A2", "A3", "A4", "D1", "D2", "D3", "D4")
_VERB_SHARE = 0.25
"""What a right verb is worth within a sequence, whatever its amount."""
_TOO_LONG = 6
"""From this many times the free length on nothing is read: the length cost is exp(-25)."""
_LETTER = re.compile(r"\W*[A-Z]\W*")


def robust(length: int = 200, slack: float = 0.25) -> Robust:
    """Grade all tasks and forms; reads one answer, however wrapped, and pays nothing for lists.

    Up to ``length`` characters are free, twice that costs 63 %. ``slack`` is the relative error
    of an amount, as a logarithm, that leaves 37 % of its credit.
    """
    if length < 1:
        raise BadOption(f"robust: length must be at least 1, got {length}")
    if not 0 < slack < math.inf:
        raise BadOption(f"robust: slack must be positive, got {slack}")
    return Robust(length, slack)


@dataclass(frozen=True, slots=True)
class Robust:
    """Grades A1-A4 and D1-D4 as plain answer, choice or sentence; scores are in [0, 1]."""

    length: int
    slack: float

    def __call__(self, gold: Gold, response: str) -> Grade | None:
        """Return the grade, or None for a task that is not World2VLM's.

        Parts: ``format`` (1 where one answer was read), ``length`` (the factor for length), and
        what the answer is worth by itself. A gold answer that cannot be read scores 0.
        """
        if gold.task_type not in TASKS:
            return None
        said = reading.visible(response)
        free = max(self.length, len(gold.answer))
        if len(said) > _TOO_LONG * free:
            return Grade(0.0, {"format": 0.0, "length": 0.0}, None)
        worth, parts, parsed = self._worth(gold, said)
        cost = math.exp(-((max(0, len(said) - free) / free) ** 2))
        parts = {"format": float(parsed is not None), **parts, "length": cost}
        return Grade(worth * cost, parts, parsed)

    def _worth(self, gold: Gold, said: str) -> tuple[float, dict[str, float], str | None]:
        """Return what the answer is worth, its parts, and the answer as it was read."""
        if gold.form == "choice" or (not gold.form and _LETTER.fullmatch(gold.answer)):
            return _grade_choice(gold, said)
        if gold.task_type in phrases.PHRASES:
            return _grade_truth(gold, said)
        if gold.task_type == "D1":
            return _grade_box(gold, said)
        return self._grade_moves(gold, said)

    def _grade_moves(self, gold: Gold, said: str) -> tuple[float, dict[str, float], str | None]:
        wanted = reading.read_moves(gold.answer)
        found = reading.one_answer(said, reading.read_moves)
        if not wanted or not found:
            return 0.0, {"semantic": 0.0, "numeric": 0.0}, None
        if gold.task_type in ("A1", "A2"):
            found = tuple(dict.fromkeys(found))
            right = len(found) == 1 and found[0].verb == wanted[0].verb
            numeric = closeness(wanted[0], found[0], self.slack) if right else 0.0
            return numeric, {"semantic": float(right), "numeric": numeric}, _say(found)
        worth, semantic, numeric = _align(settled(wanted), settled(found), self.slack)
        return worth, {"semantic": semantic, "numeric": numeric}, _say(found)


def closeness(wanted: Move, said: Move, slack: float) -> float:
    """Return how near an amount is: 1 within rounding, then (ratio of the two) ** (1 / slack)."""
    if said.amount == wanted.amount:
        return 1.0
    if said.amount <= 0 or wanted.amount <= 0:
        return 0.0
    rounding = 0.5 if motion.is_turn(wanted) else 0.05
    error = said.amount - wanted.amount
    nearest = said.amount - math.copysign(min(rounding, abs(error)), error)
    low, high = sorted((nearest, wanted.amount))
    return float((low / high) ** (1 / slack)) if high < math.inf else 0.0


def settled(moves: Sequence[Move]) -> list[Move]:
    """Return moves with each run of translations in one fixed order.

    Between turns their order changes neither the last view nor anything else that two pictures
    could tell, so no order of them is more right than another.
    """
    found: list[Move] = []
    for turn, group in itertools.groupby(moves, motion.is_turn):
        run = list(group)
        found += run if turn else sorted(run, key=lambda move: motion.VERBS.index(move.verb))
    return found


def _align(
    wanted: Sequence[Move], found: Sequence[Move], slack: float
) -> tuple[float, float, float]:
    """Grade moves by the best in-order alignment; each extra move cancels one right one.

    Returns:
        The worth, and the shares of gold moves whose verb is right and whose amount is right.
    """
    best = [(0.0, 0, 0.0)] * (len(found) + 1)  # (credit, verbs, amounts) against found[:j]
    for move in wanted:
        row = [best[0]]
        for j, other in enumerate(found):
            step = max(best[j + 1], row[j])
            if other.verb == move.verb:
                near = closeness(move, other, slack)
                credit, verbs, amounts = best[j]
                credit += _VERB_SHARE + (1 - _VERB_SHARE) * near
                step = max(step, (credit, verbs + 1, amounts + near))
            row.append(step)
        best = row
    credit, verbs, amounts = best[-1]
    number = len(wanted)
    extra = max(0, len(found) - number)
    worth = credit / number * max(0.0, 1 - extra / number)
    return worth, verbs / number, amounts / number


def _grade_choice(gold: Gold, said: str) -> tuple[float, dict[str, float], str | None]:
    """Grade by letter or by an option's own words."""
    read = functools.partial(phrases.read_choice, gold.options)
    wanted, found = read(gold.answer), reading.one_answer(said, read)
    right = float(found is not None and found == wanted)
    return right, {"semantic": right}, None if found is None else phrases.LETTERS[found]


def _grade_truth(gold: Gold, said: str) -> tuple[float, dict[str, float], str | None]:
    """Grade a truth, in a word or a sentence."""
    read = functools.partial(phrases.polarity, gold.task_type)
    wanted, found = read(gold.answer), reading.one_answer(said, read)
    right = float(found is not None and found == wanted)
    words = phrases.PHRASES[gold.task_type].words
    return right, {"semantic": right}, None if found is None else words[not found]


def _grade_box(gold: Gold, said: str) -> tuple[float, dict[str, float], str | None]:
    """Grade by IoU above that of the box given in the question."""
    wanted, found = reading.read_box(gold.answer), reading.one_answer(said, reading.read_box)
    if wanted is None or found is None:
        return 0.0, {"iou": 0.0, "baseline": 0.0}, None
    given = next(iter(boxes.find(gold.prompt)), None)
    overlap = _overlap(found, wanted)
    baseline = 0.0 if given is None else _overlap(given, wanted)
    # Where copying is the right answer there is nothing to subtract.
    worth = overlap if baseline == 1.0 else max(0.0, (overlap - baseline) / (1 - baseline))
    return worth, {"iou": overlap, "baseline": baseline}, "[{:g}, {:g}, {:g}, {:g}]".format(*found)


def _overlap(one: Quad, two: Quad) -> float:
    """Return the IoU, 1 for equal boxes even if they are empty."""
    return 1.0 if one == two else boxes.iou(one, two)


def _say(moves: Sequence[Move]) -> str:
    """Put moves into words without rounding them as an answer would."""
    return "; ".join([f"{m.verb} {m.amount:g} {motion.UNITS[m.verb]}" for m in moves])
