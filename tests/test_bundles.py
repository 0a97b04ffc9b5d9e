import json
import math

import numpy as np
import pytest

from w2v import bundles, footage, geometry
from w2v.errors import BadFile, OutsideRoot
from w2v.kinds import Rendered, Thing
from w2v.records import Box, Intrinsics, Move
from w2v.testing import example_clips

CAMERA = Intrinsics(width=32, height=24, fx=30.0, fy=30.0, cx=16.0, cy=12.0)
MOVES = (Move(verb="move forward", amount=1.2837), Move(verb="turn left", amount=31.5))


def write(root, moves=MOVES, kept=(0, 7, 14), **meta):
    counts = [geometry.frames_of(m) for m in moves]
    poses = geometry.poses(moves, counts)[list(kept)]
    rng = np.random.default_rng(0)
    rendered = Rendered(
        frames=rng.integers(0, 255, (len(kept), 24, 32, 3), dtype=np.uint8),
        depth=rng.uniform(0.5, 9, (len(kept), 24, 32)).astype(np.float32),
        masks=rng.integers(0, 3, (len(kept), 24, 32)).astype(np.uint16),
        valid=rng.random((len(kept), 24, 32)) > 0.5,
        things=(Thing(id=1, label="chair", attributes={"color": "red"}),),
        visible=np.linspace(1, 0, len(kept))[:, None],
    )
    meta = {
        "id": "room/x",
        "scene": "room",
        "teacher": "sim",
        "source": "simulated",
        "moves": [{"verb": m.verb, "amount": m.amount} for m in moves],
        "things": footage.things_json(rendered.things, rendered.visible),
        **meta,
    }
    folder = root / "scenes" / "room" / "traj_x"
    told = bundles.describe(moves, kept, counts, CAMERA, poses.tolist(), meta)
    footage.write(folder, told, rendered)
    return folder, rendered


def test_a_bundle_reads_back_as_it_was_written(tmp_path):
    folder, rendered = write(tmp_path)
    clip = bundles.read(folder, tmp_path)
    assert (clip.id, clip.scene, clip.moves, clip.last_frame) == ("room/x", "room", MOVES, 2)
    assert clip.first == "scenes/room/traj_x/samples-rgb/000.png"
    assert clip.intrinsics == CAMERA and clip.boxes is None
    seen = footage.BundleFootage(clip, folder)
    assert np.array_equal(np.stack(list(seen.frames)), rendered.frames)
    assert np.array_equal(np.stack(list(seen.masks)), rendered.masks)
    assert np.array_equal(np.stack(list(seen.valid)), rendered.valid)
    assert np.abs(np.stack(list(seen.depth)) - rendered.depth).max() <= 0.0005 + 1e-6
    assert seen.things == rendered.things
    assert seen.visible.tolist() == [[1.0], [0.5], [0.0]]
    assert geometry.decompose(seen.poses[-1])[2:] == pytest.approx((1.2837, -31.5))


def test_the_original_finds_the_keys_it_reads(tmp_path):
    folder, _ = write(tmp_path)
    told = json.loads((folder / "traj.json").read_text())
    assert told["traj_params"]["kind"] == "multi_step"
    assert told["traj_params"]["actions"][1] == {"act": "turn_left", "magnitude": 31.5}
    assert told["actions_step"] == [[], ["FWD_1.2837"], ["TL_31.5"]]
    assert told["actions_prefix"] == [[], ["FWD_1.2837"], ["FWD_1.2837", "TL_31.5"]]
    assert [f["file_path"] for f in told["transforms"]["frames"]][2] == "samples-rgb/002.png"


def test_short_moves_are_not_lost_in_short_steps(tmp_path):
    """The original drops steps under 0.02 m, and with them a move of 0.1 m over 8 frames."""
    moves = (Move(verb="move left", amount=0.1),)
    folder, _ = write(tmp_path, moves, kept=range(8))
    told = json.loads((folder / "traj.json").read_text())
    assert told["actions_step"][3] == ["LEFT_0.014286"]
    assert told["actions_prefix"][-1] == ["LEFT_0.1"]


def test_boxes_survive_with_what_is_known_of_them(tmp_path):
    folder, _ = write(tmp_path)
    boxes = (
        Box(frame=0, track=4, label="chair", xyxy=(1.5, 2.0, 20.25, 24.0), score=0.5, visible=0.75),
        Box(frame=0, track=None, label="tv", xyxy=(0.0, 0.0, 9.0, 9.0), kept=False, match=0.25),
        Box(frame=2, track=4, label="chair", xyxy=None, score=0.0, visible=0.0),
    )
    bundles.write_boxes(folder, boxes, CAMERA, 3, {"detector": "x"})
    assert bundles.read_boxes(folder) == boxes
    assert bundles.read(folder, tmp_path).boxes == boxes
    assert bundles.read_boxes_meta(folder) == {"detector": "x"}
    first = json.loads((folder / "detect_result.jsonl").read_text().splitlines()[0])
    assert first["detections"][0]["bbox_norm"] == [47, 83, 633, 1000]


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    class Broken(list):
        def __iter__(self):
            yield np.zeros((24, 32, 3), np.uint8)
            raise OSError(28, "No space left on device")

    folder = tmp_path / "scenes" / "room" / "traj_x"
    with pytest.raises(OSError):
        footage.write(folder, {}, Rendered(frames=Broken()))
    assert list(folder.parent.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"transforms": {"frames": []}}', '{"transforms": {"frames": [{}]}}'],
)
def test_a_broken_trajectory_is_named(tmp_path, text):
    folder, _ = write(tmp_path)
    (folder / "traj.json").write_text(text)
    with pytest.raises(BadFile, match="traj.json: "):
        bundles.read(folder, tmp_path)


