"""A file of our own questions as a benchmark: the eight tasks, each with the figures that suit it.

``accuracy`` is 0 or 1 in every task: the right option or truth, the right directions in the right
order, a box with an IoU of at least a half. Amounts are measured beside it. What cannot be read as
one answer is wrong, and counted as ``unparsed`` too, so that a model that does not keep to the
form is told from one that does not know.
"""

from __future__ import annotations

from collections.abc import Iterator

from w2v import formats, motion, phrases, stream
from w2v.checks import answers
from w2v.errors import BadLine, BadRecord
from w2v.kinds import Grade, Outcome, Reward
from w2v.plugins import Spec
from w2v.records import Answer, Move, Question
from w2v.rewards import reading
from w2v.rewards.robust import robust, settled

VERSION = 1
"""To be raised whenever the same answers would give other figures."""


class Questions:
    """Questions from a file, graded by a reward.

    Reading is done by the reward ``robust`` whatever grades, so that the figures of two rewards
    agree on what was said.
    """

    def __init__(self, path: str, reward: Spec, meters: float, degrees: float) -> None:
        self.path, self.meters, self.degrees = path, meters, degrees
        self.version = f"questions {VERSION}, {reward}, {meters:g} meters, {degrees:g} degrees"
        self._reward: Reward = reward.make()
        self._reader = robust()

    def questions(self) -> Iterator[Question]:
        """Yield the questions in the order of the file; rows of World2VLM are read too.

        Raises:
            BadLine: A line is not a question.
        """
        for source, number, _, value in stream.rows(self.path):
            if isinstance(value, BadLine):
                raise value
            try:
                if "kind" not in value and "messages" in value:
                    yield formats.FORMATS["world2vlm"].read(value)
                else:
                    yield Question.from_json(value)
            except BadRecord as error:
                raise BadLine(source, number, error.what, error.hint) from error

    def score(self, question: Question, response: str) -> Grade | None:
        """Return the reward's grade."""
        return self._reward(question.gold, response)

    def outcome(self, question: Question, answer: Answer) -> Outcome:
        """Return the figures of one answer; ``reward`` is left out where none was given."""
        values = {} if answer.score is None else {"reward": answer.score}
        read = self._reader(question.gold, answer.response)
        if read is None:
            return Outcome(question.task_type, values | _of_words(question, answer))
        values["accuracy"] = 0.0
        if question.form == "choice" or question.task_type in answers.TRUTHS:
            values["accuracy"] = read.parts.get("semantic", 0.0)
        elif question.task_type in answers.BOXES:
            overlap = read.parts.get("iou", 0.0)
            values |= {"accuracy": float(overlap >= 0.5), "iou": overlap}
        else:
            values |= self._of_moves(question, answer.response, read)
        values["unparsed"] = float(read.parsed is None)
        return Outcome(question.task_type, values, _truth(question))

    def _of_moves(self, question: Question, response: str, read: Grade) -> dict[str, float]:
        """Return the figures of moves; amounts are compared where all directions are right."""
        values = {"accuracy": 0.0, "within tolerance": 0.0}
        single = question.task_type in ("A1", "A2")
        if not single:
            values["partial"] = read.parts.get("semantic", 0.0)
        wanted = settled(answers.moves(question))
        found = settled(_said(response, once=single)) if read.parsed else []
        if not wanted or [m.verb for m in found] != [m.verb for m in wanted]:
            return values
        pairs = list(zip(wanted, found, strict=True))
        within = all(abs(a.amount - b.amount) <= self._tolerance(a) + 1e-9 for a, b in pairs)
        values |= {"accuracy": 1.0, "within tolerance": float(within)}
        for unit in ("meters", "degrees"):
            off = [abs(a.amount - b.amount) for a, b in pairs if motion.UNITS[a.verb] == unit]
            if off:
                values[f"error in {unit}"] = sum(off) / len(off)
        return values

    def _tolerance(self, move: Move) -> float:
        """Return how far an amount may be off.

        By default what earns full marks in World2VLM's reward (arXiv 2604.26934, eq. 8).
        """
        return self.degrees if motion.is_turn(move) else self.meters


def _said(response: str, once: bool) -> tuple[Move, ...]:
    """Return the moves in a response; the same one said twice counts once where one is wanted."""
    found = reading.one_answer(reading.visible(response), reading.read_moves) or ()
    return tuple(dict.fromkeys(found)) if once else found


def _truth(question: Question) -> str:
    """Return the class of a yes-or-no answer, in words; empty for other tasks."""
    true = answers.truth(question)
    return "" if true is None else phrases.PHRASES[question.task_type].words[not true]


def _of_words(question: Question, answer: Answer) -> dict[str, float]:
    """Return the figures of a task that is not of World2VLM: full marks, or the very words."""
    right = answer.response.strip().casefold() == question.answer.strip().casefold()
    if answer.score is not None:
        right = answer.score >= 1.0
    unread = answer.parsed is None if answer.score is not None else not answer.response.strip()
    return {"accuracy": float(right), "unparsed": float(unread)}
