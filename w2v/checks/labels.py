"""Labels derived a second time, from poses, masks and depth instead of moves and boxes.

Nothing here reads the record of the moves, the boxes of ``annotate`` or the code of the tasks, so
that a fault in one of those shows. What cannot be derived is counted as unverifiable and kept.
"""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from w2v import boxes as grids
from w2v import geometry, motion
from w2v.checks import answers
from w2v.checks.clips import clips_of
from w2v.checks.rows import read_box
from w2v.errors import BadFile
from w2v.footage import BundleFootage
from w2v.kinds import Problem, Verdict
from w2v.records import Clip, Move, Quad, Question

SLACK_METERS, SLACK_DEGREES = 0.01, 0.1
ROUNDING_METERS, ROUNDING_DEGREES = 0.05, 0.5  # of one move in words: half a unit of the last place
DEAD_BAND = 1.5  # a claim between one and this many tolerances off is neither true nor false
SAME_THING = 0.5  # least IoU of a box and a thing's mask for the box to be of that thing
EXACT, LOOSE = 0.9, 0.4  # least IoU of a right box with a mask's, and with a reprojected one
GONE, VISIBLE = 0.2, 0.4  # visible share below and above which a thing is surely gone, or there
APART = 0.1  # greatest IoU with the reprojection for a box to be surely of another thing
LEAST_POINTS = 12
RECENT = 24  # clips whose masks and depth stay in memory: 5 MB each at 576 x 576


