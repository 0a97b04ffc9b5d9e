"""Pictures of simulated rooms, each with what it shows, one file a room.

No move of the camera is told anywhere: whoever learns from these pictures alone knows how things
look and where they are, but not what a motion does.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from w2v import provenance
from w2v.detectors.oracle import extent
from w2v.errors import BadFile
from w2v.geometry import assumed, yaw
from w2v.records import Intrinsics, Quad
from w2v.stream import write_atomic
from w2v.teachers.sim.light import FAST
from w2v.teachers.sim.mesh import Tracer
from w2v.teachers.sim.render import Picture, Renderer
from w2v.teachers.sim.rooms import LAYOUTS
from w2v.teachers.sim.truth import Obstacles
from w2v.teachers.sim.world import World, build

FIELD_OF_VIEW = 75.0
"""Degrees across, as the simulator's own cameras."""
CLEAR = 0.4
"""Meters that a camera keeps from everything."""
LOOKS = 4
"""Pictures taken from about one place, in different directions."""
_TRIES = 400
_SMALLEST = 12
"""Pixels of a picture 128 wide below which a thing is not counted as seen."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One thing in one picture.

    Args:
        label: What it is called.
        color: Of the thing, or "" where it has no one colour.
        box: Tight, in pixels.
        share: Of the picture's pixels.
        depth: Median, meters.
    """

    label: str
    color: str
    box: Quad
    share: float
    depth: float


@dataclass(frozen=True, slots=True)
class View:
    """A frame (H, W, 3) uint8 and what is in it."""

    frame: np.ndarray
    sights: tuple[Sight, ...]


def file_of(folder: Path, room: int) -> Path:
    """Return where the frames of a room lie; what they show lies beside them, a line each."""
    return folder / f"room-{room:06d}.npy"


def make(folder: Path, room: int, count: int, size: int, seed: int) -> None:
    """Write the pictures of a room, unless they are there."""
    path = file_of(folder, room)
    if not path.exists():
        views = take(room, count, size, seed)
        lines = (json.dumps([_plain(sight) for sight in view.sights]) for view in views)
        write_atomic(path.with_suffix(".jsonl"), "".join(f"{line}\n" for line in lines))
        frames = io.BytesIO()
        np.save(frames, np.stack([view.frame for view in views]))
        write_atomic(path, frames.getvalue())  # last: a room that has it is whole


def _plain(sight: Sight) -> list[Any]:
    box = [round(v, 1) for v in sight.box]
    return [sight.label, sight.color, box, round(sight.share, 5), round(sight.depth, 3)]


class Room:
    """The pictures of a room on disk; each is read when it is looked at.

    Raises:
        BadFile: They are not whole.
    """

    def __init__(self, folder: Path, room: int) -> None:
        self._path = file_of(folder, room)
        try:
            self._frames = np.load(self._path, mmap_mode="r", allow_pickle=False)
            self._lines = self._path.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise BadFile(f"{self._path}: {error}", "remove it and run again") from error

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._frames)

    def __getitem__(self, place: int) -> View:
        """Return one picture and what it shows."""
        told = json.loads(self._lines[place])
        sights = tuple(Sight(a, b, tuple(c), d, e) for a, b, c, d, e in told)
        return View(np.array(self._frames[place]), sights)


def take(room: int, count: int, size: int, seed: int) -> list[View]:
    """Return pictures of a room that is made up from (seed, room)."""
    drawn = provenance.seed_of("pretraining", seed, room)
    rng = np.random.default_rng(drawn)
    kind = list(LAYOUTS)[int(rng.integers(len(LAYOUTS)))]
    world = build(provenance.seed_of("room", drawn), kind)
    renderer = Renderer(world, Tracer(world.mesh.corners), FAST)
    camera = assumed(size, size, FIELD_OF_VIEW)
    views: list[View] = []
    for pose in _poses(world, rng):
        picture = renderer.picture(camera, pose)
        if _says_something(picture):
            views.append(View(picture.frame, _sights(world, picture, camera)))
        if len(views) == count:
            break
    return views


def _poses(world: World, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield level poses, several from about each place; as many as there is patience for."""
    width, _, depth = world.size
    everything = Obstacles(world.mesh.corners)
    for _ in range(_TRIES):
        eye = float(rng.uniform(1.15, 1.5))
        x, z = rng.uniform([CLEAR, CLEAR], [width - CLEAR, depth - CLEAR])
        aim = rng.uniform([0.2 * width, 0.2 * depth], [0.8 * width, 0.8 * depth])
        ahead = math.degrees(math.atan2(aim[0] - x, aim[1] - z))
        for look in range(LOOKS):
            at = np.array([x, -eye, z])
            if look:
                at += np.append(rng.uniform(-0.5, 0.5, 1), [0.0, rng.uniform(-0.5, 0.5)])
            turn = float(rng.uniform(-35, 35)) if look else 0.0
            if everything.near(at, at, CLEAR):
                if not look:
                    break
                continue
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = yaw(ahead + turn), at
            yield pose


def _says_something(picture: Picture) -> bool:
    """Return whether a picture shows two things or more, and not only from too near."""
    ids = np.unique(picture.mask)
    return len(ids[ids > 0]) >= 2 and float((picture.depth < 0.8).mean()) < 0.4


def _sights(world: World, picture: Picture, camera: Intrinsics) -> tuple[Sight, ...]:
    """Return what a picture shows, the largest first."""
    area = camera.width * camera.height
    least = _SMALLEST * area / 128**2
    found = []
    for thing in world.things:
        own = picture.mask == thing.id
        pixels = int(own.sum())
        if pixels >= least:
            color = thing.attributes.get("color", "")
            depth = float(np.median(picture.depth[own]))
            found.append(Sight(thing.label, color, extent(own), pixels / area, depth))
    return tuple(sorted(found, key=lambda sight: -sight.share))
