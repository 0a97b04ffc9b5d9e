"""World2VLM's reward, as its paper defines it (arXiv 2604.26934, Appendix C, eqs. 8-26).

Kept exact, including what makes it easy to please, so that published numbers can be reproduced;
``robust`` is the one to train with. Where the paper leaves a choice open, the authors' released
reward decides, and a comment says so. The grammar of actions is theirs and stricter than
``w2v.motion``: "meter(s)" and "degree(s)" only, and no word boundaries.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

from w2v.boxes import iou
from w2v.errors import BadOption
from w2v.kinds import Grade
from w2v.records import Gold, Quad

Actions = tuple[tuple[str, float], ...]

# Negative numbers are read and compared as such; "+3", ".5" and "1e3" are not read.
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_ACTION = re.compile(
    rf"move\s+(forward|backward|left|right)\s+{_NUMBER}\s+meters?"
    rf"|turn\s+(left|right)\s+{_NUMBER}\s+degrees?"
)
_BOX = re.compile(r"(?:bbox\s*)?\[\s*" + r"\s*,\s*".join([_NUMBER] * 4) + r"\s*\]", re.IGNORECASE)
_TRAILING = ' \t\r\n.,;:!?"'
_TRUTHS = {"yes": True, "true": True, "no": False, "false": False}

_UNREAD_ACTION = {"format": 0.0, "semantic": 0.0, "numeric": 0.0}
_UNREAD_SEQUENCE = {"format": 0.0, "semantic": 0.0, "order": 0.0, "numeric": 0.0}
_UNREAD_BOX = dict.fromkeys(("format", "validity", "geometry", "iou", "center", "size", "l1"), 0.0)


def world2vlm(max_length: int = 200) -> World2VLM:
    """Grade as World2VLM's paper does; a response over ``max_length`` characters scores -1."""
    if max_length < 1:
        raise BadOption(f"world2vlm: max_length must be at least 1, got {max_length}")
    return World2VLM(max_length)


@dataclass(frozen=True, slots=True)
class World2VLM:
    """Grades all eight tasks in their plain form; any other task by its exact words."""

    max_length: int

    def __call__(self, gold: Gold, response: str) -> Grade:
        """Return the grade; never None. Scores are in [0, 1], or -1 for an overlong response."""
        raw = response.strip()
        if len(raw) > self.max_length:
            return Grade(-1.0, {"format": 0.0}, None)
        return _GRADERS.get(gold.task_type, _grade_words)(gold.answer, raw)


def _grade_single(answer: str, said: str) -> Grade:
    """Grade one move (A1, A2; eqs. 9-10): the best of all that are named counts."""
    wanted, found = _known_actions(answer), _actions(said)
    if not wanted or not found:
        return Grade(0.0, _UNREAD_ACTION.copy(), _say(found))
    verb, amount = wanted[0]
    near = [_precision(verb, value, amount) for name, value in found if name == verb]
    semantic, numeric = float(bool(near)), max(near, default=0.0)
    score = 0.10 + 0.35 * semantic + 0.55 * numeric
    return Grade(score, {"format": 1.0, "semantic": semantic, "numeric": numeric}, _say(found))


def _grade_sequence(answer: str, said: str) -> Grade:
    """Grade several moves in order (A3, D3; eqs. 11-16)."""
    wanted, found = _known_actions(answer), _actions(said)
    if not wanted or not found:
        return Grade(0.0, _UNREAD_SEQUENCE.copy(), _say(found))
    semantic = _shared(wanted, found) / max(len(wanted), len(found))
    near = [
        _precision(verb, value, amount)
        for (verb, amount), (name, value) in zip(wanted, found, strict=False)
        if name == verb
    ]
    order, numeric = len(near) / len(wanted), sum(near) / len(wanted)
    score = 0.10 + 0.25 * semantic + 0.35 * order + 0.30 * numeric
    score = max(0.0, score - 0.03 * max(0, len(found) - len(wanted)))
    parts = {"format": 1.0, "semantic": semantic, "order": order, "numeric": numeric}
    return Grade(score, parts, _say(found))


def _shared(wanted: Actions, found: Actions) -> int:
    """Return how many verbs two lists share, each as often as it is in both (eq. 12)."""
    left = [verb for verb, _ in found]
    number = len(left)
    for verb, _ in wanted:
        if verb in left:
            left.remove(verb)
    return number - len(left)


def _grade_truth(answer: str, said: str) -> Grade:
    """Grade a short yes, no, true or false (A4, D2, D4; eqs. 17-18); nothing else is read."""
    wanted, found = _truth(answer), _truth(said)
    if wanted is None or found is None:
        return Grade(0.0, {"format": 0.0, "semantic": 0.0}, None)
    semantic = float(found == wanted)
    parts = {"format": 1.0, "semantic": semantic}
    return Grade(0.20 + 0.80 * semantic, parts, "true" if found else "false")


