"""World2VLM's own rules (arXiv 2604.26934 and its released code), faults included.

``w2v build-tasks --compat world2vlm`` asks what the original would ask of the same bundles, so
that figures can be compared. It differs from the original in three ways only: draws are hashes
instead of one random stream, so that shards do not matter; a row knows where it came from; and
the forms that the paper does not print are in our words.

What it is known to do wrong, and the tasks of this package do not: an object that a filter
removed counts as gone (D2); a claim is given away by its pattern (A4); a box without a track
is both the same object and another (D4); short moves get lost (A1); directions stand in the
prompt (A1, A2).
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from w2v import motion, phrases, provenance
from w2v.boxes import GRID, say
from w2v.errors import BadOption, BadRecord
from w2v.kinds import Task
from w2v.records import Box, Clip, Message, Move, Quad, Question
from w2v.tasks.asking import DIRECTIONS
from w2v.tasks.templates import IMAGES, SETS, Template

LEAST_METERS, LEAST_DEGREES = 0.02, 1.0
"""Steps below this are dropped when steps are summed, one by one."""
STEP_METERS, STEP_DEGREES, LEAST_FRAMES = 0.2, 5.0, 8
"""The sampler's longest steps, and the fewest frames it spends on one move."""
SCORE, LEAST_AREA, MOST_AREA, MARGIN = 0.3, 0.01, 0.6, 0.01
"""Filter: least score, share of the frame's area, distance from each border."""
LONGER_METERS, LONGER_DEGREES = 0.1, 5.0
"""By how much a false claim is longer, where it is not turned round."""

OBJECTS = frozenset(("D1", "D2", "D3", "D4"))

Drop = Callable[[str], None]


def world2vlm(tasks: Sequence[str], seed: int) -> Task:
    """Return a task that asks what the original would, of the types that are named.

    Raises:
        BadOption: The original has no such task.
    """
    if unknown := [name for name in tasks if name not in IMAGES]:
        raise BadOption(
            f"World2VLM has no task {unknown[0]!r}", f"it has: {', '.join(sorted(IMAGES))}"
        )
    return World2VLM(frozenset(tasks), seed)


