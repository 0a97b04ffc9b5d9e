"""The depth-warp teacher: what one photograph with depth shows from a nearby pose, and no more.

Each target pixel is a ray that is met with the surface the photograph shows. A z-buffer of the
photograph's points says how far along the ray to start; the point there is looked up in the
photograph's depth and moved onto it, twice; and it counts only if the surface is then really
there. So every pixel is either looked up at the place it came from, or known to be a hole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from w2v import geometry
from w2v.errors import BadOption, W2VError
from w2v.kinds import Anchor, CameraPath, Refused, Rendered
from w2v.records import Intrinsics, Scene

if TYPE_CHECKING:
    from w2v.teachers.depthmodel import DepthModel

FILLS = ("push-pull", "none")
TOLERANCE = 0.04
"""Two depths within this share of each other belong to one surface."""
GAP = 3
"""Specks of missing depth up to twice this many pixels wide are closed, on one surface only."""
FAR = np.float32(1e9)
"""Stands for no surface at all."""
MAGNIFIES = 1.5
"""A surface seen this much larger is splatted at four points a pixel, against cracks."""
WIDEST = 8
"""Pixels over which the nearest surface is looked for around a crack, at most."""
STEEP = 1.4
"""A surface whose depth grows by more than this factor over three pixels is a smeared edge."""
FOLD = 1024
"""Length of the rows that lists of pixels are folded into."""
NEAR = 0.02
"""Meters in front of the camera below which nothing is drawn."""
REFINEMENTS = 2
"""Moves of a guess onto the surface; each cuts its error by about the parallax per pixel."""


_LINE = np.array([1, -2, 1], dtype=np.float32)
_BENDS = (
    np.diag(_LINE),
    np.diag(_LINE)[::-1].copy(),
    np.outer([0, 1, 0], _LINE).astype(np.float32),
    np.outer(_LINE, [0, 1, 0]).astype(np.float32),
)


class DepthWarp:
    """Warps the anchor by its depth; see ``w2v.teachers.depth_warp`` for the options."""

    def __init__(
        self, model: DepthModel | None = None, coverage: float = 0.4, fill: str = "push-pull"
    ) -> None:
        if fill not in FILLS:
            raise BadOption(
                f"depth-warp cannot fill holes by {fill!r}", f"known: {', '.join(FILLS)}"
            )
        if not 0 <= coverage <= 1:
            raise BadOption(f"coverage is a share between 0 and 1, got {coverage:g}")
        self.model, self.coverage, self.fill = model, coverage, fill

    def anchor(self, scene: Scene, anchor: Anchor) -> Anchor:
        """Return the anchor with its depth, estimated where the scene has none.

        Where nobody knows the camera and the model sees a field of view, that becomes the camera.
        """
        if anchor.image is None:
            raise W2VError(f"scene {scene.id} has no picture to warp")
        if anchor.depth is not None:
            return anchor
        if self.model is None:
            raise W2VError(
                f"scene {scene.id} has no depth",
                "give the scene a depth map, or name a model: depth-warp:depth_model=NAME",
            )
        known = anchor.camera if scene.known in ("given", "estimated") else None
        seen = self.model.estimate(anchor.image, known)
        if known is None and seen.field_of_view is not None:
            height, width = anchor.image.shape[:2]
            camera = geometry.assumed(width, height, seen.field_of_view)
            return replace(anchor, camera=camera, depth=seen.depth)
        return replace(anchor, depth=seen.depth)

    def render(
        self, scene: Scene, anchor: Anchor, paths: Sequence[CameraPath]
    ) -> Iterator[Rendered | Refused]:
        """Yield one warp per path, or a refusal where its last frame shows too little."""
        anchor = self.anchor(scene, anchor)
        assert anchor.image is not None and anchor.depth is not None
        photo = Photo(anchor.image, anchor.depth, anchor.camera)
        for path in paths:
            last = photo.seen_from(path.poses[-1])
            if last.coverage < self.coverage:
                yield Refused(
                    reason="coverage",
                    detail=f"the photograph shows {last.coverage:.1%} of the last frame, "
                    f"less than {self.coverage:.1%}",
                )
            else:
                views = [photo.seen_from(pose) for pose in path.poses[:-1]] + [last]
                yield self._rendered(views, self._notes(scene, anchor.camera))

    def _rendered(self, views: Sequence[View], notes: dict[str, Any]) -> Rendered:
        """Return the views as one clip, with their holes filled if that was asked for."""
        fill = push_pull if self.fill == "push-pull" else blacken
        return Rendered(
            frames=[fill(view.image, view.valid) for view in views],
            depth=[view.depth for view in views],
            valid=[view.valid for view in views],
            units_per_meter=1.0,
            notes={"coverage": [round(view.coverage, 4) for view in views], **notes},
        )

    def _notes(self, scene: Scene, camera: Intrinsics) -> dict[str, Any]:
        """Return where the depth came from, and the field of view if that was estimated too."""
        if scene.depth is not None or self.model is None:
            return {"depth": "given"}
        notes: dict[str, Any] = {"depth": self.model.name}
        if self.model.sees_camera and scene.known not in ("given", "estimated"):
            notes["estimated_field_of_view"] = round(geometry.field_of_view(camera), 3)
        return notes


@dataclass(frozen=True)
class View:
    """What a photograph shows from a pose.

    ``image`` is (H, W, 3) uint8 and means nothing where ``valid``, (H, W) bool, is False;
    ``depth`` is (H, W) float32 meters, 0 where not valid.
    """

    image: np.ndarray
    depth: np.ndarray
    valid: np.ndarray

    @property
    def coverage(self) -> float:
        """The share of pixels that rest on evidence."""
        return float(self.valid.mean())


class Photo:
    """A picture with depth, ready to be looked at from elsewhere.

    Args:
        image: (H, W, 3) uint8.
        depth: (H, W) float32 z-depth in meters, 0 where unknown.
        camera: Of both.
    """

    def __init__(self, image: np.ndarray, depth: np.ndarray, camera: Intrinsics) -> None:
        self.image, self.camera = np.ascontiguousarray(image), camera
        self.measured = np.ascontiguousarray(depth, dtype=np.float32)
        self.depth = without_flying(close_gaps(self.measured))
        self.smooth = _smooth(self.depth)

    def seen_from(self, pose: np.ndarray) -> View:
        """Return the view from a (4, 4) camera-to-world pose, the photograph's being identity."""
        if np.array_equal(pose, np.eye(4)):
            return View(self.image, self.measured, np.ones(self.depth.shape, dtype=bool))
        start, reach = self._z_buffer(np.linalg.inv(pose))
        image, depth = np.zeros_like(self.image), np.zeros_like(self.depth)
        # The nearest surface around a pixel is tried first: it closes cracks that what is behind
        # would show through. Where it turns out not to be there, the pixel's own hit is tried.
        for guess in (cv2.erode(start, _square(reach)), start):
            todo = (depth == 0) & (guess < FAR)
            at, z, met = self._meet(pose, guess, todo)
            found = _only(todo, met)
            depth[found] = z[met]
            image[found] = _look(self.image, at[met], cv2.INTER_LINEAR)
        return View(image, depth, depth > 0)

    def _z_buffer(self, move: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the nearest depth that lands on each pixel, and how far apart points may land.

        Args:
            move: (4, 4) from the photograph's camera space to the target's.

        Returns:
            (H, W) float32 meters, FAR for none; and pixels, at least 1.
        """
        nearest = np.full(self.depth.size, FAR, dtype=np.float32)
        largest = self._splat(move, 0.0, 0.0, nearest)
        reach = 1
        if largest > MAGNIFIES:
            for right, down in ((0.5, 0.0), (0.0, 0.5), (0.5, 0.5)):
                self._splat(move, right, down, nearest)
            reach = min(math.ceil(largest / 4), WIDEST)
        return nearest.reshape(self.depth.shape), reach

    def _splat(self, move: np.ndarray, right: float, down: float, nearest: np.ndarray) -> float:
        """Lower ``nearest`` to the surface at each pixel centre, moved by a part of a pixel.

        Returns:
            How much larger than in the photograph the surface is seen at most.
        """
        known = self.smooth if right or down else self.depth > 0
        z = self.depth[known]
        row, column = (index.astype(np.float32) + 0.5 for index in np.nonzero(known))
        at, deep = _seen(_rays_of(move, self.camera, column + right, row + down), z)
        inside = (deep > NEAR) & (at >= 0).all(axis=1) & (at < self.depth.shape[::-1]).all(axis=1)
        at, deep = at[inside].astype(np.int64), deep[inside]
        np.minimum.at(nearest, at[:, 1] * self.depth.shape[1] + at[:, 0], deep)
        return float(np.max(z[inside] / deep, initial=0.0))

    def _meet(
        self, pose: np.ndarray, guess: np.ndarray, todo: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Meet the rays of the N pixels ``todo`` with the surface, starting from a guess.

        Returns:
            (N, 2) float32 where in the photograph; (N,) float32 depth seen from the pose; and
            (N,) bool whether the surface is there.
        """
        row, column = (index.astype(np.float32) + 0.5 for index in np.nonzero(todo))
        rays = _rays_of(pose, self.camera, column, row)
        steep = np.maximum(rays.along[2], 1e-6)
        z = guess[todo]
        for _ in range(REFINEMENTS):
            surface = self._depth_at(_seen(rays, z)[0])
            moved = (surface - rays.start[2]) / steep
            z = np.where((surface > 0) & (moved > NEAR), moved, z)
        at, deep = _seen(rays, z)
        surface = self._depth_at(at)
        return at, z, (surface > 0) & (np.abs(surface - deep) <= TOLERANCE * surface)

    def _depth_at(self, at: np.ndarray) -> np.ndarray:
        """Return (N,) depth at (N, 2) places: bilinear within a surface, never across its edge."""
        nearest = _look(self.depth, at, cv2.INTER_NEAREST)
        smooth = _look(self.smooth.astype(np.uint8), at, cv2.INTER_NEAREST) > 0
        return np.where(smooth, _look(self.depth, at, cv2.INTER_LINEAR), nearest)


class _Rays(NamedTuple):
    """Rays into another camera: a depth z on one is the homogeneous pixel z x along + start."""

    along: tuple[np.ndarray, np.ndarray, np.ndarray]
    start: np.ndarray


def _rays_of(move: np.ndarray, camera: Intrinsics, x: np.ndarray, y: np.ndarray) -> _Rays:
    """Return the rays through pixels (x, y), as a camera after ``move`` sees them.

    Args:
        move: (4, 4) from the one camera space to the other.
        camera: Intrinsics of both.
        x: (N,) float32 pixel coordinates, centres at half integers.
        y: The same, downwards.
    """
    to_pixel = geometry.matrix(camera)
    turn = (to_pixel @ move[:3, :3] @ np.linalg.inv(to_pixel)).astype(np.float32)
    one, two, three = (row[0] * x + row[1] * y + row[2] for row in turn)
    return _Rays((one, two, three), (to_pixel @ move[:3, 3]).astype(np.float32))


def _seen(rays: _Rays, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 2) float32 pixels and (N,) float32 depth in the other camera; 1e6 if behind."""
    across, down, deep = (z * a + s for a, s in zip(rays.along, rays.start, strict=True))
    safe = np.maximum(deep, np.float32(1e-6))
    at = np.stack([across / safe, down / safe], axis=1)
    return np.clip(at, -1e6, 1e6, out=at), deep


def close_gaps(depth: np.ndarray) -> np.ndarray:
    """Return depth with small specks of unknown filled, where all around is one surface."""
    known = (depth > 0).astype(np.uint8)
    closed = cv2.morphologyEx(known, cv2.MORPH_CLOSE, _square(GAP)) > known
    least, most = _range(depth, 2 * GAP)
    size = (4 * GAP + 1,) * 2
    mean = cv2.blur(depth, size) / np.maximum(cv2.blur(known.astype(np.float32), size), 1e-6)
    return np.where(closed & (most <= least * (1 + TOLERANCE)), mean, depth).astype(np.float32)


def without_flying(depth: np.ndarray) -> np.ndarray:
    """Return depth without pixels that hang between a near and a far surface.

    Sensors and networks both smear depth over an edge; nothing is there in the room.
    """
    least, most = _range(depth, 1)
    between = (depth > least * (1 + TOLERANCE)) & (depth * (1 + TOLERANCE) < most)
    return np.where(between & ~_smooth(depth), np.float32(0), depth)


def push_pull(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the image with holes filled smoothly from their surroundings, at all scales.

    Gortler et al., The Lumigraph (SIGGRAPH 1996), section 3.4: averages of what is known are
    pushed up a pyramid, here to a single pixel so that no hole is too wide, and pulled down again
    to where something is missing.

    Args:
        image: (H, W, 3) uint8, anything where not valid.
        valid: (H, W) bool.
    """
    weight = valid.astype(np.float32)
    levels = [(image * weight[..., None], weight)]
    while max(weight.shape) > 1:
        total, weight = levels[-1]
        size = ((weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2)
        mean, share = (cv2.resize(a, size, interpolation=cv2.INTER_AREA) for a in (total, weight))
        weight = np.minimum(4 * share, 1.0)
        levels.append((mean * (weight / np.maximum(share, 1e-9))[..., None], weight))
    filled = levels[-1][0]
    for total, weight in reversed(levels[:-1]):
        above = cv2.resize(filled, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        filled = total + (1 - weight)[..., None] * above
    return np.where(valid[..., None], image, np.rint(filled).clip(0, 255).astype(np.uint8))


def blacken(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the image with black holes."""
    return image * valid[..., None].astype(np.uint8)


def _look(array: np.ndarray, at: np.ndarray, how: int) -> np.ndarray:
    """Return what an array holds at (N, 2) float32 pixel coordinates; its edge, or 0 outside."""
    # remap takes at most 32767 pixels a side, so the list is folded into rows.
    maps = np.full((-(-len(at) // FOLD), FOLD, 2), -1e6, dtype=np.float32)
    maps.reshape(-1, 2)[: len(at)] = at - np.float32(0.5)
    shape = array.shape[2:]
    if not len(at):
        return np.zeros((0, *shape), dtype=array.dtype)
    border = cv2.BORDER_CONSTANT if how == cv2.INTER_NEAREST else cv2.BORDER_REPLICATE
    return cv2.remap(array, maps, None, how, borderMode=border).reshape(-1, *shape)[: len(at)]


def _smooth(depth: np.ndarray) -> np.ndarray:
    """Return (H, W) bool, True where a pixel and its eight neighbours lie on one surface.

    Inverse depth is linear across the picture of a plane, however slanted, so a surface ends
    where it bends sharply, or where it is too steep to be anything but a smeared edge.
    """
    least, most = _range(depth, 1)
    whole = cv2.erode((depth > 0).astype(np.uint8), _square(1)) > 0
    inverse = np.where(depth > 0, 1 / np.maximum(depth, np.float32(1e-6)), np.float32(0))
    bend = np.max([np.abs(cv2.filter2D(inverse, -1, kernel)) for kernel in _BENDS], axis=0)
    return whole & (bend <= TOLERANCE * inverse) & (most <= least * STEEP)


def _range(depth: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the most known depth around each pixel; FAR and 0 where none is."""
    least = cv2.erode(np.where(depth > 0, depth, FAR), _square(radius))
    return least, cv2.dilate(depth, _square(radius))


def _only(mask: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the indices of those True pixels of a mask that are chosen among them."""
    return tuple(index[chosen] for index in np.nonzero(mask))


def _square(radius: int) -> np.ndarray:
    return np.ones((2 * radius + 1,) * 2, dtype=np.uint8)
