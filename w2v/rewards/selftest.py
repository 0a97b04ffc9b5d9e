"""Whether a reward can be trusted with a set of questions, found out before any training.

The gold answer of every row must score exactly 1.0. Answers made without looking at the pictures,
and lists that happen to hold the right answer, must not score above chance: what the gold answers
of other questions score on this one, at most a half. A near miss must score less than gold.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from w2v import boxes, motion, phrases
from w2v.kinds import Reward
from w2v.provenance import draw
from w2v.records import Gold, Move, Question

OTHERS = 16
"""How many other gold answers measure the chance of one row."""
MARGIN = 0.1
"""How far above chance a constant answer may score on average."""
FLOOR = 0.1
"""The least chance of an answer that is neither a truth nor a choice; guards tiny sets."""
CEILING = 0.5
"""No cheat may score more, whatever chance is: else a reward that pays for all would pass."""
SEQUENCE = 0.3
"""The same for a sequence: of guessed moves one often stands where it should."""
NEAR = ("amounts off by half", "moves in reverse order", "box off by a tenth")
"""Near misses: they may score, but less than gold."""

Row = tuple[str, Gold]
"""A question's id and gold answer."""

_METERS, _DEGREES = (0.8, 2.0, 3.2, 4.4, 5.6), (15.0, 35.0, 55.0, 75.0, 95.0)
_BOXES = "[0, 0, 500, 500] [500, 0, 1000, 500] [0, 500, 500, 1000] [250, 250, 750, 750]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One answer to one question that scored what it must not."""

    id: str
    task_type: str
    form: str
    answer: str
    said: str
    score: float
    limit: float


@dataclass(slots=True)
class Tally:
    """What one kind of answer scored over the rows of a group."""

    rows: int = 0
    total: float = 0.0
    worst: float = -math.inf
    failed: int = 0

    def add(self, score: float, failed: bool) -> None:
        """Count one score."""
        self.rows += 1
        self.total += score
        self.worst = max(self.worst, score)
        self.failed += failed

    @property
    def mean(self) -> float:
        """The mean score, NaN without rows."""
        return self.total / self.rows if self.rows else math.nan


