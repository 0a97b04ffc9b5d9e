import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from w2v import geometry, plugins
from w2v.kinds import Anchor, CameraPath, Refused
from w2v.records import Intrinsics, Move, Scene
from w2v.testing import check_light, check_offer, check_teacher

CAMERA = Intrinsics(width=96, height=48, fx=60.0, fy=60.0, cx=48.0, cy=24.0)


@pytest.fixture(autouse=True)
def registered():
    """Register the plugin as if it were installed, installed or not."""
    import w2v_example

    plugins.pm.register(w2v_example, "pan")
    yield
    plugins.pm.unregister(name="pan")


def render(move, **options):
    from w2v_example.teacher import Pan

    image = np.zeros((48, 96, 3), np.uint8)
    image[:, 60] = 255
    path = CameraPath(poses=geometry.poses([move], [2]), moves=(move,))
    anchor = Anchor(camera=CAMERA, image=image)
    (made,) = Pan(**options).render(Scene(id="a", image="a.png"), anchor, [path])
    return made


def test_contract():
    check_teacher("pan")
    check_offer("teacher", "pan:wrap=false")


def test_manifest_is_light(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    check_light("w2v_example")


def test_a_right_turn_slides_things_to_the_left():
    frame = render(Move(verb="turn right", amount=26.565), wrap=True).frames[1]
    assert np.flatnonzero(frame[0, :, 0]).tolist() == [60 - 30]  # 60 px x tan 26.565 deg


def test_without_wrap_what_was_never_seen_is_black():
    frame = render(Move(verb="turn left", amount=45), wrap=False).frames[1]
    assert not frame.any()  # the line at 60 went to 120, beyond the right edge


def test_a_move_is_refused():
    made = render(Move(verb="move forward", amount=1.0), wrap=True)
    assert isinstance(made, Refused) and made.reason == "only turns"
