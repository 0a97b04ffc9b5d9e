"""``w2v demo``: the whole of the suite on simulated rooms, with nothing to download."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from w2v.commands.training import NEEDED
from w2v.errors import W2VError
from w2v.stream import loads
from w2v.students import BASE
from w2v.students.compilers import compiler
from w2v.workers import cores


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything.

    Args:
        scenes: Rooms.
        draws: How often each kind of path is drawn in a room.
        test: Share of the rooms that the students are asked about and do not learn from.
        learned: Most questions of each task to learn from.
        asked: Most questions of each task that each student is asked.
        sft: Settings of supervised fine-tuning, for TRL.
        grpo: Settings of GRPO, for TRL.
    """

    scenes: int
    draws: int
    test: float
    learned: int
    asked: int
    sft: tuple[str, ...]
    grpo: tuple[str, ...]


_SFT: tuple[str, ...] = (
    "bf16=true",
    "per_device_train_batch_size=16",
    "rows_per_step=32",
    "ddp_find_unused_parameters=false",
    "learning_rate=1.5e-3",
)
_GRPO: tuple[str, ...] = (
    "bf16=true",
    "per_device_train_batch_size=64",
    "rows_per_step=128",
    "num_generations=4",
    "ddp_find_unused_parameters=false",
    "lora_r=16",
    "lora_alpha=32",
    "lora_dropout=0",
    "learning_rate=1e-3",
    "max_completion_length=40",
)
_ALL = ("--tune", "full")
_SMALL = ("--tune", "lora", "--task", "A1", "--task", "A2", "--task", "A3")
"""How GRPO learns: so few rewards are noise to most weights, and to answers of one word."""
WHOLE = Size(
    scenes=200,
    draws=3,
    test=0.2,
    learned=2500,
    asked=300,
    sft=(*_SFT, "num_train_epochs=2"),
    grpo=(*_GRPO, "max_steps=110"),
)
QUICK = Size(
    scenes=6,
    draws=1,
    test=0.4,
    learned=100,
    asked=8,
    sft=(*_SFT, "max_steps=8"),
    grpo=(*_GRPO, "max_steps=2", "rows_per_step=16", "per_device_train_batch_size=16"),
)


@click.command()
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for everything; running again continues it.",
)
@click.option("--scenes", type=click.IntRange(2), help="Rooms.  [default: 200; quick: 6]")
@click.option("--quick", is_flag=True, help="A few rooms and steps: shows that all runs.")
@click.option(
    "--train/--no-train", default=True, help="Train and ask a student, or end with the questions."
)
@click.option(
    "--student",
    default="tiny",
    show_default=True,
    metavar="NAME|PATH[:KEY=VALUE,...]",
    help="Whom to train.",
)
@click.option("--full", is_flag=True, help="Also train on one direction of questions alone.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of rooms and training.")
@click.option(
    "--workers", type=click.IntRange(1), help="Processes that render. Default: one per core."
)
def demo(
    out: Path,
    scenes: int | None,
    quick: bool,
    train: bool,
    student: str,
    full: bool,
    seed: int,
    workers: int | None,
) -> None:
    """Teach a tiny student, on simulated rooms, what a move of the camera does.

    Renders rooms, asks and checks questions of all eight kinds, trains the student on them (sft,
    then grpo), and asks it about rooms that it has not learned from. Each step is an ordinary
    command, shown as it runs. Ends with a table, and a page of figures, curves and contact sheets.
    Where something for training is missing it ends with the questions, and says what.
    """
    size = QUICK if quick else WHOLE
    out.mkdir(parents=True, exist_ok=True)
    ours = student == "tiny" and not quick
    fused = ":compile=true" if ours and compiler() is not None else ""
    run = Steps(out, seed, workers or cores(), fused, min(2, cores()) if ours else 1)
    run.questions(scenes or size.scenes, size)
    lacking = _lacking(student) if train else ""
    run.page(run.learn(student, size, full) if train and not lacking else [])
    _tell(out)
    if lacking:
        click.echo(f"nothing was trained: {lacking}", err=True)
    click.echo(out / "report.html")


