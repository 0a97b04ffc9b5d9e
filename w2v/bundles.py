"""The bundle: how a clip lies on disk, in World2VLM's own format.

    DIR/scenes/SCENE/input/000.png                  the anchor
    DIR/scenes/SCENE/traj_NAME/traj.json            moves, cameras, quality, what made it
    DIR/scenes/SCENE/traj_NAME/samples-rgb/000.png  frames; 000 is the anchor as rendered
    DIR/scenes/SCENE/traj_NAME/samples-depth/…      16-bit millimeters, 0 unknown   (where known)
    DIR/scenes/SCENE/traj_NAME/samples-valid/…      255 where pixels rest on evidence    "
    DIR/scenes/SCENE/traj_NAME/samples-mask/…       16-bit ids of the simulator's things "
    DIR/scenes/SCENE/traj_NAME/detect_result.jsonl  boxes, once annotated

We write the dialect of World2VLM's SVC teacher, with more keys, and read that one, its older
names (``T1_`` … ``T4_``) and the dialect of its HY-WorldPlay teacher. This module is light: it
reads and writes JSON; pictures are in ``footage``.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from w2v import motion, paths
from w2v.errors import BadFile, BadRecord, W2VError
from w2v.records import Box, Clip, Intrinsics, Move
from w2v.stream import Stage, dumps, loads, write_atomic

TRAJ, BOXES = "traj.json", "detect_result.jsonl"
PREFIX = "traj_"


def find(tree: Path) -> Iterator[Path]:
    """Yield the bundles under a tree, scene by scene, in order of name.

    The tree may be a whole run, its ``scenes`` folder, one scene or one bundle.

    Raises:
        BadFile: There is no such folder.
    """
    for group in _groups(str(tree)):
        yield from map(Path, group)


def _groups(tree: str) -> Iterator[list[str]]:
    """Yield the paths of the bundles under a tree, those that lie side by side together."""
    if not os.path.isdir(tree):
        raise BadFile(f"{tree}: no such folder")
    if _is_bundle(tree):
        yield [tree]
        return
    home = f"{tree}/scenes"
    here: list[str] = []
    for folder in _folders(home if os.path.isdir(home) else tree):
        if _is_bundle(folder):
            here.append(folder)
        elif not folder.rpartition("/")[2].startswith(PREFIX):
            if here:
                yield here
            here = []
            if there := list(filter(_is_bundle, _folders(folder))):
                yield there
    if here:
        yield here


def _folders(home: str) -> list[str]:
    """Return the paths of the folders in a folder that are not hidden, sorted by name."""
    with os.scandir(home) as entries:
        names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
    return [f"{home}/{name}" for name in names]


def _is_bundle(folder: str) -> bool:
    return os.path.isfile(f"{folder}/{TRAJ}")


def read(folder: Path, root: Path) -> Clip:
    """Read one bundle, in either dialect, as a clip; with boxes if it was annotated.

    Raises:
        BadFile: ``traj.json`` is missing, broken, or not of either dialect.
        OutsideRoot: The bundle does not lie under the root.
    """
    return _read(str(folder), paths.relative(root, folder))


def _read(folder: str, base: str) -> Clip:
    """Read a bundle; ``base`` is its path as records write it."""
    path = f"{folder}/{TRAJ}"
    try:
        with open(path, "rb", buffering=0) as file:
            told = loads(file.read())
        if not isinstance(told, dict):
            raise ValueError("not an object")
        hy = "retained_frame_indices" in told
        return _read_hy(folder, base, told) if hy else _read_svc(folder, base, told)
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from error
    except BadRecord as error:
        raise BadFile(f"{path}: {error.what}", error.hint) from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise BadFile(f"{path}: not a World2VLM trajectory ({what})") from error


def _names(folder: str) -> tuple[str, str]:
    """Return the names of a bundle's scene and trajectory, as its path has them."""
    rest, _, name = folder.rpartition("/")
    scene = rest.rpartition("/")[2]
    if scene in _NAMELESS or name in _NAMELESS:
        rest, _, name = os.path.abspath(folder).rpartition("/")
        scene = rest.rpartition("/")[2]
    return scene, name.removeprefix(PREFIX)


