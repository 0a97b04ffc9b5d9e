"""Primitive surfaces of furniture: boxes, cushions, turned parts, cloth.

Everything is made of *patches*, rectangular grids of points. The two grid directions serve as
coordinates of the baked light, so nothing ever has to be unwrapped. Shapes are drawn the way
furniture is: x right, y up, z towards the viewer, meters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

Vector = tuple[float, float, float]
_SMOOTH = math.cos(math.radians(50))  # neighbours on a lathe that turn less than this are rounded


@dataclass(frozen=True)
class Surface:
    """Some patches of the same grid size.

    Args:
        points: (P, U, V, 3) float64, meters.
        normals: (P, U, V, 3) float64, unit, pointing out of the solid.
        uv: (P, U, V, 2) float64, where the texture is looked up, meters.
        texels: The least number of light samples along each grid direction; curved patches
            need more than the two that a flat one gets by with.
    """

    points: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    texels: tuple[int, int] = (2, 2)

    def moved(self, turn: np.ndarray | None, at: Vector) -> Surface:
        """Return the surface turned by a (3, 3) rotation, then shifted."""
        points, normals = self.points, self.normals
        if turn is not None:
            points, normals = rotate(points, turn), rotate(normals, turn)
        return replace(self, points=points + np.array(at), normals=normals)


def rotate(vectors: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Return (…, 3) vectors turned by a (3, 3) rotation, without BLAS and so always bit-equal."""
    x, y, z = vectors[..., :1], vectors[..., 1:2], vectors[..., 2:]
    return x * turn[:, 0] + y * turn[:, 1] + z * turn[:, 2]


