"""``w2v report``: one page about a data set, and contact sheets."""

from __future__ import annotations

from pathlib import Path

import click

from w2v import stream
from w2v.errors import BadFile
from w2v.plugins import need


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True), metavar="DIR|QUESTIONS")
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
    source: Path,
    page: Path,
    folder: Path | None,
    per_task: int,
    between: int,
    seed: int,
    root: Path,
    quiet: bool,
) -> None:
    """Show a data set on one page: what became of what, answers, and sheets of questions.

    DIR is a folder with summaries, questions or clips; QUESTIONS a JSONL file.

    \b
    w2v report d -o report.html
    """
    need("PIL", "w2v[images]")
    from w2v.report import page as pages
    from w2v.report import sheets

    found = pages.gather(source, per_task, seed)
    drawn = pages.draw(found, root, number=per_task, seed=seed, between=between)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        stream.write_atomic(page, pages.write(found, drawn))
        if folder is not None:
            sheets.save(drawn, folder)
    except OSError as error:
        where = error.filename or page
        raise BadFile(f"{where}: {error.strerror}", "choose a folder you may write to") from error
    if not quiet:
        missing = found.missing.total()
        lost = f", {missing} pictures could not be read" if missing else ""
        click.echo(f"w2v report: {page}, {len(found.tallies)} tasks{lost}", err=True)
