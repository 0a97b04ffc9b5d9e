"""Which trajectories to try from an anchor: presets, grids and limits.

``world2vlm``  the paper's (Appendix A): one of each single move on its grid, three compositions.
``hy``         the shorter ranges and six compositions of its HY-WorldPlay teacher.
``w2v``        the default: every single move and compositions on both sides and in both orders,
               drawn from a continuous range, capped by the depth ahead and by view overlap.

A draw depends on (scene, trajectory, seed) alone, so neither shards nor resuming change it.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from w2v import geometry
from w2v.errors import UnknownName
from w2v.kinds import Anchor
from w2v.motion import ACTIONS
from w2v.provenance import seed_of
from w2v.records import Intrinsics, Move

CLEARANCE = 0.35
"""Meters kept between the camera and what is ahead of it."""
OVERLAP = 15.0
"""Degrees of the view that a turn must leave in common (teachers' reach rule)."""
LEAST_METERS, LEAST_DEGREES = 0.25, 8.0
"""Below this a move is hard to see, and its rounding in text is a large part of it."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A path to render: a name unique in its scene, and its moves."""

    name: str
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A trajectory that the anchor leaves no room for, and why."""

    name: str
    reason: str


Free = Callable[[Sequence[Move]], bool]
Sampler = Callable[[str, int, Anchor, Free], list[Trajectory | Skipped]]


def sampler(preset: str, draws: int = 1) -> Sampler:
    """Return the sampler of that name: (scene id, seed, anchor, what is free) to paths.

    Args:
        preset: A name in ``PRESETS``.
        draws: How often each of its paths is drawn. The first draw is the same for any number.

    Raises:
        UnknownName: There is no such preset.
    """
    if preset not in PRESETS:
        raise UnknownName("trajectory preset", preset, PRESETS)
    once = PRESETS[preset]
    if draws == 1:
        return once

    def sample(scene: str, seed: int, anchor: Anchor, free: Free) -> list[Trajectory | Skipped]:
        made: list[Trajectory | Skipped] = []
        for draw in range(draws):
            again = seed_of("draw", seed, draw) if draw else seed
            found = once(scene, again, anchor, free)
            made += [_renumbered(path, draw * len(found)) for path in found]
        return made

    return sample


def _renumbered(path: Trajectory | Skipped, first: int) -> Trajectory | Skipped:
    """Return a path whose slot, the number in its name, is counted from another one on."""
    name = _SLOT.sub(lambda slot: f"_{first + int(slot[1]):02d}", path.name, count=1)
    return replace(path, name=name)


_SLOT = re.compile(r"_(\d+)")


def explicit(moves: Sequence[Move]) -> Sampler:
    """Return a sampler that always gives this one path."""
    name = "given_00" if len(moves) > 1 else f"{ACTIONS[moves[0].verb]}_00"
    return lambda scene, seed, anchor, free: [Trajectory(name, tuple(moves))]


def _rng(scene: str, name: str, seed: int) -> random.Random:
    return random.Random(seed_of("trajectory", scene, name, seed))


def _grid(rng: random.Random, low: float, high: float, step: float) -> float:
    """Return a point of the grid low, low + step, …, high, each equally likely."""
    return round(low + step * rng.randrange(round((high - low) / step) + 1), 6)


_Ranges = dict[str, tuple[float, float, float]]


def _on_grids(
    singles: _Ranges, presets: dict[str, Sequence[tuple[str, tuple[float, float, float]]]]
) -> Sampler:
    """Return a sampler of single moves and compositions on fixed grids, anchor unseen."""

    def sample(scene: str, seed: int, anchor: Anchor, free: Free) -> list[Trajectory | Skipped]:
        made: list[Trajectory | Skipped] = []
        for slot, (verb, grid) in enumerate(singles.items()):
            name = f"{ACTIONS[verb]}_{slot:02d}"
            amount = _grid(_rng(scene, name, seed), *grid)
            made.append(Trajectory(name, (Move(verb=verb, amount=amount),)))
        for slot, (label, parts) in enumerate(presets.items(), start=len(singles)):
            name = f"multi_step_{slot:02d}_{label}"
            rng = _rng(scene, name, seed)
            moves = tuple(Move(verb=verb, amount=_grid(rng, *grid)) for verb, grid in parts)
            made.append(Trajectory(name, moves))
        return made

    return sample


_FAR, _WIDE = (0.1, 6.0, 0.1), (10.0, 100.0, 10.0)

_WORLD2VLM = _on_grids(
    {
        "move forward": _FAR,
        "move backward": _FAR,
        "turn left": _WIDE,
        "turn right": _WIDE,
        "move left": _FAR,
        "move right": _FAR,
    },
    {
        "forward_turn_left": [
            ("move forward", (0.5, 3.5, 0.1)),
            ("turn left", (20.0, 80.0, 10.0)),
        ],
        "turn_right_forward": [
            ("turn right", (20.0, 80.0, 10.0)),
            ("move forward", (0.3, 3.0, 0.1)),
        ],
        "shift_left_forward_turn_right": [
            ("move left", (0.3, 3.0, 0.1)),
            ("move forward", (0.5, 3.5, 0.1)),
            ("turn right", (20.0, 60.0, 10.0)),
        ],
    },
)

_NEAR, _SIDE, _TURN = (0.2, 1.0, 0.1), (0.2, 0.8, 0.1), (10.0, 40.0, 10.0)

_HY = _on_grids(
    {
        "move forward": _NEAR,
        "move backward": _NEAR,
        "turn left": _TURN,
        "turn right": _TURN,
        "move left": _SIDE,
        "move right": _SIDE,
    },
    {
        "forward_turn_left": [("move forward", _NEAR), ("turn left", _TURN)],
        "forward_turn_right": [("move forward", _NEAR), ("turn right", _TURN)],
        "shift_left_forward": [("move left", _SIDE), ("move forward", _NEAR)],
        "shift_right_forward": [("move right", _SIDE), ("move forward", _NEAR)],
        "forward_turn_left_forward": [
            ("move forward", _NEAR),
            ("turn left", _TURN),
            ("move forward", _NEAR),
        ],
        "forward_turn_right_forward": [
            ("move forward", _NEAR),
            ("turn right", _TURN),
            ("move forward", _NEAR),
        ],
    },
)

_REACH = {
    "move forward": 2.5,
    "move backward": 1.5,
    "move left": 1.5,
    "move right": 1.5,
    "turn left": 75.0,
    "turn right": 75.0,
}
"""Farthest that one move is drawn, before caps."""

_SINGLES = tuple(_REACH)
_PATTERNS = tuple(
    pattern
    for side, other in (("left", "right"), ("right", "left"))
    for pattern in (
        ("move forward", f"turn {side}"),
        (f"turn {side}", "move forward"),
        (f"move {side}", f"turn {other}"),
        (f"turn {side}", f"move {side}"),
        (f"move {side}", "move forward", f"turn {side}"),
        (f"move {side}", "move forward", f"turn {other}"),
        ("move forward", f"turn {side}", "move forward"),
        (f"turn {side}", "move forward", f"turn {other}"),
    )
)
COMPOSED = 4
"""Compositions drawn per scene, out of both sides and orders."""
COMPOSED_REACH = 0.6
"""Share of the reach that one move of a composition may take."""
ATTEMPTS, SHORTER = 5, 0.6
"""How often a path that bumps into something is tried again, and how much shorter each time."""


def _w2v(scene: str, seed: int, anchor: Anchor, free: Free) -> list[Trajectory | Skipped]:
    """Draw every single move and ``COMPOSED`` compositions, as far as the anchor leaves room."""
    order = list(range(len(_PATTERNS)))
    _rng(scene, "patterns", seed).shuffle(order)
    patterns = [(verb,) for verb in _SINGLES]
    patterns += [_PATTERNS[k] for k in order[:COMPOSED]]  # type: ignore[misc]
    room = Room(anchor)
    made: list[Trajectory | Skipped] = []
    for slot, pattern in enumerate(patterns):
        name = ACTIONS[pattern[0]] if len(pattern) == 1 else "multi_step"
        name = f"{name}_{slot:02d}"
        if len(pattern) > 1:
            name += "_" + "_".join(ACTIONS[verb] for verb in pattern)
        made.append(_draw(name, pattern, _rng(scene, name, seed), room, free))
    return made


def _draw(
    name: str, pattern: Sequence[str], rng: random.Random, room: Room, free: Free
) -> Trajectory | Skipped:
    """Draw amounts for one pattern, capped by the room that is left; shorten it if it bumps."""
    shares = [rng.random() for _ in pattern]
    for attempt in range(ATTEMPTS):
        moves: list[Move] = []
        for verb, share in zip(pattern, shares, strict=True):
            turn = verb.startswith("turn")
            least = LEAST_DEGREES if turn else LEAST_METERS
            reach = _REACH[verb] * (1.0 if len(pattern) == 1 else COMPOSED_REACH)
            most = min(reach, room.cap(moves, verb))
            if most < least:
                return Skipped(name, "no overlap" if turn else "no room")
            shorter = 1.0 if turn else SHORTER**attempt
            moves.append(Move(verb=verb, amount=round(least + share * shorter * (most - least), 4)))
        if free(moves):
            return Trajectory(name, tuple(moves))
    return Skipped(name, "collision")


class Room:
    """How far a camera may go from an anchor: by the depth it sees and the view it keeps."""

    def __init__(self, anchor: Anchor) -> None:
        self.field_of_view = geometry.field_of_view(anchor.camera)
        self.points: np.ndarray | None = None
        self.nearest = math.inf
        if anchor.depth is not None:
            points = geometry.lift(anchor.depth[::4, ::4], _coarse(anchor, 4))
            points = points[(points[..., 2] > 0.05) & np.isfinite(points[..., 2])]
            self.points = points[points[:, 1] < 0.6]  # the floor is not in the way
            if len(points):
                self.nearest = float(np.percentile(points[:, 2], 5))

    def cap(self, before: Sequence[Move], verb: str) -> float:
        """Return the largest amount, meters or degrees, of a move after those before."""
        if verb.startswith("turn"):
            turned = sum(
                m.amount * (1 if m.verb == "turn right" else -1)
                for m in before
                if m.verb.startswith("turn")
            )
            signed = turned if verb == "turn right" else -turned
            return self.field_of_view - OVERLAP - signed
        if self.points is None:
            return math.inf
        pose = np.eye(4)
        for move in before:
            pose = pose @ geometry.step(move)
        ahead = geometry.to_camera(self.points, pose)
        return self._free(ahead, verb)

    def _free(self, points: np.ndarray, verb: str) -> float:
        """Return the free way along a move's axis through points in camera space.

        Forward and sideways, the way is what a body as wide as the clearance meets. What lies
        behind the camera or beside its view is unseen: there the cap is the distance to the
        nearest thing seen, since an anchor says nothing of the room behind it.
        """
        axis, sign = {"move forward": (2, 1), "move backward": (2, -1)}.get(
            verb, (0, 1 if verb == "move right" else -1)
        )
        along = points[:, axis] * sign
        across = points[:, 0 if axis == 2 else 2]
        met = along[(np.abs(across) < CLEARANCE) & (along > 0.05)]
        free = float(np.percentile(met, 1)) - CLEARANCE if len(met) >= 8 else math.inf
        return free if verb == "move forward" else min(free, max(self.nearest, 0.8))


def _coarse(anchor: Anchor, step: int) -> Intrinsics:
    """Return the camera of a picture of which every ``step``-th pixel was taken."""
    c = anchor.camera
    return replace(c, fx=c.fx / step, fy=c.fy / step, cx=c.cx / step, cy=c.cy / step)


PRESETS: dict[str, Sampler] = {"w2v": _w2v, "world2vlm": _WORLD2VLM, "hy": _HY}
