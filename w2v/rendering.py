"""What ``w2v render`` does with one scene: fit the anchor, choose paths, render, store.

A scene is finished when its ``scene.json`` stands; a clip when its folder does. Both appear by
renaming, so a kill leaves either all of a thing or none of it, and running again continues.
"""

from __future__ import annotations

import functools
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from w2v import __version__, bundles, footage, geometry, images, paths, quality, rgbd
from w2v.errors import BadFile, ForeignOutput, W2VError
from w2v.kinds import (
    Anchor,
    CameraPath,
    CompletesAnchor,
    GivesTrajectories,
    KnowsWalls,
    Offer,
    Refused,
    Rendered,
    Teacher,
)
from w2v.provenance import digest, seed_of
from w2v.records import Clip, Intrinsics, Move, Scene
from w2v.sampling import Sampler, Skipped, Trajectory
from w2v.stream import dumps, loads, write_atomic

ASSUMED_FIELD_OF_VIEW = 60.0
"""Degrees across, where nothing is known of a photograph's camera."""


LARGEST = 1e6
"""Pixels; no camera has a longer focal length or a larger picture."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was asked for, for every scene alike."""

    teacher: str
    offer: Offer
    sampler: Sampler
    trajectories: str
    size: tuple[int, int] | None
    frames: str
    seed: int
    root: Path
    out: Path
    overwrite: bool = False


class TeacherFailed(W2VError):
    """A teacher raised while rendering a scene."""


def kept_frames(frames: str, total: int) -> list[int]:
    """Return which frames of a path of ``total`` are stored: ``all``, ``ends`` or N evenly."""
    if frames == "all":
        return list(range(total))
    number = 2 if frames == "ends" else min(int(frames), total)
    return [round(k * (total - 1) / (number - 1)) for k in range(number)]


def render_scene(
    scene: Scene, teacher: Teacher, plan: Plan, drop: Callable[[str], None]
) -> Iterator[Clip]:
    """Yield the clips of one scene, each once it is on disk; those already there are read back.

    Args:
        scene: Where to start.
        teacher: Built teacher.
        plan: What was asked for.
        drop: Called with the reason for each path that was not rendered.

    Raises:
        BadFile: The picture or depth map of the scene cannot be read.
        ForeignOutput: The folder holds clips made in another way.
        TeacherFailed: The teacher raised something of its own.
    """
    home = plan.out / "scenes" / _folder(scene)
    request = digest(
        scene.to_json(),
        plan.teacher,
        plan.trajectories,
        plan.size,
        plan.frames,
        plan.seed,
        __version__,
    )
    done = _finished(home, request, plan)
    if done is None:
        picture = _read_picture(scene, plan)
        anchor = fit_anchor(scene, picture, teacher, plan)
        tried = _choose(scene, anchor, teacher, plan)
        done = _render_missing(scene, anchor, picture, tried, teacher, plan, home, request)
    for name, reason in done:
        if reason:
            drop(reason)
        else:
            clip = bundles.read(home / f"{bundles.PREFIX}{name}", plan.root)
            yield replace(clip, boxes=None)  # they are another stage's, and may not be there yet


def _folder(scene: Scene) -> str:
    """Return the folder name of a scene; a name that had to be changed keeps a digest."""
    name = paths.safe_name(scene.id)
    return name if name == scene.id else f"{name}-{digest(scene.id, size=4)}"


