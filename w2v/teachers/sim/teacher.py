"""The simulator as a teacher: it makes its own scenes and knows the truth about them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from w2v import provenance
from w2v.errors import BadOption, BadRecord
from w2v.geometry import assumed, field_of_view
from w2v.kinds import Anchor, CameraPath, Refused, Rendered
from w2v.records import Intrinsics, Scene
from w2v.teachers.sim import viewpoint
from w2v.teachers.sim.light import FAST, FULL
from w2v.teachers.sim.mesh import Tracer
from w2v.teachers.sim.render import Picture, Renderer, all_rays
from w2v.teachers.sim.rooms import LAYOUTS
from w2v.teachers.sim.truth import Obstacles, Visibility
from w2v.teachers.sim.world import build

RADIUS = 0.25
"""Meters that the middle of the camera keeps from walls and furniture on its way."""
SIZE = 576
_QUALITIES = {"full": FULL, "fast": FAST}
_GOOD = 16.0  # a room whose best view rates less is furnished again
_ATTEMPTS = 6


class Stage:
    """One room made ready: the world, where the camera stands, and what is asked of them.

    Baking the light takes the longest, so it waits until the first picture.
    """

    def __init__(self, seed: int, room: str, angle: float, quality: str) -> None:
        best = -math.inf
        for attempt in range(_ATTEMPTS):
            world = build(provenance.seed_of("room", seed, attempt), room)
            obstacles, tracer = Obstacles(world.mesh.corners), Tracer(world.mesh.corners)
            view = viewpoint.choose(world, tracer, obstacles, angle)
            if view and view.score > best:
                best, self.pose, self.world = view.score, view.pose, world
                self._obstacles, self._tracer = obstacles, tracer
            if best >= _GOOD:
                break
        if best == -math.inf:
            raise BadRecord(f"no place for a camera in {room} {seed}", "use another seed")
        self._quality = _QUALITIES[quality]
        self._level = self._obstacles.about(float(self.pose[1, 3]), RADIUS)
        self._bumps: dict[bytes, int | None] = {}
        self._seen: dict[Intrinsics, Seen] = {}
        self._renderer: Renderer | None = None
        self._visibility: Visibility | None = None

    @property
    def renderer(self) -> Renderer:
        """The room with its light."""
        if self._renderer is None:
            self._renderer = Renderer(self.world, self._tracer, self._quality)
        return self._renderer

    @property
    def visibility(self) -> Visibility:
        """Measures visible shares."""
        if self._visibility is None:
            count = len(self.world.things)
            self._visibility = Visibility(self.world.mesh, count, self._tracer)
        return self._visibility

    def poses(self, path: np.ndarray) -> np.ndarray:
        """Return (T, 4, 4) world poses of a path that is relative to the first camera."""
        return np.stack([_compose(self.pose, pose) for pose in path])

    def bump(self, path: np.ndarray) -> int | None:
        """Return the first pose of a path on the way to which the camera hits something."""
        asked = path.tobytes()
        if asked not in self._bumps:
            self._bumps[asked] = self._bump(self.poses(path)[:, :3, 3])
        return self._bumps[asked]

    def _bump(self, at: np.ndarray) -> int | None:
        level = bool((at[:, 1] == self.pose[1, 3]).all())
        obstacles = self._level if level else self._obstacles
        before = None
        for k, place in enumerate(at):
            if before is not None and (place == before).all():
                continue  # it turns on the spot
            if obstacles.near(place if before is None else before, place, RADIUS):
                return k
            before = place
        return None

    def look(self, camera: Intrinsics, pose: np.ndarray) -> Seen:
        """Return the picture from a pose and what it shows of each thing.

        What the first camera of the room sees is kept: every path begins with it.
        """
        first = bool((pose == self.pose).all())
        if first and camera in self._seen:
            return self._seen[camera]
        picture = self.renderer.picture(camera, pose)
        seen = Seen(picture, self.visibility.shares(camera, pose, picture.mask))
        if first:
            self._seen[camera] = seen
        return seen


class Seen(NamedTuple):
    """A picture, and the visible share of each thing, (N,) float32."""

    picture: Picture
    shares: np.ndarray


def _compose(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the product of two poses by plain sums, whose bits no BLAS library changes."""
    made: np.ndarray = (one[:, :, None] * two[None, :, :]).sum(1)
    return made


