"""Camera poses, intrinsics and reprojection.

Conventions: camera-to-world, x right, y down, z forward, meters; a right turn is a positive yaw;
pixel centres at half integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from w2v.records import Intrinsics, Move

_STEP = {
    "move forward": (0.0, 0.0, 1.0),
    "move backward": (0.0, 0.0, -1.0),
    "move left": (-1.0, 0.0, 0.0),
    "move right": (1.0, 0.0, 0.0),
}


def yaw(degrees: float) -> np.ndarray:
    """Return the (3, 3) float64 rotation that turns the camera right by ``degrees``."""
    a = math.radians(degrees)
    c, s = math.cos(a), math.sin(a)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def step(move: Move, share: float = 1.0) -> np.ndarray:
    """Return the (4, 4) pose after doing ``share`` of one move from the identity."""
    amount, pose = move.amount * share, np.eye(4)
    if move.verb in _STEP:
        pose[:3, 3] = np.array(_STEP[move.verb]) * amount
    else:
        pose[:3, :3] = yaw(amount if move.verb == "turn right" else -amount)
    return pose


def frames_of(move: Move, least: int = 8, max_meters: float = 0.2, max_degrees: float = 5.0) -> int:
    """Return how many frames a move takes, start included (World2VLM: 8 at least, 0.2 m, 5 deg)."""
    limit = max_degrees if move.verb.startswith("turn") else max_meters
    return max(least, math.ceil(round(move.amount / limit, 9)) + 1)


def poses(moves: Sequence[Move], counts: Sequence[int]) -> np.ndarray:
    """Walk the camera through moves, evenly, from the identity; joints are not repeated.

    Args:
        moves: Moves in order; meters or degrees.
        counts: Frames spent on each move, its start included (2 or more).

    Returns:
        (T, 4, 4) float64 camera-to-world, T = 1 + sum(count - 1).
    """
    path = [np.eye(4)]
    for move, count in zip(moves, counts, strict=True):
        start = path[-1]
        path += [start @ step(move, k / (count - 1)) for k in range(1, count)]
    return np.stack(path)


def decompose(pose: np.ndarray) -> tuple[float, float, float, float]:
    """Return (right, down, forward) meters and yaw degrees of a (4, 4) pose."""
    x, y, z = (float(v) for v in pose[:3, 3])
    return x, y, z, math.degrees(math.atan2(float(pose[0, 2]), float(pose[2, 2])))


def matrix(camera: Intrinsics) -> np.ndarray:
    """Return the (3, 3) float64 intrinsic matrix."""
    return np.array([[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]])


def assumed(width: int, height: int, field_of_view: float) -> Intrinsics:
    """Return a centred camera with square pixels and that horizontal field of view, degrees."""
    f = width / 2 / math.tan(math.radians(field_of_view) / 2)
    return Intrinsics(width=width, height=height, fx=f, fy=f, cx=width / 2, cy=height / 2)


def field_of_view(camera: Intrinsics) -> float:
    """Return the horizontal field of view in degrees."""
    left, right = camera.cx / camera.fx, (camera.width - camera.cx) / camera.fx
    return math.degrees(math.atan(left) + math.atan(right))


def fit(camera: Intrinsics, width: int, height: int) -> tuple[Intrinsics, float, float, float]:
    """Return the camera after scaling to cover width x height and cropping the middle.

    Returns:
        The new intrinsics; the scale; and the crop's left and top in scaled pixels.
    """
    scale = max(width / camera.width, height / camera.height)
    left = (camera.width * scale - width) / 2
    top = (camera.height * scale - height) / 2
    made = Intrinsics(
        width=width,
        height=height,
        fx=camera.fx * scale,
        fy=camera.fy * scale,
        cx=camera.cx * scale - left,
        cy=camera.cy * scale - top,
    )
    return made, scale, left, top


def lift(depth: np.ndarray, camera: Intrinsics) -> np.ndarray:
    """Return (H, W, 3) float64 camera-space points of a (H, W) z-depth map in meters."""
    height, width = depth.shape
    x = (np.arange(width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(height) + 0.5 - camera.cy) / camera.fy
    z = depth.astype(np.float64)
    return np.stack([z * x, z * y[:, None], z], axis=-1)


def project(points: np.ndarray, camera: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """Return (…, 2) pixel coordinates and (…,) z of camera-space points; z <= 0 is behind."""
    z = points[..., 2]
    safe = np.where(z > 1e-9, z, np.nan)
    u = points[..., 0] / safe * camera.fx + camera.cx
    v = points[..., 1] / safe * camera.fy + camera.cy
    return np.stack([u, v], axis=-1), z


def to_camera(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Return world points (…, 3) in the space of a camera with (4, 4) camera-to-world pose."""
    return (points - pose[:3, 3]) @ pose[:3, :3]
