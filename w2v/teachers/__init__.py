"""Built-in teachers: light factories; the heavy halves are imported when one is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from w2v import hookimpl
from w2v.kinds import Offer
from w2v.plugins import need

if TYPE_CHECKING:
    from w2v.teachers.depthwarp import DepthWarp
    from w2v.teachers.replay import Replay
    from w2v.teachers.sim import SimTeacher


@hookimpl
def w2v_teachers() -> Mapping[str, Offer]:
    """Offer the simulator, the depth warp and the replay of bundles."""
    return {
        "sim": Offer(
            make=sim,
            licence="CC0-1.0",
            may_train=True,
            can=frozenset({"makes-scenes", "random-access"}),
        ),
        "depth-warp": Offer(
            make=depth_warp,
            licence="",
            may_train=True,
            can=frozenset({"needs-depth", "random-access"}),
        ),
        "replay": Offer(
            make=replay,
            licence="",
            may_train=None,
            can=frozenset({"makes-scenes", "random-access"}),
        ),
    }


def replay(tree: Path) -> Replay:
    """Show what another teacher already rendered: the bundles under ``tree``, in any dialect."""
    need("numpy", "w2v[images]")
    from w2v.teachers.replay import Replay

    return Replay(tree)