def _lacking(student: str) -> str:
    """Return what is missing for training, and what to type, or nothing."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        return f"{', '.join(missing)} not installed; pip install -c constraints.txt '.[train]'"
    if student == "tiny" and not BASE.exists():
        made = "w2v pretrain -o base, then --student tiny:path=base"
        return f"the base of tiny does not come with this version; {made}"
    return ""


Step = tuple[list[str], Path | None]
"""The arguments of a command, and where what it writes goes, if anywhere."""


class Steps:
    """The commands of the demo; what was rendered, learned or answered before is kept.

    Args:
        out: The folder of the demo.
        seed: Of rooms and training.
        workers: Processes that render.
        fused: Option of the student to train, so that it is faster.
        processes: That train it: threads hardly help a model as small as ``tiny``.
    """

    def __init__(
        self, out: Path, seed: int, workers: int, fused: str = "", processes: int = 1
    ) -> None:
        self.out, self.seed, self.workers = out, str(seed), workers
        self.fused, self.processes = fused, processes
        self.shared = ["--root", str(out)]

    def path(self, *parts: str) -> str:
        """Return a path in the folder of the demo."""
        return str(self.out.joinpath(*parts))

    # ── data ──────────────────────────────────────────────────────────────────────────────────

    def questions(self, scenes: int, size: Size) -> None:
        """Make checked questions in two parts that share no room."""
        render = ["render", "--teacher", "sim:quality=fast", "--scenes", str(scenes)]
        render += ["--draws", str(size.draws), "--frames", "ends", "--size", "128x128"]
        render += ["--seed", self.seed, "-o", self.path(), *self.shared]
        if self.workers > 1 and not (self.out / "clips.jsonl").exists():
            parts = [f"{k}/{self.workers}" for k in range(self.workers)]
            _steps([([*render, "--shard", part], None) for part in parts], self.workers)
        self._records("clips", render)
        self._records("boxed", ["annotate", self.path("clips.jsonl"), "--detector", "oracle"])
        self._records("asked", ["build-tasks", self.path("boxed.jsonl"), "--seed", self.seed])
        shares = f"train={1 - size.test:g},test={size.test:g}"
        checked = ["validate", self.path("asked.jsonl"), "--seed", self.seed, "--split", shares]
        checked += ["-o", self.path("parts"), "--rejects", self.path("rejects.jsonl")]
        self._records("questions", [*checked, "--report", self.path("checks.json")])
        for part, most in (("train", size.learned), ("test", size.asked)):
            even = ["validate", self.path("parts", f"{part}.jsonl"), "--check", "duplicates"]
            even += ["--balance", "tasks", "--per-task", str(most), "--seed", self.seed]
            self._records(part, even)

    def _records(self, name: str, arguments: list[str]) -> None:
        """Run a command whose records go to NAME.jsonl and its figures to NAME.summary.json."""
        shared = [] if arguments[-2:] == self.shared else self.shared
        summary = ["--summary", self.path(f"{name}.summary.json")]
        _step([*arguments, *shared, *summary], self.out / f"{name}.jsonl")

    # ── learning ──────────────────────────────────────────────────────────────────────────────

    def learn(self, student: str, size: Size, full: bool) -> list[str]:
        """Train and evaluate; return what the page is about."""
        train = self._train("sft", "sft", student, size.sft, *_ALL)
        best = self._train("grpo", "grpo", train, size.grpo, *_SMALL)
        students = {"base": student, "sft": train, "grpo": best}
        if full:
            for way in ("forward", "inverse"):
                only = (*_ALL, "--direction", way)
                students[way] = self._train(f"sft-{way}", "sft", student, size.sft, *only)
        steps = [self._exam(name, asked) for name, asked in students.items()]
        at_once = len(steps) if student.partition(":")[0] == "tiny" else 1  # others are large
        _steps(steps, at_once, threads=max(1, cores() // at_once))
        blind = self.path("eval", "base", "blind.jsonl")
        exams = [blind, *(self.path("eval", name) for name in ("base", "sft", "grpo"))]
        table = ["compare", *exams, "--metric", "reward"]
        _step([*table, "--against", "previous"], self.out / "learned.md")
        _step(table, self.out / "above-blind.md")
        if full:
            ways = ("base", "forward", "inverse", "sft")
            runs = [self.path("eval", name) for name in ways]
            _step(["compare", *runs, "--metric", "reward"], self.out / "ablation.md")
        return [*exams, self.path("sft"), self.path("grpo")]

    def _train(
        self, name: str, method: str, student: str, sets: tuple[str, ...], *more: str
    ) -> str:
        """Train a student; return the folder of the run."""
        folder = self.path(name)
        student += self.fused
        command = [method, self.path("train.jsonl"), "--student", student, "-o", folder]
        command += ["--holdout", "0", "--seed", self.seed]
        for value in sets:
            command += ["--set", value]
        command += [*more, *self.shared]
        result = self.out / f"{name}.run.jsonl"
        _steps([(command, result)], threads=cores() // self.processes, processes=self.processes)
        return folder

    def _exam(self, name: str, student: str) -> Step:
        """Return the step that asks a student about the rooms that were kept apart."""
        command = ["eval", self.path("test.jsonl"), "--student", student, "--batch-size", "64"]
        command += ["-o", self.path("eval", name), "--train", self.path("train.jsonl")]
        command += ["--blind" if name == "base" else "--no-blind", *self.shared]
        return command, self.out / f"{name}.answers.jsonl"

    # ── the end ───────────────────────────────────────────────────────────────────────────────

    def page(self, learned: list[str]) -> None:
        """Write the page and the contact sheets."""
        page = ["report", *learned, self.path(), "-o", self.path("report.html")]
        _step([*page, "--sheets", self.path("sheets"), *self.shared], None)


def _environment(threads: int) -> dict[str, str]:
    """Return the environment of a step: its threads, and no Slurm array of our own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_ARRAY")}
    return {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1", **kept}


def _command(arguments: list[str], processes: int) -> list[str]:
    import shlex

    if processes == 1:
        click.echo(f"$ w2v {shlex.join(arguments)}", err=True)
        return [sys.executable, "-m", "w2v", *arguments]
    launcher = ["--standalone", "--nproc_per_node", str(processes), "-m", "w2v", *arguments]
    click.echo(f"$ torchrun {shlex.join(launcher)}", err=True)
    return [sys.executable, "-m", "torch.distributed.run", *launcher]


def _step(arguments: list[str], result: Path | None) -> None:
    """Run one command; what it writes appears under ``result`` only when it is done."""
    _steps([(arguments, result)])


def _steps(steps: Sequence[Step], at_once: int = 1, threads: int = 1, processes: int = 1) -> None:
    """Run several commands, some at a time, and wait for all; stop the rest when one fails.

    Args:
        steps: The commands.
        at_once: How many of them run at a time.
        threads: Of each process.
        processes: Of each command.
    """
    import subprocess
    from concurrent.futures import ThreadPoolExecutor

    running: list[subprocess.Popen[bytes]] = []

    def run(step: Step) -> None:
        arguments, result = step
        part = result.with_name(f".{result.name}.part") if result else Path(os.devnull)
        with open(part, "wb") as file:
            command, environment = _command(arguments, processes), _environment(threads)
            process = subprocess.Popen(command, stdout=file, env=environment)
            running.append(process)
            if code := process.wait():
                raise StepFailed(arguments[0], code)
        if result:
            part.replace(result)

    with ThreadPoolExecutor(at_once) as pool:
        try:
            for done in [pool.submit(run, step) for step in steps]:
                done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()  # one that has ended does not mind


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
    for name in ("learned.md", "above-blind.md", "ablation.md"):
        if (out / name).exists():
            click.echo(f"\n{name}:\n{(out / name).read_text(encoding='utf-8')}", err=True)
