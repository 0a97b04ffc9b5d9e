"""Holds what a tracker says against geometry, where a clip has depth and poses.

Each object of frame 0 is lifted to 3D by its depth and moved into the camera of the last frame.
That tells where its box must be and how much of it is in sight, and so

* whether the box that the tracker calls the same object is the same (``match``, ``visible``);
* which box is the right one, where the tracker mixed objects up or lost one;
* that an object is out of sight, which no detector can tell from one that it missed.

Where the two disagree and geometry cannot settle it, the last frame says nothing about the
object: no question is asked of what is unknown. Boxes of frames in between pass unchanged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from w2v import geometry
from w2v.boxes import area, iou
from w2v.records import Box, Clip, Intrinsics, Quad

CENTRAL = 0.5
"""Share of a box's width and height, around its middle, where its object's depth is looked up."""
BIN = 0.05
"""Relative width of the bins of the depth histogram."""
SPREAD = 0.2
"""Greatest relative difference in depth between an object's surface and its commonest depth."""
MIN_POINTS = 32
"""Fewest surface points that prove anything."""
MAX_POINTS = 4096
"""Most surface points looked at; a larger object is sampled evenly."""
TOLERANCE, TOLERANCE_METERS = 0.05, 0.05
"""A point is seen where the depth there agrees within either: 5 % of its depth, or 5 cm."""
TRIM = 0.02
"""Share of points left out on each side when a box is drawn around points."""
NEAR = 0.05
"""Meters in front of the camera from which a point can be seen."""
MAX_UNKNOWN = 0.3
"""Share of points of unknown fate from which the visible share is unknown."""
GONE = 0.1
"""Visible share up to which an object counts as out of sight."""
SAME, OTHER = 0.5, 0.3
"""IoU with the predicted box from which a box is that object, and below which it is not."""


class Measured(Protocol):
    """The parts of a clip's footage that are looked at here."""

    clip: Clip

    @property
    def depth(self) -> Sequence[np.ndarray] | None:
        """(T, H, W) float32 meters, 0 unknown."""
        ...

    @property
    def valid(self) -> Sequence[np.ndarray] | None:
        """(T, H, W) bool, pixels that rest on evidence."""
        ...

    @property
    def poses(self) -> np.ndarray | None:
        """(T, 4, 4) float64 camera-to-world, meters."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What geometry says of one track in the last frame.

    ``whole`` is the box of the object, cut at the frame; ``seen`` the box of the part that is not
    hidden; None where there is none. ``share`` is None where too much is unknown.
    """

    track: int
    label: str
    whole: Quad | None
    seen: Quad | None
    share: float | None

    @property
    def gone(self) -> bool:
        """Whether the object is known to be out of sight."""
        return self.share is not None and self.share <= GONE

    def match(self, box: Box) -> float:
        """Return the IoU of a box with this one: as a whole, or with its part in sight."""
        if box.xyxy is None:
            return 0.0
        return max((iou(box.xyxy, own) for own in (self.whole, self.seen) if own), default=0.0)


def check(footage: Measured, boxes: Sequence[Box]) -> list[Box]:
    """Return the boxes with those of the last frame corrected and completed by geometry.

    Unchanged are clips without depth and poses, and boxes whose visibility is known already.
    """
    last = footage.clip.last_frame
    if last == 0 or any(box.visible is not None for box in boxes):
        return list(boxes)
    forecasts = forecast(footage, [box for box in boxes if box.frame == 0])
    ends = [box for box in boxes if box.frame == last]
    return [box for box in boxes if box.frame != last] + settle(forecasts, ends, last)


def forecast(footage: Measured, boxes: Sequence[Box]) -> list[Forecast]:
    """Return what geometry says, in the last frame, of the tracks of frame 0 that it can follow."""
    depth, poses, camera = footage.depth, footage.poses, footage.clip.intrinsics
    if depth is None or poses is None:
        return []
    last = footage.clip.last_frame
    start, end = _evidence(footage, depth, 0), _evidence(footage, depth, last)
    if start.shape != (camera.height, camera.width) or end.shape != start.shape:
        return []
    points = geometry.lift(start, camera)
    move = np.linalg.inv(poses[last]) @ poses[0]
    found = []
    for box in boxes:
        if box.track is None or box.xyxy is None:
            continue
        rows, columns = surface(start, box.xyxy)
        if len(rows) >= MIN_POINTS:
            moved = points[rows, columns] @ move[:3, :3].T + move[:3, 3]
            pixels = np.stack([columns, rows], axis=1) + 0.5
            found.append(_forecast(box, pixels, moved, end, camera))
    return found