class SimTeacher:
    """Walks a camera through furnished rooms that are made up from seeds.

    A scene is rebuilt from its record alone: ``meta`` holds the seed and the kind of room, and
    the field of view is in its intrinsics. Frames do not depend on what was rendered before.
    """

    def __init__(self, field_of_view: float, quality: str, rooms: str) -> None:
        if not 30 <= field_of_view <= 120:
            raise BadOption(f"field_of_view is {field_of_view:g} degrees", "use 30 to 120, e.g. 75")
        if quality not in _QUALITIES:
            raise BadOption(f"no quality is called {quality!r}", f"use {' or '.join(_QUALITIES)}")
        kinds = list(LAYOUTS) if rooms == "all" else rooms.split("+")
        for kind in kinds:
            if kind not in LAYOUTS:
                hint = f"use all, or some of {'+'.join(LAYOUTS)}"
                raise BadOption(f"no kind of room is called {kind!r}", hint)
        self._camera = assumed(SIZE, SIZE, field_of_view)
        self._quality, self._kinds = quality, kinds
        self._stage: tuple[str, Stage] | None = None

    def scenes(self, number: int, seed: int) -> Iterator[Scene]:
        """Yield that many scenes, each one room with one first camera."""
        for k in range(number):
            room = self._kinds[provenance.draw(len(self._kinds), "sim", seed, k)]
            yield Scene(
                id=f"sim-{seed}-{k:06d}",
                image="",
                source="simulated",
                intrinsics=self._camera,
                known="given",
                caption=f"a {_NAMES.get(room, room)}",
                licence="CC0-1.0",
                meta={"seed": provenance.seed_of("sim", seed, k), "room": room},
            )

    def anchor(self, scene: Scene, anchor: Anchor) -> Anchor:
        """Return the anchor with the picture and the depth that its camera sees."""
        stage = self._prepared(scene)
        seen = stage.look(anchor.camera, stage.pose).picture
        return replace(anchor, image=seen.frame, depth=seen.depth)

    def collides(self, scene: Scene, poses: np.ndarray) -> bool:
        """Return whether a ball of 0.25 m about the camera touches anything on its way."""
        return self._prepared(scene).bump(poses) is not None

    def render(
        self, scene: Scene, anchor: Anchor, paths: Sequence[CameraPath]
    ) -> Iterator[Rendered | Refused]:
        """Yield frames, depth, masks and visible shares of each path, or why there are none."""
        stage = self._prepared(scene)
        for path in paths:
            hit = stage.bump(path.poses)
            if hit is not None:
                where = f"the camera comes within {RADIUS:g} m of something at pose {hit}"
                yield Refused(reason="collision", detail=where)
                continue
            yield _rendered(stage, anchor.camera, stage.poses(path.poses))

    def _prepared(self, scene: Scene) -> Stage:
        """Return the room of a scene; the last one is kept."""
        seed, room = scene.meta.get("seed"), scene.meta.get("room")
        if not (isinstance(seed, int) and isinstance(room, str) and room in LAYOUTS):
            raise BadRecord(
                f"scene {scene.id} was not made by the simulator",
                "let it make its own scenes: give --scenes N instead of a file",
            )
        camera = scene.intrinsics or self._camera
        key = provenance.digest(seed, room, camera.width, camera.fx, camera.cx)
        if self._stage is None or self._stage[0] != key:
            self._stage = None  # let the old room go before the new one is built
            self._stage = (key, Stage(seed, room, field_of_view(camera), self._quality))
        return self._stage[1]


_NAMES = {"living": "living room", "dining": "dining room"}


def _rendered(stage: Stage, camera: Intrinsics, poses: np.ndarray) -> Rendered:
    seen = [stage.look(camera, pose) for pose in poses]
    return Rendered(
        frames=[s.picture.frame for s in seen],
        depth=[s.picture.depth for s in seen],
        masks=[s.picture.mask for s in seen],
        things=stage.world.things,
        visible=np.stack([s.shares for s in seen]),
        units_per_meter=1.0,
        notes={"light": stage.world.mode},
    )


def bare_cast(stage: Stage, camera: Intrinsics, pose: np.ndarray) -> int:
    """Cast the closest-hit rays of one picture and nothing else; return how many hit.

    This is the work below which no frame can go: benchmarks time it against ``picture``.
    """
    beams = all_rays(camera, pose)
    origins = np.broadcast_to(pose[:3, 3], beams.directions.shape)
    return int((stage.renderer.tracer.closest(origins, beams.directions).face >= 0).sum())
