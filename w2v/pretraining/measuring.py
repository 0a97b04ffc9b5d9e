"""How well the base sees: questions about rooms that it has not learned from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

from w2v import boxes
from w2v.pretraining.rows import Rooms, Row, collate

BOXES = ("where", "where color", "exactly")
"""Kinds that are answered with a box."""
BATCH, LONGEST = 50, 24


def measure(model: Any, rooms: Rooms, most: int = 400) -> dict[str, float]:
    """Return the share of right answers of each kind of question; boxes count by their IoU.

    ``box error`` is the median distance of a side from its place, in shares of the picture, where
    an object was asked for by name.
    """
    asked = list(rooms.apart(most))
    said: list[str] = []
    for at in range(0, len(asked), BATCH):
        said += _say(model, rooms.writer.processor, [row for row, _ in asked[at : at + BATCH]])
    earned: dict[str, list[float]] = defaultdict(list)
    errors: list[float] = []
    for (_, question), text in zip(asked, said, strict=True):
        if question.kind not in BOXES:
            earned[question.kind].append(text == question.answer)
            continue
        (truth,), told = boxes.find(question.answer), boxes.find(text)
        earned[question.kind].append(boxes.iou(told[0], truth) if told else 0.0)
        if question.kind == "where":
            gaps = (
                [abs(a - b) for a, b in zip(told[0], truth, strict=True)] if told else [boxes.GRID]
            )
            errors.append(sum(gaps) / len(gaps) / boxes.GRID)
    figures = {kind: sum(values) / len(values) for kind, values in sorted(earned.items())}
    return figures | {"box error": sorted(errors)[len(errors) // 2]} if errors else figures


def _say(model: Any, processor: Any, rows: Sequence[Row]) -> list[str]:
    """Return what the model says to rows of one question, greedily."""
    ends = (row.answers.index(True) for row in rows)
    asked = [Row(r.ids[:end], r.answers[:end], r.views) for r, end in zip(rows, ends, strict=True)]
    batch = collate(asked, processor, left=True)
    del batch["labels"]
    with torch.inference_mode():
        told = model.eval().generate(
            **{k: v.to(model.device) for k, v in batch.items()},
            max_new_tokens=LONGEST,
            do_sample=False,
        )
    new = told[:, batch["input_ids"].shape[1] :]
    words = processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    return [text.strip() for text in words]
