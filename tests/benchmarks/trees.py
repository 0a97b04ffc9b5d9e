"""Make a tree of bundles such as World2VLM's generator leaves behind, without its pictures.

Nine trajectories per scene on the paper's grids, every frame recorded, boxes of first and last
frame. Only JSON is written: the stages that are measured read no pixels.
"""

import random
from pathlib import Path

from w2v import bundles, geometry, sampling
from w2v.kinds import Anchor
from w2v.records import Box, Intrinsics
from w2v.stream import dumps

CAMERA = Intrinsics(width=576, height=576, fx=288.0, fy=288.0, cx=288.0, cy=288.0)
LABELS = ("chair", "table", "sofa", "lamp", "tv", "vase", "door", "plant")


def make(folder: Path, scenes: int, seed: int = 0) -> int:
    """Write ``scenes`` x 9 bundles and return how many there are."""
    sample, chance, number = sampling.sampler("world2vlm"), random.Random(seed), 0
    for k in range(scenes):
        for path in sample(f"room_{k:05d}", seed, Anchor(camera=CAMERA), lambda moves: True):
            counts = [geometry.frames_of(m) for m in path.moves]
            poses = geometry.poses(path.moves, counts)
            where = folder / "scenes" / f"room_{k:05d}" / f"traj_{path.name}"
            where.mkdir(parents=True)
            scores = {
                "per_frame": [
                    {"frame_idx": f, "laplacian_var": 210.5, "brisque": None, "is_blurry": False}
                    for f in range(len(poses))
                ],
                "passed": True,
            }
            told = bundles.describe(
                path.moves, range(len(poses)), counts, CAMERA, poses.tolist(), {}, scores
            )
            del told["meta"]
            (where / "traj.json").write_text(dumps(told))
            bundles.write_boxes(where, _boxes(chance, len(poses) - 1), CAMERA, len(poses), {})
            number += 1
    return number


def _boxes(chance: random.Random, last: int) -> list[Box]:
    made = []
    for track in range(1, chance.randint(6, 11)):
        label = chance.choice(LABELS)
        for frame in (0, last):
            x, y = chance.uniform(0, 400), chance.uniform(0, 400)
            size = chance.uniform(40, 170)
            box = (x, y, x + size, y + size)
            score = round(chance.uniform(0.2, 0.95), 3)
            made.append(Box(frame=frame, track=track, label=label, xyxy=box, score=score))
    return made
