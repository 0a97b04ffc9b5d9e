"""The one place where camera moves are put into words, tokens and names, and read back.

Tasks write gold answers with ``say``; rewards and checks read with ``parse``. Because both live
here, a grader cannot drift from a writer. Distances are rounded to 0.1 m and angles to 1 degree
in text only; records keep what was drawn.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from w2v.errors import BadRecord
from w2v.records import Move

UNITS = {
    "move forward": "meters",
    "move backward": "meters",
    "move left": "meters",
    "move right": "meters",
    "turn left": "degrees",
    "turn right": "degrees",
}
VERBS = tuple(UNITS)
TOKENS = {
    "move forward": "FWD",
    "move backward": "BACK",
    "move left": "LEFT",
    "move right": "RIGHT",
    "turn left": "TL",
    "turn right": "TR",
}
ACTIONS = {
    "move forward": "forward",
    "move backward": "backward",
    "move left": "shift_left",
    "move right": "shift_right",
    "turn left": "turn_left",
    "turn right": "turn_right",
}
"""World2VLM's names of the six actions, as they stand in trajectory ids."""

_BY_TOKEN = {token: verb for verb, token in TOKENS.items()}
_BY_ACTION = {action: verb for verb, action in ACTIONS.items()} | {
    "move_forward": "move forward",
    "move_backward": "move backward",
    "move_left": "move left",
    "move_right": "move right",
    "left": "move left",
    "right": "move right",
}
_MOVE = re.compile(
    r"\b(move\s+(?:forward|backward|left|right)|turn\s+(?:left|right))\s+"
    r"(?:by\s+)?([-+]?(?:\d+(?:\.\d+)?|\.\d+))\s*"
    r"(meters?\b|metres?\b|m\b|degrees?\b|deg\b|°)",
    re.IGNORECASE,
)


def is_turn(move: Move) -> bool:
    """Return whether the amount is in degrees."""
    return move.verb.startswith("turn")


def rounded(move: Move) -> Move:
    """Return the move as it is put into words: to 0.1 meters or 1 degree."""
    return Move(verb=move.verb, amount=float(round(move.amount, 0 if is_turn(move) else 1)))


def number(value: float) -> str:
    """Return a number with up to three decimals and no trailing zeros."""
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def say_one(move: Move) -> str:
    """Put one move into words, e.g. ``turn left 30 degrees``."""
    move = rounded(move)
    return f"{move.verb} {number(move.amount)} {UNITS[move.verb]}"


def say(moves: Sequence[Move]) -> str:
    """Put moves into words, e.g. ``move forward 1.5 meters; turn left 30 degrees``."""
    return "; ".join(map(say_one, moves))


def say_listed(moves: Sequence[Move]) -> str:
    """Put moves into a phrase, e.g. ``move left 1 meters, move … and turn left 30 degrees``."""
    words = [say_one(move) for move in moves]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def parse(text: str) -> tuple[Move, ...]:
    """Read the moves out of any text, in order; anything else in it is passed over.

    A unit that does not belong to the verb ("turn left 2 meters") is not a move. Amounts may be
    negative here, so that a reward can tell such an answer from none.
    """
    found = []
    for verb, amount, unit in _MOVE.findall(text):
        verb = " ".join(verb.lower().split())
        if (unit[0].lower() == "m") == (UNITS[verb] == "meters"):
            found.append(Move(verb=verb, amount=float(amount)))
    return tuple(found)


def read(text: str) -> tuple[Move, ...]:
    """Read moves that a user typed, such as ``move right 2 meters; turn left 30 degrees``.

    Raises:
        BadRecord: Some part is not a move, or an amount is not positive.
    """
    moves: list[Move] = []
    for part in filter(None, (p.strip() for p in text.split(";"))):
        match = _MOVE.fullmatch(part)
        found = parse(part)
        if not match or not found or found[0].amount <= 0:
            raise BadRecord(
                f"{part!r} is not a camera move",
                "write e.g. 'move forward 1.5 meters; turn left 30 degrees' "
                f"(moves: {', '.join(VERBS)})",
            )
        moves += found
    if not moves:
        raise BadRecord("no camera move given", "write e.g. 'turn left 30 degrees'")
    return tuple(moves)


def checked(moves: Sequence[Move]) -> tuple[Move, ...]:
    """Return moves as they are.

    Raises:
        BadRecord: One has an unknown verb, or an amount that is not positive and finite.
    """
    for move in moves:
        if move.verb not in UNITS:
            raise BadRecord(f"{move.verb!r} is no move", f"known: {', '.join(VERBS)}")
        if not 0 < move.amount < math.inf:
            raise BadRecord(f"the amount of {move.verb!r} is {move.amount:g}, not positive")
    return tuple(moves)


def merge(moves: Sequence[Move]) -> tuple[Move, ...]:
    """Join neighbours along the same axis by signed sum; drop what sums to nothing."""
    kept: list[Move] = []
    for move in moves:
        if kept and _axis(kept[-1].verb) == _axis(move.verb):
            total = _signed(kept[-1]) + _signed(move)
            verb = _AXES[_axis(move.verb)][0 if total >= 0 else 1]
            kept.pop()
            if abs(total) > 1e-9:
                kept.append(Move(verb=verb, amount=abs(total)))
        elif move.amount > 0:
            kept.append(move)
    return tuple(kept)


_AXES = {
    "ahead": ("move forward", "move backward"),
    "aside": ("move right", "move left"),
    "turn": ("turn right", "turn left"),
}


def _axis(verb: str) -> str:
    return next(axis for axis, verbs in _AXES.items() if verb in verbs)


def _signed(move: Move) -> float:
    return move.amount if move.verb == _AXES[_axis(move.verb)][0] else -move.amount


def opposite(verb: str) -> str:
    """Return the verb of the same axis in the other direction."""
    one, other = _AXES[_axis(verb)]
    return other if verb == one else one


def token(move: Move) -> str:
    """Return the World2VLM token of a move, e.g. ``FWD_1.4``; up to six decimals."""
    amount = f"{move.amount:.6f}".rstrip("0").rstrip(".")
    return f"{TOKENS[move.verb]}_{amount}"


def from_token(text: str) -> Move:
    """Read one World2VLM token.

    Raises:
        BadRecord: The text is not a token.
    """
    name, _, amount = text.rpartition("_")
    try:
        return Move(verb=_BY_TOKEN[name], amount=float(amount))
    except (KeyError, ValueError):
        raise BadRecord(f"{text!r} is not an action token such as FWD_1.4 or TL_30") from None


def from_action(name: str, amount: float) -> Move:
    """Return the move that a World2VLM action name stands for, e.g. ``shift_left``.

    Raises:
        BadRecord: The name is not an action.
    """
    if name not in _BY_ACTION:
        raise BadRecord(f"{name!r} is not an action", f"known: {', '.join(_BY_ACTION)}")
    return Move(verb=_BY_ACTION[name], amount=float(amount))
