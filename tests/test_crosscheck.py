"""Geometry against a tracker that errs, in worlds of blocks that are traced exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest

from w2v import geometry, motion
from w2v.boxes import iou
from w2v.detectors import crosscheck
from w2v.detectors.oracle import extent
from w2v.records import Box

CAMERA = geometry.assumed(160, 120, 70.0)
WALL = 6.0
LAST = 4


@dataclass(frozen=True)
class Block:
    """An upright block: middle and size in meters, x right, y down, z forward."""

    at: tuple[float, float, float]
    size: tuple[float, float, float] = (0.8, 0.8, 0.4)
    label: str = "chair"


@lru_cache
def view(blocks: tuple[Block, ...], words: str):
    """Return depth (H, W) and ids (H, W), 1 for the first block, after moving as the words say."""
    pose = geometry.poses(motion.parse(words), [LAST + 1] * len(motion.parse(words)))[-1]
    rays = geometry.lift(np.ones((CAMERA.height, CAMERA.width)), CAMERA) @ pose[:3, :3].T
    with np.errstate(divide="ignore"):
        wall = (WALL - pose[2, 3]) / rays[..., 2]
    depth, ids = np.where(wall > 0, wall, 60.0), np.zeros(wall.shape, dtype=int)
    for k, block in enumerate(blocks, start=1):
        half = np.array(block.size) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            one = (np.array(block.at) - half - pose[:3, 3]) / rays
            two = (np.array(block.at) + half - pose[:3, 3]) / rays
        enter = np.nanmax(np.minimum(one, two), axis=-1)
        leave = np.nanmin(np.maximum(one, two), axis=-1)
        hit = (enter <= leave) & (enter > 0) & (enter < depth)
        depth, ids = np.where(hit, enter, depth), np.where(hit, k, ids)
    return depth.astype(np.float32), ids, pose


class Footage:
    """Depth, validity and poses of a walk; in between first and last nothing is looked at."""

    def __init__(self, blocks, words):
        depth, self.ids, pose = view(blocks, words)
        first = view(blocks, "")[0]
        self.clip = SimpleNamespace(intrinsics=CAMERA, last_frame=LAST, id="world")
        self.depth = [first] + [np.zeros_like(first)] * (LAST - 1) + [depth]
        self.valid = [np.ones(first.shape, dtype=bool) for _ in range(LAST + 1)]
        self.poses = np.stack([np.eye(4)] * LAST + [pose])


def seen(blocks, words, frame, tracks=None):
    """Return perfect boxes of what is in sight; block k has track k unless told otherwise."""
    ids = view(blocks, words)[1]
    return [
        Box(
            frame=frame,
            track=(tracks or {}).get(k, k),
            label=block.label,
            xyxy=extent(ids == k),
            score=0.8,
        )
        for k, block in enumerate(blocks, start=1)
        if (ids == k).any()
    ]


def states(boxes):
    """Return what the last frame says of each track: box, gone, or nothing at all."""
    return {
        b.track: "gone" if b.xyxy is None else "box"
        for b in boxes
        if b.frame == LAST and b.track is not None
    }


ROW = (Block((-1.2, 0.2, 3.0)), Block((0.0, 0.2, 3.2)), Block((1.2, 0.2, 3.0), label="table"))
STEP = "move forward 0.5 meters"


def check(blocks, words, ends):
    return crosscheck.check(Footage(blocks, words), seen(blocks, "", 0) + ends)


@pytest.mark.parametrize(
    "words",
    [
        "move forward 0.8 meters",
        "move left 0.4 meters",
        "turn right 12 degrees",
        "move backward 1 meters",
    ],
)
def test_a_right_track_is_confirmed_and_it_is_all_in_sight(words):
    blocks = (Block((-0.6, 0.2, 3.0)), Block((0.6, 0.3, 3.4), label="table"))
    given = seen(blocks, "", 0) + seen(blocks, words, LAST)
    made = crosscheck.check(Footage(blocks, words), given)
    assert [replace(b, match=None, visible=None) for b in made] == given
    ends = [b for b in made if b.frame == LAST]
    # Sides of a block that were in sight turn away when the camera moves: a few hundredths.
    assert [b.visible for b in ends] == pytest.approx([1.0, 1.0], abs=0.04)
    assert min(b.match for b in ends) > 0.85
    assert all(b.match is None and b.visible is None for b in made if b.frame == 0)


def test_two_objects_that_swapped_ids_get_their_own_back():
    ends = seen(ROW, STEP, LAST, {1: 2, 2: 1})
    made = check(ROW, STEP, ends)
    assert [(b.track, b.xyxy) for b in made if b.frame == LAST] == [
        (1, ends[0].xyxy),
        (2, ends[1].xyxy),
        (3, ends[2].xyxy),
    ]


def test_ids_that_are_ranks_by_confidence_are_repaired_within_a_label_and_unknown_across():
    ends = seen(ROW, STEP, LAST, {1: 3, 2: 1, 3: 2})
    made = check(ROW, STEP, ends)
    assert states(made) == {1: "box", 2: "box", 3: "box"}
    assert [b.track for b in made if b.frame == LAST] == [1, 2, 3]
    renamed = [*ends[:2], replace(ends[2], label="lamp")]
    made = check(ROW, STEP, renamed)
    assert states(made) == {1: "box", 2: "box"}  # what the lamp is, geometry cannot say


def test_an_object_that_leaves_by_a_turn_is_known_to_be_gone():
    words = "turn right 46 degrees"
    made = check(ROW, words, seen(ROW, words, LAST))
    assert states(made) == {1: "gone", 2: "gone", 3: "box"}
    assert [b.visible for b in made if b.frame == LAST and b.xyxy is None] == [0.0, 0.0]


def test_an_object_behind_another_after_a_strafe_is_known_to_be_gone():
    blocks = (Block((1.0, 0.0, 4.5), (0.5, 0.5, 0.4)), Block((0.0, 0.0, 2.0), (1.0, 1.4, 0.2)))
    words = "move left 0.9 meters"
    assert 1 not in view(blocks, words)[1]  # the second stands before the first
    made = check(blocks, words, seen(blocks, words, LAST))
    assert states(made) == {1: "gone", 2: "box"}


def test_a_half_hidden_object_keeps_its_share():
    blocks = (Block((1.3, 0.0, 4.5), (0.8, 0.8, 0.1)), Block((0.0, 0.0, 2.2), (0.8, 1.4, 0.1)))
    words = "move left 0.5 meters"
    first, last = view(blocks, "")[1], view(blocks, words)[1]
    alone = view(blocks[:1], words)[1]
    assert (first == 1).sum() == (view(blocks[:1], "")[1] == 1).sum()
    truth = (last == 1).sum() / (alone == 1).sum()
    assert 0.2 < truth < 0.8
    told = next(
        b for b in check(blocks, words, seen(blocks, words, LAST)) if b.frame and b.track == 1
    )
    assert told.visible == pytest.approx(truth, abs=0.08)
    assert told.match > 0.7


def test_an_object_that_the_detector_missed_is_unknown_not_gone():
    ends = [b for b in seen(ROW, STEP, LAST) if b.track != 2]
    assert states(check(ROW, STEP, ends)) == {1: "box", 3: "box"}


@pytest.mark.parametrize("track", [None, 77])
def test_an_object_that_the_tracker_lost_is_found_again(track):
    ends = seen(ROW, STEP, LAST, {2: track})
    made = check(ROW, STEP, ends)
    assert [b.track for b in made if b.frame == LAST] == [1, 2, 3]
    assert made[-2].visible == 1.0 and made[-2].match > 0.85


def test_a_track_that_jumps_to_another_object_as_its_own_leaves_is_gone_not_visible():
    words = "turn right 25 degrees"
    blocks = (Block((-1.4, 0.2, 3.0)), Block((0.8, 0.2, 3.2)))
    ends = seen(blocks, words, LAST, {2: 1})
    assert len(ends) == 1
    made = check(blocks, words, ends)
    assert states(made) == {1: "gone", 2: "box"}


def test_a_detection_where_geometry_says_gone_leaves_the_object_unknown():
    words = "turn right 46 degrees"
    stray = Box(frame=LAST, track=1, label="chair", xyxy=(10.0, 40.0, 40.0, 70.0), score=0.9)
    made = check(ROW, words, [*seen(ROW, words, LAST), stray])
    assert states(made) == {2: "gone", 3: "box"}
    assert next(b for b in made if b.xyxy == stray.xyxy).track is None


def test_where_the_last_frame_is_invented_visibility_is_unknown():
    footage = Footage(ROW, STEP)
    ends = seen(ROW, STEP, LAST)
    footage.valid[LAST] = footage.ids != 2
    made = crosscheck.check(footage, seen(ROW, "", 0) + ends)
    assert [(b.track, b.visible) for b in made if b.frame == LAST] == [
        (1, 1.0),
        (2, None),
        (3, 1.0),
    ]
    made = crosscheck.check(footage, seen(ROW, "", 0) + [b for b in ends if b.track != 2])
    assert states(made) == {1: "box", 3: "box"}


def test_an_object_that_the_teacher_forgot_is_unknown():
    footage = Footage(ROW, STEP)
    footage.depth[LAST] = view((ROW[0], ROW[2]), STEP)[0]  # the wall, where the second should be
    ends = [b for b in seen(ROW, STEP, LAST) if b.track != 2]
    assert states(crosscheck.check(footage, seen(ROW, "", 0) + ends)) == {1: "box", 3: "box"}


def test_the_object_is_found_through_its_gaps():
    frame = np.full((120, 160), 5.0, dtype=np.float32)
    for left in (40, 60, 80):
        frame[30:90, left : left + 8] = 2.0  # three bars before a wall: 40 % of the middle
    rows, columns = crosscheck.surface(frame, (40.0, 30.0, 88.0, 90.0))
    assert set(frame[rows, columns]) == {np.float32(2.0)}
    assert len(rows) == 3 * 8 * 60


@pytest.mark.parametrize("part", ["depth", "poses"])
def test_without_depth_or_poses_nothing_changes(part):
    footage = Footage(ROW, STEP)
    setattr(footage, part, None)
    given = seen(ROW, "", 0) + seen(ROW, STEP, LAST, {1: 2, 2: 1})
    assert crosscheck.check(footage, given) == given


def test_what_is_known_already_is_left_alone():
    given = seen(ROW, "", 0) + seen(ROW, STEP, LAST, {1: 2, 2: 1})
    given[0] = replace(given[0], visible=1.0)
    assert crosscheck.check(Footage(ROW, STEP), given) == given
    once = check(ROW, STEP, seen(ROW, STEP, LAST))
    assert crosscheck.check(Footage(ROW, STEP), once) == once


def test_boxes_between_the_ends_pass_unchanged():
    between = [replace(b, frame=2) for b in seen(ROW, STEP, LAST, {1: 2, 2: 1})]
    made = crosscheck.check(Footage(ROW, STEP), seen(ROW, "", 0) + between + seen(ROW, STEP, LAST))
    assert [b for b in made if b.frame == 2] == between
    assert [b.frame for b in made] == sorted(b.frame for b in made)


def test_depth_that_is_no_number_proves_nothing():
    footage = Footage(ROW, STEP)
    footage.depth[0] = np.full_like(footage.depth[0], np.nan)
    given = seen(ROW, "", 0) + seen(ROW, STEP, LAST)
    assert crosscheck.check(footage, given) == given


def test_a_forecast_box_covers_the_moved_object():
    for words in ("move forward 1 meters", "turn left 15 degrees", "move right 0.5 meters"):
        footage = Footage(ROW, words)
        truth = {b.track: b for b in seen(ROW, words, LAST)}
        for told in crosscheck.forecast(footage, seen(ROW, "", 0)):
            if told.track in truth:
                assert iou(told.seen, truth[told.track].xyxy) > 0.8


# The verdict on boxes of the last frame, one case at a time

PLACE, NEXT = (20.0, 20.0, 60.0, 60.0), (30.0, 20.0, 70.0, 60.0)  # IoU 0.6


def told(track=1, whole=PLACE, share=1.0, label="chair"):
    return crosscheck.Forecast(
        track=track, label=label, whole=whole, seen=whole if share else None, share=share
    )


def end(track, xyxy=PLACE, label="chair"):
    return Box(frame=LAST, track=track, label=label, xyxy=xyxy, score=0.8)


def verdict(forecasts, ends):
    return [
        (b.track, b.label, b.xyxy and "box", b.visible)
        for b in crosscheck.settle(forecasts, ends, LAST)
    ]


@pytest.mark.parametrize(
    ("forecasts", "ends", "expected"),
    [
        ([told()], [end(1)], [(1, "chair", "box", 1.0)]),
        ([told()], [], []),
        ([told(share=0.0)], [], [(1, "chair", None, 0.0)]),
        ([told(share=0.1)], [], [(1, "chair", None, 0.1)]),
        ([told(share=0.11)], [], []),
        ([told(share=None)], [], []),
        # A box at the very place of what should be hidden, under its track or another: unknown.
        ([told(share=0.05)], [end(1)], [(None, "chair", "box", None)]),
        ([told(share=0.05)], [end(9)], [(9, "chair", "box", None)]),
        # But not where it is what hides it: another of that label, in its own right place.
        (
            [told(share=0.05), told(track=2)],
            [end(2)],
            [(2, "chair", "box", 1.0), (1, "chair", None, 0.05)],
        ),
        # A track that changed its label is not the same object, nor is a box of another label.
        ([told()], [end(1, label="sofa")], [(None, "sofa", "box", None)]),
        ([told()], [end(9, label="sofa")], [(9, "sofa", "box", None)]),
        # A track that geometry does not know is left alone.
        ([told()], [end(1), end(5, NEXT)], [(1, "chair", "box", 1.0), (5, "chair", "box", None)]),
        # What is half unknown confirms its own box and takes no other.
        ([told(share=None)], [end(1)], [(1, "chair", "box", None)]),
        ([told(share=None)], [end(9)], [(9, "chair", "box", None)]),
        # Two want one box: the better fit has it, and the other is unknown.
        ([told(whole=NEXT), told(track=2)], [end(None)], [(2, "chair", "box", 1.0)]),
        ([told(track=2), told(whole=NEXT)], [end(None)], [(2, "chair", "box", 1.0)]),
        # One fits two boxes: the better one.
        (
            [told()],
            [end(None, NEXT), end(None)],
            [(None, "chair", "box", None), (1, "chair", "box", 1.0)],
        ),
    ],
)
def test_verdict(forecasts, ends, expected):
    assert verdict(forecasts, ends) == expected


def test_a_box_reaches_beyond_its_points_as_it_did_before():
    points = np.stack(np.meshgrid(np.linspace(40, 60, 21), np.linspace(40, 60, 21)), -1)
    reach = crosscheck._outgrowth((30.0, 40.0, 60.0, 70.0), points.reshape(-1, 2))
    made = crosscheck._box(points.reshape(-1, 2) * 1.5, reach, CAMERA)
    assert made == pytest.approx((45.0, 60.0, 90.0, 105.0), abs=0.5)
