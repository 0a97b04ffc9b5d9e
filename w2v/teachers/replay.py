"""A teacher that shows what another one already rendered: the frames of a bundle tree.

It turns either of World2VLM's dialects into ours, so that old data can pass through new labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from w2v import bundles, geometry, images
from w2v.errors import BadFile
from w2v.footage import BundleFootage
from w2v.kinds import Anchor, CameraPath, Refused, Rendered
from w2v.records import Clip, Move, Scene

METERS, DEGREES = 0.11, 3.0
"""How far a recorded pose may be from the one asked for (the original drops smaller steps)."""


class Replay:
    """Serves recorded frames by the pose that they were taken from."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self._clips: dict[str, list[tuple[Clip, Path]]] = {}
        root = tree.parent
        found = ((bundles.read(folder, root), folder) for folder in bundles.find(tree))
        for scene, group in groupby(found, key=lambda pair: pair[0].scene):
            self._clips.setdefault(scene, []).extend(group)
        if not self._clips:
            raise BadFile(f"{tree}: holds no bundles", "expected scenes/SCENE/traj_NAME/traj.json")

    def scenes(self, number: int, seed: int) -> Iterator[Scene]:
        """Yield the first ``number`` recorded scenes; the seed changes nothing."""
        for name, clips in islice(self._clips.items(), number):
            clip, folder = clips[0]
            frame = images.size(BundleFootage(clip, folder).files[0])
            camera = clip.intrinsics
            if frame != (camera.width, camera.height):
                raise BadFile(f"{folder}: frames are not of the size that traj.json says")
            yield Scene(
                id=name,
                image="",
                source=clip.source,
                intrinsics=camera,
                known="given",
                meta={"replays": clip.teacher},
            )

    def trajectories(self, scene: Scene) -> list[tuple[str, tuple[Move, ...]]]:
        """Return (name, moves) of every clip that was recorded of a scene."""
        return [(clip.meta["trajectory"], clip.moves) for clip, _ in self._clips.get(scene.id, ())]

    def anchor(self, scene: Scene, anchor: Anchor) -> Anchor:
        """Return the anchor with the first recorded frame as its picture."""
        clip, folder = self._clips[scene.id][0]
        first = BundleFootage(clip, folder).frames[0]
        camera = anchor.camera
        return Anchor(camera=camera, image=images.resize_crop(first, camera.width, camera.height))

    def render(
        self, scene: Scene, anchor: Anchor, paths: Sequence[CameraPath]
    ) -> Iterator[Rendered | Refused]:
        """Yield, per path, the recorded frames nearest to its poses, or refuse."""
        recorded = {clip.moves: (clip, folder) for clip, folder in self._clips.get(scene.id, ())}
        for path in paths:
            if path.moves not in recorded:
                yield Refused(reason="not recorded", detail="no clip of these moves")
            else:
                yield self._show(*recorded[path.moves], path.poses)

    def _show(self, clip: Clip, folder: Path, poses: np.ndarray) -> Rendered | Refused:
        footage = BundleFootage(clip, folder)
        taken = footage.poses
        if taken is None:
            taken = _evenly(clip, len(footage.files))
        nearest = [_nearest(pose, taken) for pose in poses]
        if any(k is None for k in nearest):
            return Refused(reason="not recorded", detail="a pose is far from every recorded one")
        index = [k for k in nearest if k is not None]

        def pick(part: Sequence[np.ndarray] | None) -> list[np.ndarray] | None:
            return None if part is None else [part[k] for k in index]

        visible = footage.visible
        return Rendered(
            frames=pick(footage.frames) or [],
            depth=pick(footage.depth),
            valid=pick(footage.valid),
            masks=pick(footage.masks),
            things=footage.things,
            visible=None if visible is None else visible[index],
            poses=np.stack([taken[k] for k in index]),
            units_per_meter=clip.units_per_meter,
            notes={"replays": clip.teacher, "bundle": folder.name},
        )


def _evenly(clip: Clip, number: int) -> np.ndarray:
    """Return ``number`` poses along a clip's moves, where none were recorded."""
    path = geometry.poses(clip.moves, [geometry.frames_of(m) for m in clip.moves])
    return path[[round(k * (len(path) - 1) / max(1, number - 1)) for k in range(number)]]


def _nearest(pose: np.ndarray, taken: np.ndarray) -> int | None:
    """Return the index of the recorded pose nearest to one, None if none is near."""
    meters = np.linalg.norm(taken[:, :3, 3] - pose[:3, 3], axis=1)
    turn = np.einsum("ij,nij->n", pose[:3, :3], taken[:, :3, :3])
    degrees = np.degrees(np.arccos(np.clip((turn - 1) / 2, -1, 1)))
    k = int(np.argmin(meters / METERS + degrees / DEGREES))
    return k if meters[k] <= METERS and degrees[k] <= DEGREES else None
