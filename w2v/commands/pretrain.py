"""``w2v pretrain``: the base of the tiny student, made from nothing."""

from __future__ import annotations

from pathlib import Path

import click

from w2v import stream
from w2v.commands.options import stage_options
from w2v.commands.training import need_packages
from w2v.students.compilers import need_compiler
from w2v.workers import cores


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the model. The same command again continues it.",
)
@click.option(
    "--rooms", type=click.IntRange(2), default=1600, show_default=True, help="To look at."
)
@click.option(
    "--eyes",
    type=click.IntRange(0),
    default=1200,
    show_default=True,
    help="Updates of the vision side alone, of 64 pictures each.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=4000,
    show_default=True,
    help="Updates with questions, four about each of 32 pictures.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of rooms, weights, questions."
)
@click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of an earlier base to go on from. Default: random weights.",
)
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the pictures. Default: pictures in that of the model.",
)
@click.option(
    "--compile/--no-compile",
    default=False,
    show_default=True,
    help="Fuse what is computed: faster, once a C++ compiler has worked for a minute.",
)
@click.option(
    "--workers", type=click.IntRange(1), help="Processes that render. Default: one per core."
)
@stage_options(on_error="fail")
def pretrain(
    output: Path,
    rooms: int,
    eyes: int,
    steps: int,
    seed: int,
    start: Path | None,
    pictures: Path | None,
    compile: bool,
    workers: int | None,
    settings: stream.Settings,
) -> None:
    """Make a base for the tiny student: one that sees, but knows of no motion.

    Renders simulated rooms. The vision side learns what is where, then the whole to answer
    questions about one picture or two (places, names, colours, counts, left, higher, nearer). On
    SIGTERM or SIGUSR1 it saves and ends with exit 75; the same command again goes on.

    \b
    w2v pretrain -o base && w2v sft questions.jsonl --student tiny:path=base --tune full -o run
    """
    need_packages()
    if compile:
        need_compiler("--compile")
    from w2v.pretraining import learning

    with stream.stage("pretrain", settings, "rooms") as stage:
        plan = learning.Plan(rooms=rooms, eyes=eyes, steps=steps, seed=seed, compile=compile)
        if settings.dry_run:
            return
        folder = pictures or output / "pictures"
        made = learning.learn(stage, plan, output, folder, workers or cores(), start)
        stage.write(made)