_NAMELESS = ("", ".", "..")


def _read_svc(folder: str, base: str, told: dict[str, Any]) -> Clip:
    """Read the dialect of the SVC teacher; our own extra keys stand under ``meta``."""
    frames = told["transforms"]["frames"]
    paths_of = [name for f in frames if (name := f.get("file_path") or f.get("path"))]
    if not paths_of:
        raise ValueError("no frames")
    meta = told.get("meta") or {}
    last = len(paths_of) - 1
    steps = told.get("actions_prefix")
    prefix = steps[-1] if steps else []
    scene, name = _names(folder)
    scene = meta.get("scene") or scene
    extra = {"trajectory": name} if meta else {"trajectory": name, "prefix": prefix}
    return Clip(
        id=meta.get("id") or f"{scene}/{name}",
        scene=scene,
        teacher=meta.get("teacher") or "",
        moves=motion.checked(_moves(told, meta, prefix, name)),
        bundle=base,
        first=f"{base}/{paths_of[0]}",
        last=f"{base}/{paths_of[last]}",
        last_frame=last,
        intrinsics=_intrinsics(frames[0], bool(meta)),
        source=meta.get("source") or told.get("source_domain") or "unknown",
        units_per_meter=meta.get("units_per_meter"),
        boxes=read_boxes(folder, {0, last}),
        quality=meta.get("quality") or {},
        licences=tuple(meta.get("licences") or ()),
        meta=extra,
    )


def _moves(
    told: dict[str, Any], meta: dict[str, Any], prefix: list[str], folder: str
) -> tuple[Move, ...]:
    """Return the moves: as recorded exactly, else as asked for, else summed from the steps."""
    if "moves" in meta:
        return tuple(Move(verb=m["verb"], amount=float(m["amount"])) for m in meta["moves"])
    asked = told.get("traj_params") or {}
    if asked.get("actions"):
        return tuple(motion.from_action(a["act"], a["magnitude"]) for a in asked["actions"])
    if asked.get("action") and asked.get("magnitude") is not None:
        return (motion.from_action(asked["action"], asked["magnitude"]),)
    if prefix:
        return tuple(motion.from_token(t) for t in prefix)
    steps = [motion.from_token(t) for step in told.get("actions_step") or () for t in step]
    if not steps:
        raise ValueError(f"no moves recorded for {folder}")
    return motion.merge(steps)


def _intrinsics(frame: dict[str, Any], ours: bool) -> Intrinsics:
    """Return the camera of a frame.

    World2VLM writes K in pixels of the full-size anchor beside the size of the cropped frame; a
    principal point far off the middle of the frame gives that away, and K is scaled and cropped
    the way the frame was. Frames written by seva have ``fl_x`` and ``w`` instead.
    """
    width, height = int(frame.get("width") or frame["w"]), int(frame.get("height") or frame["h"])
    fx, fy = float(frame.get("fx") or frame["fl_x"]), float(frame.get("fy") or frame["fl_y"])
    cx, cy = float(frame["cx"]), float(frame["cy"])
    if not all(map(math.isfinite, (fx, fy, cx, cy))) or min(fx, fy, width, height) <= 0:
        raise ValueError("intrinsics are not positive finite numbers")
    if not ours and (abs(2 * cx - width) > 2 or abs(2 * cy - height) > 2):
        scale = max(width / (2 * cx), height / (2 * cy))
        fx, fy, cx, cy = fx * scale, fy * scale, width / 2, height / 2
    return Intrinsics(width=width, height=height, fx=fx, fy=fy, cx=cx, cy=cy)


