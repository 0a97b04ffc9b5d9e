"""Options that mean the same in every subcommand."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from w2v.errors import BadFile, LicenceNotAccepted
from w2v.plugins import Spec
from w2v.stream import Settings

F = TypeVar("F", bound=Callable[..., Any])


class Shard(click.ParamType):  # type: ignore[type-arg]
    """``I/N``: part I of N, counted from 0."""

    name = "I/N"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Read ``I/N`` and check 0 <= I < N."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)/(\d+)", str(value))
        if not match or not int(match[1]) < int(match[2]):
            self.fail(f"{value!r} is not I/N with 0 <= I < N, e.g. 0/4", param, ctx)
        return int(match[1]), int(match[2])


class Size(click.ParamType):  # type: ignore[type-arg]
    """``WxH`` in pixels."""

    name = "WxH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Read ``WxH`` and check that it is a sane picture size."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(value))
        if not match or not all(16 <= int(n) <= 8192 for n in match.groups()):
            self.fail(f"{value!r} is not WxH with 16 to 8192 pixels, e.g. 576x576", param, ctx)
        return int(match[1]), int(match[2])


def slurm_shard() -> tuple[int, int]:
    """Return the part that a Slurm array task stands for; the whole where there is none."""
    try:
        task = int(os.environ["SLURM_ARRAY_TASK_ID"])
        count = int(os.environ["SLURM_ARRAY_TASK_COUNT"])
        first = int(os.environ.get("SLURM_ARRAY_TASK_MIN", "0"))
        step = int(os.environ.get("SLURM_ARRAY_TASK_STEP", "1"))
    except (KeyError, ValueError):
        return 0, 1
    part = (task - first) // max(1, step)
    if not 0 <= part < count:
        raise click.UsageError(f"SLURM_ARRAY_TASK_ID={task} is not one of {count} tasks")
    return part, count


def stage_options(on_error: str) -> Callable[[F], F]:
    """Add the shared options to a stage and hand them over as ``settings``."""
    shared = (
        click.option(
            "--root",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            default=".",
            show_default=True,
            help="Folder that paths in records are relative to, and may not leave.",
        ),
        click.option(
            "--shard",
            type=Shard(),
            help="Do part I of N (from 0). Default: the Slurm array task, else all.",
        ),
        click.option("--limit", type=click.IntRange(0), help="Take the first N inputs only."),
        click.option("--dry-run", is_flag=True, help="Check and count; write nothing."),
        click.option(
            "--summary",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Write what became of what to this file, as JSON.",
        ),
        click.option(
            "--rejects",
            type=click.Path(path_type=Path, dir_okay=False),
            help="List what was skipped or rejected in this file, as JSONL.",
        ),
        click.option(
            "--on-error",
            type=click.Choice(["skip", "fail"]),
            default=on_error,
            show_default=True,
            help="Skip a bad item (listed; exit 3), or stop at once (exit 1).",
        ),
        click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong."),
        click.option("-v", "--verbose", is_flag=True, help="Say more."),
    )

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def run(
            root: Path,
            shard: tuple[int, int] | None,
            limit: int | None,
            dry_run: bool,
            summary: Path | None,
            rejects: Path | None,
            on_error: str,
            quiet: bool,
            verbose: bool,
            **rest: Any,
        ) -> Any:
            make_room(summary, rejects)
            settings = Settings(
                root=root,
                shard=shard or slurm_shard(),
                limit=limit,
                dry_run=dry_run,
                summary=summary,
                rejects=rejects,
                on_error=on_error,
                quiet=quiet,
                verbose=verbose,
            )
            return command(settings=settings, **rest)

        made: Any = run
        for option in reversed(shared):
            made = option(made)
        return made

    return decorate


def make_room(*files: Path | None) -> None:
    """Make the folders of files that are to be written at the end, while little is lost yet.

    Raises:
        BadFile: A folder cannot be made.
    """
    for file in filter(None, files):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadFile(
                f"{file}: {error.strerror}", "choose a folder you may write to"
            ) from error


def input_path(path: str | None) -> str:
    """Return the input as typed; ``-`` where there is none and something is piped in.

    Raises:
        click.UsageError: Nothing is named and nothing is piped in.
        BadFile: There is no such file.
    """
    if path is None:
        if sys.stdin.isatty():
            raise click.UsageError("no input: name a file or folder, or pipe records in")
        return "-"
    if path != "-" and not Path(path).exists():
        raise BadFile(f"{path}: no such file or folder")
    return path


def check_licence(spec: Spec, accepted: tuple[str, ...]) -> None:
    """Stop where a plugin's licence forbids training on its output and nobody said otherwise.

    Raises:
        LicenceNotAccepted: exit 5.
    """
    offer = spec.offer
    if offer.may_train is False and spec.name not in accepted:
        raise LicenceNotAccepted(
            f"{spec.kind} {spec.name!r}: its licence ({offer.licence}) does not allow training "
            "other models on its output",
            f"if you have the right to, say --accept-licence {spec.name}",
        )


accept_licence = click.option(
    "--accept-licence",
    "accepted",
    metavar="NAME",
    multiple=True,
    help="Use NAME although its licence forbids training on its output. Repeatable.",
)
