"""Tasks about objects, D1 to D4.

D1 asks where one went, D2 whether it is gone, D3 which moves explain where it went, and D4
whether two boxes are around the same one.

Only kept boxes of followed objects are asked about, and nothing is concluded from a lost track:
an object of which the last frame says nothing is neither there nor gone.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from w2v import boxes as grids
from w2v import phrases
from w2v.errors import BadOption
from w2v.records import Box, Clip, Intrinsics, Move, Quad, Question
from w2v.tasks.asking import OPTIONS, Asker, Drop, remembered, tell, weight_of
from w2v.tasks.motion import write_moves

CLEAR = 0.5
"""Least visible share, where known, of an object that is shown with its box."""
UNMEASURED = 0.5
"""Weight of a label that rests on the tracker's word alone."""
DISTINCT = 0.5
"""Boxes that overlap more than this (IoU) look alike."""
SMALLEST = 500
"""A box takes at least this part of the frame's width and height: two units of the text's grid."""


class Pair(NamedTuple):
    """One object in the first and in the last frame, both boxes kept and clear."""

    first: Box
    last: Box


@remembered
def in_first(clip: Clip) -> list[Box]:
    """Return the boxes of the first frame that are in sight, kept or not."""
    return [box for box in clip.boxes or () if box.frame == 0 and box.xyxy is not None]


@remembered
def in_last(clip: Clip) -> dict[int, Box]:
    """Return what is known of each followed object in the last frame, by track."""
    frame = clip.last_frame
    return {
        box.track: box for box in clip.boxes or () if box.frame == frame and box.track is not None
    }


def askable(clip: Clip, box: Box, clear: float = CLEAR) -> bool:
    """Return whether a question may show this box: kept, followed, and clear where known."""
    return (
        box.kept
        and box.track is not None
        and (box.visible is None or box.visible >= clear)
        and box.xyxy is not None
        and sound(box.xyxy, clip.intrinsics)
        and speakable(box.label)
    )


def sound(box: Quad, camera: Intrinsics) -> bool:
    """Return whether a pixel box lies in the frame and keeps an area on the grid 0..1000."""
    x1, y1, x2, y2 = box
    wide, high = camera.width, camera.height
    return (
        0 <= x1
        and 0 <= y1
        and x2 <= wide
        and y2 <= high
        and (x2 - x1) * SMALLEST >= wide
        and (y2 - y1) * SMALLEST >= high
    )


@functools.lru_cache(maxsize=1024)
def speakable(label: str) -> bool:
    """Return whether a label can stand in a prompt: words on one line, no picture tag."""
    return bool(label.strip()) and label.isprintable() and "<" not in label and "[" not in label


@remembered
def shown(clip: Clip, clear: float) -> tuple[list[Box], dict[int | None, Box]]:
    """Return the boxes that a question may show: of the first frame, and of the last by track."""
    first = [box for box in in_first(clip) if askable(clip, box, clear)]
    last = {box.track: box for box in in_last(clip).values() if askable(clip, box, clear)}
    return first, last


@remembered
def pairs(clip: Clip, clear: float, match: float) -> list[Pair]:
    """Return the objects that may be shown in both frames, in the order of the first."""
    first, last = shown(clip, clear)
    return [
        Pair(box, other)
        for box in first
        if (other := last.get(box.track)) is not None
        and box.label == other.label
        and (other.match is None or other.match >= match)
    ]


def drawn(asker: Asker, clip: Clip, pairs: list[Pair]) -> list[Pair]:
    """Return the objects of a clip from a drawn one on."""
    if len(pairs) < 2:
        return pairs
    start = asker.draw(len(pairs), clip.id, "object")
    return pairs[start:] + pairs[:start]


def grid(clip: Clip, box: Box) -> tuple[int, int, int, int]:
    """Return a box on the grid 0..1000; the box must be in sight."""
    assert box.xyxy is not None
    return _grid(box.xyxy, clip.intrinsics.width, clip.intrinsics.height)


def say(clip: Clip, box: Box) -> str:
    """Write a box on the grid; it must be in sight."""
    assert box.xyxy is not None
    return _say(box.xyxy, clip.intrinsics.width, clip.intrinsics.height)


# Several tasks write the same boxes.
_grid = functools.lru_cache(maxsize=1024)(grids.to_grid)


@functools.lru_cache(maxsize=1024)
def _say(box: Quad, wide: int, high: int) -> str:
    return grids.say(_grid(box, wide, high))