class World2VLM:
    """Asks as the original does; see the methods for its rules."""

    def __init__(self, tasks: frozenset[str], seed: int) -> None:
        self.tasks, self.seed = tasks, seed

    def __call__(self, clips: Sequence[Clip], drop: Drop) -> Iterator[Question]:
        """Yield the questions of a scene, clip by clip."""
        claimed = 0
        for clip in clips:
            if clip.last_frame < 1:
                drop("one frame")
                continue
            moves = walked(clip)
            yield from self._motion(clip, moves, claimed, drop)
            claimed += is_composed(clip) and bool(moves)
            if clip.boxes is not None:
                yield from self._objects(clip, moves)
            elif self.tasks & OBJECTS:
                drop("not annotated")

    # ── A1 to A4 ──────────────────────────────────────────────────────────────────────────────

    def _motion(
        self, clip: Clip, moves: tuple[Move, ...], claimed: int, drop: Drop
    ) -> Iterator[Question]:
        """Ask A1 or A2 of a single move, A3 and A4 of every composition."""
        if not is_composed(clip):
            turn = bool(clip.moves) and motion.is_turn(clip.moves[0])
            task = "A2" if turn else "A1"
            made = main_turn(moves) if turn else main_step(moves)
            if task in self.tasks:
                if made is None:
                    drop(f"{task} steps too short")
                else:
                    yield self._ask(clip, task, say_exactly(made), verb=made.verb)
            return
        if not moves:
            for task in sorted(self.tasks & {"A3", "A4"}):
                drop(f"{task} steps too short")
            return
        if "A3" in self.tasks:
            yield self._ask(clip, "A3", "; ".join(map(say_exactly, moves)))
        if "A4" in self.tasks:
            yield self._claim(clip, moves, claimed)

    def _claim(self, clip: Clip, moves: tuple[Move, ...], claimed: int) -> Question:
        """Ask A4: half the claims are true, in turns from a drawn start.

        In a false claim one move, drawn, is turned round or made one step longer, each as likely
        as the other.
        """
        start = provenance.draw(2, clip.scene, "A4", self.seed, "start")
        true = (start + claimed) % 2 == 0
        claim = moves if true else self._falsified(clip, moves)
        words = list(map(say_exactly, claim))
        listed = " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
        answer, _ = phrases.write_truth("A4", true)
        return self._ask(clip, "A4", answer, {"claim": listed}, moves=listed)

    def _falsified(self, clip: Clip, moves: tuple[Move, ...]) -> tuple[Move, ...]:
        place = provenance.draw(len(moves), clip.id, "A4", self.seed, "place")
        move = moves[place]
        if provenance.draw(2, clip.id, "A4", self.seed, "how"):
            false = Move(verb=motion.opposite(move.verb), amount=move.amount)
        else:
            step = LONGER_DEGREES if motion.is_turn(move) else LONGER_METERS
            false = Move(verb=move.verb, amount=move.amount + step)
        return (*moves[:place], false, *moves[place + 1 :])

    # ── D1 to D4 ──────────────────────────────────────────────────────────────────────────────

    def _objects(self, clip: Clip, moves: tuple[Move, ...]) -> Iterator[Question]:
        """Ask at most one D1, D2 and D3 and two D4 of a clip, the boxes with the best scores."""
        first, last = valid(clip)
        told = list(map(say_exactly, moves))
        pair = best_pair(first, last) if self.tasks & {"D1", "D3"} else None
        if pair and "D1" in self.tasks:
            yield self._about(clip, "D1", told, *pair, write(clip, pair[1]), 0)
        top = best(first)
        if top and top.track is not None and "D2" in self.tasks:
            there = find(last, top)
            form = _FORMS[variant(clip, top.label)]
            answer, options = phrases.write_truth("D2", there is None, form, object=top.label)
            yield self._about(clip, "D2", told, top, there, answer, 0, form, options)
        if pair and "D3" in self.tasks and 1 <= len(moves) <= 2:
            yield self._explained(clip, told, *pair)
        if top and "D4" in self.tasks:
            yield from self._identity(clip, told, top, last)

    def _explained(self, clip: Clip, told: list[str], first: Box, last: Box) -> Question:
        """Ask D3: plainly, with the number of moves, or for a sentence."""
        kind = variant(clip, first.label)
        moves = "; ".join(told)
        answer = (moves, f"{len(told)} steps | {moves}", f"The camera did this: {moves}.")[kind]
        form = "plain" if kind == 0 else "sentence"
        name = "D3/steps" if kind == 1 else "D3"
        return self._about(clip, "D3", told, first, last, answer, 0, form, name=name)

    def _identity(
        self, clip: Clip, told: list[str], top: Box, last: Sequence[Box]
    ) -> Iterator[Question]:
        """Ask D4 of the box of D2: once with its own track, once with another of its label.

        A box without a track has any box of its label for its own, and for another.
        """
        same = find(last, top)
        other = best(
            box
            for box in last
            if box.label == top.label and (top.track is None or box.track != top.track)
        )
        number = 0
        for shown, true, key in ((same, True, ":pos"), (other, False, ":neg")):
            if shown is None:
                continue
            form = _FORMS[variant(clip, top.label, key)]
            answer, options = phrases.write_truth("D4", true, form, object=top.label)
            yield self._about(clip, "D4", told, top, shown, answer, number, form, options)
            number += 1

    def _about(
        self,
        clip: Clip,
        task: str,
        told: list[str],
        first: Box,
        last: Box | None,
        answer: str,
        number: int,
        form: str = "plain",
        options: tuple[str, ...] = (),
        name: str = "",
    ) -> Question:
        """Return a question about one box of the first frame, and maybe one of the last."""
        evidence = {
            "track": first.track,
            "label": first.label,
            "from": list(first.xyxy or ()),
            "to": None if last is None else list(last.xyxy or ()),
            "other": None if last is None else last.track,
            "moves": told,
        }
        return self._ask(
            clip,
            task,
            answer,
            evidence,
            number,
            form,
            options,
            name or task,
            object=first.label,
            first=write(clip, first),
            second="" if last is None else write(clip, last),
            moves="; ".join(told),
        )

    def _ask(
        self,
        clip: Clip,
        task: str,
        answer: str,
        evidence: dict[str, Any] | None = None,
        number: int = 0,
        form: str = "plain",
        options: tuple[str, ...] = (),
        name: str = "",
        **fields: str,
    ) -> Question:
        if options:
            fields["options"] = phrases.say_options(options)
        return Question(
            id=f"{clip.id}/{task}/{number + 1}" if number else f"{clip.id}/{task}",
            task_type=task,
            messages=(
                Message(role="user", content=_TEXTS[name or task][form] % fields),
                Message(role="assistant", content=answer),
            ),
            images=(clip.first,) if task == "D2" else (clip.first, clip.last),
            answer=answer,
            form=form,
            options=options,
            direction=DIRECTIONS[task],
            scene=clip.scene,
            clip=clip.id,
            bundle=clip.bundle,
            source=clip.source,
            teacher=clip.teacher,
            evidence={"template": f"world2vlm/{name or task}", **(evidence or {})},
            licences=clip.licences,
        )


