"""``w2v sft``: questions in, a trained student out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from w2v import stream
from w2v.commands.options import stage_options
from w2v.commands.training import check_launch, training_options


@click.command()
@training_options
@click.option(
    "--lambda-inv",
    "lambda_inverse",
    type=click.FloatRange(0),
    help="Weight of the mean loss over inverse questions (0: leave them out).",
)
@click.option(
    "--lambda-fwd",
    "lambda_forward",
    type=click.FloatRange(0),
    help="Weight of the mean loss over forward questions. Without either, all questions count "
    "by their own weight alone.",
)
@stage_options(on_error="fail")
def sft(
    questions: str | None,
    tasks: tuple[str, ...],
    directions: tuple[str, ...],
    sources: tuple[str, ...],
    settings: stream.Settings,
    output: Path,
    **rest: Any,
) -> None:
    """Train a student on right answers.

    Reads questions (JSONL, - for stdin; rows of World2VLM too), writes the record of the run.
    The loss is on answers only, and no picture is ever cut. On SIGTERM or SIGUSR1 it saves and
    ends with exit 75; the same command again goes on.
    """
    path = check_launch(questions, settings)
    from w2v.train import running
    from w2v.train.data import Selection
    from w2v.train.sft import sft as train

    chosen = Selection(tasks=tasks, directions=directions, sources=sources)
    with stream.stage("sft", running.quiet_unless_first(settings), "questions") as stage:
        plan = running.Plan(method="sft", questions=path, output=output, selection=chosen, **rest)
        running.emit(stage, train(stage, plan))
