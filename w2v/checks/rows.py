"""Checks that look at one question at a time: its grammar, pictures, boxes and moves."""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from w2v import boxes as grids
from w2v import images, motion, paths, phrases, plugins
from w2v.checks import answers
from w2v.checks.clips import clips_of
from w2v.errors import BadFile, BadRecord, OutsideRoot
from w2v.kinds import Problem, Verdict
from w2v.records import Clip, Move, Quad, Question

TAG = "<image>"


UNVERIFIABLE = "unverifiable"


class Verifying:
    """What checks share that compare a question with something: they count where nothing is."""

    def __init__(self) -> None:
        self.tally: collections.Counter[str] = collections.Counter()

    def whole(self, kept: Iterable[Question]) -> Verdict:
        """Report how many questions there was nothing to compare with."""
        return Verdict(figures={UNVERIFIABLE: self.tally[UNVERIFIABLE]})


# ── grammar ───────────────────────────────────────────────────────────────────────────────────


class Grammar:
    """Reads every question the way a trainer and a grader will."""

    def __init__(self) -> None:
        self.tally: collections.Counter[str] = collections.Counter()  # nothing is counted

    def row(self, question: Question) -> Problem | None:
        """Return the first thing that breaks the grammar of the question's task."""
        for find in (_task, _messages, _pictures, _options, _answer):
            if detail := find(question):
                return Problem(reason=_REASONS[find], detail=detail)
        return None

    def whole(self, kept: Iterable[Question]) -> Verdict:
        """Say nothing: grammar is a matter of single questions."""
        return Verdict()


def _task(question: Question) -> str:
    """Say what is wrong with the task's name or the form."""
    if question.task_type not in answers.IMAGES and not _offered(question.task_type):
        return f"{question.task_type!r} is none of {', '.join(sorted(answers.IMAGES))}"
    if question.form not in phrases.FORMS:
        return f"form {question.form!r} is none of {', '.join(phrases.FORMS)}"
    return ""


@functools.cache
def _offered(task: str) -> bool:
    """Return whether a plugin offers a task of that name; its answers have a grammar of its own."""
    plugins.discover()
    return task in plugins.offers("task")