@dataclass(slots=True, kw_only=True)
class Group:
    """The questions of one task in one form."""

    task_type: str
    form: str
    rows: int
    gold: Tally = field(default_factory=Tally)
    chance: Tally = field(default_factory=Tally)
    cheats: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    constant: str = ""
    constant_score: Tally = field(default_factory=Tally)

    @property
    def worst(self) -> str:
        """The name of the cheat that scores most on average; near misses are none."""
        real = {name: tally for name, tally in self.cheats.items() if name not in NEAR}
        return max(real, key=lambda name: real[name].mean)

    @property
    def constant_limit(self) -> float:
        """The most a constant answer may score on average; few rows prove little."""
        return self.chance.mean + MARGIN + 1 / math.sqrt(self.rows)

    @property
    def ok(self) -> bool:
        """Whether gold is always right, no cheat pays, and no constant answer does."""
        failed = self.gold.failed + sum(tally.failed for tally in self.cheats.values())
        return not failed and self.constant_score.mean <= self.constant_limit

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON."""
        return {
            "task_type": self.task_type,
            "form": self.form,
            "rows": self.rows,
            "ok": self.ok,
            "gold": self.gold.mean,
            "gold_failed": self.gold.failed,
            "chance": self.chance.mean,
            "worst_cheat": self.worst,
            "worst_cheat_score": self.cheats[self.worst].mean,
            "constant": self.constant,
            "constant_score": self.constant_score.mean,
            "constant_limit": self.constant_limit,
            "cheats": {
                name: {"mean": tally.mean, "worst": tally.worst, "failed": tally.failed}
                for name, tally in sorted(self.cheats.items())
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the self-test found; ``failures`` holds one of each kind, ``failed`` counts all."""

    groups: tuple[Group, ...]
    failures: tuple[Failure, ...]
    failed: int
    ungraded: Mapping[str, int]

    @property
    def ok(self) -> bool:
        """Whether something was graded, and every group passed."""
        return bool(self.groups) and all(group.ok for group in self.groups)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON."""
        return {
            "ok": self.ok,
            "failed": self.failed,
            "ungraded": dict(self.ungraded),
            "groups": [group.to_json() for group in self.groups],
            "failures": [asdict(failure) for failure in self.failures],
        }

    def lines(self) -> Iterator[str]:
        """Yield the report as lines of text for people."""
        yield f"{'task':<12}{'rows':>7} {'gold':>6} {'chance':>7} {'constant':>9}  worst cheat"
        for group in self.groups:
            yield (
                f"{group.task_type + ' ' + group.form:<12}{group.rows:>7} {group.gold.mean:>6.3f} "
                f"{group.chance.mean:>7.3f} {group.constant_score.mean:>9.3f}  "
                f"{group.cheats[group.worst].mean:.3f} {group.worst}"
                f"{'' if group.ok else '  FAILED'}"
            )
        for task_type, rows in sorted(self.ungraded.items()):
            yield f"{task_type:<12}{rows:>7} not graded by this reward"
        for failure in self.failures:
            yield (
                f"{failure.id}: {failure.answer} scores {failure.score:.3f}, "
                f"limit {failure.limit:.3f}: {failure.said!r}"
            )
        if self.failed > len(self.failures):
            yield f"… {self.failed - len(self.failures)} more failures"


def self_test(
    questions: Iterable[Question], reward: Reward, *, others: int = OTHERS, keep: int = 20
) -> Report:
    """Attack a reward on every question, without looking at pictures.

    Args:
        questions: Rows that a student would be trained on.
        reward: What would grade it.
        others: How many other gold answers measure the chance of one row.
        keep: How many failures to keep as examples, one of each kind.
    """
    sets: dict[tuple[str, str], list[Row]] = defaultdict(list)
    ungraded: Counter[str] = Counter()
    for question in questions:
        gold = question.gold
        if reward(gold, gold.answer) is None:
            ungraded[gold.task_type] += 1
        else:
            sets[gold.task_type, gold.form].append((question.id, gold))
    failures: list[Failure] = []
    groups, failed = [], 0
    for key in sorted(sets):
        group = _new_group(sets[key])
        groups.append(group)
        for failure in _attack(group, sets[key], _scorer(reward), others):
            failed += 1
            if len(failures) < keep:
                failures.append(failure)
    return Report(groups=tuple(groups), failures=tuple(failures), failed=failed, ungraded=ungraded)


def _scorer(reward: Reward) -> Callable[[Gold, str], float]:
    """Return a function that gives just the score."""

    def score(gold: Gold, said: str) -> float:
        grade = reward(gold, said)
        return grade.score if grade else 0.0

    return score


def _new_group(rows: Sequence[Row]) -> Group:
    """Return an empty group for these rows, with their most common answer as the constant."""
    gold = rows[0][1]
    common = Counter(gold.answer for _, gold in rows).most_common(1)[0][0]
    return Group(task_type=gold.task_type, form=gold.form, rows=len(rows), constant=common)


def _attack(
    group: Group, rows: Sequence[Row], score: Callable[[Gold, str], float], others: int
) -> Iterator[Failure]:
    """Try everything on every row; fill the group, yield what scored what it must not."""
    golds = [gold.answer for _, gold in rows]
    for place, (row, gold) in enumerate(rows):
        right = score(gold, gold.answer)
        group.gold.add(right, right != 1.0)
        if right != 1.0:
            yield _failure(row, gold, "gold", gold.answer, right, 1.0)
        picked = _others(golds, place, row, others)
        chance = max(_floor(gold), _mean([score(gold, other) for other in picked]))
        group.chance.add(chance, False)
        group.constant_score.add(score(gold, group.constant), False)
        other = next((answer for answer in picked if _contradicts(gold, answer)), "")
        for name, said in cheats(gold, other):
            got = score(gold, said)
            limit = right if name in NEAR else min(chance, CEILING)
            bad = got >= limit if name in NEAR else got > limit + 1e-9
            group.cheats[name].add(got, bad)
            if bad:
                yield _failure(row, gold, name, said, got, limit)


def _failure(row: str, gold: Gold, name: str, said: str, score: float, limit: float) -> Failure:
    return Failure(
        id=row,
        task_type=gold.task_type,
        form=gold.form,
        answer=name,
        said=said[:200],
        score=score,
        limit=limit,
    )


def _others(golds: Sequence[str], place: int, row: str, number: int) -> list[str]:
    """Return gold answers of other rows; the same ones for a row whenever it is asked."""
    rest = len(golds) - 1
    if rest <= number:
        return [*golds[:place], *golds[place + 1 :]]
    drawn = (draw(rest, "self-test", row, k) for k in range(number))
    return [golds[k if k < place else k + 1] for k in drawn]


def _contradicts(gold: Gold, other: str) -> bool:
    """Return whether another gold answer is wrong here; sentences about two objects may agree."""
    if gold.form == "choice" or gold.task_type not in phrases.PHRASES:
        return other != gold.answer
    truths = (phrases.polarity(gold.task_type, text) for text in (gold.answer, other))
    return len(set(truths)) > 1


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores) if scores else 0.0


def _floor(gold: Gold) -> float:
    """Return the least that counts as chance for a question."""
    if gold.form == "choice":
        return 1 / max(2, len(gold.options))
    if gold.task_type in phrases.PHRASES:
        return 0.5
    if gold.task_type in ("A3", "D3"):
        return SEQUENCE
    target = next(iter(boxes.find(gold.answer)), None) if gold.task_type == "D1" else None
    # The whole picture overlaps a large target however little is known of it.
    return max(FLOOR, boxes.area(target) / boxes.GRID**2) if target else FLOOR


# ── answers made without looking ──────────────────────────────────────────────────────────────


def cheats(gold: Gold, other: str) -> Iterator[tuple[str, str]]:
    """Yield answers that deserve nothing, by name; those named in ``NEAR`` deserve less than gold.

    Args:
        gold: The question's right answer.
        other: A different answer to the same kind of question; empty if there is none.
    """
    yield "empty", ""
    yield "blanks", " \n\t "
    if gold.prompt:
        yield "echo of the prompt", gold.prompt
    if other:
        yield "right or another", f"{gold.answer} or {other}"
        yield "right, another, right", f"{gold.answer}\n{other}\n{gold.answer}"
        yield "overlong padding", f"{gold.answer}\n" + f"{other}\n{gold.answer}\n" * 200
    if gold.form == "choice":
        yield from _choice_cheats(gold)
    elif gold.task_type in phrases.PHRASES:
        yield from _truth_cheats(gold)
    elif gold.task_type == "D1":
        yield from _box_cheats(gold)
    else:
        yield from _move_cheats(gold)


def _choice_cheats(gold: Gold) -> Iterator[tuple[str, str]]:
    number = len(gold.options) or 2
    letters = phrases.LETTERS[:number]
    yield "all letters", ", ".join(letters)
    yield "all options", phrases.say_options(gold.options) or "A. B."
    yield "another option", next((a for a in letters if a != gold.answer), "")


def _truth_cheats(gold: Gold) -> Iterator[tuple[str, str]]:
    yield "yes or no", "yes or no"
    yield "yes no", "yes no true false"
    if (truth := phrases.polarity(gold.task_type, gold.answer)) is not None:
        form = gold.form or "plain"
        yield "the opposite", phrases.write_truth(gold.task_type, not truth, form)[0]


def _box_cheats(gold: Gold) -> Iterator[tuple[str, str]]:
    given = next(iter(boxes.find(gold.prompt)), None)
    target = next(iter(boxes.find(gold.answer)), None)
    yield "many boxes", _BOXES
    yield "the whole picture", "[0, 0, 1000, 1000]"
    if given and given != target:
        yield "the given box", boxes.say([round(v) for v in given])
    if target:
        off = max(1, round((target[2] - target[0]) / 10))
        yield "box off by a tenth", boxes.say([round(v) + off for v in target])


def _move_cheats(gold: Gold) -> Iterator[tuple[str, str]]:
    moves = motion.parse(gold.answer)
    yield "every move", "; ".join(_say(verb, _amounts(verb)[2]) for verb in motion.VERBS)
    if not moves:
        return
    # The verb often stands in the question; five amounts are never far from any.
    verb = moves[0].verb
    yield "five amounts", "; ".join(_say(verb, amount) for amount in _amounts(verb))
    yield "other directions", _reword(moves, lambda m: (motion.opposite(m.verb), m.amount))
    yield "amounts off by half", _reword(moves, lambda m: (m.verb, m.amount + _half(m)))
    if len({motion.is_turn(move) for move in moves}) > 1:  # moves alone may come in any order
        yield "moves in reverse order", _reword(moves[::-1], lambda m: (m.verb, m.amount))


def _amounts(verb: str) -> Sequence[float]:
    return _METERS if motion.UNITS[verb] == "meters" else _DEGREES


def _half(move: Move) -> float:
    """Return half the amount, and at least what rounding cannot hide."""
    return max(move.amount / 2, 1.0 if motion.is_turn(move) else 0.2)


def _reword(moves: Sequence[Move], change: Callable[[Move], tuple[str, float]]) -> str:
    return "; ".join(_say(*change(move)) for move in moves)


def _say(verb: str, amount: float) -> str:
    return f"{verb} {motion.number(amount)} {motion.UNITS[verb]}"
