"""Boxes of a simulator: exact, read off its masks; it also knows what is out of sight."""

from __future__ import annotations

import numpy as np

from w2v.errors import BadFile
from w2v.kinds import Footage
from w2v.records import Box, Quad


class Oracle:
    """Reports each thing in each frame: its visible pixels, or that it is out of sight."""

    def __init__(self, min_pixels: int) -> None:
        self.min_pixels = max(1, min_pixels)

    def detect(self, footage: Footage) -> list[Box]:
        """Return one box per frame and thing, in that order; ``track`` is the id of the thing.

        Raises:
            BadFile: The clip has no masks, so it does not come from a simulator.
        """
        masks, things, visible = footage.masks, footage.things, footage.visible
        if masks is None or not things:
            raise BadFile(
                f"clip {footage.clip.id} has no masks: its teacher is no simulator",
                "detect with --detector zero-shot:model=…",
            )
        boxes = []
        for frame, mask in enumerate(masks):
            for k, thing in enumerate(things):
                own = mask == thing.id
                pixels = int(own.sum())
                share = None if visible is None else float(visible[frame][k])
                boxes.append(
                    Box(
                        frame=frame,
                        track=thing.id,
                        label=thing.label,
                        xyxy=extent(own) if pixels >= self.min_pixels else None,
                        visible=0.0 if share is None and not pixels else share,
                    )
                )
        return boxes


def extent(mask: np.ndarray) -> Quad:
    """Return the tight pixel box around a (H, W) bool mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
