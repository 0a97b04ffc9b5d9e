"""Leaving questions out so that what is kept is even: in its answers, its tasks, its sources.

Which questions stay is decided by hashes of their ids and a seed, so it does not depend on the
order they come in; what stays keeps that order. Nothing is ever repeated to fill a gap.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from w2v.checks import answers
from w2v.checks.sets import interval
from w2v.errors import BadOption
from w2v.plugins import need
from w2v.provenance import seed_of
from w2v.records import Question

GRPO_PER_TASK = 125
"""World2VLM, appendix A: 125 questions of each task, 250 of each of four source buckets."""

UNMATCHED = "no counterpart with the other answer"
TOO_MANY = "more than the others have"
ROUNDS = 8  # of matching; each takes away what the guessers have left to go by
AT_CHANCE, NEARLY = 0.52, 0.55
CALIPER = 0.05  # how far apart the chances of two matched questions may be


class Balanced(NamedTuple):
    """What was kept, how many were left out by reason, and what there were too few of.

    ``short`` says by group how many questions were missing from what was asked for.
    """

    kept: list[Question]
    dropped: collections.Counter[str]
    short: dict[str, int]


def balance(
    questions: Sequence[Question], preset: str, seed: int = 0, per_task: int | None = None
) -> Balanced:
    """Balance questions by a preset: ``answers``, ``tasks`` or ``grpo``.

    ``answers`` keeps yes-or-no questions in pairs, a yes and a no whose texts are alike, so that
    text alone answers half of them. ``tasks`` keeps as many of each task, from each source alike,
    as the rarest task has. ``grpo`` draws World2VLM's subset for reinforcement learning, 125 of
    each task, even over sources and kinds of trajectory.

    Args:
        questions: In any order.
        preset: The name of one.
        seed: Another seed keeps others.
        per_task: Another number of each task for ``tasks`` and ``grpo``.

    Raises:
        BadOption: There is no such preset, or it takes no number, or that is not positive.
        MissingPackage: ``answers`` needs scikit-learn.
    """
    if preset not in PRESETS:
        raise BadOption(f"no balance is called {preset!r}", f"known: {', '.join(PRESETS)}")
    if per_task is not None and (per_task < 1 or preset == "answers"):
        raise BadOption(
            f"balance {preset!r} cannot keep {per_task} of each task",
            "give a positive number, and only to tasks or grpo",
        )
    return PRESETS[preset](questions, per_task, seed)


# ── even numbers ──────────────────────────────────────────────────────────────────────────────

Key = Callable[[Question], str]


def tasks(questions: Sequence[Question], number: int | None, seed: int) -> Balanced:
    """Keep as many of each task, from each source alike; by default as many as the rarest has."""
    sizes = collections.Counter(question.task_type for question in questions)
    return _even(questions, number or min(sizes.values(), default=0), [source], seed)


def grpo(questions: Sequence[Question], number: int | None, seed: int) -> Balanced:
    """Keep as many of each task, even over sources and then over kinds of trajectory."""
    return _even(questions, number or GRPO_PER_TASK, [source, trajectory], seed)


def source(question: Question) -> str:
    """Return where the question's scene comes from."""
    return question.source or "unknown"


def trajectory(question: Question) -> str:
    """Return the kind of trajectory: the verbs of its moves as far as the evidence tells."""
    moves = question.evidence.get("moves")
    if not isinstance(moves, list) or not moves:
        return "unknown"
    # "move forward 1.5 meters" → "move forward"
    return "; ".join(" ".join(str(words).split()[:2]) for words in moves)


def _even(questions: Sequence[Question], number: int, keys: Sequence[Key], seed: int) -> Balanced:
    """Keep ``number`` of each task, spread evenly over the values of each key in turn."""
    by_task = _group(questions, lambda question: question.task_type)
    kept: set[int] = set()
    short: dict[str, int] = {}
    for turn, (task, places) in enumerate(sorted(by_task.items())):
        ranked = sorted(places, key=lambda place: (_rank(questions[place], seed), place))
        # Odd numbers do not halve: the one too many goes to another source with each task.
        chosen = _spread(questions, ranked, number, keys, turn)
        if len(chosen) < number:
            short[task] = number - len(chosen)
        short |= _lacking(questions, ranked, number, task)
        kept.update(chosen)
    return _result(questions, kept, TOO_MANY, short)


def _spread(
    questions: Sequence[Question],
    ranked: Sequence[int],
    number: int,
    keys: Sequence[Key],
    turn: int,
) -> list[int]:
    """Return places of ``number`` questions out of ranked ones, even over the first key."""
    if not keys or number >= len(ranked):
        return list(ranked[:number])
    groups: dict[str, list[int]] = {}
    for place in ranked:
        groups.setdefault(keys[0](questions[place]), []).append(place)
    shares = fill({name: len(places) for name, places in groups.items()}, number, turn)
    return [
        place
        for name, share in shares.items()
        for place in _spread(questions, groups[name], share, keys[1:], turn)
    ]


def fill(room: Mapping[str, int], number: int, turn: int = 0) -> dict[str, int]:
    """Share a number out as evenly as the room allows.

    Args:
        room: How many each may get at most.
        number: How many there are; what finds no room is left over.
        turn: Who, counted in order of name, gets the first of what does not divide.
    """
    names = sorted(room)
    got = dict.fromkeys(names, 0)
    left = min(number, sum(room.values()))
    while left:
        able = [name for name in names if got[name] < room[name]]
        each = left // len(able)
        if each == 0:
            first = turn % len(able)
            for name in (*able[first:], *able[:first])[:left]:
                got[name] += 1
            return got
        for name in able:
            more = min(each, room[name] - got[name])
            got[name] += more
            left -= more
    return got


