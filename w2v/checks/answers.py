"""What an answer says, in whatever form it is written, and what each task's answer must be."""

from __future__ import annotations

from collections.abc import Mapping

from w2v import boxes, motion, phrases
from w2v.records import Move, Quad, Question

TRUTHS = tuple(phrases.PHRASES)
"""Tasks with a yes-or-no answer."""

MOVES: Mapping[str, tuple[int, int]] = {"A1": (1, 1), "A2": (1, 1), "A3": (2, 3), "D3": (1, 2)}
"""Tasks whose answer is moves: the least and the most of them (World2VLM, appendix B)."""

BOXES = ("D1",)
IMAGES = {"D2": 1} | dict.fromkeys(("A1", "A2", "A3", "A4", "D1", "D3", "D4"), 2)
"""How many pictures each task shows; D2 asks what a picture it does not show would hold."""


def stated(question: Question) -> str:
    """Return the answer in its own words: for a choice, the words of the option it names."""
    if question.form != "choice" or not question.options:
        return question.answer
    place = phrases.read_choice(question.options, question.answer)
    return "" if place is None else question.options[place]


def truth(question: Question) -> bool | None:
    """Return whether the answer says yes or true, None for other tasks and unreadable answers."""
    if question.task_type not in TRUTHS:
        return None
    return phrases.read_truth(question.task_type, question.form, question.options, question.answer)


def moves(question: Question) -> tuple[Move, ...]:
    """Return the moves in the answer."""
    return motion.parse(stated(question))


def box(question: Question) -> Quad | None:
    """Return the one box in the answer, on the grid 0..1000."""
    found = boxes.find(stated(question))
    return found[0] if len(found) == 1 else None


def stem(question: Question) -> str:
    """Return the prompt without the options of a choice."""
    if question.form != "choice":
        return question.prompt
    return question.prompt.replace(phrases.say_options(question.options), "")


def verbs(moves: tuple[Move, ...]) -> str:
    """Return the verbs of some moves as one word for counting."""
    return "; ".join(move.verb for move in moves)
