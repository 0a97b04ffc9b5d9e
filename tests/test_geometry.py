import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2v import geometry
from w2v.records import Intrinsics, Move

CAMERA = Intrinsics(width=640, height=480, fx=500.0, fy=510.0, cx=322.0, cy=238.0)


def move(verb, amount):
    return Move(verb=verb, amount=amount)


def test_a_right_turn_is_a_positive_yaw_and_looks_right():
    pose = geometry.step(move("turn right", 30.0))
    assert geometry.decompose(pose)[3] == pytest.approx(30.0)
    ahead = pose[:3, :3] @ [0, 0, 1]
    assert ahead == pytest.approx([0.5, 0, math.sqrt(3) / 2])


@pytest.mark.parametrize(
    ("verb", "where"),
    [
        ("move forward", (0, 0, 2)),
        ("move backward", (0, 0, -2)),
        ("move right", (2, 0, 0)),
        ("move left", (-2, 0, 0)),
    ],
)
def test_moves_follow_the_axes(verb, where):
    assert tuple(geometry.step(move(verb, 2.0))[:3, 3]) == where


def test_moves_are_done_in_the_heading_of_the_moment():
    path = geometry.poses([move("turn left", 90.0), move("move forward", 1.0)], [3, 5])
    assert path.shape == (7, 4, 4)
    assert np.array_equal(path[0], np.eye(4))
    assert path[-1][:3, 3] == pytest.approx([-1, 0, 0])


@pytest.mark.parametrize(
    ("verb", "amount", "frames"),
    [
        ("move forward", 0.1, 8),
        ("move forward", 1.4, 8),
        ("move forward", 1.5, 9),
        ("move forward", 6.0, 31),
        ("turn left", 35.0, 8),
        ("turn left", 100.0, 21),
    ],
)
def test_frames_of_a_move_follow_the_paper(verb, amount, frames):
    assert geometry.frames_of(move(verb, amount)) == frames


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.1, 9), st.floats(-180, 180))
def test_points_come_back_from_the_picture(x, y, z, degrees):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = geometry.yaw(degrees), (1.0, 2.0, 3.0)
    point = np.array([x, y, z])
    world = pose[:3, :3] @ point + pose[:3, 3]
    assert geometry.to_camera(world, pose) == pytest.approx(point, abs=1e-9)
    (u, v), depth = geometry.project(point, CAMERA)
    assert depth == z
    assert (u - CAMERA.cx) / CAMERA.fx * z == pytest.approx(x)
    assert (v - CAMERA.cy) / CAMERA.fy * z == pytest.approx(y)


def test_lift_puts_pixel_centres_at_half_integers():
    points = geometry.lift(np.full((480, 640), 2.0, np.float32), CAMERA)
    pixels, _ = geometry.project(points, CAMERA)
    assert pixels[0, 0] == pytest.approx([0.5, 0.5])
    assert pixels[479, 639] == pytest.approx([639.5, 479.5])


def test_what_is_behind_has_no_pixel():
    pixels, z = geometry.project(np.array([0.0, 0.0, -1.0]), CAMERA)
    assert z == -1 and np.isnan(pixels).all()


def test_fit_scales_to_cover_and_crops_the_middle():
    fitted, scale, left, top = geometry.fit(CAMERA, 240, 240)
    assert (scale, left, top) == (0.5, 40, 0)
    assert (fitted.fx, fitted.cx, fitted.cy) == (250, 121, 119)


def test_assumed_camera_has_the_field_of_view_that_was_said():
    assert geometry.field_of_view(geometry.assumed(640, 480, 75.0)) == pytest.approx(75.0)
