"""``w2v report``: one page about a data set, and contact sheets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from w2v import stream
from w2v.errors import BadFile
from w2v.plugins import need
from w2v.records import Question


@click.command()
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR|QUESTIONS|RUN...",
)
@click.option(
    "-o",
    "--output",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="HTML file to write; it needs no other file.",
)
@click.option(
    "--sheets",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the contact sheets here too, as PNG.",
)
@click.option(
    "--per-task", type=click.IntRange(1, 200), default=12, show_default=True, help="Rows per sheet."
)
@click.option(
    "--between",
    type=click.IntRange(0, 8),
    default=0,
    show_default=True,
    help="Frames to show between the first and the last.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other rows.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=".",
    show_default=True,
    help="Folder that paths in records are relative to, and may not leave.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")
def report(
    sources: tuple[Path, ...],
    page: Path,
    folder: Path | None,
    per_task: int,
    between: int,
    seed: int,
    root: Path,
    quiet: bool,
) -> None:
    """Show data, training and what was learned on one page.

    DIR is a folder with summaries, questions or clips; QUESTIONS a JSONL file. RUN is a folder of
    w2v eval or its blind.jsonl (set side by side, each against the one before it, with wins and
    losses), or a folder of w2v sft or grpo (its curves).

    \b
    w2v report d -o report.html
    w2v report d eval/base/blind.jsonl eval/base eval/sft runs/sft -o report.html
    """
    need("PIL", "w2v[images]")
    from w2v.report import learning, sheets
    from w2v.report import page as pages

    runs = [source for source in sources if learning.is_exam(source)]
    trained = [source for source in sources if learning.is_training(source)]
    data = [source for source in sources if source not in (*runs, *trained)]
    found = [pages.gather(source, per_task, seed) for source in data]
    drawn = [pages.draw(f, root, number=per_task, seed=seed, between=between) for f in found]
    told = [*_learned(runs, data, root), *learning.curves(trained)]
    for one, pictures in zip(found, drawn, strict=True):
        told += pages.sections(one, pictures)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        title = f"w2v report: {', '.join(map(str, data or sources))}"
        stream.write_atomic(page, pages.document(title, told))
        if folder is not None:
            for pictures in drawn:
                sheets.save(pictures, folder)
    except OSError as error:
        where = error.filename or page
        raise BadFile(f"{where}: {error.strerror}", "choose a folder you may write to") from error
    if not quiet:
        missing = sum(one.missing.total() for one in found)
        lost = f", {missing} pictures could not be read" if missing else ""
        tasks = len({task for one in found for task in one.tallies})
        click.echo(f"w2v report: {page}, {tasks} tasks{lost}", err=True)


def _learned(runs: list[Path], data: list[Path], root: Path) -> Iterator[str]:
    """Yield what is to be said about runs of ``w2v eval``."""
    from w2v.report import learning
    from w2v.report import page as pages

    if whole := learning.exams(runs):
        questions: dict[str, Question] = {}
        for source in data:
            questions |= pages.questions_of(source, whole.runs[0].answers)
        yield from learning.sections(whole, questions, root)
