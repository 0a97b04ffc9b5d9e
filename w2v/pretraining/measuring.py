"""How well the base sees: questions about rooms that it has not learned from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from w2v import boxes
from w2v.pretraining import asking
from w2v.pretraining.rows import Batch, Rooms

WAYS = ("between", "shift")
"""Kinds that are answered with how far something lies, and which way."""
NONE = (0.0,) * 4
"""In place of a box that was not said."""
BATCH, LONGEST = 50, 44


def measure(model: Any, rooms: Rooms, most: int = 800) -> dict[str, float]:
    """Return the share of right answers of each kind of question; boxes count by their IoU.

    Errors are medians, in shares of the picture: ``box error`` that of a side where an object was
    asked for by name, ``shift error`` and ``between error`` those of a distance; ``far error`` is
    in shares of how far the object is. Answers are made as by any user: the real processor and
    ``generate``.
    """
    batch = rooms.apart(most)
    said = answers(model, rooms.writer.processor, batch)
    earned: dict[str, list[float]] = defaultdict(list)
    errors: dict[str, list[float]] = defaultdict(list)
    for (_, question), text in zip(batch.asked, said, strict=True):
        kind, truth = question.kind, boxes.find(question.answer)
        if kind in WAYS:
            errors[kind].append(_apart(asking.way(text), asking.way(question.answer)))
            continue
        if kind == "far":
            errors[kind].append(_share(asking.meters(text), asking.meters(question.answer)))
            continue
        if not truth:
            earned[kind].append(text == question.answer)
            continue
        told = boxes.find(text)
        found = told if len(told) == len(truth) else [NONE] * len(truth)
        pairs = list(zip(found, truth, strict=True))
        earned[kind].append(sum(boxes.iou(*pair) for pair in pairs) / len(pairs))
        if kind == "where":
            errors["box"].append(_apart(found[0], truth[0]))
    figures = {kind: sum(values) / len(values) for kind, values in sorted(earned.items())}
    medians = {f"{kind} error": float(np.median(v)) for kind, v in sorted(errors.items())}
    return figures | medians


def _apart(said: Sequence[float] | None, truth: Sequence[float] | None) -> float:
    """Return the mean distance of numbers on the grid, in shares; 1 where none were said."""
    if said is None or truth is None or said == NONE:
        return 1.0
    return float(np.mean(np.abs(np.subtract(said, truth)))) / boxes.GRID


def _share(said: float | None, truth: float | None) -> float:
    """Return how far a distance is off, in shares of the true one; 1 where none was said."""
    return 1.0 if said is None or not truth else abs(said - truth) / truth


def answers(model: Any, processor: Any, batch: Batch) -> list[str]:
    """Return what a model says to the questions of a batch, greedily."""
    said: list[str] = []
    places = range(len(batch.asked))
    for at in range(0, len(places), BATCH):
        said += _say(model, processor, batch, places[at : at + BATCH])
    return said


def _say(model: Any, processor: Any, batch: Batch, places: Sequence[int]) -> list[str]:
    chats, shown = [], []
    for place in places:
        shows, question = batch.asked[place]
        pictures = [batch.views[k].frame for k in shows]
        images = [{"type": "image"}] * len(pictures)
        text = {"type": "text", "text": question.text}
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
