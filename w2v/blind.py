"""Answers given without looking: what a student must beat before it has learned to see.

Each baseline learns from the text of other scenes' questions and from their answers, and writes
responses that are scored like any student's. ``constant`` gives the answer that would have earned
most; ``words`` and ``trees`` go by the words and numbers of the question (``w2v.checks.guess``);
``copy the box`` gives the box in the question back.
"""

from __future__ import annotations

import functools
import importlib.util
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from w2v import boxes, motion, phrases
from w2v.checks import answers
from w2v.metrics import scene_of
from w2v.provenance import draw, seed_of
from w2v.records import Gold, Move, Quad, Question
from w2v.rewards.robust import robust

FOLDS = 5
TRAIN = 5000
"""How many questions of a task are learned from at most; more hardly helps."""
CANDIDATES, TRIED = 6, 500
"""How many constants are tried, and on how many questions each."""
FEW = 20
"""Of fewer amounts the median is taken; of more, trees guess them."""

Plain = str
"""An answer in the words of its task, whatever form the question wants."""
Fold = tuple[list[int], list[int]]
"""Places of the questions to learn from, and of those to answer."""

_GRADE = robust()


@dataclass(frozen=True)
class Set:
    """The questions of one task: those to learn from and those to answer, in one list."""

    task: str
    questions: Sequence[Question]
    folds: Sequence[Fold]


