"""``w2v grpo``: questions and a reward in, a refined student out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from w2v import stream
from w2v.commands.options import stage_options
from w2v.commands.training import check_launch, training_options
from w2v.plugins import Named


@click.command()
@training_options
@click.option(
    "--reward",
    "rewards",
    type=Named("reward"),
    multiple=True,
    help="How to grade; several add up. Default: the recipe's.",
)
@stage_options(on_error="fail")
def grpo(
    questions: str | None,
    tasks: tuple[str, ...],
    directions: tuple[str, ...],
    sources: tuple[str, ...],
    settings: stream.Settings,
    output: Path,
    **rest: Any,
) -> None:
    """Train a student on its own answers, graded.

    Reads questions (JSONL, - for stdin; rows of World2VLM too), writes the record of the run.
    Before weights are read, every right answer must score 1.0 and fit into a response (else exit
    4). On SIGTERM or SIGUSR1 it saves and ends with exit 75; the same command again goes on.
    """
    path = check_launch(questions, settings)
    from w2v.train import running
    from w2v.train.data import Selection
    from w2v.train.grpo import grpo as train

    chosen = Selection(tasks=tasks, directions=directions, sources=sources)
    with stream.stage("grpo", running.quiet_unless_first(settings), "questions") as stage:
        plan = running.Plan(method="grpo", questions=path, output=output, selection=chosen, **rest)
        running.emit(stage, train(stage, plan))
