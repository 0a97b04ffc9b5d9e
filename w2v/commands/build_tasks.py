"""``w2v build-tasks``: clips in, questions out."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from w2v import questioning, stream
from w2v.commands.options import input_path, stage_options
from w2v.plugins import Named, Spec, parse_spec

if TYPE_CHECKING:
    from w2v.kinds import Task

TASKS = ("A1", "A2", "A3", "A4", "D1", "D2", "D3", "D4")


@click.command("build-tasks")
@click.argument("clips", required=False)
@click.option(
    "--task", "tasks", type=Named("task"), multiple=True, help="Repeatable. Default: all eight."
)
@click.option(
    "--templates",
    type=click.Choice(["w2v", "paper"]),
    default="w2v",
    show_default=True,
    help="Wording that never gives the answer away, or the paper's Appendix B.",
)
@click.option(
    "--form",
    type=click.Choice(["plain", "choice", "sentence", "mixed"]),
    default="plain",
    show_default=True,
    help="How answers are written.",
)
@click.option(
    "--compat",
    type=click.Choice(["world2vlm"]),
    help="Follow the original's rules and counts instead, faults included.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other draws.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes for a tree of bundles, on Linux. Default: as many as it keeps busy.",
)
@stage_options(on_error="fail")
def build_tasks(
    clips: str | None,
    tasks: tuple[Spec, ...],
    templates: str,
    form: str,
    compat: str | None,
    seed: int,
    workers: int | None,
    settings: stream.Settings,
) -> None:
    """Ask questions about each clip.

    Reads clips (JSONL or a tree of bundles), writes questions. The clips of a scene must follow
    one another, as render and annotate write them.
    """
    with stream.stage("build-tasks", settings, "clips") as stage:
        specs = tasks or tuple(parse_spec("task", name) for name in TASKS)
        makers = _makers(specs, compat, {"templates": templates, "form": form, "seed": str(seed)})
        path = input_path(clips)
        if path == "-" or not os.path.isdir(path):
            questioning.ask_lines(stage, makers, path)
        else:
            questioning.ask_tree(stage, makers, path, workers)


def _makers(specs: tuple[Spec, ...], compat: str | None, shared: dict[str, str]) -> list[Task]:
    """Build the tasks; each takes those of the shared options that it knows."""
    if compat:
        from w2v.tasks.compat import world2vlm

        return [world2vlm([spec.name for spec in specs], int(shared["seed"]))]
    made = []
    for spec in specs:
        known = inspect.signature(spec.offer.make).parameters
        defaults = {key: text for key, text in shared.items() if key in known}
        made.append(replace(spec, options=defaults | spec.options).make())
    return made
