"""Where the camera stands at first: on free floor, looking at furniture, with room to walk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from w2v.geometry import assumed, yaw
from w2v.teachers.sim.mesh import Tracer
from w2v.teachers.sim.render import all_rays
from w2v.teachers.sim.truth import Obstacles
from w2v.teachers.sim.world import World

CLEAR = 0.5
"""Meters that the first camera keeps from everything."""
_FLOOR = 0.3  # and its foot from what stands on the floor
_SIDE = 40  # pixels of the quick look
_TRIES, _VIEWS = 400, 36
_MOST_ROOM = 4.0


@dataclass(frozen=True)
class View:
    """A level (4, 4) camera-to-world pose, and how good it is (more is better)."""

    pose: np.ndarray
    score: float


def choose(world: World, tracer: Tracer, obstacles: Obstacles, field_of_view: float) -> View | None:
    """Return the best of some dozens of views drawn at random, or None where there is no room."""
    rng = np.random.default_rng(world.seed ^ 0xCA3E)
    width, _, depth = world.size
    eye = float(rng.uniform(1.2, 1.5))
    obstacles = obstacles.about(-eye, CLEAR)
    camera = assumed(_SIDE, _SIDE, field_of_view)
    views: list[View] = []
    for _ in range(_TRIES):
        x, z = rng.uniform([CLEAR, CLEAR], [width - CLEAR, depth - CLEAR])
        aim = rng.uniform([0.25 * width, 0.25 * depth], [0.75 * width, 0.75 * depth])
        if not _stands_free(world, float(x), float(z)):
            continue
        at = np.array([x, -eye, z])
        if obstacles.near(at, at, CLEAR):
            continue
        pose = np.eye(4)
        pose[:3, :3] = yaw(math.degrees(math.atan2(aim[0] - x, aim[1] - z)))
        pose[:3, 3] = at
        views.append(View(pose, _looks(world, tracer, all_rays(camera, pose).directions, pose)))
        if len(views) == _VIEWS:
            break
    best: View | None = None
    for view in sorted(views, key=lambda view: -view.score):
        if best and view.score + _MOST_ROOM <= best.score:
            break
        score = view.score + _room(obstacles, view.pose)
        best = View(view.pose, score) if best is None or score > best.score else best
    return best


def _stands_free(world: World, x: float, z: float) -> bool:
    """Return whether one can stand there: nothing on the floor is near."""
    low, high = world.blocks[:, :3], world.blocks[:, 3:]
    beside = np.maximum(low[:, 0] - x, x - high[:, 0]), np.maximum(low[:, 2] - z, z - high[:, 2])
    gap = np.hypot(np.maximum(beside[0], 0), np.maximum(beside[1], 0))
    return not bool(((gap < _FLOOR) & (low[:, 1] < 0.5)).any())


def _looks(world: World, tracer: Tracer, way: np.ndarray, pose: np.ndarray) -> float:
    """Rate what a view shows: many things at good sizes, nothing in one's face."""
    hits = tracer.closest(np.broadcast_to(pose[:3, 3], way.shape), way)
    ids = np.where(hits.face >= 0, world.mesh.thing[hits.face], 0)
    share = np.bincount(ids, minlength=len(world.things) + 1)[1:] / len(ids)
    near = float((hits.distance < 1.0).mean())
    score = float(1.3 * (share > 0.01).sum() + 0.5 * ((share > 0.004) & (share <= 0.01)).sum())
    score += 8.0 * float(np.minimum(share, 0.1).sum()) - 10.0 * near
    return score - 10.0 * max(0.0, float(share.max(initial=0.0)) - 0.3)


def _room(obstacles: Obstacles, pose: np.ndarray) -> float:
    """Rate the room to walk ahead and aside, up to ``_MOST_ROOM``."""
    at, ahead, right = pose[:3, 3], pose[:3, 2], pose[:3, 0]
    score = 0.8 * _free(obstacles, at, ahead, (0.8, 1.4, 2.0))
    return score + sum(0.4 * _free(obstacles, at, side, (0.5, 1.0)) for side in (right, -right))


def _free(obstacles: Obstacles, at: np.ndarray, way: np.ndarray, reaches: tuple[float, ...]) -> int:
    """Return how many of these distances one can walk that way."""
    for count, reach in enumerate(reaches):
        if obstacles.near(at, at + way * reach, 0.3):
            return count
    return len(reaches)
