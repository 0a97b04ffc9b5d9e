"""An adapter and its base as one ordinary checkpoint, which is proven to say the same."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from w2v.errors import BadFile, CheckFailed, ForeignOutput
from w2v.records import Question, Run
from w2v.stream import Stage
from w2v.students import folders, resolve
from w2v.students.hf import HFStudent
from w2v.train import cards, checkpoints, data, running, runs

TOLERANCE = 1e-4
"""How far logits may lie apart, in units of the largest of them where that is above 1."""


def merge(stage: Stage, source: Path, output: Path, dtype: str = "auto") -> Run | None:
    """Write the merged model of a run, or of one of its checkpoints, into a new folder.

    Merging is done in float32. The logits of the merged weights are compared with those of base
    and adapter on the questions that the run has kept; then every tensor that was written is
    compared with the one that was meant, and only then the folder gets its name.

    Args:
        stage: To speak through.
        source: Folder with an adapter.
        output: Must not exist, or be empty.
        dtype: Of the written weights; ``auto`` is that of the base.

    Raises:
        BadFile: There is no adapter, or no question to compare with.
        ForeignOutput: The output folder holds something.
        CheckFailed: The merged model says something else; nothing is written.
    """
    if not source.is_dir() or not folders.is_adapter(source):
        raise BadFile(
            f"{source}: holds no adapter, so there is nothing to merge",
            "name the folder of a run with --tune lora or qlora, or one of its checkpoints",
        )
    if output.exists() and any(output.iterdir()):
        raise ForeignOutput(f"{output}: is not empty", "name a new folder with -o")
    questions = runs.samples(source if (source / runs.SAMPLES).exists() else source.parent)
    student = resolve.student(str(source))
    if stage.settings.dry_run:
        return None
    staging = output.parent / f".{output.name}.merging"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        gap = _write(student, questions, staging, _dtype(student, dtype))
        stage.log(f"logits on {len(questions)} questions lie {gap:.1e} apart")
        record = _record(stage, source, output, gap)
        folders.write_settings(staging, _settings(student))
        cards.write(staging, record, _settings(student), record.settings.get("tasks", {}))
        checkpoints.place(staging, output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return record


def _dtype(student: HFStudent, name: str) -> torch.dtype:
    """Return the type to write weights in."""
    wanted = running.base_dtype(student) if name == "auto" else getattr(torch, name)
    return wanted if isinstance(wanted, torch.dtype) else torch.float32


def _settings(student: HFStudent) -> dict[str, Any]:
    """Return what ``w2v.json`` says beside merged weights: the adapter's, but for its base."""
    return {**student.settings, "method": "merge"}


def _write(
    student: HFStudent, questions: Sequence[Question], folder: Path, dtype: torch.dtype
) -> float:
    """Write the merged model; return how far its logits lie from those of base and adapter."""
    loaded = student.load(dtype="float32")
    batches = [_encode(student, question) for question in questions]
    before = _logits(loaded.model, batches)
    merged = loaded.model.merge_and_unload(safe_merge=True)
    gap = distance(before, _logits(merged, batches))
    if not gap <= TOLERANCE:
        raise CheckFailed(
            f"the merged model's logits lie {gap:.1e} from those of base and adapter, "
            f"more than {TOLERANCE:.0e}; nothing was written"
        )
    merged = merged.to(dtype)
    merged.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    _verify(merged, folder)
    return gap


def _encode(student: HFStudent, question: Question) -> dict[str, Any]:
    """Return the model's input for a question and its right answer."""
    shown = [data.picture(path) for path in question.images]
    frames = student.family.frames(student.processor, [picture.size for picture in shown])
    text = student.processor.apply_chat_template(
        student.family.messages(question, answer=True, frames=frames), tokenize=False
    )
    made: dict[str, Any] = student.processor(
        text=[text],
        images=[shown] if shown else None,
        return_tensors="pt",
        add_special_tokens=False,
    )
    return made


def _logits(model: Any, batches: Sequence[dict[str, Any]]) -> list[torch.Tensor]:
    """Return (tokens, words) logits of each input."""
    with torch.inference_mode():
        return [
            model(**{k: v.to(model.device) for k, v in batch.items()}).logits[0].float().cpu()
            for batch in batches
        ]


def distance(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> float:
    """Return the largest difference of two lists of logits, in units of their size above 1."""
    pairs = list(zip(one, other, strict=True))
    return max(float((a - b).abs().max()) / max(1.0, float(a.abs().max())) for a, b in pairs)


def _verify(model: Any, folder: Path) -> None:
    """Make sure that a model loaded from the folder has exactly these weights.

    Raises:
        CheckFailed: Something was lost or changed by writing it.
    """
    loaded, told = type(model).from_pretrained(
        folder, dtype=model.dtype, output_loading_info=True, local_files_only=True
    )
    lost = sorted(told["missing_keys"])
    kept = loaded.state_dict()
    changed = [k for k, v in model.state_dict().items() if not torch.equal(v.cpu(), kept[k].cpu())]
    if lost or changed:
        raise CheckFailed(f"{(lost + changed)[0]} does not come back from disk as it was merged")


def _record(stage: Stage, source: Path, output: Path, gap: float) -> Run:
    """Return the record of the merged model: that of its run, with a checkpoint of its own."""
    run = runs.finished(source if (source / runs.STATE).exists() else source.parent)
    return Run(
        id=f"{output.resolve().name}-merged",
        method="merge",
        student=str(source),
        checkpoint=running.place_name(output, stage.settings.root),
        trained_on=run.trained_on if run else "",
        settings=dict(run.settings) if run else {},
        metrics={**(run.metrics if run else {}), "logits_apart": gap},
        meta=dict(run.meta) if run else cards.versions(),
    )
