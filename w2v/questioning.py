"""Clips to questions, a scene at a time: by one process, or by several where there is a tree."""

from __future__ import annotations

import contextlib
import gc
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from w2v import bundles, stream, workers
from w2v.records import Clip
from w2v.stream import Stage

if TYPE_CHECKING:
    from w2v.kinds import Task

ENOUGH = 150
"""Bundles that are worth a process: it takes as long to start as to ask about a few dozen."""
ALLOCATIONS = 20_000
"""Between two searches for cycles; records hold none, and Python's 700 cost a tenth of the time."""

scene_of: Callable[[Clip], str] = operator.attrgetter("scene")


def ask_lines(stage: Stage, makers: Sequence[Task], path: str) -> None:
    """Ask about the clips of a JSONL file or of stdin as they come."""
    found = stage.progress(bundles.clips(stage, path))
    scenes = stream.grouped(found, scene_of)
    with _few_collections():
        for scene in stream.take(scenes, stage.settings.shard, stage.settings.limit):
            _ask(stage, makers, scene)


def ask_tree(stage: Stage, makers: Sequence[Task], path: str, processes: int | None = 1) -> None:
    """Ask about the bundles of a tree; what comes out does not depend on the number of processes.

    Args:
        stage: Where questions go; its limit and shard count folders of bundles, that is scenes.
        makers: The tasks.
        path: The tree.
        processes: How many to start; None: as many as there is enough to do for.
    """
    tree = bundles.Tree(path, stage.settings.root)
    stage.unit = "scenes"

    def ask(stage: Stage, folders: list[str]) -> None:
        for scene in stream.grouped(tree.clips(stage, folders), scene_of):
            _ask(stage, makers, scene)

    groups = stream.take(tree.groups(), stage.settings.shard, stage.settings.limit)
    groups, number = workers.enough(groups, ENOUGH, processes)
    with _few_collections():
        if number > 1:
            _ask_together(stage, ask, groups, number)
        else:
            for folders in stage.progress(groups):
                ask(stage, folders)


def _ask_together(
    stage: Stage, ask: Callable[[Stage, list[str]], None], groups: Iterator[list[str]], number: int
) -> None:
    """Let several processes ask, and write what they made, in order."""

    def share(folders: list[str]) -> stream.Share | None:
        return stage.share(lambda alone: ask(alone, folders))

    with workers.Workers(share, number) as several:
        for folders, made in stage.progress(several.map(groups)):
            if made is None:
                ask(stage, folders)
            else:
                stage.add(made)


def _ask(stage: Stage, makers: Sequence[Task], scene: list[Clip]) -> None:
    stage.inputs += len(scene)
    stage.write(*(question for make in makers for question in make(scene, stage.drop)))


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