# ── moves ─────────────────────────────────────────────────────────────────────────────────────


def is_composed(clip: Clip) -> bool:
    """Return whether a clip is one of the compositions, which alone give A3 and A4."""
    name = str(clip.meta.get("trajectory", ""))
    return len(clip.moves) > 1 or name.startswith(("multi_step_", "T4_"))


def walked(clip: Clip) -> tuple[Move, ...]:
    """Return the moves that the original sees: those its bundle sums up at the last frame.

    Raises:
        BadRecord: The summed moves of the bundle are not tokens such as ``FWD_1.4``.
    """
    prefix = clip.meta.get("prefix")
    if prefix is None:
        return canonical(clip.moves)
    if not isinstance(prefix, list):
        raise BadRecord(f"{clip.id}: meta.prefix should be a list of action tokens")
    try:
        return tuple(motion.from_token(str(token)) for token in prefix)
    except BadRecord as error:
        raise BadRecord(f"{clip.id}: {error.what}", error.hint) from error


def canonical(moves: Sequence[Move]) -> tuple[Move, ...]:
    """Return what is left of moves when they are walked in the sampler's steps and summed again.

    A move takes ``LEAST_FRAMES`` frames or more, and any step of it that is below the threshold
    is dropped, so that a short move vanishes as a whole; so do sums below it.
    """
    kept = [move for move in moves if move.amount / steps(move) >= least(move)]
    return tuple(move for move in motion.merge(kept) if move.amount >= least(move))


def steps(move: Move) -> int:
    """Return in how many equal steps the sampler walks a move."""
    longest = STEP_DEGREES if motion.is_turn(move) else STEP_METERS
    return max(LEAST_FRAMES - 1, math.ceil(move.amount / longest - 1e-9))


def least(move: Move) -> float:
    """Return the amount below which a move of this kind is dropped."""
    return LEAST_DEGREES if motion.is_turn(move) else LEAST_METERS


def main_turn(moves: Sequence[Move]) -> Move | None:
    """Return the sum of the turns as one turn, None where there is none."""
    return _net(moves, "turn right", "turn left")


def main_step(moves: Sequence[Move]) -> Move | None:
    """Return the larger of the sums ahead and aside as one move, None where there is none."""
    ahead = _net(moves, "move forward", "move backward")
    aside = _net(moves, "move right", "move left")
    if ahead is None or aside is None:
        return ahead or aside
    return ahead if ahead.amount >= aside.amount else aside


