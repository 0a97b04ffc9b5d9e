"""Folders of photographs, with depth and poses where there are any, as Scene records.

Each layout that data sets are published in is one function that names its pictures as Shots;
what a Shot needs in order to become a Scene is the same for all and checked in one place. A
picture that cannot be used is dropped with a reason, and the next one is read.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from w2v import geometry, images, paths, stream
from w2v.errors import BadFile, BadLine, BadRecord, OutsideRoot, W2VError
from w2v.records import DepthFile, Intrinsics, Matrix, Scene, build

Drop = Callable[[str, str], None]

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
DEPTHS = (".png", ".npy", ".npz", ".tiff", ".tif")
INTRINSICS = ("intrinsics.txt", "camera-intrinsics.txt", "camera_intrinsics.txt")
DEPTH_INTRINSICS = ("depth-intrinsics.txt", "depth_intrinsics.txt")
MILLIMETERS = 0.001
TUM_UNIT = 1 / 5000
"""Meters per unit of TUM RGB-D depth (Sturm et al., IROS 2012; "File Formats" of the data set)."""
TUM_SECONDS = 0.02
"""How far apart in time a picture, its depth and its pose may be (TUM's own ``associate.py``)."""
TUM_CAMERAS = {
    "freiburg1": (517.3, 516.5, 318.6, 255.3),
    "freiburg2": (520.9, 521.0, 325.1, 249.7),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
}
"""fx, fy, cx, cy of the three sensors ("File Formats" of the data set)."""
UNKNOWN_16_BIT = 65535
"""What 7-Scenes and others write for an unknown depth, beside 0."""
FARTHEST = 1e5
"""Meters beyond which a depth is no measurement; sums of larger ones would overflow."""
SAME_SHAPE = 0.02
RIGID = 1e-2
"""How far a rotation read from text may be from orthonormal."""
OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


class Unusable(Exception):
    """Why a picture cannot become a scene, in a few words that can be counted."""


@dataclass(frozen=True)
class Calibration:
    """fx, fy, cx, cy in pixels of a picture of that size; (0, 0) where the file does not say."""

    focal: tuple[float, float, float, float]
    size: tuple[int, int] = (0, 0)

    def camera(self, width: int, height: int) -> Intrinsics:
        """Return the intrinsics of a picture, scaled from the size they were measured at.

        Raises:
            Unusable: They are not positive, or their centre is outside the picture.
        """
        right = width / self.size[0] if self.size[0] > 0 else 1.0
        down = height / self.size[1] if self.size[1] > 0 else 1.0
        fx, fy, cx, cy = self.focal
        fx, fy, cx, cy = fx * right, fy * down, cx * right, cy * down
        if not (fx > 0 and fy > 0 and 0 < cx < width and 0 < cy < height):
            raise Unusable("intrinsics do not fit the picture")
        return Intrinsics(width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy)


@dataclass(frozen=True)
class Shot:
    """One picture as its layout names it, before anything of it is read.

    ``camera`` may be a horizontal field of view in degrees; ``wrong`` says why the layout itself
    rules the picture out.
    """

    image: Path
    name: str
    depth: Path | None = None
    meters_per_unit: float = MILLIMETERS
    pose: Path | np.ndarray | None = None
    camera: Path | Calibration | float | None = None
    depth_camera: Path | None = None
    source: str = "real"
    meta: Mapping[str, Any] = field(default_factory=dict)
    wrong: str = ""


def find_scenes(
    folder: Path,
    root: Path,
    *,
    drop: Drop,
    intrinsics: str | None = None,
    field_of_view: float | None = None,
    meters_per_unit: float | None = None,
    licence: str = "",
) -> Iterator[Scene]:
    """Yield a scene per usable picture of a folder, a manifest or a single picture, in name order.

    Args:
        folder: Where to look; subfolders are looked into too, links to folders are not followed.
        root: What paths in records are relative to; nothing outside it is taken.
        drop: Called with a reason and a path for each picture that cannot be used.
        intrinsics: ``fx,fy,cx,cy`` in pixels, in place of what the folder says.
        field_of_view: Horizontal degrees, assumed where intrinsics are not known.
        meters_per_unit: In place of what the layout says about its depth.
        licence: Terms of the pictures.

    Raises:
        BadRecord: ``intrinsics`` is not four numbers.
    """
    forced = None if intrinsics is None else _typed_intrinsics(intrinsics)
    found = False
    for shot in _shots(folder, root, drop):
        found = True
        if forced is not None:
            shot = replace(shot, camera=forced)
        if meters_per_unit is not None:
            shot = replace(shot, meters_per_unit=meters_per_unit)
        try:
            yield replace(_scene(shot, root, field_of_view), licence=licence)
        except OutsideRoot:
            drop("path leads out of the root", str(shot.image))
        except Unusable as error:
            drop(str(error), str(shot.image))
    if not found:
        drop("no picture found", str(folder))


def scenes_from_manifest(path: Path, root: Path, *, drop: Drop) -> Iterator[Scene]:
    """Yield the scenes of a World2VLM ``manifest.jsonl``."""
    return find_scenes(path, root, drop=drop)


def read_scenes(stage: stream.Stage, path: str) -> Iterator[Scene]:
    """Yield scenes from JSON lines that are Scene records or World2VLM manifest lines."""
    beside = None if path == "-" else Path(path).parent
    for source, number, text, value in stream.rows(path):
        try:
            if isinstance(value, BadLine):
                raise value
            yield _read_scene(value, stage.settings.root, beside)
        except BadLine as error:
            stage.fail("bad line", error, text)
        except (BadRecord, BadFile, OutsideRoot) as error:
            wrong = BadLine(source, number, error.what, error.hint)
            stage.fail("bad record", wrong, stream.dumps(value))
        except Unusable as error:
            wrong = BadLine(source, number, str(error))
            stage.fail(str(error), wrong, stream.dumps(value))


def load_depth(path: Path, meters_per_unit: float) -> np.ndarray:
    """Return (H, W) float32 z-depth in meters, 0 where unknown.

    Reads 16-bit and float pictures (``.png``, ``.tif``), ``.npy``, and the first array of an
    ``.npz``. What is not a finite positive number is unknown, and so is 65535 of 16 bits.

    Raises:
        BadFile: The file is missing, empty, cut short or not one channel of depth, or its unit is
            not positive.
    """
    if meters_per_unit <= 0:
        raise BadFile(f"{path}: meters_per_unit is {meters_per_unit:g}", "it must be positive")
    values = _array(path) if path.suffix in (".npy", ".npz") else images.load_grey(path)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values.reshape([n for n in values.shape if n > 1] or [1, 1])
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "uif":
        raise BadFile(f"{path}: expected (H, W) depth, found {values.dtype} {values.shape}")
    if values.dtype == np.uint8:
        raise BadFile(
            f"{path}: 8 bits are too few for depth", "name the 16-bit or float depth picture"
        )
    depth = values.astype(np.float64) * meters_per_unit
    known = (depth > 0) & (depth < FARTHEST)
    if values.dtype.kind in "ui":
        known &= values != UNKNOWN_16_BIT
    return np.where(known, depth, 0).astype(np.float32)


def depth_of(scene: Scene, camera: Intrinsics, root: Path) -> np.ndarray | None:
    """Return (H, W) float32 depth in meters, pixel for pixel with the scene's picture, or None.

    Args:
        scene: A scene; a ``depth_camera`` in its meta says that its depth was seen by another
            camera at the same place.
        camera: Of the picture.
        root: What the scene's paths are relative to.

    Raises:
        BadFile: The depth cannot be read or is not of this picture.
    """
    if scene.depth is None:
        return None
    path = paths.resolve(root, scene.depth.path)
    depth = load_depth(path, scene.depth.meters_per_unit)
    if "depth_camera" in scene.meta:
        other: Intrinsics = build(Intrinsics, scene.meta["depth_camera"], "meta.depth_camera")
        if depth.shape != (other.height, other.width):
            raise BadFile(f"{path}: its size is not that of its depth_camera")
        return register(depth, other, camera)
    if not _same_shape(depth.shape[::-1], (camera.width, camera.height)):
        raise BadFile(
            f"{path}: depth of {depth.shape[1]}x{depth.shape[0]} does not fit a picture of "
            f"{camera.width}x{camera.height}"
        )
    return images.nearest(depth, camera.width, camera.height)


def register(depth: np.ndarray, seen_by: Intrinsics, camera: Intrinsics) -> np.ndarray:
    """Return depth as another camera at the same place and angle sees it.

    From one place no surface hides another in only one of the two pictures, so each pixel is
    looked up where its ray meets the depth picture; 0 where that is outside of it.

    Args:
        depth: (H, W) float32 meters.
        seen_by: The camera of ``depth``.
        camera: The camera wanted.

    Returns:
        (camera.height, camera.width) float32 meters.
    """
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx * seen_by.fx + seen_by.cx
    y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy * seen_by.fy + seen_by.cy
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    inside = ((row >= 0) & (row < depth.shape[0]))[:, None] & (
        (column >= 0) & (column < depth.shape[1])
    )
    looked_up = depth[row.clip(0, depth.shape[0] - 1)[:, None], column.clip(0, depth.shape[1] - 1)]
    return np.where(inside, looked_up, np.float32(0))


# Layouts: each finds its pictures in one folder.


def _shots(folder: Path, root: Path, drop: Drop) -> Iterator[Shot]:
    """Yield the pictures of a folder, a manifest or a single picture."""
    if folder.is_dir():
        yield from _walk(folder, folder, drop)
    elif folder.suffix == ".jsonl":
        yield from _manifest(folder, root, drop)
    else:
        yield Shot(folder, folder.stem)


def _walk(folder: Path, top: Path, drop: Drop) -> Iterator[Shot]:
    """Yield the pictures of the first layout that a folder has, or else of its subfolders too."""
    for layout in (_tum, _scannet, _transforms, _named_triples):
        shots = layout(folder, top, drop)
        if shots is not None:
            yield from shots
            return
    inside = sorted(folder.iterdir())
    for path in inside:
        if path.suffix.lower() in PICTURES and not path.name.startswith("."):
            yield Shot(path, path.stem, camera=_beside(path, INTRINSICS, top))
    for path in inside:
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield from _walk(path, top, drop)


def _named_triples(folder: Path, top: Path, drop: Drop) -> Iterable[Shot] | None:
    """NAME.color.jpg, NAME.depth.png, NAME.pose.txt: 7-Scenes and the TSDF-fusion demo."""
    pictures = [p for p in sorted(folder.glob("*.color.*")) if p.suffix.lower() in PICTURES]
    return map(lambda p: _triple(p, top), pictures) if pictures else None


def _triple(image: Path, top: Path) -> Shot:
    stem = image.name.rpartition(".color.")[0]
    depth = _first(image.parent / f"{stem}.depth{end}" for end in DEPTHS)
    return Shot(
        image,
        stem,
        depth=depth,
        meters_per_unit=_usual_unit(depth),
        pose=_first([image.parent / f"{stem}.pose.txt"]),
        camera=_beside(image, INTRINSICS, top),
        depth_camera=_beside(image, DEPTH_INTRINSICS, top),
        wrong="" if depth else "depth is missing",
    )


def _scannet(folder: Path, top: Path, drop: Drop) -> Iterable[Shot] | None:
    """color/N.jpg, depth/N.png, pose/N.txt, intrinsic/intrinsic_color.txt: ScanNet's export."""
    if not ((folder / "color").is_dir() and (folder / "depth").is_dir()):
        return None
    pictures = (p for p in (folder / "color").iterdir() if p.suffix.lower() in PICTURES)
    ordered = sorted(pictures, key=lambda p: (len(p.stem), p.stem))
    return map(lambda p: _scannet_shot(p, folder), ordered)


def _scannet_shot(image: Path, folder: Path) -> Shot:
    depth = _first(folder / "depth" / f"{image.stem}{end}" for end in DEPTHS)
    return Shot(
        image,
        f"{folder.name}-{image.stem}",
        depth=depth,
        meters_per_unit=_usual_unit(depth),
        pose=_first([folder / "pose" / f"{image.stem}.txt"]),
        camera=_first([folder / "intrinsic" / "intrinsic_color.txt"]),
        depth_camera=_first([folder / "intrinsic" / "intrinsic_depth.txt"]),
        wrong="" if depth else "depth is missing",
    )


def _tum(folder: Path, top: Path, drop: Drop) -> Iterable[Shot] | None:
    """rgb.txt, depth.txt, groundtruth.txt with time stamps: TUM RGB-D; depth fits the colour."""
    if not ((folder / "rgb.txt").is_file() and (folder / "depth.txt").is_file()):
        return None
    try:
        colour, depth, truth = (
            _stamped(folder / name) for name in ("rgb.txt", "depth.txt", "groundtruth.txt")
        )
    except Unusable as error:
        drop(str(error), str(folder))
        return ()
    sensor = next((c for name, c in TUM_CAMERAS.items() if name in folder.resolve().name), None)
    given = _first(folder / name for name in INTRINSICS)
    camera = given or (Calibration(sensor, (640, 480)) if sensor else None)
    return (
        _tum_shot(folder, time, fields[0], depth, truth, camera)
        for time, fields in colour
        if fields
    )


_Stamped = list[tuple[float, list[str]]]


def _tum_shot(
    folder: Path,
    time: float,
    name: str,
    depths: _Stamped,
    truth: _Stamped,
    camera: Path | Calibration | None,
) -> Shot:
    depth, pose = _at(depths, time), _at(truth, time)
    return Shot(
        folder / name,
        f"{folder.name}-{Path(name).stem}",
        depth=folder / depth[0] if depth else None,
        meters_per_unit=TUM_UNIT,
        pose=_from_quaternion(pose) if pose else None,
        camera=camera,
        wrong="" if depth else f"no depth within {TUM_SECONDS * 1000:g} ms",
    )


def _transforms(folder: Path, top: Path, drop: Drop) -> Iterable[Shot] | None:
    """transforms.json with OpenGL poses: nerfstudio, instant-ngp, Blender."""
    path = folder / "transforms.json"
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_bytes())
        frames = [frame for frame in told["frames"] if isinstance(frame["file_path"], str)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        drop("transforms.json is unreadable", str(path))
        return ()
    return map(lambda frame: _transforms_shot(folder, told, frame), frames)


def _transforms_shot(folder: Path, told: dict[str, Any], frame: dict[str, Any]) -> Shot:
    image = folder / frame["file_path"]
    if not image.suffix:
        image = image.with_suffix(".png")
    both = told | frame
    depth = frame.get("depth_file_path")
    bent = {key: both[key] for key in ("k1", "k2", "k3", "k4", "p1", "p2") if both.get(key)}
    shot = Shot(
        image,
        f"{folder.resolve().name}-{image.stem}",
        depth=folder / depth if isinstance(depth, str) else None,
        meta={"distortion": bent} if bent else {},
    )
    try:
        return replace(
            shot,
            meters_per_unit=float(both.get("depth_unit_scale_factor", MILLIMETERS)),
            pose=_square(np.array(frame["transform_matrix"], dtype=np.float64)) @ OPENGL_TO_OPENCV,
            camera=_transforms_camera(both),
            wrong="fisheye camera" if "FISHEYE" in str(both.get("camera_model", "")) else "",
        )
    except (KeyError, TypeError, ValueError, OverflowError, Unusable):
        return replace(shot, wrong="transforms.json has a bad frame")


def _transforms_camera(told: Mapping[str, Any]) -> Calibration | float | None:
    """Return the intrinsics of a frame; as degrees across where Blender wrote an angle."""
    size = (int(told.get("w", 0)), int(told.get("h", 0)))
    if "fl_x" in told:
        fx = float(told["fl_x"])
        fy = float(told.get("fl_y", fx))
        cx, cy = (float(told.get(k, n / 2)) for k, n in zip(("cx", "cy"), size, strict=True))
        return Calibration((fx, fy, cx, cy), size)
    if "camera_angle_x" in told:
        return math.degrees(float(told["camera_angle_x"]))
    return None


def _manifest(path: Path, root: Path, drop: Drop) -> Iterator[Shot]:
    """Yield the anchors of a World2VLM manifest."""
    for _, number, _, value in stream.rows(str(path)):
        where = f"{path}:{number}"
        try:
            if isinstance(value, BadLine):
                raise value
            yield _manifest_shot(value, root, path.parent)
        except OutsideRoot:
            drop("path leads out of the root", where)
        except BadFile:
            drop("picture is missing", where)
        except W2VError:
            drop("not a manifest line", where)


def _manifest_shot(line: Mapping[str, Any], root: Path, beside: Path | None) -> Shot:
    """Return the anchor that a manifest line names; it never leaves the root."""
    anchor = line.get("anchor_path")
    if not isinstance(anchor, str):
        raise BadRecord("neither a scene nor a manifest line with an anchor_path")
    image = paths.resolve(root, anchor, beside)
    domain = str(line.get("source_domain", ""))
    return Shot(
        image,
        image.stem,
        source="simulated" if domain.startswith("simulated") else "real",
        meta={"manifest": {k: line[k] for k in ("scene_id", "source_domain") if k in line}},
    )


def _read_scene(line: dict[str, Any], root: Path, beside: Path | None) -> Scene:
    if "kind" not in line and "anchor_path" in line:
        return _scene(_manifest_shot(line, root, beside), root, None)
    return Scene.from_json(line)


# From a Shot to a Scene.


def _scene(shot: Shot, root: Path, field_of_view: float | None) -> Scene:
    """Return the scene of a picture, having read all that belongs to it once.

    Raises:
        Unusable: Something is missing, broken or does not fit.
        OutsideRoot: A path leads out of the root.
    """
    image = paths.relative(root, shot.image)
    for path in (shot.pose, shot.camera, shot.depth_camera):
        if isinstance(path, Path):
            paths.relative(root, path)
    if shot.wrong:
        raise Unusable(shot.wrong)
    height, width = _picture_size(shot.image)
    camera, known = _camera(shot, width, height, field_of_view)
    depth, depth_camera = _depth(shot, root, camera, (width, height))
    digest = hashlib.sha256(shot.image.read_bytes()).hexdigest()[:8]
    return Scene(
        id=f"{paths.safe_name(shot.name)}-{digest}",
        image=image,
        source=shot.source,
        intrinsics=camera,
        known=known,
        depth=depth,
        pose=_pose(shot.pose),
        meta=dict(shot.meta) | ({"depth_camera": asdict(depth_camera)} if depth_camera else {}),
    )


def _picture_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of a picture that can be read to its end."""
    try:
        rows, columns, _ = images.load(path).shape
    except BadFile as error:
        raise Unusable(
            "picture is unreadable" if path.exists() else "picture is missing"
        ) from error
    return rows, columns


def _camera(
    shot: Shot, width: int, height: int, field_of_view: float | None
) -> tuple[Intrinsics | None, str]:
    """Return the intrinsics of the picture and how they are known."""
    if isinstance(shot.camera, float):
        if not 0 < shot.camera < 180:
            raise Unusable("intrinsics do not fit the picture")
        return geometry.assumed(width, height, shot.camera), "given"
    if shot.camera is not None:
        return _calibration(shot.camera).camera(width, height), "given"
    if field_of_view is not None:
        return geometry.assumed(width, height, field_of_view), "assumed"
    return None, ""


def _depth(
    shot: Shot, root: Path, camera: Intrinsics | None, size: tuple[int, int]
) -> tuple[DepthFile | None, Intrinsics | None]:
    """Return the depth file, and its camera where that is not the picture's."""
    if shot.depth is None:
        return None, None
    path = paths.relative(root, shot.depth)
    try:
        depth = load_depth(shot.depth, shot.meters_per_unit)
    except BadFile as error:
        raise Unusable(
            "depth is unreadable" if shot.depth.exists() else "depth is missing"
        ) from error
    if not depth.any():
        raise Unusable("depth is unknown everywhere")
    found = DepthFile(path=path, meters_per_unit=shot.meters_per_unit)
    if shot.depth_camera is not None and camera is not None:
        other = _calibration(shot.depth_camera).camera(depth.shape[1], depth.shape[0])
        return found, None if other == camera else other
    if not _same_shape(depth.shape[::-1], size):
        raise Unusable("depth does not fit the picture")
    return found, None


def _pose(told: Path | np.ndarray | None) -> Matrix | None:
    """Return a pose as records keep it.

    Raises:
        Unusable: It is not a finite rigid motion: ScanNet writes -inf where tracking was lost.
    """
    if told is None:
        return None
    pose = _square(_numbers(told, "pose is unreadable") if isinstance(told, Path) else told)
    if not np.isfinite(pose).all():
        raise Unusable("pose is not finite")
    turn = pose[:3, :3]
    rigid = np.abs(turn @ turn.T - np.eye(3)).max() < RIGID and np.linalg.det(turn) > 0
    if not rigid or np.abs(pose[3] - (0, 0, 0, 1)).max() > 1e-6:
        raise Unusable("pose is not a rigid motion")
    one, two, three, four = ((float(a), float(b), float(c), float(d)) for a, b, c, d in pose)
    return one, two, three, four


def _square(pose: np.ndarray) -> np.ndarray:
    """Return a 3x4 or 4x4 pose as 4x4."""
    if pose.shape == (3, 4):
        return np.vstack([pose, [0.0, 0.0, 0.0, 1.0]])
    if pose.shape != (4, 4):
        raise Unusable("pose is unreadable")
    return pose


def _from_quaternion(fields: list[str]) -> np.ndarray:
    """Return the (4, 4) pose of ``tx ty tz qx qy qz qw``; NaN where these are no numbers."""
    try:
        x, y, z, a, b, c, w = (float(text) for text in fields[:7])
    except ValueError:
        return np.full((4, 4), np.nan)
    pose, length = np.eye(4), math.sqrt(a * a + b * b + c * c + w * w)
    if not length > 0:
        return np.full((4, 4), np.nan)
    a, b, c, w = a / length, b / length, c / length, w / length
    pose[:3, :3] = [
        [1 - 2 * (b * b + c * c), 2 * (a * b - c * w), 2 * (a * c + b * w)],
        [2 * (a * b + c * w), 1 - 2 * (a * a + c * c), 2 * (b * c - a * w)],
        [2 * (a * c - b * w), 2 * (b * c + a * w), 1 - 2 * (a * a + b * b)],
    ]
    pose[:3, 3] = x, y, z
    return pose


# Reading small files.


def _calibration(told: Path | Calibration) -> Calibration:
    """Return intrinsics from a text file: a 3x3 or 4x4 matrix, or fx fy cx cy."""
    if isinstance(told, Calibration):
        return told
    values = _numbers(told, "intrinsics are unreadable")
    if values.shape in ((3, 3), (3, 4), (4, 4)):
        values = values[[0, 1, 0, 1], [0, 1, 2, 2]]
    if values.size != 4 or not np.isfinite(values).all():
        raise Unusable("intrinsics are unreadable")
    fx, fy, cx, cy = (float(v) for v in values.ravel())
    return Calibration((fx, fy, cx, cy))


def _typed_intrinsics(text: str) -> Calibration:
    try:
        fx, fy, cx, cy = (float(part) for part in text.split(","))
    except ValueError:
        raise BadRecord(
            f"intrinsics are four numbers, got {text!r}", "write e.g. 525,525,320,240"
        ) from None
    if not (fx > 0 and fy > 0 and math.isfinite(fx + fy + cx + cy)):
        raise BadRecord(f"intrinsics must be finite, focal lengths positive: {text!r}")
    return Calibration((fx, fy, cx, cy))


def _numbers(path: Path, otherwise: str) -> np.ndarray:
    """Return the (rows, columns) float64 numbers of a text file."""
    try:
        rows = [line.replace(",", " ").split() for line in path.read_text().splitlines()]
        return np.array([row for row in rows if row and row[0][0] != "#"], dtype=np.float64)
    except (OSError, ValueError) as error:
        raise Unusable(otherwise) from error


def _stamped(path: Path) -> _Stamped:
    """Return the lines ``time field …`` of a TUM list in order of time; none without the file."""
    if not path.is_file():
        return []
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
        found = [(float(row[0]), row[1:]) for row in rows if row and row[0][0] != "#"]
    except (OSError, ValueError) as error:
        raise Unusable(f"{path.name} is unreadable") from error
    return sorted(found, key=lambda item: item[0])


def _at(stamped: _Stamped, time: float) -> list[str] | None:
    """Return the fields of the entry nearest in time, if it is near enough."""
    place = bisect.bisect(stamped, time, key=lambda item: item[0])
    near = min(stamped[max(place - 1, 0) : place + 1], key=lambda i: abs(i[0] - time), default=None)
    return near[1] if near and near[1] and abs(near[0] - time) <= TUM_SECONDS else None


def _array(path: Path) -> np.ndarray:
    """Return the array of an ``.npy`` file, or the first one of an ``.npz``."""
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else np.asarray(found[found.files[0]])
    except FileNotFoundError as error:
        raise BadFile(f"{path}: no such depth file") from error
    except (OSError, ValueError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise BadFile(f"{path}: not a readable depth file ({error})") from error


def _beside(path: Path, names: Iterable[str], top: Path) -> Path | None:
    """Return the nearest file of such a name, in the folder of a path or above, up to the top."""
    homes = [path.parent]
    while homes[-1] != top and top in homes[-1].parents:
        homes.append(homes[-1].parent)
    return _first(chain.from_iterable((home / name for name in names) for home in homes))


def _first(candidates: Iterable[Path]) -> Path | None:
    return next((path for path in candidates if path.is_file()), None)


def _usual_unit(depth: Path | None) -> float:
    """Return what depth is written in where a layout does not say: pictures mm, arrays meters."""
    return MILLIMETERS if depth is None or depth.suffix == ".png" else 1.0


def _same_shape(one: tuple[int, ...], two: tuple[int, ...]) -> bool:
    return abs(one[0] / one[1] - two[0] / two[1]) <= SAME_SHAPE
