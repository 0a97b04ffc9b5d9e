"""``w2v eval``: a student's answers to a benchmark, and what they are worth."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from w2v import stream
from w2v.commands.options import input_path, stage_options
from w2v.plugins import Named, Spec, need
from w2v.records import Question
from w2v.stream import Stage

if TYPE_CHECKING:
    from w2v.evaluating import Exam
    from w2v.kinds import Benchmark


@click.command("eval")
@click.argument("questions", required=False)
@click.option(
    "--benchmark",
    type=Named("benchmark"),
    default="questions",
    show_default=True,
    help="What to ask, and how to score it.",
)
@click.option(
    "--student",
    metavar="NAME|PATH[:KEY=VALUE,...]",
    required=True,
    help="A student by name, or the folder of a checkpoint.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the answers and figures of this run.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Questions handed to the student, and logged, at a time.",
)
@click.option(
    "--train",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Questions that the blind baselines learn from. Default: those of other scenes.",
)
@click.option(
    "--blind/--no-blind", default=True, help="Find out what answers earn that are given blindly."
)
@click.option("--overwrite", is_flag=True, help="Start again where there are answers.")
@stage_options(on_error="fail")
def evaluate(
    questions: str | None,
    benchmark: Spec,
    student: str,
    output: Path,
    batch_size: int,
    train: Path | None,
    blind: bool,
    overwrite: bool,
    settings: stream.Settings,
) -> None:
    """Ask a student, and score its answers.

    Reads questions (JSONL, - for stdin), writes answers. The same command run again continues
    where it was stopped. The folder holds answers.jsonl, metrics.json with 95 % intervals over
    scenes, blind.jsonl with the best blind answers, and protocol.json, which says what must be
    equal in runs that are compared.

    \b
    w2v eval questions.jsonl --student runs/sft -o eval-sft
    """
    need("numpy", "w2v[images]")
    from w2v import evaluating

    with stream.stage("eval", settings, "questions") as stage:
        made, beside, root = _benchmark(benchmark, questions, settings)
        found = evaluating.gather(stage, made, settings.limit)
        pairs = list(evaluating.opened(stage, found, root, beside))
        if settings.dry_run:
            return
        asked = evaluating.build_student(student)
        exam = evaluating.Exam(
            benchmark=made,
            benchmark_name=benchmark.name,
            student=asked,
            student_name=student,
            questions=[question for question, _ in pairs],
            shown=[shown for _, shown in pairs],
            folder=output,
            batch=batch_size,
            shard=settings.shard,
        )
        evaluating.claim(output, exam.protocol(), overwrite)
        answers = stage.progress(evaluating.ask(exam, stage), exam.number)
        for answer in evaluating.in_order(exam, answers):
            stage.write(answer)
        _report(exam, stage, train, blind)


def _benchmark(
    spec: Spec, questions: str | None, settings: stream.Settings
) -> tuple[Benchmark, Path | None, Path]:
    """Return the benchmark, the folder of its questions, and the root of their paths."""
    known = inspect.signature(spec.offer.make).parameters
    beside = None
    if "path" in known and "path" not in spec.options:
        path = input_path(questions)
        beside = None if path == "-" else Path(path).parent
        spec = replace(spec, options=spec.options | {"path": path})
    elif questions is not None:
        raise click.UsageError(f"benchmark {spec.name!r} has its own questions, or knows its file")
    return spec.make(), beside, Path(spec.options.get("root", settings.root))


def _report(exam: Exam, stage: Stage, train: Path | None, blind: bool) -> None:
    """Write the figures once all shards are done, and show them."""
    from w2v import evaluating

    answers = evaluating.together(exam)
    if answers is None:
        stage.log("done; the figures come with the last of the other shards")
        return
    learned = list(stage.read(Question, str(train))) if train and blind else None
    for line in evaluating.finish(exam, answers, learned, blind):
        stage.log(line)
