"""``w2v convert``: questions to the rows of another trainer, and back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import click

from w2v import formats, stream
from w2v.commands.options import input_path, stage_options
from w2v.errors import BadLine, BadRecord, W2VError
from w2v.formats import FORMATS, Format
from w2v.records import Question


@click.command()
@click.argument("questions", required=False)
@click.option("--to", type=click.Choice(list(FORMATS)), help="Write rows of this format.")
@click.option(
    "--from", "source", type=click.Choice(list(FORMATS)), help="Read rows of this format."
)
@click.option(
    "--images",
    "how",
    type=click.Choice(["relative", "absolute", "keep"]),
    help="Paths of pictures with --to: relative to the output file, absolute, or as they are. "
    "Default: relative where that trainer can be told the folder, else absolute.",
)
@click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write here instead of standard output.",
)
@stage_options(on_error="fail")
def convert(
    questions: str | None,
    to: str | None,
    source: str | None,
    how: str | None,
    file: Path | None,
    settings: stream.Settings,
) -> None:
    """Turn questions into the rows of another trainer, or such rows into questions.

    --to reads questions and writes rows; --from reads rows (JSONL or a JSON array) and writes
    questions. Rows that came from questions come back as they were.

    \b
    w2v convert questions.jsonl --to llama-factory -o data/motion.jsonl
    w2v convert sft.jsonl --from world2vlm | w2v validate > questions.jsonl
    """
    if (to is None) == (source is None):
        raise click.UsageError("say either --to or --from")
    if source is not None and how is not None:
        raise click.UsageError("--images goes with --to: questions name pictures under --root")
    path = input_path(questions)
    with stream.stage("convert", settings, "rows") as stage:
        with _output(stage, file):
            if to is not None:
                _export(stage, path, FORMATS[to], how, file)
            else:
                _import(stage, path, FORMATS[source or ""])
        if to == "llama-factory" and file is not None and not settings.dry_run:
            _describe(stage, file)


def _export(
    stage: stream.Stage, path: str, target: Format, how: str | None, file: Path | None
) -> None:
    settings, folder = stage.settings, file.parent if file else Path(".")
    how = how or ("relative" if target.finds else "absolute")
    place = formats.placer(how, settings.root, _beside(path), folder)
    found = stage.progress(stage.read(Question, path))
    for question in stream.take(found, settings.shard, settings.limit):
        stage.inputs += 1
        try:
            stage.write_row(target.write(question, place))
        except W2VError as error:
            stage.fail("not convertible", _about(question.id, error), question.id)
    if how == "relative" and target.finds:
        stage.log("pictures: " + target.finds.format(folder=os.path.abspath(folder)))


def _import(stage: stream.Stage, path: str, origin: Format) -> None:
    settings = stage.settings
    name = "<stdin>" if path == "-" else path
    place = formats.finder(settings.root, _beside(path) or Path("."))
    with stream.open_input(path) as lines:
        found = stage.progress(formats.rows(lines, name))
        for number, text, row in stream.take(found, settings.shard, settings.limit):
            stage.inputs += 1
            try:
                if isinstance(row, BadLine):
                    raise row
                stage.write(origin.read(row, place))
            except BadLine as error:
                stage.fail("bad line", error, text)
            except W2VError as error:
                reason = "bad row" if isinstance(error, BadRecord) else "bad picture"
                wrong = BadLine(name, number, error.what, error.hint)
                stage.fail(reason, wrong, stream.dumps(row))


def _beside(path: str) -> Path | None:
    return None if path == "-" else Path(path).parent


def _about(name: str, error: W2VError) -> W2VError:
    return BadRecord(f"question {name}: {error.what}", error.hint)


@contextlib.contextmanager
def _output(stage: stream.Stage, file: Path | None) -> Iterator[None]:
    """Let the stage write to a file instead; it appears under its name when it is whole."""
    if file is None or stage.settings.dry_run:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part, real = file.with_name(f".{file.name}.part"), stage.out
    try:
        with open(part, "w", encoding="utf-8", newline="\n") as stage.out:
            yield
        os.replace(part, file)
    finally:
        stage.out = real
        part.unlink(missing_ok=True)


def _describe(stage: stream.Stage, file: Path) -> None:
    """Name the file in ``dataset_info.json`` beside it; where there is one, say what to add."""
    entry, index = formats.dataset_info(file), file.parent / "dataset_info.json"
    text = stream.dumps(entry) + "\n"
    if not index.exists():
        stream.write_atomic(index, text)
    elif index.read_text(encoding="utf-8", errors="replace") != text:
        stage.log(f"add to {index}: {text.rstrip()}")
