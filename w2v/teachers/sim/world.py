"""One furnished room in world coordinates: x right, y down, z forward, the floor at y = 0."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from w2v.kinds import Thing
from w2v.teachers.sim import rooms
from w2v.teachers.sim.building import REVEAL, Opening
from w2v.teachers.sim.mesh import Mesh, assemble, place
from w2v.teachers.sim.plan import Plan, Wall

MODES = ("day", "overcast", "evening")


@dataclass(frozen=True)
class Source:
    """A lamp or a window as light is sampled from it: a rectangle.

    Args:
        center: (3,) meters.
        across: (2, 3) half sides, meters.
        power: (3,) red, green, blue: the strength of the whole rectangle.
        normal: (3,) the way it shines, or None for all ways alike.
    """

    center: np.ndarray
    across: np.ndarray
    power: np.ndarray
    normal: np.ndarray | None


@dataclass(frozen=True)
class Sky:
    """What comes from outside: sky and sun, red green blue, and the unit vector to the sun."""

    color: np.ndarray
    sun: np.ndarray
    to_sun: np.ndarray


@dataclass(frozen=True)
class World:
    """A room, its things, and where its light comes from.

    ``size`` is (width, height, depth); ``blocks`` are the upright boxes that things fill, as
    (x, height, z) of the lowest and of the highest corner.
    """

    seed: int
    mode: str
    size: tuple[float, float, float]
    mesh: Mesh
    things: tuple[Thing, ...]
    sources: tuple[Source, ...]
    sky: Sky
    blocks: np.ndarray


def build(seed: int, room: str) -> World:
    """Build the room that a seed stands for."""
    rng = np.random.default_rng(seed)
    mode = MODES[int(rng.choice(3, p=[0.5, 0.3, 0.2]))]
    lit = mode == "evening" or bool(rng.random() < 0.4)
    (w1, d1), (w2, d2) = rooms.SIZES[room]
    width, depth, height = (float(v) for v in rng.uniform([w1, d1, 2.5], [w2, d2, 2.9]))
    plan = Plan(width, depth, height, rng)
    look = rooms.taste(rng, room, lit)
    windows = rooms.shell(plan, look, room)
    rooms.furnish(plan, look, room)
    things: list[Thing] = []
    ids: list[int] = []
    for piece, _ in plan.placed:
        ids.append(len(things) + 1 if piece.label else 0)
        if piece.label:
            things.append(Thing(id=ids[-1], label=piece.label, attributes=dict(piece.attributes)))
    sky = _sky(rng, mode, windows[0][0])
    sources = [_pane(wall, hole, sky) for wall, hole in windows]
    sources += _lamps(plan)
    mesh = assemble(plan.placed, ids)
    size, blocks = (width, height, depth), np.array(plan.blocks)
    return World(seed, mode, size, mesh, tuple(things), tuple(sources), sky, blocks)


def _sky(rng: np.random.Generator, mode: str, wall: Wall) -> Sky:
    """Draw the sky; the sun stands so that it shines through the window."""
    outwards = wall.spot.beside(0, -1)
    ahead = math.atan2(outwards.x - wall.spot.x, outwards.z - wall.spot.z)
    azimuth = ahead + math.radians(rng.uniform(-38, 38))
    height = math.radians(rng.uniform(28, 46))
    flat = math.cos(height)
    to_sun = np.array([math.sin(azimuth) * flat, -math.sin(height), math.cos(azimuth) * flat])
    blue = np.array([0.80, 0.89, 1.0]) * 3.4
    if mode == "day":
        return Sky(blue, np.array([1.0, 0.93, 0.80]) * 7.0, to_sun)
    if mode == "overcast":
        return Sky(np.array([0.92, 0.95, 1.0]) * 3.2, np.zeros(3), to_sun)
    return Sky(np.array([0.35, 0.50, 1.0]) * 0.09, np.zeros(3), to_sun)


def _pane(wall: Wall, hole: Opening, sky: Sky) -> Source:
    """Return a window as a rectangle that shines into the room.

    It lies just inside the frame, whose bars take a fifth of the light; were they to cast
    shadows, few rays would leave noise on all walls.
    """
    (x, y), back = hole.middle, 0.08 - REVEAL
    center = place((x, y, back), wall.spot)
    ends = [(x + hole.width / 2, y, back), (x, y + hole.height / 2, back)]
    across = np.stack([place(end, wall.spot) - center for end in ends])
    inwards = place((x, y, 1 + back), wall.spot) - center
    return Source(center, across, sky.color * (0.8 * hole.width * hole.height), inwards)


def _lamps(plan: Plan) -> list[Source]:
    """Return the lamps of all placed pieces as small level squares."""
    found = []
    for piece, spot in plan.placed:
        for lamp in piece.lamps:
            across = np.array([[lamp.radius, 0, 0], [0, 0, lamp.radius]]) * 0.88
            down = np.array([0.0, 1.0, 0.0]) if lamp.downwards else None
            found.append(Source(place(lamp.at, spot), across, np.array(lamp.power), down))
    return found
