"""``w2v validate``: questions in, checked questions out."""

from __future__ import annotations

from pathlib import Path

import click

from w2v import split as parts
from w2v import stream
from w2v.commands.options import input_path, make_room, stage_options
from w2v.errors import BadRecord, CheckFailed
from w2v.plugins import Named, Spec


def _shares(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> dict[str, float] | None:
    try:
        return None if value is None else parts.parse(value)
    except BadRecord as error:
        raise click.BadParameter(error.message) from error


@click.command()
@click.argument("questions", required=False)
@click.option(
    "--check",
    "checks",
    type=Named("check"),
    multiple=True,
    help="Repeatable. Default: all that need no further input.",
)
@click.option(
    "--balance",
    type=click.Choice(["answers", "tasks", "grpo", "none"]),
    help="Leave out rows until words alone tell nothing (answers, the default where scikit-learn "
    "is installed); or until each task and source counts alike (tasks); or take the paper's 1,000 "
    "rows for GRPO (grpo).",
)
@click.option("--per-task", type=click.IntRange(1), help="With --balance tasks: rows of each task.")
@click.option(
    "--split",
    metavar="NAME=SHARE,…",
    callback=_shares,
    help="Put whole scenes into parts, e.g. train=.99,val=.01.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write one file per part into this folder.",
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what every check found, as JSON.",
)
@click.option(
    "--max-rejects",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Share of rows that may be rejected before the command fails (exit 4).",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of balance and split.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes for checks of single questions, on Linux. Default: as many as they keep busy.",
)
@stage_options(on_error="fail")
def validate(
    questions: str | None,
    checks: tuple[Spec, ...],
    balance: str | None,
    per_task: int | None,
    split: dict[str, float] | None,
    output: Path | None,
    report_file: Path | None,
    max_rejects: float,
    seed: int,
    workers: int | None,
    settings: stream.Settings,
) -> None:
    """Check questions, and pass on the good ones.

    Reads questions (JSONL, - for stdin; rows of World2VLM too), writes questions. Every row that
    is left out is counted with its reason and listed in --rejects. Ends with exit 4 where a
    check passes its limit; what was good is written all the same.
    """
    from w2v import validating

    make_room(report_file)

    failures: list[str] = []
    with stream.stage("validate", settings, "questions") as stage:
        chosen = validating.build_checks(checks, settings.root, stage)
        found = validating.read(stage, input_path(questions))
        taken = stream.take(found, settings.shard, settings.limit)
        kept = validating.rows(stage, taken, chosen, workers)
        rejected = stage.dropped.total()
        if stage.inputs and rejected > max_rejects * stage.inputs:
            failures.append(
                f"{rejected} of {stage.inputs} rows rejected, more than {max_rejects:.0%}"
            )
        kept = validating.balanced(stage, kept, balance, per_task, seed)
        kept = validating.split(kept, split, seed)
        failures += validating.whole(stage, kept, chosen, report_file)
        for question in kept:
            stage.write(question)
        if output and not settings.dry_run:
            validating.write_parts(kept, output)
        for failure in failures:
            stage.log(f"FAILED: {failure}")
    if failures:
        raise CheckFailed(failures[0], "the rows were written; see --report for the figures")