def _lacking(
    questions: Sequence[Question], ranked: Sequence[int], number: int, task: str
) -> dict[str, int]:
    """Return how many each source of a task falls short of its even share."""
    have = collections.Counter(source(questions[place]) for place in ranked)
    each = number // len(have)
    return {
        f"{task} from {name}": each - have[name]
        for name in sorted(have)
        if len(have) > 1 and have[name] < each
    }


def _rank(question: Question, seed: int) -> tuple[int, str]:
    return seed_of("balance", seed, question.id), question.id


def _group(questions: Iterable[Question], key: Key) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        groups.setdefault(key(question), []).append(place)
    return groups


def _result(
    questions: Sequence[Question], kept: set[int], reason: str, short: dict[str, int] | None = None
) -> Balanced:
    """Return the kept questions in the order they came in, the others counted."""
    lost = collections.Counter(
        f"{question.task_type} {reason}"
        for place, question in enumerate(questions)
        if place not in kept
    )
    stay = [question for place, question in enumerate(questions) if place in kept]
    return Balanced(stay, lost, short or {})


# ── even answers ──────────────────────────────────────────────────────────────────────────────


def even_answers(questions: Sequence[Question], number: int | None, seed: int) -> Balanced:
    """Keep yes-or-no questions in pairs whose texts are alike; all others stay."""
    need("sklearn", "w2v[checks]")
    kept = set(range(len(questions)))
    for task, places in sorted(_group(questions, lambda question: question.task_type).items()):
        if task not in answers.TRUTHS:
            continue
        ranked = sorted(places, key=lambda place: (_rank(questions[place], seed), place))
        stay = _matched([questions[place] for place in ranked], seed)
        kept -= {place for k, place in enumerate(ranked) if k not in stay}
    return _result(questions, kept, UNMATCHED)


def _matched(questions: Sequence[Question], seed: int) -> set[int]:
    """Return which of one task's questions to keep so that guessers are left at chance.

    Propensity score matching (Rosenbaum and Rubin 1983): questions that get the same chance of a
    yes from their text alone are comparable. The better guesser's chances are matched first, then
    it is asked again about what is left, for a guesser sees what another one had hidden.
    """
    true = [answers.truth(question) for question in questions]
    stay = [k for k, value in enumerate(true) if value is not None]
    for turn in range(ROUNDS):
        truths = [bool(true[k]) for k in stay]
        if len(set(truths)) < 2:
            return set()  # all say the same: nothing here can be asked
        best = _best_guess([questions[k] for k in stay], truths, f"{seed}/{turn}")
        share = sum(truths) / len(truths)
        if best is None or best[0] <= _chance(len(truths)):
            if max(share, 1 - share) <= AT_CHANCE or best is None and share == 0.5:
                break
            chances = [0.5] * len(stay)  # the text says nothing: even out the numbers alone
        else:
            chances = best[1]
        stay = [stay[k] for k in pairs(chances, truths)]
    return set(stay)


def _chance(number: int) -> float:
    """Return the accuracy up to which so many guesses are as good as tossed coins."""
    lucky = next(
        (hits for hits in range(number // 2, number) if interval(hits, number)[0] > 0.5), number
    )
    return max(AT_CHANCE, min(NEARLY, (lucky - 1) / number))


def _best_guess(
    questions: Sequence[Question], truths: Sequence[bool], salt: str
) -> tuple[float, list[float]] | None:
    """Return the accuracy of the best guesser and its chances of a yes; None for one scene."""
    from w2v.checks import guess

    told = guess.Told([question.prompt for question in questions])
    scenes = [guess.scene_of(question) for question in questions]
    said = [str(truth) for truth in truths]
    best: tuple[float, list[float]] | None = None
    for name in guess.GUESSERS:
        found = guess.out_of_fold(name, told, said, scenes, salt)
        if found is None:
            return None
        chances = [float(row[found[0].index("True")]) for row in found[1]]
        right = sum((chance > 0.5) is truth for chance, truth in zip(chances, truths, strict=True))
        if best is None or right / len(truths) > best[0]:
            best = right / len(truths), chances
    return best


def pairs(chances: Sequence[float], truths: Sequence[bool]) -> list[int]:
    """Return the places of questions that find a partner with the other answer and a like chance.

    Both sides are walked in order of chance, which pairs as many as can be paired within the
    caliper. Questions of equal chance are taken in the order they stand in.
    """
    order = sorted(range(len(chances)), key=lambda k: (round(chances[k], 9), k))
    yes, no = [k for k in order if truths[k]], [k for k in order if not truths[k]]
    kept, i, j = [], 0, 0
    while i < len(yes) and j < len(no):
        gap = chances[yes[i]] - chances[no[j]]
        if abs(gap) <= CALIPER:
            kept += [yes[i], no[j]]
        i += gap <= CALIPER
        j += gap >= -CALIPER
    return sorted(kept)


Preset = Callable[[Sequence[Question], int | None, int], Balanced]
PRESETS: dict[str, Preset] = {"answers": even_answers, "tasks": tasks, "grpo": grpo}