def turn_x(degrees: float) -> np.ndarray:
    """Return the rotation that tips the top (+y) towards the viewer (+z)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def turn_y(degrees: float) -> np.ndarray:
    """Return the rotation about the upright axis, counter-clockwise seen from above."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def turn_z(degrees: float) -> np.ndarray:
    """Return the rotation that tips the top (+y) to the left (-x)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


_AXES = ((0, 1, 2), (1, 2, 0), (2, 0, 1))  # out of the face, then its two grid directions


@functools.cache
def _rounded(segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which corner (signs) each grid point belongs to, and its unit normal.

    Both are (6, n, n, 3), n = 2 * (segments + 1). The angles in a corner are even.
    """
    bend = np.tan(np.linspace(math.pi / 4, 0, segments + 1)) if segments else np.zeros(1)
    offset = np.concatenate([-bend, bend[::-1]])
    sign = np.where(np.arange(len(offset)) < len(bend), -1.0, 1.0)
    corners, normals = np.empty((2, 6, len(offset), len(offset), 3))
    for face in range(6):
        (out, u, v), side = _AXES[face // 2], 1.0 if face % 2 else -1.0
        corners[face, ..., out], normals[face, ..., out] = side, side
        corners[face, ..., u], normals[face, ..., u] = sign[:, None], offset[:, None]
        corners[face, ..., v], normals[face, ..., v] = sign, offset
    normals /= np.sqrt((normals * normals).sum(-1, keepdims=True))
    return corners, normals


def _face_uv(points: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Return texture coordinates of six faces, with the grain along the longer edge of each."""
    uv = np.empty((*points.shape[:-1], 2))
    for face in range(6):
        _, u, v = _AXES[face // 2]
        long, short = (u, v) if half[u] >= half[v] else (v, u)
        uv[face] = points[face][..., [long, short]]
    return uv


def box(width: float, height: float, depth: float, radius: float = 0.0) -> Surface:
    """Return a box about the origin whose edges are rounded by ``radius`` meters."""
    half = np.array([width, height, depth]) / 2
    radius = min(radius, float(half.min()) * 0.999)
    segments = 0 if radius <= 0 else 1 if radius <= 0.012 else 3
    corners, normals = _rounded(segments)
    points = corners * (half - radius) + radius * normals
    return Surface(points, normals, _face_uv(points, half), (3, 3) if radius > 0.03 else (2, 2))


@functools.cache
def _cube(steps: int) -> np.ndarray:
    """Return the (6, n, n, 3) grid points of the cube from -1 to 1, denser towards its edges."""
    line = np.sin(np.linspace(-math.pi / 2, math.pi / 2, steps))
    points = np.empty((6, steps, steps, 3))
    for face in range(6):
        (out, u, v), side = _AXES[face // 2], 1.0 if face % 2 else -1.0
        points[face, ..., out] = side
        points[face, ..., u], points[face, ..., v] = line[:, None], line
    return points


def cushion(width: float, height: float, depth: float, square: float = 4.0) -> Surface:
    """Return a stuffed block: a superellipsoid, from a ball (2) to nearly a box (10)."""
    half, cube = np.array([width, height, depth]) / 2, _cube(9)
    norm = (np.abs(cube) ** square).sum(-1, keepdims=True) ** (1 / square)
    unit = cube / norm
    normals = np.sign(unit) * np.abs(unit) ** (square - 1) / half
    normals /= np.sqrt((normals * normals).sum(-1, keepdims=True))
    return Surface(unit * half, normals, _face_uv(cube * half, half), (4, 4))


def ball(radius: float) -> Surface:
    """Return a sphere about the origin."""
    return cushion(2 * radius, 2 * radius, 2 * radius, 2.0)


def _runs(profile: np.ndarray) -> list[tuple[int, int]]:
    """Return the (first, last) points of each smooth stretch of a profile."""
    step = np.diff(profile, axis=0)
    step /= np.hypot(step[:, 0], step[:, 1])[:, None]
    sharp = (step[1:] * step[:-1]).sum(1) < _SMOOTH
    cuts = [0, *(np.flatnonzero(sharp) + 1).tolist(), len(profile) - 1]
    return list(zip(cuts[:-1], cuts[1:], strict=True))


def lathe(profile: Sequence[tuple[float, float]], around: int = 20) -> list[Surface]:
    """Turn a profile about the upright axis.

    Args:
        profile: (radius, height) pairs, with the outside on the right hand as one walks along,
            that is: upwards on the outer face of a pot.
        around: Segments of a full turn.
    """
    line = np.maximum(np.array(profile, dtype=np.float64), [1e-4, -np.inf])
    angle = np.linspace(0, 2 * math.pi, around + 1)
    ring = np.stack([np.cos(angle), np.zeros_like(angle), -np.sin(angle)], -1)
    widest = max(float(line[:, 0].max()), 0.02)
    made = []
    for first, last in _runs(line):
        run = line[first : last + 1]
        step = np.diff(run, axis=0)
        length = np.hypot(step[:, 0], step[:, 1])
        flat = np.stack([step[:, 1], -step[:, 0]], 1) / length[:, None]
        out = np.concatenate([flat[:1], flat[1:] + flat[:-1], flat[-1:]])
        out /= np.hypot(out[:, 0], out[:, 1])[:, None]
        up = np.array([0.0, 1.0, 0.0])
        points = run[:, None, :1] * ring + run[:, None, 1:] * up
        normals = out[:, None, :1] * ring + out[:, None, 1:] * up
        along = np.concatenate([[0.0], np.cumsum(length)])
        uv = np.stack(np.broadcast_arrays(angle * widest, along[:, None]), -1)
        made.append(Surface(points[None], normals[None], uv[None], (2, 7)))
    return made


def cylinder(radius: float, height: float, top: float | None = None) -> list[Surface]:
    """Return a rod that stands on the origin; ``top`` is its radius there, if it tapers."""
    top = radius if top is None else top
    return lathe([(0, 0), (radius, 0), (top, height), (0, height)], 12)


def panel(width: float, height: float) -> Surface:
    """Return a flat rectangle about the origin that faces the viewer (+z)."""
    x, y = np.meshgrid([-width / 2, width / 2], [-height / 2, height / 2], indexing="ij")
    points = np.stack([x, y, np.zeros_like(x)], -1)[None]
    return Surface(points, np.broadcast_to([0.0, 0.0, 1.0], points.shape), points[..., :2])


def sheet(points: np.ndarray, thickness: float = 0.004) -> list[Surface]:
    """Return cloth or a leaf through a (U, V, 3) grid: two faces, so each side has its own light.

    With only one face, the back would show the light of the front and look black or lit through.
    """
    normals = np.cross(np.gradient(points, axis=0), np.gradient(points, axis=1))
    normals /= np.sqrt((normals * normals).sum(-1, keepdims=True)) + 1e-12
    u = np.concatenate([[0.0], np.cumsum(_lengths(np.diff(points[:, 0], axis=0)))])
    v = np.concatenate([[0.0], np.cumsum(_lengths(np.diff(points[0], axis=0)))])
    uv = np.stack(np.meshgrid(u, v, indexing="ij"), -1)[None]
    half = normals * (thickness / 2)
    return [
        Surface((points + half)[None], normals[None], uv),
        Surface((points - half)[None], -normals[None], uv),
    ]


def _lengths(steps: np.ndarray) -> np.ndarray:
    length: np.ndarray = np.sqrt((steps * steps).sum(-1))
    return length
