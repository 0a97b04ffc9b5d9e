"""The pixels of a bundle: written once when a clip is rendered, read part by part afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from w2v import bundles, images
from w2v.errors import BadFile
from w2v.kinds import Rendered, Thing
from w2v.records import Clip
from w2v.stream import dumps, loads

RGB, DEPTH, VALID, MASK = "samples-rgb", "samples-depth", "samples-valid", "samples-mask"
MILLIMETERS = 1000.0


def write(folder: Path, told: dict[str, Any], rendered: Rendered) -> None:
    """Write a bundle under a hidden name beside its own, then rename it: all of it or nothing.

    Args:
        folder: Where the bundle will stand; what stood there is replaced.
        told: Content of ``traj.json``.
        rendered: The frames to store, with what else is known of them.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        _write_frames(hidden / RGB, rendered.frames)
        if rendered.depth is not None:
            _write_frames(hidden / DEPTH, map(_millimeters, rendered.depth))
        if rendered.valid is not None:
            known = (np.uint8(255) * v.astype(np.uint8) for v in rendered.valid)
            _write_frames(hidden / VALID, known)
        if rendered.masks is not None:
            _write_frames(hidden / MASK, (m.astype(np.uint16) for m in rendered.masks))
        (hidden / bundles.TRAJ).write_text(dumps(told) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        hidden.rename(folder)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise


def _write_frames(folder: Path, frames: Any) -> None:
    folder.mkdir(parents=True)
    for k, frame in enumerate(frames):
        (folder / f"{k:03d}.png").write_bytes(images.encode(np.ascontiguousarray(frame)))


def _millimeters(depth: np.ndarray) -> np.ndarray:
    """Return uint16 millimeters; beyond 65.5 m is written as unknown."""
    value = np.rint(np.nan_to_num(depth) * MILLIMETERS)
    return np.where((value > 0) & (value < 65536), value, 0).astype(np.uint16)


def things_json(things: Sequence[Thing], visible: np.ndarray | None) -> list[dict[str, Any]]:
    """Return a simulator's things as plain JSON, with their visible share in each stored frame."""
    told = []
    for k, thing in enumerate(things):
        one: dict[str, Any] = {
            "id": thing.id,
            "label": thing.label,
            "attributes": dict(thing.attributes),
        }
        if visible is not None:
            one["visible"] = [round(float(v), 4) for v in visible[:, k]]
        told.append(one)
    return told


class Frames(Sequence[np.ndarray]):
    """Pictures in a folder, read one at a time when they are asked for."""

    def __init__(self, files: Sequence[Path], load: Any) -> None:
        self.files, self._load = files, load

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return Frames(self.files[k], self._load)
        return self._load(self.files[k])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._load(file) for file in self.files)


class BundleFootage:
    """The footage of a clip on disk; see ``w2v.kinds.Footage`` for the shapes."""

    def __init__(self, clip: Clip, folder: Path) -> None:
        self.clip, self.folder = clip, folder
        self._told: dict[str, Any] | None = None

    @property
    def told(self) -> dict[str, Any]:
        """The content of ``traj.json``.

        Raises:
            BadFile: It is missing or broken.
        """
        if self._told is None:
            try:
                self._told = loads((self.folder / bundles.TRAJ).read_bytes())
            except (OSError, ValueError) as error:
                what = error.strerror if isinstance(error, OSError) else error
                raise BadFile(f"{self.folder / bundles.TRAJ}: {what}") from error
        return self._told

    @property
    def files(self) -> list[Path]:
        """The stored frames, in order, in either dialect."""
        if "transforms" in self.told:
            frames = self.told["transforms"]["frames"]
            return [self.folder / (f.get("file_path") or f["path"]) for f in frames]
        return [self.folder / name for name in self.told.get("sample_paths", ())]

    @property
    def frames(self) -> Frames:
        """(T, H, W, 3) uint8."""
        return Frames(self.files, images.load)

    @property
    def depth(self) -> Frames | None:
        """(T, H, W) float32 meters, 0 unknown; None where the bundle has none."""
        return self._part(DEPTH, lambda f: images.load_grey(f).astype(np.float32) / MILLIMETERS)

    @property
    def valid(self) -> Frames | None:
        """(T, H, W) bool, pixels that rest on evidence; None where not recorded."""
        return self._part(VALID, lambda f: images.load_grey(f) > 0)

    @property
    def masks(self) -> Frames | None:
        """(T, H, W) uint16 ids of things; None where the teacher was no simulator."""
        return self._part(MASK, images.load_grey)

    def _part(self, name: str, load: Any) -> Frames | None:
        if not (self.folder / name).is_dir():
            return None
        return Frames([self.folder / name / f"{k:03d}.png" for k in range(len(self.files))], load)

    @property
    def poses(self) -> np.ndarray | None:
        """(T, 4, 4) float64 camera-to-world of the stored frames; None where not recorded."""
        frames = self.told.get("transforms", {}).get("frames", ())
        if not frames or any("c2w" not in f for f in frames):
            return None
        return np.array([f["c2w"] for f in frames], dtype=np.float64)

    @property
    def things(self) -> tuple[Thing, ...]:
        """The simulator's objects; empty where the teacher was no simulator."""
        found = self.told.get("meta", {}).get("things", ())
        return tuple(
            Thing(id=t["id"], label=t["label"], attributes=t.get("attributes", {})) for t in found
        )

    @property
    def visible(self) -> np.ndarray | None:
        """(T, N) visible share of each thing."""
        found = self.told.get("meta", {}).get("things", ())
        if not found or "visible" not in found[0]:
            return None
        return np.array([t["visible"] for t in found]).T
