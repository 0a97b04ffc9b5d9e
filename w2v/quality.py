"""Numbers that say how good a clip is: sharpness, what rests on evidence, how far it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from w2v import geometry
from w2v.kinds import Anchor, Rendered

BLURRY = 30.0
"""Variance of the Laplacian, on 0-255 grey, under which a frame counts as blurred."""


def laplacian_variance(frame: np.ndarray) -> float:
    """Return the variance of the 4-neighbour Laplacian of an (H, W, 3) uint8 frame's grey."""
    grey = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    inner = (
        grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    )
    return float(inner.var())


def scores(frames: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return World2VLM's ``quality_scores`` of a clip; BRISQUE is left unknown."""
    sharp = [round(laplacian_variance(f), 2) for f in frames]
    return {
        "per_frame": [
            {
                "frame_idx": k,
                "laplacian_var": value,
                "brisque": None,
                "is_blurry": value < BLURRY,
                "is_low_quality": value < BLURRY,
            }
            for k, value in enumerate(sharp)
        ],
        "min_laplacian_var": min(sharp),
        "max_laplacian_var": max(sharp),
        "mean_laplacian_var": round(sum(sharp) / len(sharp), 2),
        "mean_brisque": None,
        "passed": min(sharp) >= BLURRY,
    }


def summary(
    rendered: Rendered, poses: np.ndarray, anchor: Anchor, told: dict[str, Any]
) -> dict[str, float]:
    """Return the numbers that travel with a clip.

    ``blur`` is the least Laplacian variance; ``coverage`` the share of the last frame that rests
    on evidence; ``meters`` and ``degrees`` the net displacement; ``overlap`` the share of the
    first view that is still inside the last (by depth where known, else by the turn alone).
    """
    right, down, forward, yaw = geometry.decompose(poses[-1])
    made = {
        "blur": told["min_laplacian_var"],
        "meters": round(float(np.hypot(np.hypot(right, forward), down)), 4),
        "degrees": round(yaw, 3),
        "overlap": round(overlap(anchor, rendered, poses[-1]), 4),
    }
    if rendered.valid is not None:
        made["coverage"] = round(float(np.mean(rendered.valid[-1])), 4)
    return made


def overlap(anchor: Anchor, rendered: Rendered, pose: np.ndarray) -> float:
    """Return the share of the first view's pixels that fall inside the last view.

    Args:
        anchor: Camera, and depth where known.
        rendered: Frames; its first depth map is used where the anchor has none.
        pose: (4, 4) camera-to-world of the last frame, the first being the identity.
    """
    camera = anchor.camera
    depth = anchor.depth
    if depth is None and rendered.depth is not None:
        depth = np.asarray(rendered.depth[0])
    if depth is None:
        depth = np.ones((camera.height, camera.width), np.float32)
        pose = pose.copy()
        pose[:3, 3] = 0  # without depth only the turn says anything
    known = depth > 0
    if not known.any():
        return 0.0
    points = geometry.to_camera(geometry.lift(depth, camera)[known], pose)
    pixels, z = geometry.project(points, camera)
    inside = (
        (z > 0)
        & (pixels[:, 0] >= 0)
        & (pixels[:, 0] < camera.width)
        & (pixels[:, 1] >= 0)
        & (pixels[:, 1] < camera.height)
    )
    return float(inside.mean())
