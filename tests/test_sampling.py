import math

import numpy as np
import pytest

from w2v import geometry, motion, sampling
from w2v.errors import UnknownName
from w2v.kinds import Anchor
from w2v.sampling import Skipped, Trajectory

CAMERA = geometry.assumed(128, 96, 75.0)
NOTHING_KNOWN = Anchor(camera=CAMERA)


def walled(meters):
    """An anchor that looks at a wall."""
    return Anchor(camera=CAMERA, depth=np.full((96, 128), meters, np.float32))


def sample(preset, scene="room", seed=0, anchor=NOTHING_KNOWN, free=lambda moves: True):
    return sampling.sampler(preset)(scene, seed, anchor, free)


def test_the_papers_preset_has_its_names_grids_and_ranges():
    seen = {}
    for scene in range(400):
        for t in sample("world2vlm", f"s{scene}"):
            seen.setdefault(t.name, []).append([m.amount for m in t.moves])
    assert list(seen) == [
        "forward_00",
        "backward_01",
        "turn_left_02",
        "turn_right_03",
        "shift_left_04",
        "shift_right_05",
        "multi_step_06_forward_turn_left",
        "multi_step_07_turn_right_forward",
        "multi_step_08_shift_left_forward_turn_right",
    ]
    forward = {amounts[0] for amounts in seen["forward_00"]}
    assert forward == {round(k / 10, 1) for k in range(1, 61)}
    assert {a[0] for a in seen["turn_left_02"]} == set(range(10, 101, 10))
    ranges = np.array(seen["multi_step_08_shift_left_forward_turn_right"])
    assert ranges.min(0).tolist() == [0.3, 0.5, 20] and ranges.max(0).tolist() == [3.0, 3.5, 60]


def test_hy_has_twelve_trajectories_on_both_sides():
    names = [t.name for t in sample("hy")]
    assert len(names) == 12
    assert sum("left" in n for n in names) == sum("right" in n for n in names)


def test_a_draw_depends_on_scene_and_seed_alone():
    assert sample("w2v", "a") == sample("w2v", "a")
    assert sample("w2v", "a") != sample("w2v", "b")
    assert sample("w2v", "a") != sample("w2v", "a", seed=1)


@pytest.mark.parametrize("preset", ["w2v", "world2vlm", "hy"])
def test_paths_drawn_again_have_other_amounts_and_names_of_their_own(preset):
    once = sample(preset)
    thrice = sampling.sampler(preset, draws=3)("room", 0, NOTHING_KNOWN, lambda moves: True)
    number = len(once)
    assert thrice[:number] == once
    assert len({path.name for path in thrice}) == len(thrice) == 3 * number
    assert [path.name.split("_")[0] for path in thrice[:6]] == [
        path.name.split("_")[0] for path in thrice[number : number + 6]
    ]
    assert thrice[number].name.endswith(f"_{number:02d}")
    amounts = [[move.amount for path in thrice[k::number] for move in path.moves] for k in range(6)]
    assert any(len(set(drawn)) == 3 for drawn in amounts)


def test_the_default_draws_both_sides_and_orders_off_the_grid():
    patterns, amounts = set(), []
    for scene in range(100):
        for t in sample("w2v", f"s{scene}"):
            if isinstance(t, Trajectory):
                patterns.add(tuple(m.verb for m in t.moves))
                amounts += [m.amount for m in t.moves]
    for left in patterns:
        swap = {"left": "right", "right": "left"}
        assert tuple(" ".join(swap.get(w, w) for w in v.split()) for v in left) in patterns
    assert ("move forward", "turn left") in patterns and ("turn left", "move forward") in patterns
    assert len({round(a % 0.1, 4) for a in amounts}) > 100


def test_forward_stops_short_of_what_is_seen():
    for scene in range(50):
        for t in sample("w2v", f"s{scene}", anchor=walled(1.5)):
            if isinstance(t, Trajectory) and t.moves[0].verb == "move forward":
                assert t.moves[0].amount <= 1.5 - sampling.CLEARANCE + 1e-3


def test_no_room_is_said_not_squeezed():
    skipped = [t for t in sample("w2v", anchor=walled(0.5)) if isinstance(t, Skipped)]
    assert ("forward_00", "no room") in [(t.name, t.reason) for t in skipped]


def test_single_turns_keep_some_view_in_common():
    most = geometry.field_of_view(CAMERA) - sampling.OVERLAP
    turns = [
        t.moves[0].amount
        for scene in range(200)
        for t in sample("w2v", f"s{scene}")
        if isinstance(t, Trajectory) and len(t.moves) == 1 and motion.is_turn(t.moves[0])
    ]
    assert 0.9 * most < max(turns) <= most


def test_a_path_that_bumps_is_made_shorter_then_given_up():
    def free(moves):
        return sum(m.amount for m in moves if not motion.is_turn(m)) < 0.5

    made = sample("w2v", free=free)
    assert all(free(t.moves) for t in made if isinstance(t, Trajectory))
    none = sample("w2v", free=lambda moves: False)
    assert {t.reason for t in none} == {"collision"}


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(UnknownName, match="world2vlm"):
        sampling.sampler("papers")


def test_amounts_are_finite_whatever_the_depth():
    depth = np.zeros((96, 128), np.float32)
    for value in (0.0, 1e-3, 1e4):
        depth[:] = value
        for t in sample("w2v", anchor=Anchor(camera=CAMERA, depth=depth)):
            if isinstance(t, Trajectory):
                assert all(math.isfinite(m.amount) and m.amount > 0 for m in t.moves)