def answer_all(
    questions: Sequence[Question], train: Sequence[Question] | None = None
) -> dict[str, list[str | None]]:
    """Answer questions by every baseline; None where a baseline has nothing to say.

    Args:
        questions: To be answered.
        train: To be learned from; without it, those of the other four fifths of the scenes.

    Returns:
        By baseline, one response per question, in order.
    """
    found: dict[str, list[str | None]] = {}
    by_task: dict[str, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        by_task[question.task_type].append(place)
    for task, places in by_task.items():
        asked = [questions[place] for place in places]
        learned = None if train is None else [q for q in train if q.task_type == task]
        for name, answer in _baselines(_set(task, asked, learned)):
            row = found.setdefault(name, [None] * len(questions))
            for place, question, plain in zip(places, asked, answer, strict=True):
                row[place] = None if plain is None else _in_form(question, plain)
    return found


def _baselines(one: Set) -> Iterator[tuple[str, list[Plain | None]]]:
    """Yield each baseline's answers to one task."""
    yield "constant", _learned(one, _constant)
    if one.task in answers.BOXES:
        yield "copy the box", [_copied(question) for question in _asked(one)]
    if importlib.util.find_spec("sklearn") is None:
        return
    guess = _Guess(one)
    if one.task in answers.BOXES:
        yield "trees", _learned(one, guess.boxes)
        return
    for name in guess.guessers:
        yield name, _learned(one, functools.partial(guess.answers, name))


# ── what to learn from ────────────────────────────────────────────────────────────────────────


def _set(task: str, asked: Sequence[Question], learned: Sequence[Question] | None) -> Set:
    """Return the questions of a task with the folds; no question is learned and asked."""
    if learned is None:
        fold = _folds([scene_of(question) for question in asked])
        number = max(fold) + 1
        usable = [_plain(question) is not None for question in asked]
        folds = [
            (
                _some([k for k, f in enumerate(fold) if f != n and usable[k]], asked),
                [k for k, f in enumerate(fold) if f == n],
            )
            for n in range(number)
        ]
        return Set(task, asked, folds)
    ids = {question.id for question in asked}
    usable_ones = [q for q in learned if q.id not in ids and _plain(q) is not None]
    questions = [*asked, *usable_ones]
    train = _some(list(range(len(asked), len(questions))), questions)
    return Set(task, questions, [(train, list(range(len(asked))))])


def _folds(scenes: Sequence[str]) -> list[int]:
    """Return fold numbers; a scene is in one fold."""
    order = sorted(set(scenes), key=lambda scene: (seed_of("fold", "eval", scene), scene))
    number = {scene: k % FOLDS for k, scene in enumerate(order)}
    return [number[scene] for scene in scenes]


def _some(places: list[int], questions: Sequence[Question]) -> list[int]:
    """Return at most ``TRAIN`` places, chosen by a hash of the questions' ids."""
    if len(places) <= TRAIN:
        return places
    order = sorted(places, key=lambda place: draw(1 << 62, "blind", questions[place].id))
    return sorted(order[:TRAIN])


def _asked(one: Set) -> list[Question]:
    return [one.questions[k] for k in sorted(k for _, test in one.folds for k in test)]


Learner = Callable[[Set, list[int], list[int]], Sequence[Plain | None]]


def _learned(one: Set, learner: Learner) -> list[Plain | None]:
    """Return the answers to all questions, each learned from the other folds; None from nothing."""
    found: dict[int, Plain | None] = {}
    for train, test in one.folds:
        said = learner(one, train, test) if train else [None] * len(test)
        found |= dict(zip(test, said, strict=True))
    return [found[k] for k in sorted(found)]


# ── answers in plain words ────────────────────────────────────────────────────────────────────


def _plain(question: Question) -> Plain | None:
    """Return the right answer in plain words, None where it cannot be read."""
    if question.task_type in answers.TRUTHS:
        true = answers.truth(question)
        return None if true is None else phrases.PHRASES[question.task_type].words[not true]
    if question.task_type in answers.MOVES:
        return motion.say(answers.moves(question)) or None
    if question.task_type in answers.BOXES:
        box = answers.box(question)
        return None if box is None else _say_box(box)
    return answers.stated(question) or None


def _say_box(box: Iterable[float]) -> Plain:
    return boxes.say([round(v) for v in box])


def _in_form(question: Question, plain: Plain) -> str:
    """Return a plain answer in the form a question wants: for a choice, the nearest option."""
    if question.form != "choice" or not question.options:
        return plain
    worth = [_worth(question.task_type, option, plain) for option in question.options]
    return phrases.LETTERS[worth.index(max(worth))]


def _worth(task: str, right: str, said: str) -> float:
    """Return what an answer earns if another is right."""
    grade = _GRADE(Gold(task, right, "plain"), said)
    return float(said == right) if grade is None else grade.score


# ── without the words of the question ─────────────────────────────────────────────────────────


def _constant(one: Set, train: list[int], test: list[int]) -> list[Plain | None]:
    """Give always the answer that would have earned most of those learned from."""
    right = [plain for k in train if (plain := _plain(one.questions[k])) is not None]
    tried = right[:: max(1, len(right) // TRIED)]

    def earned(said: Plain) -> float:
        return sum(_worth(one.task, answer, said) for answer in tried)

    return [max(_candidates(one.task, right), key=earned)] * len(test)


def _candidates(task: str, right: Sequence[Plain]) -> list[Plain]:
    """Return constants worth trying: the commonest answers, moves and boxes with median amounts."""
    if task in answers.BOXES:
        found = [boxes.find(plain)[0] for plain in right]
        return [_say_box(statistics.median(column) for column in zip(*found, strict=True))]
    if task not in answers.MOVES:
        return [plain for plain, _ in Counter(right).most_common(CANDIDATES)]
    by_verbs: dict[str, list[tuple[Move, ...]]] = defaultdict(list)
    for plain in right:
        moves = motion.parse(plain)
        by_verbs[answers.verbs(moves)].append(moves)
    common = sorted(by_verbs.values(), key=lambda lists: -len(lists))[:CANDIDATES]
    return [motion.say(_middle(lists)) for lists in common]


def _middle(lists: Sequence[Sequence[Move]]) -> list[Move]:
    """Return moves of the same verbs with the median amounts."""
    return [
        Move(verb=column[0].verb, amount=statistics.median(move.amount for move in column))
        for column in zip(*lists, strict=True)
    ]


def _copied(question: Question) -> Plain | None:
    given: list[Quad] = boxes.find(answers.stem(question))
    return _say_box(given[0]) if given else None


# ── by the words of the question ──────────────────────────────────────────────────────────────


class _Guess:
    """Guesses one task from its text; one thread, so that sums come out the same everywhere."""

    def __init__(self, one: Set) -> None:
        from w2v.checks import guess

        self._guess = guess
        self.told = guess.Told([question.prompt for question in one.questions])
        self.guessers = tuple(guess.GUESSERS)

    def answers(self, name: str, one: Set, train: list[int], test: list[int]) -> list[Plain | None]:
        """Guess the class of each answer, and amounts where it is moves."""
        right = [_plain(one.questions[k]) or "" for k in train]
        if one.task not in answers.MOVES:
            return list(self._classes(name, right, train, test))
        moves = [motion.parse(plain) for plain in right]
        verbs = self._classes(name, [answers.verbs(m) for m in moves], train, test)
        wanted = {verb for said in verbs for verb in said.split("; ")}
        amount = {
            verb: self._amounts(verb, moves, train, test, trees=name == "trees") for verb in wanted
        }
        return [
            motion.say([Move(verb=v, amount=float(amount[v][k])) for v in said.split("; ")])
            for k, said in enumerate(verbs)
        ]

    def _classes(
        self, name: str, right: Sequence[str], train: list[int], test: list[int]
    ) -> list[str]:
        """Return the likeliest class of each question."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        names = sorted(set(right))
        if len(names) == 1:
            return names * len(test)
        at = np.zeros(len(self.told.numbers), dtype=int)
        at[train] = [names.index(answer) for answer in right]
        with threadpool_limits(1):
            classes, chances = self._guess.GUESSERS[name](
                self.told, at, np.array(train), np.array(test)
            )
        return [names[k] for k in classes[chances.argmax(1)]]

    def _amounts(
        self,
        verb: str,
        moves: Sequence[Sequence[Move]],
        train: list[int],
        test: list[int],
        trees: bool,
    ) -> np.ndarray:
        """Return (N,) amounts to give with a verb, in meters or degrees."""
        known = [
            (place, move.amount)
            for place, said in zip(train, moves, strict=True)
            for move in said
            if move.verb == verb
        ]
        amounts = np.array([amount for _, amount in known])
        if not trees or len(known) < FEW:
            return np.full(len(test), np.median(amounts))
        # A reward on a relative scale is pleased by logarithms.
        places = [place for place, _ in known]
        return np.exp(self._regress(places, np.log(np.maximum(amounts, 0.05)), test))

    def boxes(self, one: Set, train: list[int], test: list[int]) -> list[Plain | None]:
        """Guess boxes from the numbers in the question."""
        right = [answers.box(one.questions[k]) for k in train]
        guessed = self._regress(train, np.array(right), test)
        return [_say_box(box) for box in guessed.tolist()]

    def _regress(self, train: list[int], right: np.ndarray, test: list[int]) -> np.ndarray:
        """Return what trees make of the numbers in the questions, one row per question."""
        from sklearn.ensemble import ExtraTreesRegressor
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            model = ExtraTreesRegressor(n_estimators=50, min_samples_leaf=2, random_state=0)
            found: np.ndarray = model.fit(self.told.numbers[train], right).predict(
                self.told.numbers[test]
            )
        return found