class View:
    """What a bundle holds besides pictures and words, of its first and last frame.

    Each part is read when it is first asked for.

    Raises:
        BadFile: A part is there but cannot be read.
    """

    def __init__(self, clip: Clip, folder: Path) -> None:
        self.clip, self._footage = clip, BundleFootage(clip, folder)

    @functools.cached_property
    def relative(self) -> np.ndarray | None:
        """(4, 4) pose of the last camera as seen from the first; None where not recorded."""
        poses = self._footage.poses
        return None if poses is None else np.linalg.inv(poses[0]) @ poses[self.clip.last_frame]

    @functools.cached_property
    def masks(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Two (H, W) uint16 of a simulator, or None."""
        return self._ends(self._footage.masks)

    @functools.cached_property
    def depth(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Two (H, W) float32 meters, 0 unknown, or None."""
        return self._ends(self._footage.depth)

    def _ends(self, frames: Sequence[np.ndarray] | None) -> tuple[np.ndarray, np.ndarray] | None:
        if frames is None:
            return None
        first, last = frames[0], frames[self.clip.last_frame]
        camera = self.clip.intrinsics
        if not first.shape == last.shape == (camera.height, camera.width):
            size = f"{camera.width}x{camera.height}"
            raise BadFile(f"{self.clip.bundle}: masks or depth are not of the frames' size {size}")
        return first, last


class Geometry:
    """Derives each answer again and counts, per task, how often it is the one that was written."""

    def __init__(self, root: Path, limit: float) -> None:
        self.limit, self._clips = limit, clips_of(root)
        self.tally: collections.Counter[tuple[str, str]] = collections.Counter()
        self._views: collections.OrderedDict[str, View] = collections.OrderedDict()

    def row(self, question: Question) -> Problem | None:
        """Return a problem where the derived answer is another than the one written."""
        task = question.task_type
        clip = self._clips.find(question)
        if isinstance(clip, Problem):
            return clip
        derive = _DERIVE.get(task)
        try:
            found = derive(question, self._view(clip)) if derive and clip else None
        except BadFile as error:
            return Problem(reason="broken bundle", detail=error.what)
        except (IndexError, ValueError, TypeError, KeyError, np.linalg.LinAlgError) as error:
            # What stands in traj.json was written by anyone: ragged poses, masks of another size.
            return Problem(reason="broken bundle", detail=f"{question.bundle}: {error}")
        if found is None:
            self.tally[task, "unverifiable"] += 1
            return None
        agreed, detail = found
        self.tally[task, "agreed" if agreed else "disagreed"] += 1
        return None if agreed else Problem(reason="geometry disagrees", detail=detail)

    def whole(self, kept: Iterable[Question]) -> Verdict:
        """Report agreement per task; fail where it is below the limit."""
        figures, failures = {}, []
        for task in sorted({task for task, _ in self.tally}):
            count = {end: self.tally[task, end] for end in ("agreed", "disagreed", "unverifiable")}
            derived = count["agreed"] + count["disagreed"]
            share = count["agreed"] / derived if derived else None
            figures[task] = {"agreement": None if share is None else round(share, 4), **count}
            if share is not None and share < self.limit:
                failures.append(
                    f"{task}: geometry agrees with {share:.1%} of {derived} answers, "
                    f"less than {self.limit:.1%}"
                )
        return Verdict(figures=figures, failures=failures)

    def _view(self, clip: Clip) -> View:
        """Return a clip's view; those of about one scene stay in memory, its tasks take turns."""
        view = self._views.pop(clip.bundle, None) or View(clip, self._clips.folder(clip))
        self._views[clip.bundle] = view
        if len(self._views) > RECENT:
            self._views.popitem(last=False)
        return view


Finding = tuple[bool, str] | None
"""Whether an answer agrees with what was derived, and what was; None where nothing was."""


# ── motion: from poses alone ──────────────────────────────────────────────────────────────────


def off(moves: Sequence[Move], pose: np.ndarray) -> float:
    """Return how far moves lead from a (4, 4) pose, as a multiple of what rounding explains.

    Each move in words is off by half a unit of its last place at most, and a turn that is off
    swings everything walked after it.
    """
    led = geometry.poses(moves, [2] * len(moves))[-1] if moves else np.eye(4)
    turns = sum(map(motion.is_turn, moves))
    walked = sum(move.amount for move in moves if not motion.is_turn(move))
    degrees = ROUNDING_DEGREES * turns + SLACK_DEGREES
    meters = ROUNDING_METERS * (len(moves) - turns) + SLACK_METERS
    meters += walked * math.radians(ROUNDING_DEGREES * turns)
    away = float(np.linalg.norm(led[:3, 3] - pose[:3, 3]))
    cosine = (float(np.trace(led[:3, :3].T @ pose[:3, :3])) - 1) / 2
    turned = math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
    return max(away / meters, turned / degrees)


def _say(pose: np.ndarray) -> str:
    right, down, forward, yaw = geometry.decompose(pose)
    return (
        f"the camera went {forward:.2f} m forward, {right:.2f} m right, {down:.2f} m down "
        f"and turned {yaw:.1f} degrees right"
    )


def _made(question: Question, view: View) -> Finding:
    """Judge an answer that is moves (A1, A2, A3, D3)."""
    if view.relative is None:
        return None
    moves = answers.moves(question)
    return off(moves, view.relative) <= 1, f"{motion.say(moves)!r}, but {_say(view.relative)}"


def _claimed(question: Question, view: View) -> Finding:
    """Judge a claim about moves (A4): true where it leads to the last camera."""
    claim, true = motion.parse(answers.stem(question)), answers.truth(question)
    if view.relative is None or true is None or not claim:
        return None
    far = off(claim, view.relative)
    if 1 < far < DEAD_BAND:
        return None
    return (far <= 1) is true, f"{motion.say(claim)!r} is labelled {true}, {_say(view.relative)}"


# ── objects: from masks, else from depth ──────────────────────────────────────────────────────


def outline(mask: np.ndarray) -> Quad | None:
    """Return the pixel box of a (H, W) bool mask, None for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def thing_at(box: Quad, mask: np.ndarray) -> tuple[int, float] | None:
    """Return the id of the thing a box is around in a (H, W) mask of ids, and their IoU."""
    best: tuple[int, float] | None = None
    for number in np.unique(mask[_pixels(box)]):
        around = outline(mask == number) if number else None
        match = grids.iou(box, around) if around else 0.0
        if match >= SAME_THING and (best is None or match > best[1]):
            best = int(number), match
    return best


def predicted(box: Quad, view: View) -> tuple[Quad | None, float] | None:
    """Carry what is in a box of the first frame to the last camera, by depth.

    Returns:
        The box around what is in sight there (None: nothing is), and the share in sight; None
        where there is no depth or no pose, or too few pixels of known depth.
    """
    if view.depth is None or view.relative is None:
        return None
    points = _foreground(box, view)
    if len(points) < LEAST_POINTS:
        return None
    camera = view.clip.intrinsics
    pixels, z = geometry.project(geometry.to_camera(points, view.relative), camera)
    with np.errstate(invalid="ignore"):
        inside = (
            (z > 0.05)
            & (pixels >= 0).all(axis=1)
            & (pixels[:, 0] < camera.width)
            & (pixels[:, 1] < camera.height)
        )
    there = view.depth[1][tuple(pixels[inside].astype(int)[:, ::-1].T)]
    # A point may lie a little behind the surface that the last frame shows: depth is sampled.
    in_sight = (there == 0) | (z[inside] <= there * 1.05 + 0.05)
    seen = pixels[inside][in_sight]
    share = len(seen) / len(points)
    if len(seen) < LEAST_POINTS:
        return None, share
    low, high = np.quantile(seen, (0.01, 0.99), axis=0)
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1])), share


def _foreground(box: Quad, view: View) -> np.ndarray:
    """Return (N, 3) points in the first camera's space of what a box is around.

    A box holds background too: only what is about as far away as its middle counts.
    """
    assert view.depth is not None
    depth, camera = view.depth[0], view.clip.intrinsics
    x1, y1, x2, y2 = box
    middle = (x1 + (x2 - x1) / 4, y1 + (y2 - y1) / 4, x2 - (x2 - x1) / 4, y2 - (y2 - y1) / 4)
    near = depth[_pixels(middle)]
    if not (near > 0).any():
        return np.zeros((0, 3))
    away = float(np.median(near[near > 0]))
    part = _pixels(box)
    fits = (depth[part] > 0) & (np.abs(depth[part] - away) < max(0.3, 0.2 * away))
    points: np.ndarray = geometry.lift(depth, camera)[part][fits]
    return points


def _pixels(box: Sequence[float]) -> tuple[slice, slice]:
    """Return the rows and columns whose pixels a box covers, at least one of each."""
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    return (
        slice(top, max(top + 1, math.ceil(box[3]))),
        slice(left, max(left + 1, math.ceil(box[2]))),
    )


def _ends(question: Question) -> tuple[Quad | None, Quad | None]:
    """Return the pixel boxes in the first and the last frame that a question is about."""
    return read_box(question.evidence.get("from")), read_box(question.evidence.get("to"))


def _placed(question: Question, view: View) -> Finding:
    """Judge an answer that is a box in the last frame (D1)."""
    start, said = _ends(question)[0], answers.box(question)
    if start is None or said is None:
        return None
    camera = view.clip.intrinsics
    scale = (camera.width / grids.GRID, camera.height / grids.GRID) * 2
    x1, y1, x2, y2 = (v * s for v, s in zip(said, scale, strict=True))
    if view.masks and (thing := thing_at(start, view.masks[0])):
        around = outline(view.masks[1] == thing[0])
        # A box that was not drawn from the mask in the first frame is not in the last one either.
        least = EXACT if thing[1] >= EXACT else LOOSE
        match = grids.iou((x1, y1, x2, y2), around) if around else 0.0
        return match >= least, f"the mask's box is {around}, IoU {match:.2f}"
    guess = predicted(start, view)
    if guess is None or guess[1] < VISIBLE:
        return None
    match = grids.iou((x1, y1, x2, y2), guess[0]) if guess[0] else 0.0
    return match >= LOOSE, f"depth predicts {_round(guess[0])}, IoU {match:.2f}"


def _gone(question: Question, view: View) -> Finding:
    """Judge whether a thing is out of sight in the last frame (D2)."""
    start, true = _ends(question)[0], answers.truth(question)
    if start is None or true is None:
        return None
    share = _share_by_mask(start, view)
    if share is None:
        guess = predicted(start, view)
        share = guess[1] if guess else None
    if share is None or GONE < share < VISIBLE:
        return None
    return (share <= GONE) is true, f"{share:.0%} of it is in sight, gone is labelled {true}"


def _share_by_mask(start: Quad, view: View) -> float | None:
    """Return which share of a thing's pixels are left, as many as its distance lets one expect."""
    thing = thing_at(start, view.masks[0]) if view.masks else None
    if thing is None or view.masks is None:
        return None
    before, after = (mask == thing[0] for mask in view.masks)
    expected = float(before.sum())
    if view.depth is not None and view.relative is not None:
        known = before & (view.depth[0] > 0)
        points = geometry.lift(view.depth[0], view.clip.intrinsics)[known]
        z = geometry.to_camera(points, view.relative)[:, 2]
        # A pixel's patch shows on (z0 / z1)^2 pixels; behind the camera it cannot show at all.
        grown = np.where(z > 0.05, (points[:, 2] / np.maximum(z, 0.05)) ** 2, 1.0)
        expected = float(grown.mean()) * expected if len(grown) else expected
    share = float(after.sum()) / expected
    # Without depth a thing may have shrunk by distance alone: few pixels say little.
    return None if view.depth is None and 0.02 < share < VISIBLE else share


def _same(question: Question, view: View) -> Finding:
    """Judge whether two boxes are of one thing (D4)."""
    true, same = answers.truth(question), _is_same(question, view)
    if true is None or same is None:
        return None
    return same is true, f"same thing: {same}, labelled {true}"


def _is_same(question: Question, view: View) -> bool | None:
    start, end = _ends(question)
    if start is None or end is None:
        return None
    if view.masks:
        one, other = thing_at(start, view.masks[0]), thing_at(end, view.masks[1])
        return None if one is None or other is None else one[0] == other[0]
    guess = predicted(start, view)
    if guess is None or guess[1] < VISIBLE or guess[0] is None:
        return None
    match = grids.iou(end, guess[0])
    return None if APART < match < LOOSE else match >= LOOSE


def _explained(question: Question, view: View) -> Finding:
    """Judge moves told from two boxes of one thing (D3): the moves, and that it is one thing."""
    made = _made(question, view)
    if made is None or not made[0] or _is_same(question, view) is not False:
        return made
    return False, "the two boxes are of different things"


def _round(box: Quad | None) -> tuple[int, ...] | None:
    return None if box is None else tuple(map(round, box))


_DERIVE: dict[str, Callable[[Question, View], Finding]] = {
    "A1": _made,
    "A2": _made,
    "A3": _made,
    "A4": _claimed,
    "D1": _placed,
    "D2": _gone,
    "D3": _explained,
    "D4": _same,
}
