import json
import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("embreex")

from w2v.errors import BadOption, BadRecord
from w2v.geometry import assumed, lift, poses, project, to_camera
from w2v.kinds import Anchor, CameraPath, CompletesAnchor, KnowsWalls, MakesScenes, Refused
from w2v.records import Move, Scene
from w2v.teachers import make_sim
from w2v.teachers.sim import light, viewpoint, world
from w2v.teachers.sim.mesh import Tracer
from w2v.teachers.sim.render import Renderer, all_rays
from w2v.teachers.sim.rooms import LAYOUTS
from w2v.teachers.sim.teacher import SimTeacher, bare_cast
from w2v.teachers.sim.truth import Obstacles

CAMERA = assumed(96, 96, 75.0)
ANCHOR = Anchor(camera=CAMERA)


def path(*moves: tuple[str, float], frames: int = 2) -> CameraPath:
    made = [Move(verb=verb, amount=amount) for verb, amount in moves]
    return CameraPath(poses=poses(made, [frames] * len(made)), moves=tuple(made))


TURN = path(("turn right", 12.0))
SIDESTEP = path(("move right", 0.15))


@pytest.fixture(scope="module")
def teacher() -> SimTeacher:
    return make_sim(quality="fast", rooms="study+dining")


@pytest.fixture(scope="module")
def scenes(teacher) -> list[Scene]:
    return list(teacher.scenes(2, seed=7))


@pytest.fixture(scope="module")
def scene(scenes) -> Scene:
    return scenes[0]


@pytest.fixture(scope="module")
def stage(teacher, scene):
    return teacher._prepared(scene)


@pytest.fixture(scope="module")
def turned(teacher, scene):
    return next(teacher.render(scene, ANCHOR, [TURN]))


@pytest.fixture(scope="module")
def sidestepped(teacher, scene):
    return next(teacher.render(scene, ANCHOR, [SIDESTEP]))


def test_it_offers_all_that_a_simulator_can(teacher):
    assert isinstance(teacher, MakesScenes)
    assert isinstance(teacher, CompletesAnchor)
    assert isinstance(teacher, KnowsWalls)


def test_a_scene_does_not_depend_on_how_many_are_made(teacher, scenes):
    more = list(teacher.scenes(5, seed=7))
    assert more[:2] == scenes
    assert [s.id for s in scenes] == ["sim-7-000000", "sim-7-000001"]
    assert len({s.meta["seed"] for s in more}) == 5
    assert {s.meta["room"] for s in teacher.scenes(40, seed=1)} == {"study", "dining"}
    assert (scenes[0].intrinsics, scenes[0].known) == (assumed(576, 576, 75.0), "given")
    assert scenes[0].source == "simulated"


def test_a_saved_scene_is_rebuilt_to_the_bit_in_any_order(teacher, scenes, turned, sidestepped):
    line = json.loads(json.dumps(scenes[0].to_json()))
    fresh = make_sim(quality="fast")
    next(fresh.render(scenes[1], ANCHOR, [TURN]))
    second, first = fresh.render(Scene.from_json(line), ANCHOR, [SIDESTEP, TURN])
    for one, two in ((first, turned), (second, sidestepped)):
        assert one.things == two.things
        for name in ("frames", "depth", "masks", "visible"):
            assert np.array_equal(np.stack(getattr(one, name)), np.stack(getattr(two, name))), name


def test_rendered_arrays_have_the_promised_shapes(turned):
    frames, masks = np.stack(turned.frames), np.stack(turned.masks)
    assert (frames.shape, frames.dtype) == ((2, 96, 96, 3), np.uint8)
    assert (masks.shape, masks.dtype) == ((2, 96, 96), np.uint16)
    assert np.stack(turned.depth).dtype == np.float32
    assert turned.visible.shape == (2, len(turned.things))
    assert (turned.units_per_meter, turned.valid, turned.poses) == (1.0, None, None)


def test_the_anchor_is_what_the_first_frame_shows(teacher, scene, turned):
    seen = teacher.anchor(scene, ANCHOR)
    assert np.array_equal(seen.image, turned.frames[0])
    assert np.array_equal(seen.depth, turned.depth[0])
    assert seen.camera == CAMERA


def test_things_are_numbered_as_in_the_masks(turned):
    assert [t.id for t in turned.things] == list(range(1, len(turned.things) + 1))
    assert all(t.label for t in turned.things)
    shown = set(np.unique(np.stack(turned.masks))) - {0}
    assert len(shown) >= 5
    assert shown <= {t.id for t in turned.things}