def _messages(question: Question) -> str:
    """Say what is wrong with the turns: [system] (user assistant)+, the last one the answer."""
    roles = [message.role for message in question.messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or len(turns) % 2 or turns != ["user", "assistant"] * (len(turns) // 2):
        return f"turns are {', '.join(roles) or 'missing'}, not user then assistant"
    for message in question.messages:
        if not message.content.replace(TAG, "").strip():
            return f"a turn of the {message.role} is empty"
        if message.role != "user" and TAG in message.content:
            return f"a turn of the {message.role} holds {TAG}"
    if question.messages[-1].content != question.answer:
        return f"the last turn is not the answer {question.answer!r}"
    return ""


def _pictures(question: Question) -> str:
    """Say whether tags, pictures and what the task wants differ in number."""
    tags = sum(message.content.count(TAG) for message in question.messages)
    given = len(question.images)
    wanted = answers.IMAGES.get(question.task_type, given)
    if tags == given == wanted:
        return ""
    return f"{question.task_type} wants {wanted}, the prompt has {tags} {TAG}, the row {given}"


def _options(question: Question) -> str:
    """Say what is wrong with the options of a choice."""
    if question.form != "choice":
        return "only a choice has options" if question.options else ""
    number = len(question.options)
    if number == 0 and question.task_type in answers.TRUTHS:
        return ""  # World2VLM's rows: the options stand in the prompt only
    if not 2 <= number <= len(phrases.LETTERS) or len(set(question.options)) < number:
        return f"{number} options, or two alike"
    if lacking := [text for text in question.options if text not in question.prompt]:
        return f"option {lacking[0]!r} is not in the prompt"
    return ""


def _answer(question: Question) -> str:
    """Say what is wrong with the answer: its form first, then what its task wants."""
    text = question.answer
    if question.form == "choice" and not re.fullmatch(r"[A-Z]", text):
        return f"{text!r} is not a letter"
    if question.form == "choice" and phrases.read_choice(question.options, text) is None:
        return f"{text!r} is none of {len(question.options)} options"
    task = question.task_type
    if task in answers.TRUTHS:
        return _truth(question)
    said, sentence = answers.stated(question), question.form == "sentence"
    if task in answers.MOVES:
        return _moves(said, sentence, task)
    if task in answers.IMAGES:
        return _box(said, sentence)
    return "" if said.strip() else "the answer is empty"


def _truth(question: Question) -> str:
    words = phrases.PHRASES[question.task_type].words
    if question.form == "plain" and question.answer not in words:
        return f"{question.answer!r} is neither {words[0]!r} nor {words[1]!r}"
    if question.form == "sentence" and " " not in question.answer.strip():
        return f"{question.answer!r} is not a sentence"
    return "" if answers.truth(question) is not None else f"{question.answer!r} says neither"


def _moves(said: str, sentence: bool, task: str) -> str:
    try:
        moves = motion.parse(said) if sentence else motion.read(said)
    except BadRecord as error:
        return error.what
    least, most = answers.MOVES[task]
    if not least <= len(moves) <= most:
        return f"{said!r} has {len(moves)} moves, not {least} to {most}"
    if any(move.amount <= 0 for move in moves):
        return f"{said!r} has a move of nothing"
    wanted = {"A1": False, "A2": True}.get(task)
    if wanted is not None and motion.is_turn(moves[0]) is not wanted:
        return f"{said!r} is not a {'turn' if wanted else 'move in meters'}"
    return ""


def _box(said: str, sentence: bool) -> str:
    found = grids.find(said)
    if len(found) != 1:
        return f"{said!r} has {len(found)} boxes, not one"
    x1, y1, x2, y2 = found[0]
    if any(value != int(value) for value in found[0]):
        return f"{said!r} is not in whole numbers"
    if not (0 <= x1 < x2 <= grids.GRID and 0 <= y1 < y2 <= grids.GRID):
        return f"{said!r} is not a box on the grid 0..{grids.GRID}"
    if not sentence and said != grids.say([int(value) for value in found[0]]):
        return f"{said!r} is not written [x1, y1, x2, y2]"
    return ""


_REASONS: dict[Callable[[Question], str], str] = {
    _task: "unknown task",
    _messages: "malformed messages",
    _pictures: "image count",
    _options: "malformed options",
    _answer: "malformed answer",
}


# ── pictures ──────────────────────────────────────────────────────────────────────────────────


class Images(Verifying):
    """Decodes every picture once and compares sizes."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._clips = clips_of(root)
        # Sizes only, so that many stay in memory and a picture is seldom decoded twice.
        self._size = functools.lru_cache(1 << 17)(functools.partial(_decode, root))

    def row(self, question: Question) -> Problem | None:
        """Return why a picture cannot be used."""
        sizes: list[tuple[int, int]] = []
        for name in question.images:
            found = self._size(name)
            if isinstance(found, Problem):
                return found
            sizes.append(found)
        if len(set(sizes)) > 1:
            detail = " and ".join(f"{width}x{height}" for width, height in sizes)
            return Problem(reason="image sizes differ", detail=detail)
        clip = self._clips.find(question)
        if not isinstance(clip, Clip):
            self.tally[UNVERIFIABLE] += 1
            return None
        wanted = clip.intrinsics.width, clip.intrinsics.height
        if sizes and sizes[0] != wanted:
            detail = f"{question.images[0]} is {sizes[0]}, frames of {clip.bundle} are {wanted}"
            return Problem(reason="image size", detail=detail)
        return None


def _decode(root: Path, name: str) -> tuple[int, int] | Problem:
    """Return the width and height of a picture that can be read to its end."""
    try:
        height, width = images.load(paths.resolve(root, name)).shape[:2]
    except OutsideRoot as error:
        return Problem(reason="outside root", detail=error.what)
    except BadFile as error:
        return Problem(reason="unreadable image", detail=error.what)
    return width, height


# ── boxes ─────────────────────────────────────────────────────────────────────────────────────

_ENDS = {"D1": ("from", "to"), "D2": ("from",), "D3": ("from", "to"), "D4": ("from", "to")}


class Boxes(Verifying):
    """Compares boxes in words with the pixel boxes they were written from."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._clips = clips_of(root)

    def row(self, question: Question) -> Problem | None:
        """Return which box is out of range or not the one of the evidence."""
        ends = _ENDS.get(question.task_type, ())
        if problem := _off_grid(question):
            return problem
        known = [read_box(question.evidence.get(end)) for end in ends]
        clip = self._clips.find(question)
        if not ends or not isinstance(clip, Clip) or None in known:
            self.tally[UNVERIFIABLE] += bool(ends)
            return None
        width, height = clip.intrinsics.width, clip.intrinsics.height
        pixels = [box for box in known if box is not None]
        for end, box in zip(ends, pixels, strict=True):
            if not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
                detail = f"{end!r} {box} is not in the frame of {width}x{height}"
                return Problem(reason="box out of frame", detail=detail)
        return _unlike(question, [grids.to_grid(box, width, height) for box in pixels])


def read_box(value: Any) -> Quad | None:
    """Return four numbers out of free-form evidence, or None."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        return None
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in value):
        return None
    return float(value[0]), float(value[1]), float(value[2]), float(value[3])


def _off_grid(question: Question) -> Problem | None:
    """Return a problem for the first box in question or answer that is not on the grid."""
    for box in grids.find(f"{question.prompt} {question.answer}"):
        if not (0 <= box[0] < box[2] <= grids.GRID and 0 <= box[1] < box[3] <= grids.GRID):
            detail = f"{list(box)} is not a box on the grid 0..{grids.GRID}"
            return Problem(reason="box off grid", detail=detail)
    return None


def _unlike(question: Question, known: Sequence[Sequence[int]]) -> Problem | None:
    """Return a problem where a box in words is not the one it was written from."""
    asked = [tuple(map(round, box)) for box in grids.find(answers.stem(question))]
    wanted = list(known)
    if question.task_type in answers.BOXES:
        said, right = answers.box(question), wanted.pop()
        if said is None or tuple(map(round, said)) != tuple(right):
            detail = f"the answer says {said}, the evidence {list(right)}"
            return Problem(reason="wrong box", detail=detail)
    for box, right in zip(asked, wanted, strict=False):
        if box != tuple(right):
            detail = f"the question says {list(box)}, the evidence {list(right)}"
            return Problem(reason="wrong box", detail=detail)
    return None


# ── moves ─────────────────────────────────────────────────────────────────────────────────────


class Moves(Verifying):
    """Compares moves in words with the moves of the bundle, as rounded for words."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._clips = clips_of(root)

    def row(self, question: Question) -> Problem | None:
        """Return where question or answer say other moves than were made."""
        clip = self._clips.find(question)
        if isinstance(clip, Problem):
            return clip
        if clip is None:
            self.tally[UNVERIFIABLE] += 1
            return None
        made = tuple(map(motion.rounded, clip.moves))
        if detail := _unlike_moves(question, made):
            detail += f", the bundle {motion.say(made)!r}"
            return Problem(reason="wrong moves", detail=detail)
        return None


def _unlike_moves(question: Question, made: tuple[Move, ...]) -> str:
    """Say where moves in words are not those that were made."""
    task = question.task_type
    if task in answers.MOVES:
        said = tuple(map(motion.rounded, answers.moves(question)))
        return "" if said == made else f"the answer says {question.answer!r}"
    asked = tuple(map(motion.rounded, motion.parse(answers.stem(question))))
    true = answers.truth(question)
    if task == "A4" and true is not None and (asked == made) is not true:
        return f"the claim {motion.say(asked)!r} is labelled {str(true).lower()}"
    if task in ("D1", "D2", "D4") and asked and asked != made:
        return f"the question says {motion.say(asked)!r}"
    return ""
