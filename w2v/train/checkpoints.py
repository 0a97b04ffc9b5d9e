"""Checkpoints that are whole or not there, and a way to stop at any step.

A checkpoint is written under a hidden name, gets a receipt that lists its files and their sizes,
and is renamed into place. Whatever has no receipt, or not what its receipt says, is passed over.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback

from w2v import stream
from w2v.errors import INTERRUPTED
from w2v.students import folders

RECEIPT = "receipt.json"
STAGING = ".saving"
_NAME = re.compile(r"checkpoint-(\d+)")
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
REPEATED = 10.0
"""Seconds within which a second signal is the first one again, as a launcher passes it on."""


def latest(folder: Path) -> tuple[Path | None, list[Path]]:
    """Return the last whole checkpoint, and the later ones that are not whole."""
    torn: list[Path] = []
    for path in sorted(all_of(folder), key=step_of, reverse=True):
        if is_whole(path):
            return path, torn
        torn.append(path)
    return None, torn


def all_of(folder: Path) -> list[Path]:
    """Return every folder with the name of a checkpoint."""
    return [p for p in folder.iterdir() if p.is_dir() and _NAME.fullmatch(p.name)]


def step_of(path: Path) -> int:
    """Return the step that a checkpoint was written after."""
    return int(path.name.removeprefix("checkpoint-"))


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint holds what its receipt says."""
    try:
        listed = json.loads((path / RECEIPT).read_text(encoding="utf-8"))
        return bool(listed) and all((path / k).stat().st_size == n for k, n in listed.items())
    except (OSError, ValueError, AttributeError):
        return False


def sign(path: Path) -> None:
    """Put every file on disk for good, and list them in the receipt."""
    listed = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as written:
            os.fsync(written.fileno())
        listed[file.relative_to(path).as_posix()] = file.stat().st_size
    with (path / RECEIPT).open("w", encoding="utf-8") as receipt:
        json.dump(listed, receipt, indent=1)
        receipt.flush()
        os.fsync(receipt.fileno())


def share(path: Path) -> None:
    """Let others use a file, or those in a folder, as the umask lets them use new ones.

    What safetensors (0.8) writes is closed to all but its owner. A file system that knows no
    rights is left as it is.
    """
    rights = stream.rights()
    for file in [path, *path.rglob("*")]:
        if file.is_file():
            with contextlib.suppress(OSError):
                file.chmod(stat.S_IMODE(file.stat().st_mode) | rights)


def place(staged: Path, final: Path) -> None:
    """Rename a file or a whole folder into place; what has that name makes way."""
    share(staged)
    if final.is_dir():
        shutil.rmtree(final)
    os.replace(staged, final)


class Resumable:
    """Put before a trainer: its checkpoints are atomic and say which student they belong to."""

    keep: int | None = None
    """How many checkpoints stay; the best one and the last always do."""
    told: Mapping[str, Any] = {}
    """What ``w2v.json`` says beside the weights."""
    _staged: str | None = None

    def take_over(self, told: Mapping[str, Any]) -> None:
        """Set what is stored beside the weights; from now on old checkpoints are removed here."""
        me: Any = self
        self.told = told
        self.keep, me.args.save_total_limit = me.args.save_total_limit, None

    def _get_output_dir(self, trial: Any) -> str:
        me: Any = self
        return self._staged or str(me.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        me: Any = self
        home = Path(me.args.output_dir)
        staging, name = home / STAGING, f"checkpoint-{me.state.global_step}"
        if me.is_world_process_zero():
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        me.accelerator.wait_for_everyone()
        best, self._staged = me.state.best_model_checkpoint, str(staging)
        try:
            if me.state.best_global_step:
                best = str(home / f"checkpoint-{me.state.best_global_step}")
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
        finally:
            self._staged = None
        me.state.best_model_checkpoint = best
        me.accelerator.wait_for_everyone()
        if me.is_world_process_zero():
            me.state.save_to_json(str(staging / name / "trainer_state.json"))
            sign(staging / name)
            place(staging / name, home / name)
            shutil.rmtree(staging, ignore_errors=True)
            self._forget_old(home, best)
        me.accelerator.wait_for_everyone()

    def _forget_old(self, home: Path, best: str | None) -> None:
        """Remove all but the last checkpoints; torn ones too."""
        whole = []
        for path in sorted(all_of(home), key=step_of):
            if is_whole(path):
                whole.append(path)
            else:
                shutil.rmtree(path, ignore_errors=True)
        for path in whole[: -self.keep] if self.keep else ():
            if str(path) != best:
                shutil.rmtree(path, ignore_errors=True)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        me: Any = self
        super()._save(output_dir, state_dict=state_dict)  # type: ignore[misc]
        if me.args.should_save:
            folder = Path(output_dir or me.args.output_dir)
            place = Path(*(part for part in folder.parts if part != STAGING))
            folders.write_settings(folder, self.told, place=place)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Take up weights by transformers, which knows the names under which it saved them.

        The trainer's own way looks for the model's names, finds none where they were saved under
        those of the hub (as Qwen2.5-VL's are), and goes on from the start without a word.
        """
        me: Any = self
        if not self._holds_all_weights:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        saved = type(me.model).from_pretrained(
            resume_from_checkpoint, dtype=me.model.dtype, local_files_only=True
        )
        (me.model if model is None else model).load_state_dict(saved.state_dict())

    def _load_best_model(self) -> None:
        me: Any = self
        if self._holds_all_weights:
            self._load_from_checkpoint(me.state.best_model_checkpoint)
        else:
            super()._load_best_model()  # type: ignore[misc]

    @property
    def _holds_all_weights(self) -> bool:
        """Whether this process has the whole model: no adapter, no shards of DeepSpeed or FSDP."""
        me: Any = self
        sharded = me.is_deepspeed_enabled or me.is_fsdp_enabled
        return isinstance(me.model, PreTrainedModel) and not sharded

    def create_model_card(self, *given: Any, **named: Any) -> None:
        """Write none: ``w2v.train.cards`` does."""

    def _send_telemetry(self) -> None:
        """Send nothing."""


class Stopper(TrainerCallback):  # type: ignore[misc]
    """Turns SIGTERM and SIGUSR1 into: finish this step, save, stop. A later one leaves at once.

    Whether to stop is agreed on by all processes, since a signal may reach one of them alone. So
    is the end of torchrun, which is gone at once on a signal it does not know, while the
    processes that it started would go on for ever.
    """

    def __init__(self) -> None:
        self.asked = self.stopped = False
        self._heard = 0.0
        self._launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the block runs; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._heard > REPEATED:
            raise SystemExit(INTERRUPTED)
        if not self.asked:
            self.asked, self._heard = True, time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Save and stop, unless this was the last step anyway."""
        if self._launcher not in (None, os.getppid()):
            self.asked = True
        if self._agreed(args) and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Keep the end of an epoch from saving twice, or evaluating, where the run was stopped."""
        if self.stopped:
            control.should_save = control.should_evaluate = False

    def _agreed(self, args: Any) -> bool:
        """Return whether any process was asked to stop."""
        if args.world_size <= 1:
            return self.asked
        flag = torch.tensor([float(self.asked)], device=args.device)
        torch.distributed.all_reduce(flag)
        return bool(flag.item())
