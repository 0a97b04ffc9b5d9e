"""What only a simulator knows: how much of each thing is seen, what a camera bumps into."""

from __future__ import annotations

import numpy as np

from w2v.records import Intrinsics
from w2v.teachers.sim.mesh import FLOAT, Mesh, Tracer, dot

SAMPLES = 384
_FEW = 12  # seen samples below which the pixels themselves are the better count


class Visibility:
    """Measures the visible share of each thing.

    The share is *the solid angle of the thing's pixels in this frame, over the solid angle it
    would fill if it stood alone and the picture went all the way round*: 1 for a thing wholly in
    view, less where the frame cuts it or others hide it. It is 0.0 exactly where the mask has no
    pixel of the thing. Estimated from points spread evenly over the thing's surface, each standing
    for its area x cosine / distance squared, that are not hidden by the thing itself.
    """

    def __init__(self, mesh: Mesh, things: int, tracer: Tracer) -> None:
        self._tracer, self._count = tracer, things
        self._alone: list[Tracer] = []
        points, normals, areas = [], [], []
        for thing in range(1, things + 1):
            corners = mesh.corners[mesh.thing == thing]
            self._alone.append(Tracer(corners))
            found = _spread(corners, SAMPLES)
            points.append(found[0])
            normals.append(found[1])
            areas.append(found[2])
        self._points, self._normals = np.concatenate(points), np.concatenate(normals)
        self._areas = np.repeat(np.array(areas), SAMPLES)

    def shares(self, camera: Intrinsics, pose: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return (N,) float32, the visible share of each thing.

        Args:
            camera: The camera of the frame.
            pose: (4, 4) camera-to-world.
            mask: (H, W) ids of the frame.
        """
        eye = pose[:3, 3]
        away = self._points - eye
        squared = dot(away, away)
        distance = np.sqrt(squared)
        way = away / distance[:, None]
        weight = np.maximum(-dot(way, self._normals), 0) * self._areas / squared
        start = np.broadcast_to(eye.astype(FLOAT), way.shape)
        reach = distance - 0.004
        for k, tracer in enumerate(self._alone):
            part = slice(k * SAMPLES, (k + 1) * SAMPLES)
            weight[part][tracer.blocked(start[part], way[part], reach[part])] = 0
        seen = (weight > 0) & _framed(away, camera, pose)
        asked = np.flatnonzero(seen)
        seen[asked] = ~self._tracer.blocked(start[asked], way[asked], reach[asked])
        shape = (self._count, SAMPLES)
        whole = weight.reshape(shape).sum(1)
        part_seen = (weight * seen).reshape(shape).sum(1)
        pixels, angle = self._pixels(camera, mask)
        few = seen.reshape(shape).sum(1) < _FEW
        part_seen = np.where(few, np.minimum(angle, whole), part_seen)
        share = part_seen / np.maximum(whole, 1e-12)
        return np.where((pixels > 0) & (whole > 0), share, 0.0).astype(FLOAT)

    def _pixels(self, camera: Intrinsics, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (N,) how many pixels each thing has, and the solid angle they fill."""
        x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
        y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
        angle = (1 + x * x + (y * y)[:, None]) ** -1.5 / (camera.fx * camera.fy)
        ids, size = mask.ravel(), self._count + 1
        counts = np.bincount(ids, minlength=size)[1:]
        return counts, np.bincount(ids, angle.ravel(), minlength=size)[1:]


def _framed(away: np.ndarray, camera: Intrinsics, pose: np.ndarray) -> np.ndarray:
    """Return (N,) bool, which offsets from the eye fall into the picture."""
    x, y, z = (dot(away, np.broadcast_to(pose[:3, k], away.shape)) for k in range(3))
    ahead = z > 1e-6
    safe = np.where(ahead, z, 1.0)
    u, v = x / safe * camera.fx + camera.cx, y / safe * camera.fy + camera.cy
    framed: np.ndarray = ahead & (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)
    return framed


def _spread(corners: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return points spread evenly over triangles, their normals, and the area each stands for."""
    a, b, c = corners.astype(np.float64).transpose(1, 0, 2)
    across = np.cross(b - a, c - a)
    area = np.sqrt(dot(across, across)) / 2
    total = np.cumsum(area)
    at = (np.arange(number) + 0.5) / number
    face = np.minimum(np.searchsorted(total, at * total[-1]), len(area) - 1)
    # Within a triangle: the two-dimensional golden-ratio sequence, folded into the triangle.
    u, v = (np.arange(number) * 0.7548776662) % 1, (np.arange(number) * 0.5698402910) % 1
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u)[:, None], np.where(fold, 1 - v, v)[:, None]
    points = a[face] * (1 - u - v) + b[face] * u + c[face] * v
    normals = across[face] / (2 * area[face])[:, None]
    return points, normals, float(total[-1]) / number


class Obstacles:
    """Tells how near a moving camera comes to the triangles of a room."""

    def __init__(self, corners: np.ndarray) -> None:
        self._corners = corners.astype(np.float64)
        self._low, self._high = self._corners.min(1), self._corners.max(1)

    def about(self, y: float, reach: float) -> Obstacles:
        """Return only what comes within ``reach`` meters of a height, which is quicker to ask."""
        close = (self._high[:, 1] >= y - reach) & (self._low[:, 1] <= y + reach)
        return Obstacles(self._corners[close])

    def near(self, start: np.ndarray, end: np.ndarray, radius: float) -> bool:
        """Return whether a ball that moves straight from start to end touches a triangle."""
        low, high = np.minimum(start, end) - radius, np.maximum(start, end) + radius
        close = ((self._high >= low) & (self._low <= high)).all(1)
        corners = self._corners[close]
        return len(corners) > 0 and bool((_distance(start, end, corners) < radius).any())


def _distance(start: np.ndarray, end: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return (F,) the least distance between one segment and each triangle, in meters.

    It is the least of: the ends to the triangle's face, the segment to its three edges, and 0
    where the segment pierces it.
    """
    a, b, c = corners.transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    normal /= np.sqrt(dot(normal, normal))[:, None] + 1e-30
    heights = []
    best = np.full(len(corners), np.inf)
    for point in (start, end):
        height = dot(point - a, normal)
        heights.append(height)
        over = _inside(point - height[:, None] * normal, a, b, c, normal)
        best = np.where(over, np.minimum(best, np.abs(height)), best)
    for one, two in ((a, b), (b, c), (c, a)):
        best = np.minimum(best, _between(start, end, one, two))
    first, last = heights
    crossing = first * last < 0
    share = first / np.where(crossing, first - last, 1.0)
    pierced = crossing & _inside(start + share[:, None] * (end - start), a, b, c, normal)
    return np.where(pierced, 0.0, best)


def _inside(
    points: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray, normal: np.ndarray
) -> np.ndarray:
    """Return which points in the planes of triangles lie within them."""
    sides = [dot(np.cross(q - p, points - p), normal) >= 0 for p, q in ((a, b), (b, c), (c, a))]
    within: np.ndarray = sides[0] & sides[1] & sides[2]
    return within


def _between(start: np.ndarray, end: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return least distances of one segment to each of (F,) others (Ericson 2005, 5.1.9)."""
    d1, d2, r = np.broadcast_to(end - start, one.shape), two - one, start - one
    a, e, f = dot(d1, d1), dot(d2, d2), dot(d2, r)
    c, b = dot(d1, r), dot(d1, d2)
    safe_a, safe_e = np.maximum(a, 1e-18), np.maximum(e, 1e-18)
    below = a * e - b * b
    s = np.where(below > 1e-15, np.clip((b * f - c * e) / np.maximum(below, 1e-15), 0, 1), 0.0)
    t = np.clip((b * s + f) / safe_e, 0, 1)
    s = np.where(a > 1e-18, np.clip((b * t - c) / safe_a, 0, 1), 0.0)
    gap = r + s[:, None] * d1 - t[:, None] * d2
    return np.sqrt(dot(gap, gap))
