"""The depth warp against cameras and surfaces whose pictures can be worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("cv2")
from hypothesis import given
from hypothesis import strategies as st

from w2v import geometry
from w2v.errors import BadOption, W2VError
from w2v.kinds import Anchor, CameraPath, CompletesAnchor, Refused, Rendered
from w2v.records import DepthFile, Intrinsics, Scene
from w2v.teachers.depthwarp import DepthWarp, Photo, push_pull

W, H, F = 64, 48, 100.0
CAMERA = Intrinsics(width=W, height=H, fx=F, fy=F, cx=W / 2, cy=H / 2)
SCENE = Scene(id="a", image="a.png", known="given", depth=DepthFile(path="a", meters_per_unit=1))


def noise(seed=0, height=H, width=W):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plane(z=2.0):
    return np.full((H, W), z, dtype=np.float32)


def moved(right=0.0, down=0.0, forward=0.0, yaw=0.0):
    pose = np.eye(4)
    pose[:3, :3] = geometry.yaw(yaw)
    pose[:3, 3] = right, down, forward
    return pose


def path(*poses):
    return CameraPath(poses=np.stack([np.eye(4), *poses]))


def render(depth, *paths, image=None, scene=SCENE, **options):
    anchor = Anchor(camera=CAMERA, image=noise() if image is None else image, depth=depth)
    return list(DepthWarp(**options).render(scene, anchor, paths))


@given(k=st.integers(-40, 40), z=st.sampled_from([0.5, 1.0, 2.0, 8.0]))
def test_wall_seen_from_the_side_shifts_by_whole_pixels(k, z):
    image = noise()
    view = Photo(image, plane(z), CAMERA).seen_from(moved(right=k * z / F))
    seen = np.zeros((H, W), dtype=bool)
    seen[:, max(0, -k) : W - max(0, k)] = True
    assert np.array_equal(view.valid, seen)
    assert np.array_equal(view.image[seen], np.roll(image, -k, axis=1)[seen])
    assert np.allclose(view.depth[seen], z, rtol=1e-5) and not view.depth[~seen].any()
    assert view.coverage == pytest.approx(1 - abs(k) / W)


def test_camera_that_goes_down_sees_the_picture_rise():
    image = noise()
    view = Photo(image, plane(2.0), CAMERA).seen_from(moved(down=5 * 2.0 / F))
    assert np.array_equal(view.image[:-5], image[5:])
    assert view.valid[:-5].all() and not view.valid[-5:].any()


@pytest.mark.parametrize("degrees", [-12.0, -5.0, 5.0, 12.0])
def test_turning_right_moves_a_post_left_by_the_angle(degrees):
    image = np.zeros((H, W, 3), dtype=np.uint8)
    image[:, 32] = 255
    view = Photo(image, plane(), CAMERA).seen_from(moved(yaw=degrees))
    bearing = np.arctan((32.5 - CAMERA.cx) / F) - np.radians(degrees)
    where = np.tan(bearing) * F + CAMERA.cx
    weights = view.image[H // 2, :, 0].astype(float)
    assert (weights * (np.arange(W) + 0.5)).sum() / weights.sum() == pytest.approx(where, abs=0.5)


def test_coverage_of_a_turn_is_what_the_angles_say():
    # The left edge of the picture is at atan(-0.32); after the turn, its place is the limit.
    view = Photo(noise(), plane(), CAMERA).seen_from(moved(yaw=-10))
    edge = np.tan(np.arctan(-W / 2 / F) + np.radians(10)) * F + CAMERA.cx
    assert view.valid[H // 2].sum() == pytest.approx(W - edge, abs=1)


def test_first_frame_is_the_photograph():
    image, depth = noise(), plane()
    depth[5:20, 5:20] = 0
    (clip,) = render(depth, path(moved(right=0.02)), image=image)
    assert np.array_equal(clip.frames[0], image)
    assert np.array_equal(clip.depth[0], depth)
    assert clip.valid[0].all()


def square_before_a_wall():
    image, depth = noise(), plane(4.0)
    depth[10:30, 20:30] = 1.0
    return image, depth


def test_near_square_hides_the_wall_and_uncovers_a_strip():
    # Eight centimeters to the right: 8 pixels of parallax at 1 m, 2 pixels at 4 m.
    image, depth = square_before_a_wall()
    view = Photo(image, depth, CAMERA).seen_from(moved(right=0.08))
    row = slice(10, 30)
    assert np.array_equal(view.image[row, 12:22], image[row, 20:30])
    assert np.array_equal(view.image[row, :12], image[row, 2:14])
    assert np.array_equal(view.image[row, 28:-2], image[row, 30:])
    assert np.allclose(view.depth[row, 12:22], 1) and np.allclose(view.depth[row, :12], 4)
    assert not view.valid[row, 22:28].any()
    strips = np.ones((H, W), dtype=bool)
    strips[:, -2:] = False
    strips[row, 22:28] = False
    assert np.array_equal(view.valid, strips)


def test_what_passes_behind_the_camera_is_not_seen():
    image, depth = square_before_a_wall()
    view = Photo(image, depth, CAMERA).seen_from(moved(forward=1.5))
    assert view.valid.any() and np.allclose(view.depth[view.valid], 2.5)


@pytest.mark.parametrize("forward", [0.5, 1.0, 1.5, 1.7])
def test_walking_up_to_a_wall_leaves_no_cracks(forward):
    columns = np.linspace(0, 255, W).astype(np.uint8)
    image = np.repeat(np.broadcast_to(columns, (H, W))[..., None], 3, axis=2)
    view = Photo(image, plane(2.0), CAMERA).seen_from(moved(forward=forward))
    assert view.valid.all() and np.allclose(view.depth, 2 - forward, rtol=1e-4)
    x = (np.arange(W) + 0.5 - CAMERA.cx) * (2 - forward) / 2 + CAMERA.cx - 0.5
    expected = np.interp(x, np.arange(W), columns)
    assert np.abs(view.image[H // 2, :, 0] - expected).max() <= 1.5


def test_floor_is_met_at_its_true_depth():
    # A floor 1 m below the eye: z = F / (row - cy). Half a meter closer, the same law holds.
    camera = replace(CAMERA, cy=0.0)
    rows = np.arange(H) + 0.5
    depth = np.broadcast_to((F / rows)[:, None], (H, W)).astype(np.float32)
    near = slice(6, H)
    depth = np.where(np.arange(H)[:, None] >= 6, depth, np.float32(0))
    view = Photo(noise(), depth, camera).seen_from(moved(forward=0.5))
    expected = np.broadcast_to((F / rows)[:, None], (H, W))
    seen = view.valid.copy()
    seen[: near.start + 2] = False
    assert seen[near.start + 2 :].mean() > 0.95
    assert np.abs(view.depth[seen] / expected[seen] - 1).max() < 0.01


def test_what_has_no_depth_is_a_hole_wherever_it_goes():
    depth = plane()
    depth[10:34, 20:44] = 0
    view = Photo(noise(), depth, CAMERA).seen_from(moved(right=3 * 2.0 / F))
    assert not view.valid[10:34, 17:41].any()
    assert view.valid[10:34, :17].all() and view.valid[10:34, 41:-3].all()


def test_speck_of_missing_depth_on_a_wall_is_closed_but_not_across_an_edge():
    on_wall, on_edge = plane(), plane()
    on_wall[20:23, 30:33] = 0
    on_edge[:, 32:] = 6.0
    on_edge[20:23, 31:34] = 0
    assert Photo(noise(), on_wall, CAMERA).depth[21, 31] == pytest.approx(2.0)
    assert Photo(noise(), on_edge, CAMERA).depth[21, 32] == 0


def test_depth_smeared_over_an_edge_draws_nothing():
    depth = plane(1.0)
    depth[:, 31] = 2.0
    depth[:, 32:] = 4.0
    view = Photo(noise(), depth, CAMERA).seen_from(moved(right=0.04))
    found = view.depth[view.valid]
    assert np.all(np.isclose(found, 1, rtol=0.01) | np.isclose(found, 4, rtol=0.01))


@given(
    right=st.floats(-0.5, 0.5),
    forward=st.floats(0.01, 1.5) | st.floats(-0.5, -0.01),
    yaw=st.floats(-60, 60),
    seed=st.integers(0, 3),
)
def test_only_depth_that_is_there_is_vouched_for(right, forward, yaw, seed):
    rng = np.random.default_rng(seed)
    depth = np.kron(rng.choice([0.0, 1.0, 2.5, 5.0], (6, 8)), np.ones((8, 8))).astype(np.float32)
    pose = moved(right=right, forward=forward, yaw=yaw)
    view = Photo(noise(seed), depth, CAMERA).seen_from(pose)
    assert np.array_equal(view.valid, view.depth > 0)
    points = geometry.lift(view.depth, CAMERA) @ pose[:3, :3].T + pose[:3, 3]
    at, z = geometry.project(points[view.valid], CAMERA)
    column, row = np.floor(at).astype(int).T
    near = np.pad(depth, 1, mode="edge")
    around = np.stack([near[row + i, column + j] for i in range(3) for j in range(3)])
    assert np.all(np.min(np.abs(around - z) / z, axis=0) <= 0.05)


def test_path_that_leaves_the_photograph_is_refused():
    shown = moved(right=16 * 2.0 / F)
    kept, refused = render(plane(), path(shown), path(shown @ shown @ shown), coverage=0.5)
    assert isinstance(kept, Rendered)
    assert refused == Refused(
        reason="coverage", detail="the photograph shows 25.0% of the last frame, less than 50.0%"
    )


def test_coverage_is_told_for_every_frame():
    (clip,) = render(plane(), path(moved(right=0.16), moved(right=0.32)))
    assert clip.notes == {"coverage": [1.0, 0.875, 0.75], "depth": "given"}
    assert clip.units_per_meter == 1.0
    assert [len(part) for part in (clip.frames, clip.depth, clip.valid)] == [3, 3, 3]
    assert clip.frames[1].dtype == np.uint8 and clip.depth[1].dtype == np.float32


def test_holes_are_filled_or_black_and_told_either_way():
    image = np.full((H, W, 3), 90, dtype=np.uint8)
    there = path(moved(right=0.32))
    (filled,) = render(plane(), there, image=image)
    (black,) = render(plane(), there, image=image, fill="none")
    assert np.all(filled.frames[1] == 90)
    assert not black.frames[1][:, -16:].any()
    assert np.all(black.frames[1][:, :-16] == 90)
    assert np.array_equal(filled.valid[1], black.valid[1])
    assert not filled.valid[1][:, -16:].any()


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
)
def test_filling_keeps_what_is_known_and_stays_within_its_range(height, width, seed, share):
    image = noise(seed, height, width)
    valid = np.random.default_rng(seed).random((height, width)) < share
    filled = push_pull(image, valid)
    assert np.array_equal(filled[valid], image[valid])
    if valid.any():
        low, high = image[valid].min(0).astype(int), image[valid].max(0).astype(int)
        assert (filled >= low - 1).all() and (filled <= high + 1).all()
    else:
        assert not filled.any()


def test_scene_without_depth_is_named_with_what_to_do():
    bare = Scene(id="attic", image="a.png")
    with pytest.raises(W2VError, match="attic has no depth") as caught:
        render(None, path(moved()), scene=bare)
    assert "depth_model" in caught.value.hint
    assert isinstance(DepthWarp(), CompletesAnchor)


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(BadOption, match="'paint'"):
        DepthWarp(fill="paint")
    with pytest.raises(BadOption, match="between 0 and 1"):
        DepthWarp(coverage=40)


def test_depth_that_is_all_unknown_covers_nothing():
    (refused,) = render(np.zeros((H, W), dtype=np.float32), path(moved(right=0.1)))
    assert refused.reason == "coverage"


# Depth models: real classes, random or set weights, loaded back from disk.


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from w2v.teachers import depthmodel

    return depthmodel, tmp_path_factory.mktemp("models")


def depth_anything(folder, kind, logit=0.0, max_depth=20):
    import torch
    import transformers as hf

    torch.manual_seed(0)
    backbone = hf.Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = hf.DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=max_depth,
    )
    network = hf.DepthAnythingForDepthEstimation(config)
    torch.nn.init.zeros_(network.head.conv3.weight)
    torch.nn.init.constant_(network.head.conv3.bias, logit)
    network.save_pretrained(folder)
    hf.DPTImageProcessor(size={"height": 56, "width": 56}).save_pretrained(folder)
    return str(folder)


def depth_pro(folder, sees_camera):
    import torch
    import transformers as hf

    torch.manual_seed(0)
    encoder = dict(
        model_type="dinov2",
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=32,
        patch_size=8,
        use_mask_token=False,
    )
    config = hf.DepthProConfig(
        patch_size=32,
        fusion_hidden_size=8,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_overlap_ratios=[0.0, 0.5, 0.25],
        scaled_images_feature_dims=[8, 8, 8],
        merge_padding_value=0,
        use_fov_model=sees_camera,
        num_fov_head_layers=0,
        image_model_config=dict(encoder),
        patch_model_config=dict(encoder),
        fov_model_config=dict(encoder),
    )
    network = hf.DepthProForDepthEstimation(config)
    if sees_camera:
        last = network.fov_model.head.layers[-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, 60.0)
    network.save_pretrained(folder)
    hf.DepthProImageProcessor(size={"height": 128, "width": 128}).save_pretrained(folder)
    return str(folder)


def test_metric_model_gives_the_anchor_its_depth(models):
    depthmodel, folder = models
    # The head ends in max_depth * sigmoid(logit); the logit of 0.1 gives 2 m of 20.
    name = depth_anything(folder / "metric", "metric", logit=float(np.log(0.1 / 0.9)))
    teacher = DepthWarp(depthmodel.DepthModel(name))
    bare = Scene(id="a", image="a.png")
    anchor = Anchor(camera=CAMERA, image=noise())
    assert np.allclose(teacher.anchor(bare, anchor).depth, 2.0, rtol=1e-4)
    (clip,) = teacher.render(bare, anchor, [path(moved(right=0.32))])
    assert clip.notes == {"coverage": [1.0, 0.75], "depth": name}
    assert teacher.anchor(bare, replace(anchor, depth=plane(7.0))).depth[0, 0] == 7.0


def test_relative_inverse_depth_is_refused_even_with_a_scale(models):
    depthmodel, folder = models
    name = depth_anything(folder / "relative", "relative")
    for scale in (0.0, 2.0):
        with pytest.raises(W2VError, match="relative inverse depth") as caught:
            depthmodel.DepthModel(name, scale)
        assert "metric" in caught.value.hint


def test_model_of_unknown_scale_needs_a_stated_one(models):
    depthmodel, folder = models
    import transformers as hf

    encoder = hf.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = hf.DPTConfig(
        backbone_config=encoder,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        reassemble_factors=[4, 2, 1, 0.5],
    )
    name = str(folder / "dpt")
    hf.DPTForDepthEstimation(config).save_pretrained(name)
    hf.DPTImageProcessor(size={"height": 56, "width": 56}).save_pretrained(name)
    with pytest.raises(W2VError, match="state meters_per_unit"):
        depthmodel.DepthModel(name)
    one = depthmodel.DepthModel(name, 1.0).estimate(noise(), None).depth
    three = depthmodel.DepthModel(name, 3.0).estimate(noise(), None).depth
    assert one.shape == (H, W) and one.any() and np.allclose(three, 3 * one, rtol=1e-5)


def test_depth_pro_gives_the_camera_only_where_nobody_knows_it(models):
    depthmodel, folder = models
    teacher = DepthWarp(depthmodel.DepthModel(depth_pro(folder / "pro", True)), coverage=0.0)
    anchor = Anchor(camera=CAMERA, image=noise())
    unknown, known = Scene(id="a", image="a.png"), Scene(id="a", image="a.png", known="given")
    guessed, kept = teacher.anchor(unknown, anchor), teacher.anchor(known, anchor)
    assert geometry.field_of_view(guessed.camera) == pytest.approx(60, abs=0.01)
    assert kept.camera == CAMERA
    # z is proportional to the focal length (its section 3.1).
    assert np.allclose(kept.depth / guessed.depth, CAMERA.fx / guessed.camera.fx, rtol=1e-3)
    (clip,) = teacher.render(unknown, anchor, [path(np.eye(4))])
    assert clip.notes["estimated_field_of_view"] == pytest.approx(60, abs=0.01)


def test_depth_pro_without_field_of_view_needs_a_camera(models):
    depthmodel, folder = models
    model = depthmodel.DepthModel(depth_pro(folder / "blind", False))
    with pytest.raises(W2VError, match="needs to know the camera"):
        model.estimate(noise(), None)
    narrow = model.estimate(noise(), CAMERA).depth
    wide = model.estimate(noise(), replace(CAMERA, fx=F / 2)).depth
    assert np.allclose(narrow, 2 * wide, rtol=1e-4)


@pytest.mark.parametrize("name", ["no-such-folder", "no/such-model", "", "."])
def test_model_that_is_not_there_is_named(models, name, tmp_path, monkeypatch):
    depthmodel, _ = models
    monkeypatch.chdir(tmp_path)
    with pytest.raises(W2VError, match="cannot be loaded") as caught:
        depthmodel.DepthModel(name)
    assert repr(name) in caught.value.what


def test_torchvision_works_with_this_torch():
    torch = pytest.importorskip("torch")
    from w2v import torchvision_cpu

    torchvision_cpu.install()
    torchvision_cpu.install()
    ops = pytest.importorskip("torchvision.ops")
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30.0]])
    assert ops.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]
    assert ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