def alike(one: Box, two: Box) -> bool:
    """Return whether two boxes overlap so much that they may well be around one thing."""
    if one.xyxy is None or two.xyxy is None:
        return False
    return grids.iou(one.xyxy, two.xyxy) > DISTINCT


def proof(first: Box, last: Box, **more: Any) -> dict[str, Any]:
    """Return what a label about one object was derived from; boxes are in pixels.

    Measures that are unknown are left out.
    """
    found: dict[str, Any] = {
        "track": first.track,
        "label": first.label,
        "from": _listed(first.xyxy),
        "to": _listed(last.xyxy),
    }
    if first.visible is not None or last.visible is not None:
        found["visible"] = [first.visible, last.visible]
    if last.match is not None:
        found["match"] = last.match
    return found | more if more else found


def _listed(xyxy: Quad | None) -> list[float] | None:
    return None if xyxy is None else list(xyxy)


def weight(clip: Clip, last: Box) -> float:
    """Return the clip's weight times how well the box of the last frame matches, where known."""
    share = weight_of(clip)
    if last.match is not None and last.xyxy is not None:
        share *= min(1.0, max(0.01, last.match))
    return round(share, 4)


# ── D1 ────────────────────────────────────────────────────────────────────────────────────────


class WhereTo:
    """D1: a box in the first picture and the moves; where is the object in the second?"""

    def __init__(self, asker: Asker, per_clip: int, clear: float, match: float) -> None:
        if per_clip < 1:
            raise BadOption(f"per_clip should be at least 1, got {per_clip}")
        self.asker, self.per_clip, self.clear, self.match = asker, per_clip, clear, match

    def __call__(self, clips: Sequence[Clip], drop: Drop) -> Iterator[Question]:
        """Yield up to ``per_clip`` questions for each clip."""
        for clip in clips:
            if reason := _reason("D1", clip):
                drop(reason)
                continue
            found = drawn(self.asker, clip, pairs(clip, self.clear, self.match))
            if not found:
                drop("D1 no object in both frames")
            made = 0
            for pair in found:
                if made == self.per_clip:
                    break
                question = self._ask(clip, pair, made)
                if isinstance(question, str):
                    drop(question)
                else:
                    made += 1
                    yield question

    def _ask(self, clip: Clip, pair: Pair, number: int) -> Question | str:
        """Return the question, or why it cannot be asked."""
        first, last = grid(clip, pair.first), grid(clip, pair.last)
        if first == last:
            return "D1 did not move"  # the question would hold its answer
        asker = self.asker
        id = f"{clip.id}/D1/{number + 1}" if number else f"{clip.id}/D1"
        form = asker.form(id)
        written = self._write(clip, pair, last, id, form)
        if written is None:
            return "D1 no other options"
        told = tell(clip)
        return asker.question(
            clip,
            id,
            form,
            *written,
            weight(clip, pair.last),
            {"moves": list(told.words), **proof(*pair)},
            object=pair.first.label,
            first=grids.say(first),
            moves=told.text,
        )

    def _write(
        self, clip: Clip, pair: Pair, right: Sequence[int], id: str, form: str
    ) -> tuple[str, tuple[str, ...]] | None:
        """Return the answer that names a grid box, and its options; None if there are too few."""
        if form == "sentence":
            return phrases.say_box(right), ()
        if form == "choice":
            wrong = _other_boxes(clip, pair, right)
            if len(wrong) < OPTIONS - 1:
                return None
            place = self.asker.draw(OPTIONS, id, "place")
            return phrases.write_choice(grids.say(right), wrong, place)
        return grids.say(right), ()


def _other_boxes(clip: Clip, pair: Pair, right: Sequence[int]) -> list[str]:
    """Return three boxes unlike the right one: where it was, other objects', then shifted ones."""
    others = [box for box in clip.boxes or () if box.frame == clip.last_frame and box.xyxy]
    known = [grid(clip, box) for box in (pair.first, *others)]
    chosen: list[Sequence[int]] = [right]
    for box in (*known, *_shifted(right)):
        wide = box[0] < box[2] and box[1] < box[3]
        if wide and all(grids.iou(box, other) <= DISTINCT for other in chosen):
            chosen.append(box)
            if len(chosen) == OPTIONS:
                break
    return [grids.say(box) for box in chosen[1:]]


