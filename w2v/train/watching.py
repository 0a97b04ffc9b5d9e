"""What a run says while it goes on: a bar with the time left, lines of figures, metrics.jsonl."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from w2v import stream
from w2v.stream import Stage
from w2v.train import runs

LINES = 20
"""How many lines of figures a run writes to stderr, about; all go to metrics.jsonl."""
SHOWN = ("loss", "reward", "kl", "eval_loss", "learning_rate")


class Watcher(TrainerCallback):  # type: ignore[misc]
    """Writes every figure to ``metrics.jsonl`` and shows some."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage, self.path = stage, folder / runs.METRICS
        self._bar: Iterator[int] | None = None
        self._shown = -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Take out figures of steps that will be done again, and start the bar."""
        if not state.is_world_process_zero:
            return
        runs.trim(self.path, state.global_step)
        self.stage.unit = "steps"
        self._bar = self.stage.progress(range(state.max_steps), total=state.max_steps)
        for _ in range(state.global_step):
            next(self._bar, None)

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Move the bar on."""
        if self._bar is not None:
            next(self._bar, None)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **named: Any
    ) -> None:
        """Write the figures of a step."""
        if not state.is_world_process_zero or not logs:
            return
        figures = {key: _finite(value) for key, value in logs.items()}
        with self.path.open("a", encoding="utf-8") as out:
            out.write(stream.dumps({"step": state.global_step, **figures}) + "\n")
        part = state.global_step * LINES // max(1, state.max_steps)
        told = ", ".join(f"{k} {figures[k]:.4g}" for k in SHOWN if _is_number(figures.get(k)))
        if told and (part != self._shown or "eval_loss" in figures):
            self._shown = part
            self.stage.log(f"step {state.global_step}/{state.max_steps}: {told}")

    @staticmethod
    def replace_printers(trainer: Any, watcher: Watcher) -> None:
        """Put a watcher in the place of what transformers would print."""
        for printer in (PrinterCallback, ProgressCallback):
            trainer.pop_callback(printer)
        trainer.add_callback(watcher)


def _finite(value: Any) -> Any:
    """Return a number that JSON can hold; None for one that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, int | float | str | None) else float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def last_figures(path: Path) -> dict[str, Any]:
    """Return the last value of every figure in a file of metrics."""
    last: dict[str, Any] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            last |= {k: v for k, v in stream.loads(line).items() if v is not None}
    return last
