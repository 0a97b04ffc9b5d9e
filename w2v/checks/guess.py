"""What can be guessed of an answer from the words of its question, without the pictures.

Two guessers learn from the text of other scenes' questions: naive Bayes on word pairs, and trees
on the numbers in it (moves, boxes, how far a box went and how it grew) with the commonest words.
``w2v validate --check blind`` reports what they earn; ``--balance answers`` takes it from them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from w2v import boxes as grids
from w2v import motion
from w2v.provenance import draw, seed_of
from w2v.records import Move, Quad, Question

FOLDS = 5
TOKEN = r"[^\W\d_]+|\d+(?:\.\d+)?"
WORDS = 60  # how many of the commonest words the trees are told of
PAIRS = 5000  # how many of the commonest words and pairs naive Bayes is told of
TRAIN = 5000  # how many questions a guesser learns from at most; more hardly helps it


def scene_of(question: Question) -> str:
    """Return what must not be both learned from and guessed: the scene, as far as it is known."""
    return question.scene or question.clip or question.id


def folds(scenes: Sequence[str], salt: str) -> np.ndarray:
    """Return (N,) int fold numbers; a scene is in one fold, folds have as many scenes each.

    There are fewer than ``FOLDS`` where there are fewer scenes.
    """
    order = sorted(set(scenes), key=lambda scene: (seed_of("fold", salt, scene), scene))
    number = {scene: k % FOLDS for k, scene in enumerate(order)}
    return np.array([number[scene] for scene in scenes], dtype=int)


# ── what a text says in numbers ───────────────────────────────────────────────────────────────


def numbers(text: str) -> list[float]:
    """Return what a prompt says in numbers; 0 where it does not say it."""
    return [*_of_moves(motion.parse(text)), *_of_boxes(grids.find(text))]


def _of_moves(moves: Sequence[Move]) -> list[float]:
    """Return amounts by verb, how round they are, and the order of the verbs."""
    amount = dict.fromkeys(motion.VERBS, 0.0)
    for move in moves:
        amount[move.verb] += move.amount
    net = [amount[verb] - amount[motion.opposite(verb)] for verb in motion.VERBS[::2]]
    places = [1.0 + motion.VERBS.index(move.verb) for move in moves[:3]]
    # Claims that were changed by a fixed step show in the remainder ("turn left 35 degrees").
    turns = [move.amount % 10 for move in moves if motion.is_turn(move)]
    walks = [round(move.amount * 10) % 5 for move in moves if not motion.is_turn(move)]
    return [
        *amount.values(),
        *net,
        *(places + [0.0] * 3)[:3],
        float(len(moves)),
        max(turns, default=0.0),
        float(max(walks, default=0)),
    ]


def _of_boxes(found: Sequence[Quad]) -> list[float]:
    """Return place and size of the first two boxes, and what became of the one in the other."""
    described: list[float] = []
    for box in (*found, (0.0,) * 4, (0.0,) * 4)[:2]:
        width, height = box[2] - box[0], box[3] - box[1]
        described += [*box, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, width, height]
        described.append(width * height)
    if len(found) < 2:
        return [*described, *[0.0] * 7, float(len(found))]
    one, other = found[:2]
    right = (other[0] + other[2] - one[0] - one[2]) / 2
    down = (other[1] + other[3] - one[1] - one[3]) / 2
    wider = _log_ratio(other[2] - other[0], one[2] - one[0])
    higher = _log_ratio(other[3] - other[1], one[3] - one[1])
    shared = grids.iou(one, other)
    grown = [wider, higher, abs(wider + higher), shared]
    return [*described, right, down, math.hypot(right, down), *grown, float(len(found))]


def _log_ratio(one: float, other: float) -> float:
    return math.log(max(one, 1.0) / max(other, 1.0))


# ── guessers ──────────────────────────────────────────────────────────────────────────────────


class Told:
    """What N texts say, as the guessers see it; answers play no part in it.

    ``words`` is (N, V) sparse, 1 where a word or pair of words is there; ``numbers`` is (N, K)
    float64, with the commonest words in the last columns.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        texts = [f"question {text}" for text in texts]  # a vocabulary may not be empty
        count = CountVectorizer(
            ngram_range=(1, 2), token_pattern=TOKEN, binary=True, max_features=5000
        )
        self.words = count.fit_transform(texts)
        common = CountVectorizer(token_pattern=TOKEN, binary=True, max_features=WORDS)
        said = np.array([numbers(text) for text in texts])
        every = np.hstack([said, common.fit_transform(texts).toarray()])
        varied = (every != every[0]).any(axis=0)
        self.numbers = every[:, varied] if varied.any() else every[:, :1]


Guess = tuple[np.ndarray, np.ndarray]
"""The classes that were learned, (C,) int, and (N, C) chances of each."""


def _words(told: Told, at: np.ndarray, train: np.ndarray, test: np.ndarray) -> Guess:
    """Return guesses of naive Bayes on words and pairs of words."""
    model = MultinomialNB().fit(told.words[train], at[train])
    return model.classes_, model.predict_proba(told.words[test])


def _trees(told: Told, at: np.ndarray, train: np.ndarray, test: np.ndarray) -> Guess:
    """Return guesses of trees on numbers and common words."""
    if len(set(at[train])) == 2:
        model = HistGradientBoostingClassifier(
            max_iter=50, max_leaf_nodes=12, early_stopping=False, random_state=0
        )
    else:
        model = ExtraTreesClassifier(n_estimators=50, min_samples_leaf=3, random_state=0)
    model.fit(told.numbers[train], at[train])
    return model.classes_, model.predict_proba(told.numbers[test])


Guesser = Callable[[Told, np.ndarray, np.ndarray, np.ndarray], Guess]
GUESSERS: dict[str, Guesser] = {"words": _words, "trees": _trees}


def out_of_fold(
    guesser: str, told: Told, answers: Sequence[str], scenes: Sequence[str], salt: str
) -> tuple[list[str], np.ndarray] | None:
    """Guess every answer from the questions of other scenes.

    Args:
        guesser: A name in ``GUESSERS``.
        told: What the N prompts say.
        answers: N answers, as classes.
        scenes: N scenes, see ``scene_of``.
        salt: Names this way to cut the scenes into folds.

    Returns:
        The C classes in order, and (N, C) float64 probabilities; None where there is one scene
        only, and so nothing to learn from.
    """
    fold = folds(scenes, salt)
    if len(set(fold)) < 2:
        return None
    names = sorted(set(answers))
    at = np.array([names.index(answer) for answer in answers])
    guessed = np.zeros((len(at), len(names)))
    # One thread: sums of floats depend on how many threads share them, and so would the rows kept.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # small sets have columns of one value
        for number in sorted(set(fold)):
            test = np.flatnonzero(fold == number)
            train = _some(np.flatnonzero(fold != number), salt)
            if len(set(at[train])) == 1:
                guessed[test, at[train[0]]] = 1.0
                continue
            classes, chances = GUESSERS[guesser](told, at, train, test)
            guessed[test[:, None], classes] = chances
    return names, guessed


def _some(places: np.ndarray, salt: str) -> np.ndarray:
    """Return at most ``TRAIN`` places, spread evenly."""
    if len(places) <= TRAIN:
        return places
    order = sorted(places.tolist(), key=lambda place: draw(1 << 62, "train", salt, place))
    return np.array(sorted(order[:TRAIN]))
