"""The folder of a run: whose it is, whether it is finished, and what is kept beside the weights.

DIR/run.json            settings, and the record once the run is finished
DIR/metrics.jsonl       a line for every logged step
DIR/rollouts.jsonl      grpo: some of what was said, and what it was worth
DIR/checkpoint-N/       all that is needed to go on from step N
DIR/samples/            a few questions with their pictures, to verify a merged model with
DIR/*.safetensors, …    the weights, once the run is finished
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from w2v import stream
from w2v.errors import BadFile, ForeignOutput, W2VError
from w2v.provenance import digest
from w2v.records import Question, Run

STATE, METRICS, ROLLOUTS, SAMPLES = "run.json", "metrics.jsonl", "rollouts.jsonl", "samples"


def claim(folder: Path, settings: Mapping[str, Any]) -> Run | None:
    """Make the folder this run's own; return the record if the run is finished already.

    Raises:
        ForeignOutput: It holds a run with other settings that has come somewhere, or something
            else.
    """
    state = _read(folder / STATE)
    if state is None:
        foreign = folder.exists() and any(not p.name.startswith(".") for p in folder.iterdir())
        # Of several processes that start together, one may have come first just now.
        state = _read(folder / STATE) if foreign else None
        if foreign and state is None:
            raise ForeignOutput(
                f"{folder}: holds something that is not a run of w2v", "name a new folder with -o"
            )
    if state is None:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, settings, None)
        return None
    if state["settings"] != _plain(settings):
        if state["record"] is None and not any(folder.glob("checkpoint-*")):
            _write(folder, settings, None)  # it failed before anything was learnt
            return None
        told = "; ".join(_differences(state["settings"], _plain(settings)))
        raise ForeignOutput(
            f"{folder}: holds a run with other settings ({told})", "name a new folder with -o"
        )
    return finished(folder)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder while the block runs.

    Raises:
        ForeignOutput: One is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ForeignOutput(
                f"{folder}: another process is training there",
                "wait for it, end it, or name a new folder with -o",
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(lock)


def finished(folder: Path) -> Run | None:
    """Return the record of a finished run, None of any other."""
    state = _read(folder / STATE)
    return Run.from_json(state["record"]) if state and state["record"] else None


def finish(folder: Path, settings: Mapping[str, Any], record: Run) -> None:
    """Note that the run is finished."""
    _write(folder, settings, record)


def _write(folder: Path, settings: Mapping[str, Any], record: Run | None) -> None:
    state = {"settings": settings, "record": record.to_json() if record else None}
    stream.write_atomic(folder / STATE, json.dumps(state, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return {"settings": state["settings"], "record": state["record"]}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(f"{path}: is no state of a run ({error})", "name a new folder") from error


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they come back from a file."""
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs, at most five things."""
    keys = [key for key in sorted({*there, *here}) if there.get(key) != here.get(key)]
    for key in keys[:5]:
        yield f"{key} {_short(there.get(key))} there, {_short(here.get(key))} here"
    if len(keys) > 5:
        yield f"and {len(keys) - 5} more"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else digest(value)


def trim(path: Path, step: int) -> None:
    """Take out lines of later steps, and a last line that was cut, before a run goes on."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            row = stream.loads(line)
        except ValueError:
            continue
        if line.endswith("\n") and row.get("step", 0) <= step:
            kept.append(line)
    stream.write_atomic(path, "".join(kept))


# ── samples ───────────────────────────────────────────────────────────────────────────────────


def save_samples(folder: Path, questions: Sequence[Question]) -> None:
    """Keep questions with copies of their pictures."""
    home = folder / SAMPLES
    home.mkdir(exist_ok=True)
    lines = []
    for number, question in enumerate(questions):
        names = []
        for place, image in enumerate(question.images):
            name = f"{number}-{place}{Path(image).suffix}"
            shutil.copyfile(image, home / name)
            names.append(name)
        lines.append(stream.line(replace(question, images=tuple(names), bundle="")))
    stream.write_atomic(home / "questions.jsonl", "".join(lines))


def samples(folder: Path) -> list[Question]:
    """Return the kept questions, their pictures as files that can be opened.

    Raises:
        BadFile: There are none, or they are not whole.
    """
    home = folder / SAMPLES
    try:
        lines = (home / "questions.jsonl").read_text(encoding="utf-8").splitlines()
        found = [Question.from_json(stream.loads(line)) for line in lines]
    except (OSError, ValueError, W2VError) as error:
        raise BadFile(f"{home}: no samples can be read there ({error})") from error
    return [replace(q, images=tuple(str(home / name) for name in q.images)) for q in found]