@pytest.mark.parametrize("line", ["{", '{"frame_idx": 0}', '{"frame_idx":0,"detections":[{}]}'])
def test_broken_detections_are_named_with_their_line(tmp_path, line):
    folder, _ = write(tmp_path)
    (folder / "detect_result.jsonl").write_text(line + "\n")
    with pytest.raises(BadFile, match="detect_result.jsonl:1: "):
        bundles.read(folder, tmp_path)


def test_a_bundle_outside_the_root_is_refused(tmp_path):
    folder, _ = write(tmp_path / "a")
    (tmp_path / "b").mkdir()
    with pytest.raises(OutsideRoot):
        bundles.read(folder, tmp_path / "b")


def original(tmp_path, name, **told):
    """Write a trajectory as the original does, without our own keys."""
    folder = tmp_path / "scenes" / "room_a" / name
    (folder / "samples-rgb").mkdir(parents=True)
    frames = [
        {
            "file_path": f"samples-rgb/{k:03d}.png",
            "width": 576,
            "height": 576,
            "fx": 648.0,
            "fy": 648.0,
            "cx": 648.0,
            "cy": 484.0,
        }
        for k in range(8)
    ]
    (folder / "traj.json").write_text(json.dumps({"transforms": {"frames": frames}, **told}))
    return folder


def test_the_svc_dialect_of_the_original_is_read(tmp_path):
    folder = original(
        tmp_path,
        "traj_forward_00",
        traj_params={"kind": "single_step", "action": "forward", "magnitude": 1.4},
        actions_step=[[]] + [["FWD_0.2"]] * 7,
        actions_prefix=[[]] + [[f"FWD_{k / 5:g}"] for k in range(1, 8)],
    )
    clip = bundles.read(folder, tmp_path)
    assert (clip.id, clip.moves) == ("room_a/forward_00", (Move(verb="move forward", amount=1.4),))
    assert clip.meta == {"trajectory": "forward_00", "prefix": ["FWD_1.4"]}
    # K is written for the full-size anchor (1296 x 968) beside the size of the crop
    scale = 576 / 968
    assert clip.intrinsics.fx == pytest.approx(648 * scale)
    assert (clip.intrinsics.cx, clip.intrinsics.cy) == (288, 288)


def test_older_names_are_read_from_their_tokens(tmp_path):
    folder = original(
        tmp_path, "T1_turn_left_02", actions_step=[[], ["TL_5"]], actions_prefix=[[], ["TL_40"]]
    )
    assert bundles.read(folder, tmp_path).moves == (Move(verb="turn left", amount=40.0),)
    assert list(bundles.find(tmp_path)) == [folder]


def test_the_hy_dialect_is_read_and_its_mirrored_turns_are_put_right(tmp_path):
    folder = tmp_path / "scenes" / "room_a" / "turn_left_02"
    folder.mkdir(parents=True)
    poses = {}
    for k, degrees in enumerate((0, 15, 30)):  # its generator turns left with positive yaw
        pose = np.eye(4)
        pose[:3, :3] = geometry.yaw(degrees)
        poses[str(k)] = {
            "extrinsic": pose.tolist(),
            "K": [[420, 0, 416], [0, 420, 240], [0, 0, 1]],
        }
    (folder / "pose.json").write_text(json.dumps(poses))
    told = {
        "actions": [{"name": "turn_left", "value": 30.0}],
        "retained_frame_indices": [0, 20, 40],
        "sample_paths": ["samples-rgb/frame_0000.png", "samples-rgb/frame_0040.png"],
        "pose_path": "pose.json",
    }
    (folder / "traj.json").write_text(json.dumps(told))
    clip = bundles.read(folder, tmp_path)
    assert clip.moves == (Move(verb="turn right", amount=30.0),)
    assert clip.meta["mirrored"] is True
    assert (clip.intrinsics.width, clip.intrinsics.height) == (832, 480)
    assert clip.last.endswith("samples-rgb/frame_0040.png")


def test_frames_that_are_not_finite_are_refused(tmp_path):
    folder, _ = write(tmp_path)
    told = json.loads((folder / "traj.json").read_text())
    told["transforms"]["frames"][0]["fx"] = math.inf
    (folder / "traj.json").write_text(json.dumps(told).replace("Infinity", "1e999"))
    with pytest.raises(BadFile):
        bundles.read(folder, tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"verb": "jump", "amount": 1.0}, {"verb": "turn left", "amount": -3.0}]
)
def test_moves_that_are_none_are_refused_with_their_place(w2v, wrong):
    line = example_clips()[0].to_json() | {"moves": [wrong]}
    code, rows, err = w2v("build-tasks", stdin=[line])
    assert (code, rows) == (1, [])
    assert "<stdin>:1: " in err and wrong["verb"] in err