def _read_hy(folder: str, base: str, told: dict[str, Any]) -> Clip:
    """Read the dialect of the HY-WorldPlay teacher.

    Its generator writes a left turn with positive yaw, so what was rendered is a right turn;
    where ``pose.json`` shows that, the moves follow the poses and ``meta.mirrored`` says so.
    """
    names = told.get("sample_paths") or [
        f"samples-rgb/frame_{k:04d}.png" for k in told["retained_frame_indices"]
    ]
    with open(f"{folder}/{told.get('pose_path') or 'pose.json'}", "rb") as file:
        poses = loads(file.read())
    moves = tuple(motion.from_action(a["name"], a["value"]) for a in told["actions"])
    mirrored = _mirrored(told, poses)
    if mirrored:
        moves = tuple(
            Move(verb=motion.opposite(m.verb), amount=m.amount) if motion.is_turn(m) else m
            for m in moves
        )
    k = next(iter(poses.values()))["K"]
    width, height = round(2 * float(k[0][2])), round(2 * float(k[1][2]))
    scene, name = _names(folder)
    meta: dict[str, Any] = {"trajectory": name}
    if mirrored:
        meta["mirrored"] = True
    last = len(names) - 1
    return Clip(
        id=f"{scene}/{name}",
        scene=scene,
        teacher="hy-worldplay",
        moves=moves,
        bundle=base,
        first=f"{base}/{names[0]}",
        last=f"{base}/{names[last]}",
        last_frame=last,
        intrinsics=Intrinsics(
            width=width,
            height=height,
            fx=float(k[0][0]),
            fy=float(k[1][1]),
            cx=float(k[0][2]),
            cy=float(k[1][2]),
        ),
        source="unknown",
        boxes=read_boxes(folder, {0, last}),
        meta=meta,
    )


def _mirrored(told: dict[str, Any], poses: dict[str, Any]) -> bool:
    """Return whether the net turn of the poses has the other sign than the net turn asked."""
    asked = 0.0
    for action in told["actions"]:
        asked += {"turn_left": -1.0, "turn_right": 1.0}.get(action["name"], 0.0) * float(
            action["value"]
        )
    end = poses[str(len(poses) - 1)]["extrinsic"]
    yaw = math.degrees(math.atan2(float(end[0][2]), float(end[2][2])))
    return abs(asked) > 1 and abs(yaw) > 1 and (asked > 0) != (yaw > 0)


def read_boxes(folder: Path | str, frames: set[int] | None = None) -> tuple[Box, ...] | None:
    """Read ``detect_result.jsonl``: boxes of those frames (default: all), None if there is none.

    Files by the original are read too: ids may be null, and ``bbox_norm`` is ignored because its
    two versions disagree about its scale.

    Raises:
        BadFile: A line is broken.
    """
    path = f"{folder}/{BOXES}"
    try:
        with open(path, "rb", buffering=0) as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from error
    other = _about_others(frozenset(frames)) if frames is not None else _BLANK
    found: list[Box] = []
    for number, line in enumerate(lines, start=1):
        if other(line):
            continue
        try:
            told = loads(line)
            index = told["frame_idx"]
            if frames is None or index in frames:
                found += [_box(index, one) for one in told["detections"]]
                found += [_box(index, one) for one in told.get("out_of_sight", ())]
        except (ValueError, KeyError, TypeError) as error:
            raise BadFile(f"{path}:{number}: not a line of detections ({error})") from error
    return tuple(found)


Match = Callable[[bytes], re.Match[bytes] | None]
_BLANK: Match = re.compile(rb"\s*\Z").match


@functools.lru_cache(maxsize=256)
def _about_others(frames: frozenset[int]) -> Match:
    """Return what tells, without parsing, that a line is blank or plainly about other frames."""
    wanted = "|".join(map(str, sorted(frames)))
    pattern = rf'\s*(?:\Z|\{{\s*"frame_idx":\s*(?!(?:{wanted}),)\d+,)'
    return re.compile(pattern.encode()).match