def _shifted(box: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield a grid box pushed aside, as far as the grid goes, then its quarters."""
    x1, y1, x2, y2 = box
    wide, high = x2 - x1, y2 - y1
    for aside, down in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1)):
        left = min(grids.GRID - wide, max(0, x1 + aside * wide))
        top = min(grids.GRID - high, max(0, y1 + down * high))
        yield left, top, left + wide, top + high
    across, down = (x1 + x2) // 2, (y1 + y2) // 2
    yield from ((x1, y1, across, down), (across, down, x2, y2))
    yield from ((across, y1, x2, down), (x1, down, across, y2))


# ── D2 ────────────────────────────────────────────────────────────────────────────────────────


class IsGone:
    """D2: one picture and the moves; will an object be gone from view? Yes means gone."""

    def __init__(self, asker: Asker, gone: float, visible: float, paired: bool) -> None:
        """Set the dead band.

        Raises:
            BadOption: The band is empty or upside down.
        """
        if not 0 <= gone < visible <= 1:
            raise BadOption(
                f"gone={gone:g} and visible={visible:g} leave no dead band",
                "0 <= gone < visible <= 1",
            )
        self.asker, self.gone, self.visible, self.paired = asker, gone, visible, paired

    def __call__(self, clips: Sequence[Clip], drop: Drop) -> Iterator[Question]:
        """Yield up to one question about a gone and one about a visible object per clip."""
        for clip in clips:
            if reason := _reason("D2", clip):
                drop(reason)
                continue
            found = self._sorted(clip, drop)
            if self.paired and bool(found[True]) != bool(found[False]):
                drop("D2 no opposite in the clip")
                continue
            order = (True, False) if self.asker.draw(2, clip.id, "order") else (False, True)
            number = 0
            for truth in order:
                if found[truth]:
                    yield self._ask(clip, self._drawn(clip, found[truth]), truth, number)
                    number += 1

    def _sorted(self, clip: Clip, drop: Drop) -> dict[bool, list[tuple[Box, Box]]]:
        """Return the objects that are gone (True) and visible (False), with their last state."""
        last = in_last(clip)
        # What is too small for a box may still be what a name stands for.
        labels = Counter(
            b.label for b in clip.boxes or () if b.frame == 0 and (b.xyxy or b.visible)
        )
        by_name = self.asker.templates != "paper"
        found: dict[bool, list[tuple[Box, Box]]] = {True: [], False: []}
        for box in shown(clip, CLEAR)[0]:
            if by_name and labels[box.label] > 1:
                drop("D2 label not unique")
                continue
            there = last.get(box.track) if box.track is not None else None
            state = "unknown" if there is None else self._state(there)
            if there is None or state == "unknown":
                drop("D2 unknown")
            elif state == "between":
                drop("D2 dead band")
            else:
                found[state == "gone"].append((box, there))
        return found

    def _state(self, there: Box) -> str:
        """Return gone, visible, between, or unknown where the last frame does not say."""
        if there.visible is None:
            if there.xyxy is None:
                return "gone"
            return "visible" if there.kept else "unknown"
        if there.visible <= self.gone:
            return "gone"
        return "visible" if there.visible >= self.visible else "between"

    def _drawn(self, clip: Clip, found: list[tuple[Box, Box]]) -> tuple[Box, Box]:
        return found[self.asker.draw(len(found), clip.id, "object") if len(found) > 1 else 0]

    def _ask(self, clip: Clip, about: tuple[Box, Box], truth: bool, number: int) -> Question:
        asker, (first, last) = self.asker, about
        id = f"{clip.id}/D2/{number + 1}" if number else f"{clip.id}/D2"
        form = asker.form(id)
        answer, options = asker.truth(id, form, truth, spoken(first.label))
        told = tell(clip)
        share = weight(clip, last)
        return asker.question(
            clip,
            id,
            form,
            answer,
            options,
            share if last.visible is not None else round(share * UNMEASURED, 4),
            {"moves": list(told.words), **proof(first, last)},
            object=first.label,
            first=say(clip, first),
            moves=told.text,
        )


@functools.lru_cache(maxsize=1024)
def spoken(label: str) -> str:
    """Return a label as it may stand in a sentence that must be read back, else ``object``."""
    for task in ("D2", "D4"):
        for truth in (True, False):
            sentence, _ = phrases.write_truth(task, truth, "sentence", object=label)
            if phrases.read_truth(task, "sentence", (), sentence) is not truth:
                return "object"
    return label


# ── D3 ────────────────────────────────────────────────────────────────────────────────────────


def one_or_two(moves: Sequence[Move]) -> bool:
    """Return whether the camera made one or two moves."""
    return 1 <= len(moves) <= 2


class WhichMovesByBox:
    """D3: two boxes of the same object; which one or two moves lie between the pictures?"""

    def __init__(self, asker: Asker, clear: float, match: float) -> None:
        self.asker, self.clear, self.match = asker, clear, match

    def __call__(self, clips: Sequence[Clip], drop: Drop) -> Iterator[Question]:
        """Yield at most one question per clip of one or two moves."""
        for clip in clips:
            if not one_or_two(clip.moves):
                continue
            if reason := _reason("D3", clip):
                drop(reason)
                continue
            if tell(clip).together:
                drop("D3 moves run together")
                continue
            found = drawn(self.asker, clip, pairs(clip, self.clear, self.match))
            question = self._ask(clip, found[0], clips) if found else "D3 no object in both frames"
            if isinstance(question, str):
                drop(question)
            else:
                yield question

    def _ask(self, clip: Clip, pair: Pair, clips: Sequence[Clip]) -> Question | str:
        """Return the question, or why it cannot be asked."""
        asker = self.asker
        id = f"{clip.id}/D3"
        form = asker.form(id)
        written = write_moves(asker, id, form, clip, clips, one_or_two)
        if written is None:
            return "D3 no other options"
        return asker.question(
            clip,
            id,
            form,
            *written,
            weight(clip, pair.last),
            {"moves": list(tell(clip).words), **proof(*pair)},
            object=pair.first.label,
            first=say(clip, pair.first),
            second=say(clip, pair.last),
        )


# ── D4 ────────────────────────────────────────────────────────────────────────────────────────


class IsSame:
    """D4: a box in each picture; are they around the same object?

    A clip is asked about twice, with the same box in the first picture: once with the object's
    own box in the second, once with that of another object of the same label.
    """

    def __init__(self, asker: Asker, clear: float, match: float) -> None:
        self.asker, self.clear, self.match = asker, clear, match
        self._told = asker.templates == "paper"  # its questions state the moves

    def __call__(self, clips: Sequence[Clip], drop: Drop) -> Iterator[Question]:
        """Yield a question with yes and one with no for each clip with two objects of a label."""
        for clip in clips:
            if reason := _reason("D4", clip):
                drop(reason)
                continue
            found = drawn(self.asker, clip, pairs(clip, self.clear, self.match))
            if not found:
                drop("D4 no object in both frames")
                continue
            pair, rival = self._rivalled(clip, found)
            if rival is not None:
                first = self.asker.draw(2, clip.id, "order")
                for number, own in enumerate((first == 0, first == 1)):
                    yield self._ask(clip, pair, pair.last if own else rival, own, number)
            elif self._told:
                yield self._ask(clip, pair, pair.last, True, 0)
            else:
                drop("D4 no second instance")

    def _rivalled(self, clip: Clip, found: Sequence[Pair]) -> tuple[Pair, Box | None]:
        """Return the first object that has another of its label beside it, and that other one.

        The other one's box in the last frame must lie well apart from the right one.
        """
        by_label: dict[str, list[Box]] = {}
        for box in shown(clip, self.clear)[1].values():
            by_label.setdefault(box.label, []).append(box)
        for pair in found:
            rivals = [
                box
                for box in by_label[pair.first.label]
                if box.track != pair.first.track and not alike(box, pair.last)
            ]
            if rivals:
                return pair, rivals[self.asker.draw(len(rivals), clip.id, "rival")]
        return found[0], None

    def _ask(self, clip: Clip, pair: Pair, shown: Box, truth: bool, number: int) -> Question:
        asker = self.asker
        id = f"{clip.id}/D4/{number + 1}" if number else f"{clip.id}/D4"
        form = asker.form(id)
        answer, options = asker.truth(id, form, truth, spoken(pair.first.label))
        told = tell(clip)
        return asker.question(
            clip,
            id,
            form,
            answer,
            options,
            weight(clip, pair.last),
            {"moves": list(told.words), **proof(pair.first, shown, other=shown.track)},
            object=pair.first.label,
            first=say(clip, pair.first),
            second=say(clip, shown),
            moves=told.text,
        )


def _reason(task: str, clip: Clip) -> str:
    """Return why a clip suits no object task that names its moves; empty where it does."""
    if clip.boxes is None:
        return "not annotated"
    fault = tell(clip).fault
    return f"{task} {fault}" if fault else ""
