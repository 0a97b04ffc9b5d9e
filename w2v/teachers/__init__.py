"""Built-in teachers: light factories; the heavy halves are imported when one is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from w2v import hookimpl
from w2v.kinds import Offer
from w2v.plugins import need

if TYPE_CHECKING:
    from w2v.teachers.depthmodel import DepthModel
    from w2v.teachers.depthwarp import DepthWarp
    from w2v.teachers.replay import Replay
    from w2v.teachers.sim.teacher import SimTeacher


@hookimpl
def w2v_teachers() -> Mapping[str, Offer]:
    """Offer the simulator, the depth warp and the replay of bundles."""
    return {
        "sim": Offer(
            make=make_sim,
            licence="CC0-1.0",
            may_train=True,
            can=frozenset({"makes-scenes", "random-access"}),
        ),
        "depth-warp": Offer(
            make=make_depth_warp,
            licence="",
            may_train=True,
            can=frozenset({"needs-depth", "random-access"}),
        ),
        "replay": Offer(
            make=make_replay,
            licence="",
            may_train=None,
            can=frozenset({"makes-scenes", "random-access"}),
        ),
    }


def make_sim(field_of_view: float = 75.0, quality: str = "full", rooms: str = "all") -> SimTeacher:
    """Simulate furnished rooms with exact depth, masks and visibility.

    ``field_of_view`` is in degrees across; ``quality`` is full or fast (no antialiasing, no
    reflections); ``rooms`` is all or kinds of room joined by +.
    """
    need("numpy", "w2v[sim]")
    need("embreex", "w2v[sim]")
    from w2v.teachers.sim.teacher import SimTeacher

    return SimTeacher(field_of_view, quality, rooms)


def make_depth_warp(
    depth_model: str = "",
    meters_per_unit: float = 0.0,
    coverage: float = 0.4,
    fill: str = "push-pull",
) -> DepthWarp:
    """Warp a photograph by its depth; holes are filled and told, little coverage is refused.

    ``depth_model`` is a hub id or folder of a metric depth model for scenes without depth (any
    other needs ``meters_per_unit``); ``coverage`` is the least share of the last frame that must
    rest on evidence; ``fill`` is push-pull or none.
    """
    need("numpy", "w2v[warp]")
    need("cv2", "w2v[warp]")
    from w2v.teachers.depthwarp import DepthWarp

    return DepthWarp(_depth_model(depth_model, meters_per_unit), coverage, fill)


def _depth_model(name: str, meters_per_unit: float) -> DepthModel | None:
    if not name:
        return None
    need("torch", "w2v[depth]")
    need("transformers", "w2v[depth]")
    from w2v.teachers.depthmodel import DepthModel

    return DepthModel(name, meters_per_unit)


def make_replay(tree: Path) -> Replay:
    """Show what another teacher already rendered: the bundles under ``tree``, in any dialect."""
    need("numpy", "w2v[images]")
    from w2v.teachers.replay import Replay

    return Replay(tree)