def _box(index: int, told: dict[str, Any]) -> Box:
    corners = told.get("bbox")
    if corners is not None:
        x1, y1, x2, y2 = corners
        total = x1 + y1 + x2 + y2
        if total - total != 0:  # a corner is infinite or not a number
            raise ValueError("a box is not finite")
        corners = float(x1), float(y1), float(x2), float(y2)
    get = told.get
    return Box(
        frame=index,
        track=get("track_id"),
        label=told["label"],
        xyxy=corners,
        score=float(get("score", 0.0)),
        visible=get("visible"),
        kept=get("kept", True),
        match=get("match"),
    )


def read_boxes_meta(folder: Path) -> dict[str, Any] | None:
    """Return what made the boxes: the ``meta`` of the first line, None where there is none."""
    try:
        with open(folder / BOXES, "rb") as file:
            told = loads(file.readline())
    except (OSError, ValueError):
        return None
    meta = told.get("meta") if isinstance(told, dict) else None
    return meta if isinstance(meta, dict) else None


def write_boxes(
    folder: Path, boxes: Sequence[Box], camera: Intrinsics, frames: int, meta: dict[str, Any]
) -> None:
    """Write ``detect_result.jsonl`` at once: a line for each frame, ``meta`` on the first."""
    labels = {label: k for k, label in enumerate(sorted({b.label for b in boxes}))}
    grid = (1000 / camera.width, 1000 / camera.height) * 2
    lines = []
    for index in range(frames):
        line: dict[str, Any] = {
            "frame_idx": index,
            "width": camera.width,
            "height": camera.height,
            "detections": [],
        }
        gone = []
        for box in boxes:
            if box.frame != index:
                continue
            told: dict[str, Any] = {
                "track_id": box.track,
                "label_id": labels[box.label],
                "label": box.label,
            }
            if box.xyxy is None:
                gone.append(told | {"visible": box.visible})
                continue
            told["bbox"] = [round(v, 2) for v in box.xyxy]
            told["bbox_norm"] = [
                min(1000, max(0, round(v * s))) for v, s in zip(box.xyxy, grid, strict=True)
            ]
            told["score"] = round(box.score, 4)
            if box.visible is not None:
                told["visible"] = round(box.visible, 4)
            if not box.kept:
                told["kept"] = False
            if box.match is not None:
                told["match"] = round(box.match, 4)
            line["detections"].append(told)
        if gone:
            line["out_of_sight"] = gone
        if index == 0:
            line["meta"] = meta
        lines.append(dumps(line) + "\n")
    write_atomic(folder / BOXES, "".join(lines))


