"""Checks that need more than one question: repeats, contradictions, leaks, answer balance."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterable

from w2v import motion, phrases
from w2v.checks import answers
from w2v.kinds import Problem, Verdict
from w2v.provenance import digest
from w2v.records import Question


def interval(hits: int, number: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share (Wilson 1927); (0, 1) of nothing."""
    if number == 0:
        return 0.0, 1.0
    z = 1.959964
    share, spread = hits / number, z * z / number
    middle = (share + spread / 2) / (1 + spread)
    reach = z * math.sqrt(share * (1 - share) / number + spread / (4 * number)) / (1 + spread)
    return max(0.0, middle - reach), min(1.0, middle + reach)


# ── duplicates ────────────────────────────────────────────────────────────────────────────────


class Duplicates:
    """Remembers, by digest, what was asked and what was answered."""

    def __init__(self) -> None:
        self._answer: dict[bytes, str] = {}
        self.repeats = self.contradictions = 0

    def row(self, question: Question) -> Problem | None:
        """Return a problem for a question asked before; the first one stays."""
        asked = [(message.role, message.content) for message in question.messages[:-1]]
        key = bytes.fromhex(digest(question.task_type, question.images, asked, size=16))
        before = self._answer.get(key)
        if before is None:
            self._answer[key] = question.answer
            return None
        if before == question.answer:
            self.repeats += 1
            return Problem(reason="duplicate", detail="the same question was asked before")
        self.contradictions += 1
        detail = f"answered {before!r} before, {question.answer!r} now"
        return Problem(reason="contradiction", detail=detail)

    def whole(self, kept: Iterable[Question]) -> Verdict:
        """Fail where one question has two answers: one of them is wrong."""
        figures = {"duplicates": self.repeats, "contradictions": self.contradictions}
        failures = []
        if self.contradictions:
            failures.append(f"{self.contradictions} questions have a second, different answer")
        return Verdict(figures=figures, failures=failures)


# ── leaks ─────────────────────────────────────────────────────────────────────────────────────

_WAYS = {"forward": "backward", "backward": "forward", "left": "right", "right": "left"}


class Leaks:
    """Looks for the answer in the question, and for a scene in two splits."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._asked: collections.Counter[str] = collections.Counter()
        self._told: collections.Counter[str] = collections.Counter()
        self._paper: collections.Counter[str] = collections.Counter()
        self._split: dict[str, str] = {}
        self.shared: set[str] = set()

    def row(self, question: Question) -> Problem | None:
        """Return a problem where the question holds its answer or its scene is split."""
        split = question.meta.get("split")
        if question.scene and isinstance(split, str):
            before = self._split.setdefault(question.scene, split)
            if before != split:
                self.shared.add(question.scene)
                detail = f"scene {question.scene} is in {before} and in {split}"
                return Problem(reason="scene in two splits", detail=detail)
        self._asked[question.task_type] += 1
        told = told_by(question)
        if not told:
            return None
        if str(question.evidence.get("template", "")).startswith("paper/"):
            self._paper[question.task_type] += 1
            return None
        self._told[question.task_type] += 1
        return Problem(reason="answer in the question", detail=told)

    def whole(self, kept: Iterable[Question]) -> Verdict:
        """Report shares per task; fail above the limit, and where a scene is in two splits."""
        figures: dict[str, object] = {
            task: {
                "leaks": round(self._told[task] / number, 4),
                "leaks in the paper's wording": round(self._paper[task] / number, 4),
            }
            for task, number in sorted(self._asked.items())
        }
        figures["scenes in two splits"] = len(self.shared)
        failures = [
            f"{task}: {self._told[task]} of {number} questions contain their answer"
            for task, number in sorted(self._asked.items())
            if self._told[task] > self.limit * number
        ]
        if self.shared:
            failures.append(f"{len(self.shared)} scenes are in two splits")
        return Verdict(figures=figures, failures=failures)


def told_by(question: Question) -> str:
    """Say how a question gives its answer away, or return an empty text.

    Words that every question of a task holds, such as "yes or no" and the letters of a choice,
    give nothing away. Naming a direction does where the opposite one is not named as well.
    """
    if question.task_type in answers.TRUTHS:
        return ""
    if question.form != "choice" and question.answer.lower() in question.prompt.lower():
        return f"the prompt holds {question.answer!r}"
    if question.task_type in ("A1", "A2"):
        words = set(re.findall(r"[a-z]+", answers.stem(question).lower()))
        for move in answers.moves(question):
            way = move.verb.split()[1]
            if way in words and _WAYS[way] not in words:
                return f"the prompt holds {way!r} and not {_WAYS[way]!r}"
    return ""


# ── balance ───────────────────────────────────────────────────────────────────────────────────


class Balance:
    """Counts the answers of each task."""

    commonest = 10  # how many answers of a task are listed

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def row(self, question: Question) -> Problem | None:
        """Reject nothing: balance is a matter of the whole."""
        return None

    def whole(self, kept: Iterable[Question]) -> Verdict:
        """Report how common each answer is; fail where yes-or-no tasks are lopsided.

        A choice is counted by what its letter stands for; its letters are counted beside.
        """
        counts: dict[str, collections.Counter[str]] = {}
        letters: dict[str, collections.Counter[str]] = {}
        for question in kept:
            counts.setdefault(question.task_type, collections.Counter())[said(question)] += 1
            if question.form == "choice":
                letters.setdefault(question.task_type, collections.Counter())[question.answer] += 1
        figures, failures = {}, []
        for task, count in sorted(counts.items()):
            number = count.total()
            (answer, most), *_ = sorted(count.items(), key=lambda item: (-item[1], item[0]))
            low, high = interval(most, number)
            figures[task] = {
                "questions": number,
                "commonest": answer,
                "share": round(most / number, 4),
                "interval": [round(low, 4), round(high, 4)],
                "different": len(count),
                "answers": dict(_first(count, self.commonest)),
            }
            if task in letters:
                figures[task]["letters"] = dict(sorted(letters[task].items()))
            if task in answers.TRUTHS and low > self.limit:
                failures.append(
                    f"{task}: {most / number:.1%} of {number} answers say {answer!r}, "
                    f"more than {self.limit:.1%}"
                )
        return Verdict(figures=figures, failures=failures)


def said(question: Question) -> str:
    """Return an answer as it is counted: alike for all forms and wordings."""
    true = answers.truth(question)
    if true is not None:
        return phrases.PHRASES[question.task_type].words[not true]
    if question.task_type in answers.MOVES:
        return motion.say(answers.moves(question))
    return answers.stated(question)


def _first(count: collections.Counter[str], number: int) -> list[tuple[str, int]]:
    return sorted(count.items(), key=lambda item: (-item[1], item[0]))[:number]