def test_the_camera_is_level_and_keeps_half_a_meter_from_everything(stage):
    assert np.array_equal(stage.pose[1, :3], [0, 1, 0])
    assert 1.2 <= -stage.pose[1, 3] <= 1.6
    at = stage.pose[:3, 3]
    assert not Obstacles(stage.world.mesh.corners).near(at, at, 0.5)


def test_walking_through_a_wall_is_refused(teacher, scene):
    far = path(("move forward", 20.0))
    assert teacher.collides(scene, far.poses)
    (refused,) = teacher.render(scene, ANCHOR, [far])
    assert isinstance(refused, Refused)
    assert refused.reason == "collision"


@pytest.mark.parametrize("verb", ["turn left", "turn right", "move forward"])
def test_short_moves_on_free_floor_are_allowed(teacher, scene, verb):
    amount = 0.2 if verb.startswith("move") else 90.0
    assert not teacher.collides(scene, path((verb, amount), frames=8).poses)


def test_a_wall_between_two_free_poses_is_noticed():
    wall = Obstacles(np.array([[[-1.0, -1, 1], [1, -1, 1], [0, 1, 1]]]))
    here, beyond = np.zeros(3), np.array([0.0, 0, 2])
    assert not wall.near(here, here, 0.9)
    assert not wall.near(beyond, beyond, 0.9)
    assert wall.near(here, beyond, 0.9)


@pytest.mark.parametrize(
    ("start", "end", "distance"),
    [
        ((0, 0, 0), (0, 0, 0.5), 0.5),  # before the face
        ((-1, 0, 1), (1, 0, 1), 0.0),  # in its plane, across it
        ((3, -1, 1), (3, -1, 5), 2.0),  # beside a corner
        ((-1, -3, 2), (1, -3, 2), math.hypot(2, 1)),  # off an edge
    ],
)
def test_the_distance_of_a_walk_to_a_triangle_is_exact(start, end, distance):
    triangle = Obstacles(np.array([[[-1.0, -1, 1], [1, -1, 1], [0, 1, 1]]]))
    start, end = np.array(start, float), np.array(end, float)
    assert triangle.near(start, end, distance + 1e-6)
    assert not triangle.near(start, end, distance - 1e-6)


def test_a_point_keeps_its_thing_and_its_depth_when_the_camera_moves(sidestepped):
    points = to_camera(lift(sidestepped.depth[0], CAMERA), SIDESTEP.poses[1]).reshape(-1, 3)
    uv, z = project(points, CAMERA)
    inside = (z > 0) & ((uv >= 0) & (uv < 96)).all(-1)
    column, row = uv[inside].astype(int).T
    there = sidestepped.depth[1][row, column]
    # Where the depth differs, something else has come before the point.
    same = np.abs(there - z[inside]) < 0.04 * z[inside]
    ids = sidestepped.masks[0].ravel()[inside]
    assert inside.mean() > 0.8
    assert same.mean() > 0.85
    assert (ids == sidestepped.masks[1][row, column])[same].mean() > 0.95


def test_depth_is_the_distance_along_the_optical_axis(stage):
    seen = stage.renderer.picture(CAMERA, stage.pose)
    beams = all_rays(CAMERA, stage.pose)
    origins = np.broadcast_to(stage.pose[:3, 3], beams.directions.shape)
    along = (
        beams.directions
        * stage.renderer.tracer.closest(origins, beams.directions).distance[:, None]
    )
    assert np.allclose(along @ stage.pose[:3, 2], seen.depth.ravel(), atol=1e-4)
    assert seen.depth.min() > 0.4
    assert bare_cast(stage, CAMERA, stage.pose) == 96 * 96


def test_turning_right_moves_things_left(turned):
    before, after = turned.masks
    shifts = []
    for thing in turned.things:
        columns = [np.nonzero(mask == thing.id)[1] for mask in (before, after)]
        edge = any(c.size < 20 or c.min() == 0 or c.max() == 95 for c in columns)
        if not edge:
            shifts.append(columns[1].mean() - columns[0].mean())
    # 12 degrees are 12 / 75 of the view, or about 13 of 96 columns near the middle.
    assert shifts
    assert all(-20 < shift < -10 for shift in shifts)


def alone(stage, camera, pose, thing):
    """Return the solid angle of a thing that stands alone, from a very wide picture."""
    mesh = stage.world.mesh
    beams = all_rays(camera, pose)
    tracer = Tracer(mesh.corners[mesh.thing == thing])
    origins = np.broadcast_to(pose[:3, 3], beams.directions.shape)
    hit = tracer.closest(origins, beams.directions).face >= 0
    edge = hit.reshape(camera.height, camera.width)
    cut = edge[0].any() or edge[-1].any() or edge[:, 0].any() or edge[:, -1].any()
    return (beams.forward[hit] ** 3).sum() / camera.fx**2, bool(cut)