def _grade_box(answer: str, said: str) -> Grade:
    """Grade a box (D1; eqs. 19-26); the first one in the response counts."""
    wanted, match = _known_box(answer), _BOX.search(said)
    if wanted is None or match is None:
        return Grade(0.0, _UNREAD_BOX.copy(), None)
    found = _corners(match)
    target, (box, validity) = _canonical(wanted)[0], _canonical(found)
    # "bbox [..]" counts as exact in the released reward; a full stop or a code fence does not.
    form = 1.0 if match.end() - match.start() == len(said) else 0.4
    overlap = iou(box, target)
    center, size, l1 = _center(box, target), _size(box, target), _l1(box, target)
    geometry = 0.45 * overlap + 0.20 * center + 0.20 * l1 + 0.15 * size
    geometry *= 0.3 + 0.7 * validity
    parts = {
        "format": form,
        "validity": validity,
        "geometry": geometry,
        "iou": overlap,
        "center": center,
        "size": size,
        "l1": l1,
    }
    score = 0.20 * form + 0.15 * validity + 0.65 * geometry
    return Grade(score, parts, "[{:g}, {:g}, {:g}, {:g}]".format(*found))


def _grade_words(answer: str, said: str) -> Grade:
    """Grade any other task by its exact normalized words, as the released reward does."""
    same = float(bool(answer.strip()) and _normalized(said) == _normalized(answer))
    return Grade(same, {"format": same, "semantic": same}, said or None)


_GRADERS = {
    "A1": _grade_single,
    "A2": _grade_single,
    "A3": _grade_sequence,
    "D3": _grade_sequence,
    "A4": _grade_truth,
    "D2": _grade_truth,
    "D4": _grade_truth,
    "D1": _grade_box,
}


def _normalized(text: str) -> str:
    """Return the text in lower case, without trailing punctuation, single-spaced."""
    return " ".join(text.lower().split()).rstrip(_TRAILING)


def _truth(text: str) -> bool | None:
    """Read a text that is nothing but yes, no, true or false."""
    return _TRUTHS.get(_normalized(text))


def _actions(text: str) -> Actions:
    """Read all actions in a text, in order, as (verb, amount)."""
    return tuple(
        (f"move {way}", float(meters)) if way else (f"turn {side}", float(degrees))
        for way, meters, side, degrees in _ACTION.findall(text.lower())
    )


# The rollouts of one prompt share a gold answer, so it need not be read again for each.
_known_actions = functools.lru_cache(4096)(_actions)


def _say(found: Actions) -> str | None:
    """Put the actions that were read into words."""
    return "; ".join([f"{verb} {value:g}" for verb, value in found]) or None


def _precision(verb: str, said: float, wanted: float) -> float:
    """Return how near an amount is, in [0, 1] (eq. 8); in meters or degrees."""
    low, high = (5.0, 90.0) if verb.startswith("turn") else (0.5, 5.0)
    error = abs(said - wanted)
    if error <= low:
        return 1.0
    return 0.0 if error >= high else 1.0 - (error - low) / (high - low)


def _corners(match: re.Match[str]) -> Quad:
    """Return the four numbers of a box as written."""
    one, two, three, four = map(float, match.groups())
    return one, two, three, four


@functools.lru_cache(4096)
def _known_box(text: str) -> Quad | None:
    """Read the first box in a gold answer."""
    match = _BOX.search(text)
    return _corners(match) if match else None


def _canonical(box: Quad) -> tuple[Quad, float]:
    """Return the box with ordered corners clipped to the grid, and its validity (eq. 19).

    The order of corners is judged as written, before they are swapped: the paper does not say,
    the released reward does.
    """
    x1, y1, x2, y2 = box
    ordered = 1.0 if x1 < x2 and y1 < y2 else 0.0
    overflow = sum([max(0.0, -v) + max(0.0, v - 1000.0) for v in box]) / 4.0
    validity = 0.7 * ordered + 0.3 * max(0.0, 1.0 - overflow / 200.0)
    left, right = (x1, x2) if x1 <= x2 else (x2, x1)
    top, bottom = (y1, y2) if y1 <= y2 else (y2, y1)
    return (_clip(left), _clip(top), _clip(right), _clip(bottom)), validity


def _clip(value: float) -> float:
    return min(1000.0, max(0.0, value))


def _sides(box: Quad) -> tuple[float, float]:
    """Return width and height, at least 1 as in the released reward: their logarithm is taken."""
    return max(1.0, box[2] - box[0]), max(1.0, box[3] - box[1])


def _center(box: Quad, target: Quad) -> float:
    """Return how near the centers are (eq. 21)."""
    apart = math.hypot(
        (box[0] + box[2]) / 2 - (target[0] + target[2]) / 2,
        (box[1] + box[3]) / 2 - (target[1] + target[3]) / 2,
    )
    return max(0.0, 1.0 - apart / max(80.0, 0.6 * math.hypot(*_sides(target))))


def _size(box: Quad, target: Quad) -> float:
    """Return how alike width and height are (eq. 22)."""
    (width, height), (wide, high) = _sides(box), _sides(target)
    return max(0.0, 1.0 - (abs(math.log(width / wide)) + abs(math.log(height / high))) / 1.6)


def _l1(box: Quad, target: Quad) -> float:
    """Return how near the corners are on average (eq. 23)."""
    return max(0.0, 1.0 - sum([abs(a - b) for a, b in zip(box, target, strict=True)]) / 4 / 180.0)
