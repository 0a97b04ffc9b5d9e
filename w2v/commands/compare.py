"""``w2v compare``: runs of ``w2v eval`` side by side."""

from __future__ import annotations

from pathlib import Path

import click

from w2v import stream
from w2v.plugins import need


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--metric", "metrics", multiple=True, help="Repeatable. Default: reward, accuracy and unparsed."
)
@click.option("--all-metrics", is_flag=True, help="Show every metric.")
@click.option(
    "--against",
    type=click.Choice(["first", "previous"]),
    default="first",
    show_default=True,
    help="Which run each later one is held against.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "latex", "json"]),
    default="markdown",
    show_default=True,
    help="How to write the table.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the table to this file instead.",
)
@click.option(
    "--force", is_flag=True, help="Compare unequal runs on the questions they have in common."
)
def compare(
    runs: tuple[Path, ...],
    metrics: tuple[str, ...],
    all_metrics: bool,
    against: str,
    form: str,
    output: Path | None,
    force: bool,
) -> None:
    """Compare runs of w2v eval, question by question.

    RUNS are folders of w2v eval, or files of answers in them such as blind.jsonl. Shows each
    figure and each difference with its 95 % interval, drawn over scenes, and the p of McNemar's
    exact test where answers are right or wrong. Runs that did not do the same are refused.

    \b
    w2v compare d/eval-base d/eval-sft d/eval-grpo --against previous
    """
    need("numpy", "w2v[images]")
    from w2v import comparing

    found = comparing.short_names([comparing.read(run) for run in runs])
    if not force:
        comparing.check(found)
    wanted = () if all_metrics else metrics or comparing.MAIN
    made = comparing.compare(found, wanted, previous=against == "previous")
    if form == "json":
        table = stream.dumps(made.to_json()) + "\n"
    else:
        table = comparing.markdown(made) if form == "markdown" else comparing.latex(made)
    if output:
        stream.write_atomic(output, table)
    else:
        click.echo(table, nl=False)