def _evidence(footage: Measured, depth: Sequence[np.ndarray], frame: int) -> np.ndarray:
    """Return the (H, W) float32 depth of a frame, 0 where it rests on no evidence."""
    known = np.nan_to_num(np.asarray(depth[frame], dtype=np.float32), posinf=0.0, neginf=0.0)
    return known if footage.valid is None else np.where(footage.valid[frame], known, 0)


def surface(depth: np.ndarray, xyxy: Quad) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pixels of the object in a box.

    The object's depth is the nearest of the common depths in the middle of the box: what is
    behind an object with gaps may be common there too. Its pixels are those of the whole box
    near that depth.

    Args:
        depth: (H, W) float32 meters, 0 unknown.
        xyxy: The box, in pixels.
    """
    none = np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
    top, left, inside = _cut(depth, xyxy, 1.0)
    middle = _cut(depth, xyxy, CENTRAL)[2]
    middle = middle[middle > 0]
    if not len(middle):
        return none
    bins = np.floor(np.log(middle) / np.log1p(BIN)).astype(int)
    # Bins are smoothed over their neighbours, so that no object is split by an edge of a bin.
    counts = np.bincount(bins - bins.min(), minlength=3)
    counts = np.convolve(counts, np.ones(3, dtype=int), "same")
    nearest = int(np.flatnonzero(counts >= counts.max() / 2)[0])
    peak = nearest + int(np.argmax(counts[nearest : nearest + 3]))
    common = float(np.median(middle[np.abs(bins - bins.min() - peak) <= 1]))
    rows, columns = np.nonzero((inside > 0) & (np.abs(inside / common - 1) <= SPREAD))
    step = max(1, -(-len(rows) // MAX_POINTS))
    return rows[::step] + top, columns[::step] + left


def _cut(depth: np.ndarray, xyxy: Quad, share: float) -> tuple[int, int, np.ndarray]:
    """Return first row, first column and pixels of a box shrunk to a share about its middle."""
    x1, y1, x2, y2 = xyxy
    x, y = (x2 - x1) * (1 - share) / 2, (y2 - y1) * (1 - share) / 2
    top, left = max(0, round(y1 + y)), max(0, round(x1 + x))
    bottom, right = max(top, round(y2 - y)), max(left, round(x2 - x))
    return top, left, depth[top:bottom, left:right]


def _forecast(
    box: Box, pixels: np.ndarray, moved: np.ndarray, end: np.ndarray, camera: Intrinsics
) -> Forecast:
    """Return what becomes of one object.

    Args:
        box: Its box in frame 0.
        pixels: (N, 2) places of its surface points in frame 0.
        moved: (N, 3) the same points in the space of the last camera, meters.
        end: (H, W) depth of the last frame, 0 unknown.
        camera: Intrinsics of both frames.
    """
    assert box.track is not None and box.xyxy is not None
    uv, z = geometry.project(moved, camera)
    ahead = z > NEAR
    framed = ahead & (uv[:, 0] >= 0) & (uv[:, 0] < camera.width)
    framed &= (uv[:, 1] >= 0) & (uv[:, 1] < camera.height)
    seen, hidden = _sight(uv[framed], z[framed], end)
    fate = np.zeros(len(z), dtype=bool)
    fate[framed] = seen
    settled = int(seen.sum() + hidden.sum() + (~framed).sum())
    known = settled >= (1 - MAX_UNKNOWN) * len(z)
    outgrown = _outgrowth(box.xyxy, pixels)
    return Forecast(
        track=box.track,
        label=box.label,
        whole=_box(uv[ahead], outgrown, camera) if framed.any() else None,
        seen=_box(uv[fate], outgrown, camera) if fate.sum() >= MIN_POINTS else None,
        share=float(seen.sum()) / settled if known else None,
    )


def _sight(uv: np.ndarray, z: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which points in the frame are seen and which are hidden; (N,) bool each.

    A point is hidden where its pixel is nearer, and seen where its pixel or one beside it has its
    depth: at an outline a point may round to the pixel next door. Where the depth is unknown, or
    the view goes on behind the point, its fate is unknown.
    """
    slack = np.maximum(TOLERANCE * z, TOLERANCE_METERS)
    columns, rows = uv[:, 0].astype(int), uv[:, 1].astype(int)
    here = end[rows, columns]
    hidden = (here > 0) & (here < z - slack)
    around = np.pad(end, 1)
    seen = np.zeros(len(z), dtype=bool)
    for y in range(3):
        for x in range(3):
            there = around[rows + y, columns + x]
            seen |= (there > 0) & (np.abs(there - z) <= slack)
    return seen & ~hidden, hidden


