"""Which boxes questions may be asked about: the filters of World2VLM (arXiv 2604.26934, app. A).

A box that fails is marked ``kept=False`` and stays in the record. That is the whole point: in
World2VLM a filtered box counts as an object that disappeared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from w2v.boxes import area, iou
from w2v.records import Box, Intrinsics


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The limits; defaults are the paper's.

    Args:
        min_score: Least score.
        nms: IoU above which the weaker of two boxes of one label and frame fails.
        min_area: Least share of the frame's area.
        max_area: Greatest share of the frame's area.
        margin: Least distance from each border, as a share of the frame's width or height.
    """

    min_score: float = 0.3
    nms: float = 0.5
    min_area: float = 0.01
    max_area: float = 0.6
    margin: float = 0.01

    def passes(self, box: Box, camera: Intrinsics) -> bool:
        """Return whether a box in sight has the score, the area and the margins."""
        if box.xyxy is None or box.score < self.min_score:
            return False
        x1, y1, x2, y2 = box.xyxy
        left, top = self.margin * camera.width, self.margin * camera.height
        share = area(box.xyxy) / (camera.width * camera.height)
        return (
            self.min_area <= share <= self.max_area
            and left <= x1
            and top <= y1
            and x2 <= camera.width - left
            and y2 <= camera.height - top
        )


PAPER = Filters()
"""The limits of the paper."""


def apply(boxes: Sequence[Box], camera: Intrinsics, filters: Filters = PAPER) -> list[Box]:
    """Return all boxes, in order, with ``kept=False`` on those that fail a filter.

    Boxes of any number of frames may be mixed; ``camera`` gives the size of the frames.
    Knowledge that an object is out of sight is no box to filter and passes unchanged.
    """
    strongest = {id(box) for box in suppress(boxes, filters.nms)}
    return [
        box
        if box.xyxy is None or (id(box) in strongest and filters.passes(box, camera))
        else dataclasses.replace(box, kept=False)
        for box in boxes
    ]


def suppress(boxes: Iterable[Box], nms: float) -> list[Box]:
    """Return the boxes, in order, without those that a stronger one of their label overlaps.

    Only boxes of one frame and label compete; of equal scores the earlier wins. Knowledge that an
    object is out of sight is returned as it is.
    """
    listed = list(boxes)
    ranked = sorted(range(len(listed)), key=lambda k: -listed[k].score)
    winners: dict[tuple[int, str], list[Box]] = {}
    kept = []
    for k in ranked:
        box = listed[k]
        if box.xyxy is not None:
            rivals = winners.setdefault((box.frame, box.label), [])
            if any(iou(box.xyxy, rival.xyxy) > nms for rival in rivals if rival.xyxy is not None):
                continue
            rivals.append(box)
        kept.append(k)
    return [listed[k] for k in sorted(kept)]