def _net(moves: Sequence[Move], verb: str, back: str) -> Move | None:
    total = sum(
        move.amount if move.verb == verb else -move.amount
        for move in moves
        if move.verb in (verb, back)
    )
    return Move(verb=verb if total > 0 else back, amount=abs(total)) if abs(total) > 1e-6 else None


def say_exactly(move: Move) -> str:
    """Put a move into words with up to three decimals, as the original does."""
    return f"{move.verb} {motion.number(move.amount)} {motion.UNITS[move.verb]}"


# ── boxes ─────────────────────────────────────────────────────────────────────────────────────


_score: Callable[[Box], float] = operator.attrgetter("score")


def valid(clip: Clip) -> tuple[list[Box], list[Box]]:
    """Return the boxes of the first and last frame that pass the original's filter, in order."""
    wide, high = clip.intrinsics.width, clip.intrinsics.height
    left, top = MARGIN * wide, MARGIN * high
    right, bottom = (1 - MARGIN) * wide, (1 - MARGIN) * high
    least, most = LEAST_AREA * wide * high, MOST_AREA * wide * high
    found: tuple[list[Box], list[Box]] = ([], [])
    for box in clip.boxes or ():
        if box.xyxy is None or box.score < SCORE:
            continue
        x1, y1, x2, y2 = box.xyxy
        inside = left <= x1 < x2 <= right and top <= y1 < y2 <= bottom
        if inside and least <= (x2 - x1) * (y2 - y1) <= most:
            found[box.frame != 0].append(box)
    return found


def best(boxes: Iterable[Box]) -> Box | None:
    """Return the box with the best score, the first of several."""
    return max(boxes, key=_score, default=None)


def find(boxes: Sequence[Box], like: Box) -> Box | None:
    """Return the best box of the same track, or of the same label where there is no track."""
    if like.track is None:
        return best([box for box in boxes if box.label == like.label])
    return best([box for box in boxes if box.track == like.track])


def best_pair(first: Sequence[Box], last: Sequence[Box]) -> tuple[Box, Box] | None:
    """Return the two boxes of one track with the largest sum of scores; labels may differ."""
    tracked: dict[int, Box] = {}
    for box in last:
        if box.track is not None:
            known = tracked.get(box.track)
            if known is None or box.score > known.score:
                tracked[box.track] = box
    pairs = [
        (box, tracked[box.track]) for box in first if box.track is not None and box.track in tracked
    ]
    return max(pairs, key=lambda pair: pair[0].score + pair[1].score, default=None)


def write(clip: Clip, box: Box) -> str:
    """Write a box that is in sight on the grid 0..1000."""
    assert box.xyxy is not None
    return _write(box.xyxy, clip.intrinsics.width, clip.intrinsics.height)


@functools.lru_cache(maxsize=256)
def _write(box: Quad, wide: int, high: int) -> str:
    """Write a pixel box in the original's order of operations, which matters at halves."""
    parts = zip(box, (wide, high, wide, high), strict=True)
    return say([max(0, min(GRID, round(value / size * 1000.0))) for value, size in parts])


# ── words ─────────────────────────────────────────────────────────────────────────────────────

_FORMS = phrases.FORMS
"""The original's three variants of D2 and D4: one word, a letter, a sentence."""

_STEPS = Template(
    question=SETS["paper"]["D3"].question,
    plain="",
    sentence=" Give their number, then the actions in order, as: N steps | action; action.",
)
_TEXTS = {
    name: {form: template.written(form, IMAGES[name[:2]]) for form in phrases.FORMS}
    for name, template in {**SETS["paper"], "D3/steps": _STEPS}.items()
}


def variant(clip: Clip, label: str, key: str = "") -> int:
    """Return which of three variants is used: constant for a trajectory's name, label and length.

    The original adds up the character codes of a key made of these.
    """
    return _code(f"{clip.meta.get('trajectory', '')}:{label}:{clip.last_frame}{key}") % len(_FORMS)


@functools.lru_cache(maxsize=4096)
def _code(text: str) -> int:
    return sum(map(ord, text))
