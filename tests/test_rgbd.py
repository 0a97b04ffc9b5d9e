"""Folders of photographs in every known layout, whole and broken, become scenes or reasons."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from w2v import geometry, rgbd, stream
from w2v.errors import BadFile, BadRecord
from w2v.records import DepthFile, Intrinsics, Scene

W, H = 16, 12
POSE = np.array([[0, 0, 1, 0.5], [0, 1, 0, 0.25], [-1, 0, 0, 2], [0, 0, 0, 1.0]])
MATRIX = "20 0 8\n0 21 6\n0 0 1\n"


def picture(path, seed=0, size=(W, H)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def depth(path, value=1500, size=(W, H)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0]), value, dtype=np.uint16)).save(path)
    return path


def pose(path, matrix=POSE):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, matrix)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def find(folder, root=None, **options):
    dropped = []
    found = rgbd.find_scenes(
        folder,
        root or folder,
        drop=lambda reason, where: dropped.append((reason, Path(where).name)),
        **options,
    )
    return list(found), dropped


def triple(folder, name="frame-000000", seed=0):
    picture(folder / f"{name}.color.png", seed)
    depth(folder / f"{name}.depth.png")
    pose(folder / f"{name}.pose.txt")


# Layouts


def test_seven_scenes(tmp_path):
    text(tmp_path / "intrinsics.txt", MATRIX)
    triple(tmp_path / "seq-01", "frame-000001", 1)
    triple(tmp_path / "seq-01", "frame-000000", 0)
    scenes, dropped = find(tmp_path)
    assert not dropped
    assert [s.image for s in scenes] == [
        "seq-01/frame-000000.color.png",
        "seq-01/frame-000001.color.png",
    ]
    one = scenes[0]
    assert one.intrinsics == Intrinsics(width=W, height=H, fx=20, fy=21, cx=8, cy=6)
    assert (one.known, one.source) == ("given", "real")
    assert one.depth == DepthFile(path="seq-01/frame-000000.depth.png", meters_per_unit=0.001)
    assert np.array_equal(one.pose, POSE)
    assert Scene.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_scannet_depth_of_another_camera(tmp_path):
    home = tmp_path / "scene0000_00"
    for n in (0, 2, 10):
        picture(home / "color" / f"{n}.jpg", n, (W * 2, H * 2))
        depth(home / "depth" / f"{n}.png")
        pose(home / "pose" / f"{n}.txt")
    text(home / "intrinsic/intrinsic_color.txt", "40 0 16 0\n0 42 12 0\n0 0 1 0\n0 0 0 1\n")
    text(home / "intrinsic/intrinsic_depth.txt", "16 0 8 0\n0 16 6 0\n0 0 1 0\n0 0 0 1\n")
    scenes, dropped = find(tmp_path)
    assert not dropped
    assert [s.image.rpartition("/")[2] for s in scenes] == ["0.jpg", "2.jpg", "10.jpg"]
    assert scenes[0].id.startswith("scene0000_00-0-")
    assert scenes[0].intrinsics == Intrinsics(width=32, height=24, fx=40, fy=42, cx=16, cy=12)
    other = dict(width=W, height=H, fx=16.0, fy=16.0, cx=8.0, cy=6.0)
    assert scenes[0].meta["depth_camera"] == other
    fitted = rgbd.depth_of(scenes[0], scenes[0].intrinsics, tmp_path)
    assert fitted.shape == (24, 32) and np.all(fitted == np.float32(1.5))


def test_tum_pairs_by_time(tmp_path):
    home = tmp_path / "rgbd_dataset_freiburg1_xyz"
    for n, time in enumerate(("10.000", "10.100", "10.200")):
        picture(home / "rgb" / f"{time}.png", n)
    depth(home / "depth" / "10.015.png", 10000)
    depth(home / "depth" / "10.121.png")
    depth(home / "depth" / "10.200.png", 5000)
    text(
        home / "rgb.txt",
        "# color\n10.000 rgb/10.000.png\n10.100 rgb/10.100.png\n10.200 rgb/10.200.png\n",
    )
    text(
        home / "depth.txt",
        "# depth\n10.200 depth/10.200.png\n10.015 depth/10.015.png\n10.121 depth/10.121.png\n",
    )
    # A quarter turn about the y axis: (0, sin 45, 0, cos 45).
    text(home / "groundtruth.txt", "# t x y z q\n9.99 0.5 0.25 2 0 0.70710678 0 0.70710678\n")
    scenes, dropped = find(tmp_path)
    assert dropped == [("no depth within 20 ms", "10.100.png")]
    one, three = scenes
    assert one.depth.path.endswith("depth/10.015.png")
    assert rgbd.load_depth(tmp_path / one.depth.path, one.depth.meters_per_unit)[0, 0] == 2.0
    assert np.allclose(one.pose, POSE, atol=1e-7)
    assert three.pose is None and three.depth.path.endswith("depth/10.200.png")
    assert one.intrinsics.fx == pytest.approx(517.3 * W / 640)


def transforms(folder, frames, **top):
    text(folder / "transforms.json", json.dumps({"frames": frames, **top}))


def test_transforms_json_turns_opengl_poses_round(tmp_path):
    picture(tmp_path / "images/a.png")
    depth(tmp_path / "depth/a.png", 2000)
    frame = {
        "file_path": "images/a.png",
        "depth_file_path": "depth/a.png",
        "transform_matrix": np.eye(4).tolist(),
    }
    transforms(tmp_path, [frame], fl_x=40, fl_y=42, cx=16, cy=12, w=32, h=24, k1=0.1)
    (scene,), dropped = find(tmp_path)
    assert not dropped
    assert np.array_equal(scene.pose, np.diag([1, -1, -1, 1]))
    assert scene.intrinsics == Intrinsics(width=W, height=H, fx=20, fy=21, cx=8, cy=6)
    assert scene.depth == DepthFile(path="depth/a.png", meters_per_unit=0.001)
    assert scene.meta["distortion"] == {"k1": 0.1}


def test_transforms_json_of_blender(tmp_path):
    picture(tmp_path / "train/r_0.png")
    frame = {"file_path": "./train/r_0", "transform_matrix": np.eye(4).tolist()}
    transforms(tmp_path, [frame], camera_angle_x=float(np.pi / 2))
    (scene,), _ = find(tmp_path)
    assert scene.intrinsics == geometry.assumed(W, H, 90.0)
    assert scene.image == "train/r_0.png" and scene.known == "given"


def test_plain_pictures_and_subfolders(tmp_path):
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.JPG")
    picture(tmp_path / "more" / "c d.webp")
    text(tmp_path / "notes.md", "not a picture")
    scenes, dropped = find(tmp_path, licence="CC0-1.0")
    assert not dropped
    assert [s.image for s in scenes] == ["a.JPG", "b.png", "more/c d.webp"]
    assert all(s.intrinsics is None and s.known == "" and s.depth is None for s in scenes)
    assert {s.licence for s in scenes} == {"CC0-1.0"}
    assert scenes[2].id.startswith("c-d-")


def test_manifest_of_world2vlm(tmp_path):
    picture(tmp_path / "anchors/room.png")
    lines = [
        {"scene_id": "x", "anchor_path": "anchors/room.png", "source_domain": "simulated_scene"},
        {"scene_id": "y", "anchor_path": "anchors/gone.png", "source_domain": "real_scene"},
        {"scene_id": "z", "anchor_path": "../../etc/passwd"},
        {"scene_id": "w"},
    ]
    path = tmp_path / "manifest.jsonl"
    text(path, "\n".join([*map(json.dumps, lines), "not json"]))
    (scene,), dropped = find(path, tmp_path)
    assert (scene.source, scene.meta["manifest"]["scene_id"]) == ("simulated", "x")
    assert [reason for reason, _ in dropped] == [
        "picture is missing",
        "path leads out of the root",
        "not a manifest line",
        "not a manifest line",
    ]


def test_scenes_and_manifest_lines_are_read_from_one_file(tmp_path):
    class Stage:
        settings = stream.Settings(root=tmp_path)
        failed = []

        def fail(self, reason, error, item=""):
            self.failed.append((reason, error.what.removeprefix(str(tmp_path / "all.jsonl"))))

    picture(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes(b"")
    lines = [
        json.dumps(Scene(id="s", image="a.png").to_json()),
        json.dumps({"scene_id": "x", "anchor_path": "a.png"}),
        json.dumps({"scene_id": "y", "anchor_path": "gone.png"}),
        json.dumps({"scene_id": "z", "anchor_path": "cut.png"}),
        json.dumps({"kind": "clip", "id": "c"}),
        "nothing",
    ]
    text(tmp_path / "all.jsonl", "\n".join(lines))
    stage = Stage()
    one, two = rgbd.read_scenes(stage, str(tmp_path / "all.jsonl"))
    assert one.id == "s" and two.id.startswith("a-") and two.meta["manifest"]["scene_id"] == "x"
    reasons = [reason for reason, _ in stage.failed]
    assert reasons == ["bad record", "picture is unreadable", "bad record", "bad line"]
    assert stage.failed[2][1] == ":5: expected a scene, got clip"


def test_single_picture(tmp_path):
    scenes, dropped = find(picture(tmp_path / "one.png"), tmp_path)
    assert [s.image for s in scenes] == ["one.png"] and not dropped


# Ids and options


def test_same_name_never_means_the_same_id(tmp_path):
    picture(tmp_path / "room.png", 1)
    picture(tmp_path / "room.jpg", 1)
    picture(tmp_path / "other/room.png", 2)
    scenes, _ = find(tmp_path)
    assert len({s.id for s in scenes}) == 3
    assert all(s.id.startswith("room-") and len(s.id) == len("room-") + 8 for s in scenes)
    assert [s.id for s in scenes] == [s.id for s in find(tmp_path)[0]]


def test_typed_intrinsics_and_unit_win(tmp_path):
    text(tmp_path / "intrinsics.txt", MATRIX)
    triple(tmp_path)
    (scene,), _ = find(tmp_path, intrinsics="10,11,8,6", meters_per_unit=0.0002)
    assert (scene.intrinsics.fx, scene.intrinsics.fy) == (10, 11)
    assert scene.depth.meters_per_unit == 0.0002


def test_field_of_view_is_assumed_only_where_nothing_is_known(tmp_path):
    picture(tmp_path / "plain/a.png")
    picture(tmp_path / "known/b.png")
    text(tmp_path / "known/intrinsics.txt", "20 21 8 6")
    known, plain = find(tmp_path, field_of_view=60)[0]
    assert (known.known, known.intrinsics.fx) == ("given", 20)
    assert (plain.known, plain.intrinsics) == ("assumed", geometry.assumed(W, H, 60))


@pytest.mark.parametrize("typed", ["1,2,3", "a,b,c,d", "0,1,2,3", "nan,1,2,3", "1,2,3,inf", ""])
def test_typed_intrinsics_must_be_four_numbers(tmp_path, typed):
    picture(tmp_path / "a.png")
    with pytest.raises(BadRecord, match="intrinsics"):
        find(tmp_path, intrinsics=typed)


# Broken folders: named, counted, never fatal


def spoil_picture(folder):
    path = folder / "frame-000000.color.png"
    path.write_bytes(path.read_bytes()[:-40])


def spoil(name, content):
    return lambda folder: (folder / f"frame-000000.{name}").write_bytes(content)


def bad_pose(matrix):
    return lambda folder: pose(folder / "frame-000000.pose.txt", matrix)


def scaled():
    return np.diag([2.0, 2, 2, 1])


BROKEN = {
    "cut picture": (spoil_picture, "picture is unreadable"),
    "empty picture": (spoil("color.png", b""), "picture is unreadable"),
    "text as picture": (spoil("color.png", b"hello"), "picture is unreadable"),
    "empty depth": (spoil("depth.png", b""), "depth is unreadable"),
    "cut depth": (spoil("depth.png", b"\x89PNG\r\n\x1a\n"), "depth is unreadable"),
    "no depth": (lambda f: (f / "frame-000000.depth.png").unlink(), "depth is missing"),
    "depth all 0": (
        lambda f: depth(f / "frame-000000.depth.png", 0),
        "depth is unknown everywhere",
    ),
    "depth all 65535": (
        lambda f: depth(f / "frame-000000.depth.png", 65535),
        "depth is unknown everywhere",
    ),
    "depth of another shape": (
        lambda f: depth(f / "frame-000000.depth.png", size=(W, 2 * H)),
        "depth does not fit the picture",
    ),
    "colour as depth": (lambda f: picture(f / "frame-000000.depth.png"), "depth is unreadable"),
    "NaN pose": (bad_pose(POSE * np.nan), "pose is not finite"),
    "infinite pose": (bad_pose(np.full((4, 4), -np.inf)), "pose is not finite"),
    "scaled pose": (bad_pose(scaled()), "pose is not a rigid motion"),
    "mirrored pose": (bad_pose(np.diag([-1.0, 1, 1, 1])), "pose is not a rigid motion"),
    "zero pose": (bad_pose(np.zeros((4, 4))), "pose is not a rigid motion"),
    "short pose": (bad_pose(np.eye(3)), "pose is unreadable"),
    "pose in words": (spoil("pose.txt", b"one two\n"), "pose is unreadable"),
    "ragged pose": (spoil("pose.txt", b"1 0 0\n0 1\n"), "pose is unreadable"),
    "binary pose": (spoil("pose.txt", b"\xff\xfe\x00"), "pose is unreadable"),
    "empty pose": (spoil("pose.txt", b""), "pose is unreadable"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_shot_is_dropped_and_its_neighbour_kept(tmp_path, name):
    breaks, reason = BROKEN[name]
    triple(tmp_path, "frame-000000", 0)
    triple(tmp_path, "frame-000001", 1)
    breaks(tmp_path)
    scenes, dropped = find(tmp_path)
    assert [s.image for s in scenes] == ["frame-000001.color.png"]
    assert dropped == [(reason, "frame-000000.color.png")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "intrinsics are unreadable"),
        ("1 2\n", "intrinsics are unreadable"),
        ("words\n", "intrinsics are unreadable"),
        ("nan nan nan nan", "intrinsics are unreadable"),
        ("20 21 800 600", "intrinsics do not fit the picture"),
        ("-20 21 8 6", "intrinsics do not fit the picture"),
    ],
)
def test_broken_intrinsics_are_told(tmp_path, content, reason):
    picture(tmp_path / "a.png")
    text(tmp_path / "intrinsics.txt", content)
    assert find(tmp_path) == ([], [(reason, "a.png")])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"frames": 3}', '{"frames": [1]}', "\0"])
def test_broken_transforms_json_is_told(tmp_path, content):
    picture(tmp_path / "a.png")
    text(tmp_path / "transforms.json", content)
    scenes, dropped = find(tmp_path)
    assert not scenes and dropped[0] == ("transforms.json is unreadable", "transforms.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"transform_matrix": "x"}, "transforms.json has a bad frame"),
        ({"transform_matrix": [[1]]}, "transforms.json has a bad frame"),
        ({"fl_x": [], "w": 16, "h": 12}, "transforms.json has a bad frame"),
        ({"camera_model": "OPENCV_FISHEYE"}, "fisheye camera"),
        ({"file_path": "gone.png"}, "picture is missing"),
        ({"depth_file_path": "gone.png"}, "depth is missing"),
        ({"file_path": "../a.png"}, "path leads out of the root"),
        ({"file_path": "/etc/hostname.png"}, "path leads out of the root"),
        ({"depth_file_path": "../../a.png"}, "path leads out of the root"),
    ],
)
def test_broken_frame_is_told(tmp_path, change, reason):
    picture(tmp_path / "in/a.png")
    picture(tmp_path / "a.png")
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist()} | change
    transforms(tmp_path / "in", [frame])
    scenes, dropped = find(tmp_path / "in")
    assert not scenes and [r for r, _ in dropped] == [reason]


def test_broken_tum_list_is_told(tmp_path):
    text(tmp_path / "rgb.txt", "when what\n")
    text(tmp_path / "depth.txt", "")
    scenes, dropped = find(tmp_path)
    assert not scenes and dropped[0][0] == "rgb.txt is unreadable"


def test_link_out_of_the_root_is_refused(tmp_path):
    outside = picture(tmp_path / "outside.png")
    inside = tmp_path / "in"
    picture(inside / "a.png", 1)
    (inside / "b.png").symlink_to(outside)
    (inside / "folder").symlink_to(tmp_path)
    scenes, dropped = find(inside)
    assert [s.image for s in scenes] == ["a.png"]
    assert dropped == [("path leads out of the root", "b.png")]


def test_empty_folder_is_told(tmp_path):
    assert find(tmp_path) == ([], [("no picture found", tmp_path.name)])


# Depth files


def test_depth_is_meters_and_unknown_is_zero(tmp_path):
    path = tmp_path / "d.png"
    Image.fromarray(np.array([[0, 1, 65534, 65535]], dtype=np.uint16)).save(path)
    found = rgbd.load_depth(path, 0.001)
    assert found.dtype == np.float32
    assert np.allclose(found, [[0, 0.001, 65.534, 0]])


@given(st.lists(st.floats(width=32), min_size=1, max_size=9))
def test_float_depth_is_never_negative_nor_beyond_measure(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("d") / "d.npy"
    np.save(path, np.array([values], dtype=np.float32))
    found = rgbd.load_depth(path, 1.0)[0]
    for value, got in zip(values, found, strict=True):
        assert got == (np.float32(value) if 0 < value < rgbd.FARTHEST else 0)


def test_depth_of_every_kind_of_file(tmp_path):
    values = np.linspace(0.5, 2, W * H, dtype=np.float32).reshape(H, W)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "b.npz", depth=values[..., None])
    Image.fromarray(values).save(tmp_path / "c.tiff")
    for name in ("a.npy", "b.npz", "c.tiff"):
        assert np.array_equal(rgbd.load_depth(tmp_path / name, 1.0), values)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.png", "a.tiff"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04", None])
def test_broken_depth_file_is_named(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadFile, match=name):
        rgbd.load_depth(tmp_path / name, 1.0)


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2, 3)), np.zeros(4), np.zeros((0, 4)), np.array([["a"]]), np.array(3.0)],
    ids=["colour", "flat", "empty", "words", "number"],
)
def test_array_that_is_no_depth_is_named(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(BadFile, match="expected"):
        rgbd.load_depth(tmp_path / "a.npy", 1.0)


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadFile, match="not a readable depth file"):
        rgbd.load_depth(tmp_path / "a.npy", 1.0)


def test_eight_bit_depth_is_refused(tmp_path):
    Image.fromarray(np.zeros((H, W), dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(BadFile, match="8 bits"):
        rgbd.load_depth(tmp_path / "a.png", 1.0)


@given(fx=st.floats(4, 60), wanted=st.floats(4, 60))
def test_registered_depth_stands_where_its_ray_went(fx, wanted):
    def camera(f):
        return Intrinsics(width=W, height=H, fx=f, fy=20, cx=W / 2, cy=H / 2)

    columns = np.tile(np.arange(1, W + 1, dtype=np.float32), (H, 1))
    found = rgbd.register(columns, camera(fx), camera(wanted))
    for j in range(W):
        at = (j + 0.5 - W / 2) / wanted * fx + W / 2
        expected = int(np.floor(at)) + 1 if 0 <= at < W else 0
        assert found[H // 2, j] == pytest.approx(expected, abs=1e-6) or at == round(at)


def test_depth_of_reads_what_a_scene_names(tmp_path):
    depth(tmp_path / "d.png", 1000)
    camera = Intrinsics(width=2 * W, height=2 * H, fx=9, fy=9, cx=W, cy=H)
    named = DepthFile(path="d.png", meters_per_unit=0.002)
    found = rgbd.depth_of(Scene(id="a", image="a.png", depth=named), camera, tmp_path)
    assert found.shape == (2 * H, 2 * W) and np.all(found == 2)
    assert rgbd.depth_of(Scene(id="a", image="a.png"), camera, tmp_path) is None
    wide = Intrinsics(width=3 * W, height=H, fx=9, fy=9, cx=W, cy=H)
    with pytest.raises(BadFile, match="does not fit"):
        rgbd.depth_of(Scene(id="a", image="a.png", depth=named), wide, tmp_path)
