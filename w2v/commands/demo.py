"""``w2v demo``: the whole of the suite on simulated rooms, with nothing to download."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from w2v.commands.doctor import cores
from w2v.errors import W2VError
from w2v.stream import loads


@click.command()
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for everything; running again continues it.",
)
@click.option("--scenes", type=click.IntRange(1), default=20, show_default=True, help="Rooms.")
@click.option("--quick", is_flag=True, help="Four plainly lit rooms in small pictures.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other rooms.")
@click.option(
    "--workers", type=click.IntRange(1), help="Processes that render. Default: one per core."
)
def demo(out: Path, scenes: int, quick: bool, seed: int, workers: int | None) -> None:
    """Make checked questions of all eight kinds from simulated rooms.

    Each step is an ordinary command, shown as it runs. Ends with a page of contact sheets.
    """
    out.mkdir(parents=True, exist_ok=True)
    teacher, size = ("sim:quality=fast", "128x128") if quick else ("sim", "256x256")
    scenes = min(scenes, 4) if quick else scenes
    workers = workers or cores()
    shared = ["--root", str(out)]
    render = ["render", "--teacher", teacher, "--scenes", str(scenes), "--seed", str(seed)]
    render += ["--size", size, "--frames", "ends", "-o", str(out), *shared]
    if workers > 1:
        _together([[*render, "--shard", f"{k}/{workers}"] for k in range(workers)])
    steps = {
        "clips": render,
        "boxed": ["annotate", str(out / "clips.jsonl"), "--detector", "oracle", *shared],
        "asked": ["build-tasks", str(out / "boxed.jsonl"), "--seed", str(seed), *shared],
        "questions": [
            "validate",
            str(out / "asked.jsonl"),
            "--seed",
            str(seed),
            "--rejects",
            str(out / "rejects.jsonl"),
            "--report",
            str(out / "checks.json"),
            *shared,
        ],
    }
    for name, arguments in steps.items():
        _step([*arguments, "--summary", str(out / f"{name}.summary.json")], out / f"{name}.jsonl")
    page = out / "report.html"
    asked = ["report", str(out), "-o", str(page), "--sheets", str(out / "sheets"), *shared]
    _step(asked, None)
    _tell(out)
    click.echo(page)


def _environment() -> dict[str, str]:
    """Return the environment of a step: one thread each, and no Slurm array of our own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_ARRAY")}
    return {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **kept}


def _command(arguments: list[str]) -> list[str]:
    import shlex

    click.echo(f"$ w2v {shlex.join(arguments)}", err=True)
    return [sys.executable, "-m", "w2v", *arguments]


def _step(arguments: list[str], result: Path | None) -> None:
    """Run one command; its records appear under ``result`` only when it is done."""
    import subprocess

    part = result.with_name(f".{result.name}.part") if result else Path(os.devnull)
    with open(part, "wb") as file:
        done = subprocess.run(_command(arguments), stdout=file, env=_environment())
    if done.returncode:
        raise StepFailed(arguments[0], done.returncode)
    if result:
        part.replace(result)


def _together(commands: list[list[str]]) -> None:
    """Run several commands at once and wait for all; stop the rest when one fails."""
    import subprocess

    running = [
        subprocess.Popen(_command(c), stdout=subprocess.DEVNULL, env=_environment())
        for c in commands
    ]
    try:
        codes = [process.wait() for process in running]
    finally:
        for process in running:
            process.terminate()
    for command, code in zip(commands, codes, strict=True):
        if code:
            raise StepFailed(command[0], code)


class StepFailed(W2VError):
    """A step of the demo ended with an error of its own, which it has already told."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"step {name!r} ended with exit code {code}", "its message is above")
        self.exit_code = code if code > 0 else 1  # type: ignore[misc]


def _tell(out: Path) -> None:
    """Say on stderr what the demo made."""
    checks = loads((out / "checks.json").read_bytes())
    click.echo("\nchecked questions of each task:", err=True)
    for task, count in checks["tasks"].items():
        click.echo(f"  {task}  {count}", err=True)
    click.echo(f"questions: {out / 'questions.jsonl'}", err=True)
    click.echo(f"contact sheets: {out / 'sheets'}", err=True)