def _finished(home: Path, request: str, plan: Plan) -> list[tuple[str, str]] | None:
    """Return (trajectory, reason it was dropped or "") of a finished scene, None to go on.

    Raises:
        ForeignOutput: Another request made what is there.
    """
    receipt = home / "scene.json"
    try:
        told = loads(receipt.read_bytes())
        made, done = told["request"], [(name, reason) for name, reason in told["paths"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(f"{receipt}: {error}", "say --overwrite to start again") from error
    if made == request:
        folders = [home / f"{bundles.PREFIX}{name}" for name, reason in done if not reason]
        return done if all((f / bundles.TRAJ).is_file() for f in folders) else None
    if not plan.overwrite:
        raise ForeignOutput(
            f"{home} was rendered with other settings",
            "name another folder with -o, or say --overwrite to replace it",
        )
    shutil.rmtree(home)
    return None


def _read_picture(scene: Scene, plan: Plan) -> Path | None:
    return paths.resolve(plan.root, scene.image) if scene.image else None


def fit_anchor(scene: Scene, picture: Path | None, teacher: Teacher, plan: Plan) -> Anchor:
    """Return the anchor cropped and resized to the output size, completed by the teacher.

    Raises:
        BadFile: A picture or depth map cannot be read, or they do not belong together.
    """
    image = images.load(picture) if picture else None
    camera = scene.intrinsics
    if image is not None:
        height, width = image.shape[:2]
        if camera is None:
            camera = geometry.assumed(width, height, ASSUMED_FIELD_OF_VIEW)
        elif (camera.width, camera.height) != (width, height):
            raise BadFile(
                f"{scene.image}: is {width}x{height}, but its intrinsics are for "
                f"{camera.width}x{camera.height}"
            )
    if camera is None:
        raise BadFile(f"scene {scene.id}: has neither a picture nor intrinsics")
    _check_camera(scene, camera)
    width, height = plan.size or (camera.width, camera.height)
    fitted, *_ = geometry.fit(camera, width, height)
    depth = rgbd.depth_of(scene, camera, plan.root)
    anchor = Anchor(
        camera=fitted,
        image=None if image is None else images.resize_crop(image, width, height),
        depth=None if depth is None else images.nearest(depth, width, height),
    )
    return teacher.anchor(scene, anchor) if isinstance(teacher, CompletesAnchor) else anchor


def _check_camera(scene: Scene, camera: Intrinsics) -> None:
    numbers = (camera.fx, camera.fy, camera.width, camera.height)
    if min(numbers) <= 0 or not all(map(math.isfinite, (*numbers, camera.cx, camera.cy))):
        raise BadFile(f"scene {scene.id}: intrinsics are not positive finite numbers")
    if max(map(abs, (*numbers, camera.cx, camera.cy))) > LARGEST:
        raise BadFile(f"scene {scene.id}: intrinsics are beyond {LARGEST:g} pixels")


def _choose(
    scene: Scene, anchor: Anchor, teacher: Teacher, plan: Plan
) -> list[Trajectory | Skipped]:
    """Return the paths to try: those the teacher gives, else those the sampler draws."""
    if isinstance(teacher, GivesTrajectories):
        return [Trajectory(name, tuple(moves)) for name, moves in teacher.trajectories(scene)]

    return plan.sampler(scene.id, plan.seed, anchor, functools.partial(_free, teacher, scene))


def _free(teacher: Teacher, scene: Scene, moves: Sequence[Move]) -> bool:
    """Return whether nothing stands in the way that the teacher knows of, at any pose."""
    return not (isinstance(teacher, KnowsWalls) and teacher.collides(scene, _path(moves)[0]))


def _path(moves: Sequence[Move]) -> tuple[np.ndarray, list[int]]:
    counts = [geometry.frames_of(move) for move in moves]
    return geometry.poses(moves, counts), counts


def _render_missing(
    scene: Scene,
    anchor: Anchor,
    picture: Path | None,
    tried: list[Trajectory | Skipped],
    teacher: Teacher,
    plan: Plan,
    home: Path,
    request: str,
) -> list[tuple[str, str]]:
    """Render what is not on disk yet, then write the receipt of the whole scene."""
    outcome = {t.name: t.reason if isinstance(t, Skipped) else "" for t in tried}
    missing = []
    for t in tried:
        if isinstance(t, Skipped) or _stands(home / f"{bundles.PREFIX}{t.name}", request):
            continue
        if _free(teacher, scene, t.moves):
            missing.append(t)
        else:
            outcome[t.name] = "collision"
    home.mkdir(parents=True, exist_ok=True)
    _keep_anchor(home, picture, anchor)
    walked = [_path(t.moves) for t in missing]
    kept = [kept_frames(plan.frames, len(poses)) for poses, _ in walked]
    sparse = "random-access" in plan.offer.can
    asked = [
        CameraPath(
            poses=poses[k] if sparse else poses,
            moves=t.moves,
            seed=seed_of("render", scene.id, t.name, plan.seed),
        )
        for t, (poses, _), k in zip(missing, walked, kept, strict=True)
    ]
    results = _ask(teacher, scene, anchor, asked)
    for t, (poses, counts), k, result in zip(missing, walked, kept, results, strict=True):
        if isinstance(result, Refused):
            outcome[t.name] = result.reason
            continue
        result = result if sparse else _only(result, k)
        told = _tell(scene, anchor, t, counts, k, poses[k], result, plan, request)
        footage.write(home / f"{bundles.PREFIX}{t.name}", told, result)
    done = list(outcome.items())
    write_atomic(home / "scene.json", dumps({"request": request, "paths": done}) + "\n")
    return done


def _stands(folder: Path, request: str) -> bool:
    """Return whether this very request already made the clip in this folder."""
    try:
        made = loads((folder / bundles.TRAJ).read_bytes())["meta"]["request"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(made == request)


def _keep_anchor(home: Path, picture: Path | None, anchor: Anchor) -> None:
    """Keep the anchor beside the clips: the very file, or what the teacher made."""
    kept = home / "input" / "000.png"
    if kept.exists():
        return
    kept.parent.mkdir(exist_ok=True)
    if picture is not None:
        write_atomic(kept, picture.read_bytes())
    elif anchor.image is not None:
        write_atomic(kept, images.encode(anchor.image))


def _ask(
    teacher: Teacher, scene: Scene, anchor: Anchor, asked: Sequence[CameraPath]
) -> Iterator[Rendered | Refused]:
    """Yield the teacher's results and hold it to one result, with all frames, per path."""
    if not asked:
        return
    results = iter(teacher.render(scene, anchor, asked))
    for number, path in enumerate(asked):
        try:
            result = next(results)
        except StopIteration:
            raise TeacherFailed(
                f"scene {scene.id}: asked for {len(asked)} paths, the teacher gave {number}"
            ) from None
        except (W2VError, OSError):
            raise
        except Exception as error:  # a third party's code may fail in any way
            raise TeacherFailed(
                f"scene {scene.id}: the teacher failed: {type(error).__name__}: {error}"
            ) from error
        if isinstance(result, Rendered) and len(result.frames) != len(path.poses):
            raise TeacherFailed(
                f"scene {scene.id}: asked for {len(path.poses)} frames, the teacher gave "
                f"{len(result.frames)}"
            )
        yield result


def _only(rendered: Rendered, kept: Sequence[int]) -> Rendered:
    """Return a result with just the kept frames."""

    def pick(part: Any) -> Any:
        return None if part is None else [part[k] for k in kept]

    return replace(
        rendered,
        frames=pick(rendered.frames),
        depth=pick(rendered.depth),
        valid=pick(rendered.valid),
        masks=pick(rendered.masks),
        visible=None if rendered.visible is None else rendered.visible[list(kept)],
        poses=None if rendered.poses is None else rendered.poses[list(kept)],
    )


def _tell(
    scene: Scene,
    anchor: Anchor,
    trajectory: Trajectory,
    counts: Sequence[int],
    kept: Sequence[int],
    poses: np.ndarray,
    rendered: Rendered,
    plan: Plan,
    request: str,
) -> dict[str, Any]:
    """Return the content of ``traj.json``."""
    executed = poses if rendered.poses is None else np.asarray(rendered.poses)
    scores = quality.scores(rendered.frames)
    licences = tuple(filter(None, (scene.licence, plan.offer.licence)))
    meta: dict[str, Any] = {
        "id": f"{scene.id}/{trajectory.name}",
        "scene": scene.id,
        "source": scene.source,
        "teacher": plan.teacher,
        "request": request,
        "seed": plan.seed,
        "version": __version__,
        "moves": [{"verb": m.verb, "amount": m.amount} for m in trajectory.moves],
        "frames": list(kept),
        "units_per_meter": rendered.units_per_meter,
        "intrinsics_known": scene.known or ("given" if scene.intrinsics else "assumed"),
        "quality": quality.summary(rendered, executed, anchor, scores),
        "licences": list(dict.fromkeys(licences)),
        "may_train": plan.offer.may_train,
    }
    if rendered.things:
        meta["things"] = footage.things_json(rendered.things, rendered.visible)
    if rendered.notes:
        meta["notes"] = dict(rendered.notes)
    return bundles.describe(
        trajectory.moves, kept, counts, anchor.camera, executed.tolist(), meta, scores
    )