def describe(
    moves: Sequence[Move],
    kept: Sequence[int],
    counts: Sequence[int],
    camera: Intrinsics,
    poses: Sequence[Sequence[Sequence[float]]],
    meta: dict[str, Any],
    quality: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the content of ``traj.json`` for a clip.

    Args:
        moves: Moves in order, exact amounts.
        kept: Indices, in the whole path, of the frames that are stored.
        counts: Frames spent on each move, its start included.
        camera: Intrinsics of the stored frames.
        poses: One 4x4 camera-to-world matrix per stored frame.
        meta: What made the clip; ours alone, other readers skip it.
        quality: World2VLM's ``quality_scores``.
    """
    steps, prefixes = _tokens(moves, kept, counts)
    number = sum(c - 1 for c in counts) + 1
    if len(moves) == 1:
        asked: dict[str, Any] = {
            "kind": "single_step",
            "action": motion.ACTIONS[moves[0].verb],
            "magnitude": round(moves[0].amount, 6),
            "num_frames": number,
        }
    else:
        asked = {
            "kind": "multi_step",
            "num_actions": len(moves),
            "num_frames": number,
            "actions": [
                {"act": motion.ACTIONS[m.verb], "magnitude": round(m.amount, 6)} for m in moves
            ],
        }
    matrix = [[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]]
    frames = [
        {
            "id": 1,
            "file_path": f"samples-rgb/{k:03d}.png",
            "path": f"samples-rgb/{k:03d}.png",
            "width": camera.width,
            "height": camera.height,
            "fx": camera.fx,
            "fy": camera.fy,
            "cx": camera.cx,
            "cy": camera.cy,
            "K": matrix,
            "c2w": [[round(float(v), 9) for v in row] for row in pose],
        }
        for k, pose in enumerate(poses)
    ]
    told = {
        "traj_params": asked,
        "frame_ids_kept": [0, len(kept) - 1],
        "actions_step": steps,
        "actions_prefix": prefixes,
        "transforms": {"frames": frames},
        "key_frame_indices": [0, len(kept) - 1],
        "meta": meta,
    }
    if quality:
        told["quality_scores"] = quality
    return told


def _tokens(
    moves: Sequence[Move], kept: Sequence[int], counts: Sequence[int]
) -> tuple[list[list[str]], list[list[str]]]:
    """Return, for each stored frame, the tokens since the one before and since the start.

    Sums are exact: the original drops any step under 0.02 m, and with it short moves whole.
    """

    def done(frame: int) -> list[Move]:
        walked, start = [], 0
        for move, count in zip(moves, counts, strict=True):
            share = min(1.0, max(0.0, (frame - start) / (count - 1)))
            if share > 0:
                walked.append(Move(verb=move.verb, amount=move.amount * share))
            start += count - 1
        return walked

    steps: list[list[str]] = []
    prefixes: list[list[str]] = []
    before: list[Move] = []
    for frame in kept:
        now = done(frame)
        since = [
            Move(verb=m.verb, amount=m.amount - (before[k].amount if k < len(before) else 0.0))
            for k, m in enumerate(now)
        ]
        steps.append([motion.token(m) for m in since if m.amount > 1e-9])
        prefixes.append([motion.token(m) for m in now])
        before = now
    return steps, prefixes


class Tree:
    """A tree of bundles that lies under the root of a stage."""

    def __init__(self, path: str, root: Path) -> None:
        """Find out how records write the tree's path.

        Raises:
            OutsideRoot: It does not lie under the root.
        """
        self.path, self._root = str(Path(path)), root
        self._base = paths.relative(root, Path(path))

    def groups(self) -> Iterator[list[str]]:
        """Yield the paths of the bundles, those that lie side by side, as a scene's do, together.

        Raises:
            BadFile: There is no such folder.
        """
        return _groups(self.path)

    def clips(self, stage: Stage, folders: Sequence[str]) -> Iterator[Clip]:
        """Read bundles that lie side by side; what cannot be read ``fail``s."""
        linked = os.path.islink(folders[0].rpartition("/")[0])
        for folder in folders:
            try:
                yield _read(folder, self._written(folder, linked or os.path.islink(folder)))
            except W2VError as error:
                stage.inputs += 1
                stage.fail("bad bundle", error, folder)

    def _written(self, folder: str, linked: bool) -> str:
        """Return a bundle's path as records write it; links in the tree are followed."""
        if linked:
            return paths.relative(self._root, Path(folder))
        inner = folder[len(self.path) :].lstrip("/")
        return inner if self._base == "." else f"{self._base}/{inner}".rstrip("/")


def clips(stage: Stage, path: str) -> Iterator[Clip]:
    """Yield clips from JSONL, or from a tree of bundles; what cannot be read ``fail``s."""
    if path == "-" or not os.path.isdir(path):
        yield from stage.parse(path, _clip)
        return
    tree = Tree(path, stage.settings.root)
    for group in tree.groups():
        yield from tree.clips(stage, group)


def _clip(line: dict[str, Any]) -> Clip:
    """Return a line as a clip whose moves can be put into words."""
    clip = Clip.from_json(line)
    motion.checked(clip.moves)
    return clip
