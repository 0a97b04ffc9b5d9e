"""All surfaces of a room in flat arrays, and the ray caster that answers for them."""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from w2v.teachers.sim.materials import Material
from w2v.teachers.sim.pieces import Piece
from w2v.teachers.sim.plan import Spot
from w2v.teachers.sim.shapes import rotate, turn_y

FLOAT = np.float32


@dataclass(frozen=True)
class Grid:
    """All patches of one grid size, in world coordinates; patch numbers run from ``first``."""

    first: int
    points: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    texels: np.ndarray


@dataclass(frozen=True)
class Mesh:
    """The triangles of a room.

    Args:
        grids: The patches that the triangles came from, (P, U, V, …) for each grid size.
        corners: (F, 3, 3) float32 world coordinates, meters.
        shading: (F, 3, 7) float32 of each corner: texture u v, place on the patch s t (0 to 1),
            normal x y z.
        patch: (F,) int32, the patch of each triangle.
        material: (F,) int32, its place in ``materials``.
        thing: (F,) int32, 0 for the building, else the id of a thing.
        materials: The materials in use.
    """

    grids: tuple[Grid, ...]
    corners: np.ndarray
    shading: np.ndarray
    patch: np.ndarray
    material: np.ndarray
    thing: np.ndarray
    materials: tuple[Material, ...]


@functools.cache
def _triangles(u: int, v: int) -> np.ndarray:
    """Return the (F, 3) points of the two triangles in each cell of a u x v grid."""
    a = (np.arange(u - 1)[:, None] * v + np.arange(v - 1)).ravel()
    return np.concatenate([np.stack([a, a + v, a + v + 1], 1), np.stack([a, a + v + 1, a + 1], 1)])


def _to_world(vectors: np.ndarray, spot: Spot) -> np.ndarray:
    """Turn (…, 3) vectors of a piece (y up, front +z) into the world's axes (y down)."""
    return rotate(vectors * np.array([1.0, -1.0, -1.0]), turn_y(spot.yaw))


def dot(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the (N,) dot products of (N, 3) vectors; faster than a product and a sum."""
    return np.asarray(np.einsum("ij,ij->i", one, two))


def place(at: tuple[float, float, float], spot: Spot) -> np.ndarray:
    """Return the world coordinates of a point of a piece that stands at a spot."""
    return _to_world(np.array(at), spot) + np.array([spot.x, -spot.height, spot.z])


def arc(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return how far along each patch its grid lines lie, from 0 to 1.

    Args:
        points: (P, U, V, 3).

    Returns:
        s (P, U), t (P, V), and the full length of both directions in meters, (P,) each.
    """
    made = []
    for axis, other in ((1, 2), (2, 1)):
        step = np.diff(points, axis=axis)
        length = np.sqrt((step * step).sum(-1)).max(other)
        total = np.concatenate([np.zeros((len(points), 1)), np.cumsum(length, 1)], 1)
        made += [total / np.maximum(total[:, -1:], 1e-9), total[:, -1]]
    return made[0], made[2], made[1], made[3]


def assemble(placed: list[tuple[Piece, Spot]], ids: list[int]) -> Mesh:
    """Join placed pieces into one mesh; ``ids`` are the mask values of the pieces."""
    kinds: dict[Material, int] = {}
    stacks = defaultdict(list)
    for (piece, spot), number in zip(placed, ids, strict=True):
        shift = np.array([spot.x, -spot.height, spot.z])
        for surface, made_of in piece.parts:
            count, u, v, _ = surface.points.shape
            labels = (number, kinds.setdefault(made_of, len(kinds)), *surface.texels)
            stacks[u, v].append(
                (
                    _to_world(surface.points, spot) + shift,
                    _to_world(surface.normals, spot),
                    surface.uv / made_of.scale,
                    np.tile(np.array(labels), (count, 1)),
                )
            )
    grids: list[Grid] = []
    faces, first = [], 0
    for size in sorted(stacks):
        points, normals, uv, tags = (
            np.concatenate(part) for part in zip(*stacks[size], strict=True)
        )
        grids.append(Grid(first, points, normals, uv, tags[:, 2:]))
        faces.append(_faces(grids[-1], tags))
        first += len(points)
    corners, shading, patch, material, thing = (
        np.concatenate(part) for part in zip(*faces, strict=True)
    )
    return Mesh(tuple(grids), corners, shading, patch, material, thing, tuple(kinds))


def _faces(grid: Grid, tags: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return corners, shading, patch, material and thing of a grid's triangles, without slivers."""
    count, u, v, _ = grid.points.shape
    cells = _triangles(u, v)
    s, t, _, _ = arc(grid.points)
    st = np.empty((count, u, v, 2))
    st[..., 0], st[..., 1] = s[:, :, None], t[:, None, :]
    data = np.concatenate([grid.points, grid.uv, st, grid.normals], -1).reshape(count, u * v, 10)
    corner = data[:, cells].reshape(-1, 3, 10)
    one, two = corner[:, 1, :3] - corner[:, 0, :3], corner[:, 2, :3] - corner[:, 0, :3]
    across = np.cross(one, two)
    flip = (across * corner[:, :, 7:].sum(1)).sum(1) < 0
    corner[flip] = corner[flip][:, ::-1]
    whole = (across * across).sum(1) > 1e-20
    of = np.repeat(np.arange(count), len(cells))[whole]
    corner = corner[whole].astype(FLOAT)
    patch = (of + grid.first).astype(np.int32)
    thing, material = tags[of, 0].astype(np.int32), tags[of, 1].astype(np.int32)
    return corner[..., :3], corner[..., 3:], patch, material, thing


class Hits(NamedTuple):
    """What rays met first: face number (-1: nothing), distance, and place in the triangle."""

    face: np.ndarray
    distance: np.ndarray
    u: np.ndarray
    v: np.ndarray


class Tracer:
    """Casts rays at triangles: the one place that knows the ray engine.

    Embree gives the same bits each time on one machine; the last bits may differ between kinds of
    processor.
    """

    def __init__(self, corners: np.ndarray) -> None:
        self._scene = EmbreeScene()
        self._mesh = TriangleMesh(self._scene, np.ascontiguousarray(corners, FLOAT))

    def closest(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """Return what each ray meets first.

        Args:
            origins: (N, 3) meters.
            directions: (N, 3), unit length.
        """
        found = self._scene.run(
            np.ascontiguousarray(origins, FLOAT),
            np.ascontiguousarray(directions, FLOAT),
            query="INTERSECT",
            output=True,
        )
        return Hits(found["primID"], found["tfar"], found["u"], found["v"])

    def blocked(self, origins: np.ndarray, directions: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Return (N,) bool, whether anything lies within ``reach`` meters along each ray."""
        found = self._scene.run(
            np.ascontiguousarray(origins, FLOAT),
            np.ascontiguousarray(directions, FLOAT),
            dists=np.ascontiguousarray(reach, FLOAT),
            query="OCCLUDED",
        )
        blocked: np.ndarray = found >= 0
        return blocked