def test_visible_shares_agree_with_pixel_counts(stage, turned):
    camera, wide, pose = (
        assumed(192, 192, 75.0),
        assumed(500, 500, 130.0),
        stage.poses(TURN.poses)[1],
    )
    mask = stage.renderer.picture(camera, pose).mask
    shares = stage.visibility.shares(camera, pose, mask)
    weight = (all_rays(camera, pose).forward ** 3).reshape(mask.shape) / camera.fx**2
    errors = []
    for thing, share in zip(turned.things, shares, strict=True):
        whole, cut = alone(stage, wide, pose, thing.id)
        if not cut and whole > 100 / camera.fx**2:
            errors.append(abs(float(share) - weight[mask == thing.id].sum() / whole))
    assert len(errors) >= 6
    assert max(errors) < 0.15
    assert np.mean(errors) < 0.03


def test_a_thing_without_pixels_has_no_share(turned):
    for mask, shares in zip(turned.masks, turned.visible, strict=True):
        counts = np.bincount(mask.ravel(), minlength=len(shares) + 1)[1:]
        assert (shares[counts == 0] == 0).all()
        assert (shares[counts > 0] > 0).all()


def test_no_surface_shows_its_back(stage):
    # A wall that faces outwards would be lit by the sky.
    mesh = stage.world.mesh
    beams = all_rays(assumed(96, 96, 120.0), stage.pose)
    origins = np.broadcast_to(stage.pose[:3, 3], beams.directions.shape)
    hits = stage.renderer.tracer.closest(origins, beams.directions)
    normals = mesh.shading[hits.face, 0, 4:]
    a, b, c = mesh.corners[hits.face].transpose(1, 0, 2)
    flat = np.cross(b - a, c - a)
    assert ((flat * normals).sum(1) > 0).all()
    assert ((flat * beams.directions).sum(1) > 0).mean() < 0.002


def test_every_kind_of_light_gives_a_picture_of_sane_brightness():
    quick = replace(light.FAST, texel=0.25, coarse=0.5, first=2, second=8)
    worlds = {made.mode: made for made in (world.build(seed, "bedroom") for seed in range(8))}
    assert set(worlds) == {"day", "overcast", "evening"}
    for mode, made in worlds.items():
        corners = made.mesh.corners
        view = viewpoint.choose(made, Tracer(corners), Obstacles(corners), 75.0)
        seen = Renderer(made, Tracer(corners), quick).picture(CAMERA, view.pose)
        assert 70 < seen.frame.mean() < 200, mode
        assert seen.frame.std() > 20, mode


@pytest.mark.parametrize("room", sorted(LAYOUTS))
@pytest.mark.parametrize("seed", range(4))
def test_furniture_stands_within_the_room(room, seed):
    made = world.build(seed, room)
    width, height, depth = made.size
    low, high = made.mesh.corners.min((0, 1)), made.mesh.corners.max((0, 1))
    reveal = 0.15
    assert (low >= [-reveal, -height - 1e-3, -reveal]).all()
    assert (high <= [width + reveal, 1e-3, depth + reveal]).all()
    assert len(made.things) >= 12
    labels = [thing.label for thing in made.things]
    assert len(set(labels)) >= 8
    assert len(labels) > len(set(labels))


def test_smooth_edges_and_reflections_leave_depth_and_masks_alone(stage):
    quality = replace(light.FAST, smooth=True, glossy=True)
    better = Renderer(stage.world, stage.renderer.tracer, quality).picture(CAMERA, stage.pose)
    plain = stage.renderer.picture(CAMERA, stage.pose)
    assert np.array_equal(better.depth, plain.depth)
    assert np.array_equal(better.mask, plain.mask)
    changed = (np.abs(better.frame.astype(int) - plain.frame) > 4).any(-1).mean()
    assert 0.01 < changed < 0.6


@pytest.mark.parametrize(
    "options", [{"quality": "best"}, {"rooms": "cellar"}, {"field_of_view": 170.0}]
)
def test_bad_options_are_refused_with_a_hint(options):
    with pytest.raises(BadOption) as caught:
        make_sim(**options)
    assert caught.value.hint


def test_a_foreign_scene_is_refused(teacher):
    with pytest.raises(BadRecord, match="scene photo was not made by the simulator"):
        teacher.anchor(Scene(id="photo", image="photo.png"), ANCHOR)