def _outgrowth(xyxy: Quad, pixels: np.ndarray) -> np.ndarray:
    """Return how far a box reaches beyond the points of its object, as (4,) shares of their size.

    A box that is drawn around moved points reaches as far beyond them.
    """
    low, high = _span(pixels)
    size = np.maximum(np.tile(high - low, 2), 1.0)
    reach = np.array(xyxy) - np.concatenate([low, high])
    return np.asarray(reach / size)


def _span(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the (2,) corners of the box around (N, 2) points, without the outermost few."""
    low, high = np.quantile(points, [TRIM, 1 - TRIM], axis=0)
    return low, high


def _box(uv: np.ndarray, outgrown: np.ndarray, camera: Intrinsics) -> Quad | None:
    """Return the box around (N, 2) points, cut at the frame; None where nothing is left."""
    low, high = _span(uv)
    x1, y1, x2, y2 = np.concatenate([low, high]) + outgrown * np.tile(high - low, 2)
    width, height = float(camera.width), float(camera.height)
    box = (
        float(np.clip(x1, 0, width)),
        float(np.clip(y1, 0, height)),
        float(np.clip(x2, 0, width)),
        float(np.clip(y2, 0, height)),
    )
    return box if area(box) > 0 else None


def settle(forecasts: Sequence[Forecast], ends: Sequence[Box], last: int) -> list[Box]:
    """Return the boxes of the last frame after the tracker's word is held against the forecasts.

    1. A box keeps its track where it lies as forecast, and is released where it does not.
    2. A forecast that is in sight and has no box takes a free box of its label that fits.
    3. A forecast that is out of sight is recorded as such, unless a box speaks against it.
    """
    made = list(ends)
    by_track = {f.track: f for f in forecasts}
    confirmed: set[int] = set()
    released: dict[int, int] = {}
    for k, box in enumerate(ends):
        told = None if box.track is None else by_track.get(box.track)
        if told is None:
            continue
        match = told.match(box)
        if box.label == told.label and match >= OTHER and not told.gone:
            confirmed.add(k)
            made[k] = dataclasses.replace(box, match=match, visible=told.share)
        else:
            released[told.track] = k
            made[k] = dataclasses.replace(box, track=None, match=match)
    held = {made[k].track for k in confirmed}
    for told, k in _pairs([f for f in forecasts if f.track not in held], ends, confirmed):
        confirmed.add(k)
        made[k] = dataclasses.replace(
            ends[k], track=told.track, match=told.match(ends[k]), visible=told.share
        )
    return made + [
        Box(frame=last, track=f.track, label=f.label, xyxy=None, visible=f.share)
        for f in forecasts
        if f.gone and not _disputed(f, ends, confirmed, released)
    ]


def _pairs(
    wanting: Sequence[Forecast], ends: Sequence[Box], taken: set[int]
) -> list[tuple[Forecast, int]]:
    """Return forecasts that are in sight, each with the free box that fits; best pairs first."""
    fits = [
        (told.match(box), told, k)
        for told in wanting
        if told.share is not None and not told.gone
        for k, box in enumerate(ends)
        if k not in taken and box.label == told.label and told.match(box) >= SAME
    ]
    pairs: list[tuple[Forecast, int]] = []
    for _, told, k in sorted(fits, key=lambda fit: (-fit[0], fit[1].track, fit[2])):
        if all(told is not t and k != used for t, used in pairs):
            pairs.append((told, k))
    return pairs


def _disputed(
    told: Forecast, ends: Sequence[Box], explained: set[int], released: dict[int, int]
) -> bool:
    """Return whether a box says that an object is there which should be out of sight.

    That is the box under its own track, or one of its label at its place; but not if geometry
    has found out that the box is another object.
    """
    own = released.get(told.track)
    if own is not None and own not in explained:
        return True
    return any(
        k not in explained and box.label == told.label and told.match(box) >= SAME
        for k, box in enumerate(ends)
    )
