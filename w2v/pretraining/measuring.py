"""How well the base sees: questions about rooms that it has not learned from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from w2v import boxes
from w2v.pretraining.rows import Batch, Rooms

BOXES = ("where", "where color", "exactly")
"""Kinds that are answered with a box."""
BATCH, LONGEST = 50, 24


def measure(model: Any, rooms: Rooms, most: int = 800) -> dict[str, float]:
    """Return the share of right answers of each kind of question; boxes count by their IoU.

    ``box error`` is the median distance of a side from its place, in shares of the picture, where
    an object was asked for by name. Answers are made as by any user: the real processor and
    ``generate``.
    """
    batch = rooms.apart(most)
    said = answers(model, rooms.writer.processor, batch)
    earned: dict[str, list[float]] = defaultdict(list)
    errors: list[float] = []
    for question, text in zip(batch.asked, said, strict=True):
        if question.kind not in BOXES:
            earned[question.kind].append(text == question.answer)
            continue
        (truth,), told = boxes.find(question.answer), boxes.find(text)
        earned[question.kind].append(boxes.iou(told[0], truth) if told else 0.0)
        if question.kind == "where":
            gaps = np.abs(np.subtract(told[0], truth)) if told else boxes.GRID
            errors.append(float(np.mean(gaps)) / boxes.GRID)
    figures = {kind: sum(values) / len(values) for kind, values in sorted(earned.items())}
    return figures | {"box error": float(np.median(errors))} if errors else figures


def answers(model: Any, processor: Any, batch: Batch) -> list[str]:
    """Return what a model says to the questions of a batch, greedily."""
    said: list[str] = []
    places = range(len(batch.rows))
    for at in range(0, len(places), BATCH):
        said += _say(model, processor, batch, places[at : at + BATCH])
    return said


def _say(model: Any, processor: Any, batch: Batch, places: Sequence[int]) -> list[str]:
    chats, shown = [], []
    for place in places:
        pictures = [batch.views[k].frame for k in batch.rows[place].pictures]
        images = [{"type": "image"}] * len(pictures)
        text = {"type": "text", "text": batch.asked[place].text}
        chats.append([{"role": "user", "content": [*images, text]}])
        shown.append([torch.from_numpy(frame).permute(2, 0, 1) for frame in pictures])
    texts = processor.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    asked = processor(text=texts, images=shown, padding=True, return_tensors="pt")
    with torch.inference_mode():
        told = model.eval().generate(
            **asked.to(model.device), max_new_tokens=LONGEST, do_sample=False
        )
    new = told[:, asked["input_ids"].shape[1] :]
    words = processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    return [text.strip() for text in words]
