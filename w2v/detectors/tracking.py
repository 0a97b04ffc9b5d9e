"""Detections of single frames to tracks, with the trackers of Roboflow's ``trackers`` package.

Three choices answer what went wrong in World2VLM, where ids followed the order of confidence:

* Scores only tell sure detections from unsure ones. Which detection belongs to which track is
  decided by place alone, so a change in the order of scores changes nothing.
* Every label has a tracker of its own: a chair never takes over the track of a television.
* All frames are fed, in order, and the motion of the camera is taken out first (BoT-SORT,
  arXiv 2206.14651): in these clips everything moves because the camera does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import supervision as sv
from trackers import CMC, BoTSORTTracker, ByteTrackTracker

from w2v.records import Box

SURE, UNSURE, SPLIT = 1.0, 0.5, 0.75
"""The two confidences a tracker gets to see, and where it splits them."""
LOST = 10
"""Frames a lost track waits for its object; clips have 8 to 46, and a longer wait risks another."""
MIN_IOU = 0.2
"""Least IoU of a detection with the predicted place of its track."""


def follow(
    frames: Iterable[np.ndarray], found: Sequence[Sequence[Box]], sure: float, method: str
) -> list[Box]:
    """Return the boxes of all frames with their track.

    A detection of at least ``sure`` may start a track; a weaker one can only continue one and is
    dropped otherwise. An object is given a track when it is in frame 0 or seen in two frames
    running; until then its box has ``track`` None.

    Args:
        frames: (H, W, 3) uint8 sRGB pictures, in order.
        found: The detections of each frame.
        sure: Score from which a detection counts as sure.
        method: One of ``options.TRACKERS``.
    """
    labels = sorted({box.label for boxes in found for box in boxes})
    moving = _Motion()
    following = {label: _tracker(method, moving) for label in labels}
    numbers: dict[tuple[str, int], int] = {}
    tracked = []
    for index, (frame, boxes) in enumerate(zip(frames, found, strict=True)):
        if method == "botsort" and labels:
            moving.look(frame)
        ids: list[int | None] = [None] * len(boxes)
        for label, tracker in following.items():
            own = [k for k, box in enumerate(boxes) if box.label == label]
            # ByteTrack confirms a track when it sees it twice; nothing moves between these two.
            for _ in range(2 if index == 0 and method == "bytetrack" else 1):
                told = _update(tracker, [boxes[k] for k in own], sure, frame)
            for k, local in zip(own, told, strict=True):
                if local >= 0:
                    ids[k] = numbers.setdefault((label, local), len(numbers) + 1)
        for box, track in zip(boxes, ids, strict=True):
            if track is not None or box.score >= sure:
                tracked.append(dataclasses.replace(box, track=track))
    return tracked


class _Motion:
    """The motion of the camera, estimated once per frame and shared by the trackers of all labels.

    Stands in for the ``CMC`` that each tracker would otherwise run for itself.
    """

    def __init__(self) -> None:
        self._cmc = CMC()
        self._affine = np.eye(2, 3, dtype=np.float32)

    def look(self, frame: np.ndarray) -> None:
        """Estimate the motion from the frame before to this one."""
        self._affine = self._cmc.estimate(np.ascontiguousarray(frame[..., ::-1]))

    def estimate(self, frame_bgr: np.ndarray, dets_xyxy: Any = None) -> np.ndarray:
        """Return the (2, 3) affine map from the frame before to this one."""
        return self._affine


def _tracker(method: str, moving: _Motion) -> Any:
    """Return a fresh tracker that counts time in frames."""
    if method == "bytetrack":
        return ByteTrackTracker(
            lost_track_buffer=LOST,
            frame_rate=30.0,
            track_activation_threshold=SPLIT,
            high_conf_det_threshold=SPLIT,
            minimum_iou_threshold=MIN_IOU,
            minimum_consecutive_frames=2,
        )
    tracker: Any = BoTSORTTracker(
        lost_track_buffer=LOST,
        frame_rate=30.0,
        track_activation_threshold=SPLIT,
        high_conf_det_threshold=SPLIT,
        minimum_consecutive_frames=2,
        minimum_iou_threshold_first_assoc=MIN_IOU,
        minimum_iou_threshold_second_assoc=MIN_IOU,
        minimum_iou_threshold_unconfirmed_assoc=MIN_IOU,
    )
    tracker.cmc = moving
    return tracker


def _update(tracker: Any, boxes: Sequence[Box], sure: float, frame: np.ndarray) -> list[int]:
    """Feed one frame and return the tracker's id for each box, -1 for none."""
    seen = sv.Detections(
        xyxy=np.array([b.xyxy for b in boxes], dtype=np.float32).reshape(-1, 4),
        confidence=np.array([SURE if b.score >= sure else UNSURE for b in boxes], dtype=np.float32),
        data={"index": np.arange(len(boxes))},
    )
    # Only BoT-SORT looks at the frame, and only to see that there is one: ``_Motion`` has looked.
    told = tracker.update(seen, frame if isinstance(tracker, BoTSORTTracker) else None)
    ids = [-1] * len(boxes)
    if len(told):
        for k, track in zip(told.data["index"], told.tracker_id, strict=True):
            ids[int(k)] = int(track)
    return ids
