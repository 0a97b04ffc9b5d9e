"""What answers are worth that were given without looking."""

from __future__ import annotations

import collections
import heapq
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from w2v import boxes as grids
from w2v.checks import answers, guess
from w2v.checks.sets import interval, said
from w2v.kinds import Problem, Verdict
from w2v.provenance import draw
from w2v.records import Question


class Blind:
    """Lets guessers answer each task from the text alone."""

    def __init__(self, limit: float, sample: int) -> None:
        self.limit, self.sample = limit, sample

    def row(self, question: Question) -> Problem | None:
        """Reject nothing: what the text gives away shows in many questions only."""
        return None

    def whole(self, kept: Iterable[Question]) -> Verdict:
        """Report what each guesser earns; fail where the text alone answers yes-or-no tasks."""
        figures, failures = {}, []
        for task, questions in sorted(sample(kept, self.sample).items()):
            if task in answers.BOXES:
                figures[task] = copied(questions)
                continue
            told = guessed(questions)
            figures[task] = told
            best = told["guessers"][told["best"]]
            if task in answers.TRUTHS and best["interval"][0] > self.limit:
                failures.append(
                    f"{task}: {told['best']} alone answers {best['accuracy']:.1%} of "
                    f"{told['questions']} questions without the picture, more than {self.limit:.1%}"
                )
        return Verdict(figures=figures, failures=failures)


def sample(questions: Iterable[Question], most: int) -> dict[str, list[Question]]:
    """Return at most so many questions of each task, chosen by a hash of their ids.

    Questions whose answer cannot be read are left out.
    """
    heaps: dict[str, list[tuple[int, int, Question]]] = collections.defaultdict(list)
    for place, question in enumerate(questions):
        if question.task_type in answers.TRUTHS and answers.truth(question) is None:
            continue
        item = -draw(1 << 62, "blind", question.id), place, question
        heap = heaps[question.task_type]
        (heapq.heappush if len(heap) < most else heapq.heappushpop)(heap, item)
    return {
        task: [question for _, _, question in sorted(heap, key=lambda item: item[1])]
        for task, heap in heaps.items()
    }


def guessed(questions: Sequence[Question]) -> dict[str, Any]:
    """Return accuracy and its 95 % interval of a constant and of each guesser, and the best.

    Moves are guessed by their verbs, without amounts.
    """
    right = [_class(question) for question in questions]
    scenes = [guess.scene_of(question) for question in questions]
    told = guess.Told([question.prompt for question in questions])
    common = collections.Counter(right).most_common(1)[0][1]
    guessers = {"constant": _earned(common, len(right))}
    for name in guess.GUESSERS:
        found = guess.out_of_fold(name, told, right, scenes, "check")
        if found is None:
            continue
        names, chances = found
        hits = sum(names[k] == answer for k, answer in zip(chances.argmax(1), right, strict=True))
        guessers[name] = _earned(hits, len(right))
    best = max(guessers, key=lambda name: guessers[name]["accuracy"])
    return {
        "questions": len(right),
        "scenes": len(set(scenes)),
        "different answers": len(set(right)),
        "guessers": guessers,
        "best": best,
    }


def _class(question: Question) -> str:
    """Return what is guessed: yes or no, or the verbs of the moves."""
    if question.task_type in answers.MOVES:
        return answers.verbs(answers.moves(question))
    return said(question)


def _earned(hits: int, number: int) -> dict[str, Any]:
    low, high = interval(hits, number)
    return {"accuracy": round(hits / number, 4), "interval": [round(low, 4), round(high, 4)]}


def copied(questions: Sequence[Question]) -> dict[str, Any]:
    """Return what copying the box in the question earns, and always giving the median box."""
    pairs = [
        (asked[0], right)
        for question in questions
        if (asked := grids.find(answers.stem(question))) and (right := answers.box(question))
    ]
    if not pairs:
        return {"questions": len(questions), "guessers": {}}
    middle = [statistics.median(right[k] for _, right in pairs) for k in range(4)]
    return {
        "questions": len(questions),
        "guessers": {
            "copy the box": _overlap([grids.iou(asked, right) for asked, right in pairs]),
            "constant": _overlap([grids.iou(middle, right) for _, right in pairs]),
        },
    }


def _overlap(ious: Sequence[float]) -> dict[str, float]:
    hits = sum(value >= 0.5 for value in ious)
    return {"mean iou": round(statistics.fmean(ious), 4), "iou >= 0.5": round(hits / len(ious), 4)}
