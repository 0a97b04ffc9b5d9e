"""Open-vocabulary detection with the zero-shot models of transformers, then tracking.

Two families answer differently. Grounding DINO reads all labels as one sentence and scores every
box against every token; OWL-ViT, OWLv2 and OmDet-Turbo score every box against every label.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from w2v import torchvision_cpu
from w2v.detectors import filters, options, tracking, weights
from w2v.errors import BadFile, W2VError
from w2v.kinds import Footage
from w2v.records import Box

torchvision_cpu.install()

import torch  # noqa: E402
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor  # noqa: E402
from transformers.utils import cached_file  # noqa: E402

PHRASES = ("grounding-dino", "mm-grounding-dino")
PROMPTS = {"owlvit": "a photo of a {}", "owlv2": "a photo of a {}"}
"""How a label is put to a model; OWL-ViT was trained with such templates (arXiv 2205.06230)."""
UNSURE = 0.5
"""Share of the score from which a detection may still continue a track."""

Raw = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Of one frame: (N, 4) float xyxy pixels, (N,) scores and (N,) indices of labels."""


class ZeroShot:
    """A zero-shot detector with a tracker behind it."""

    def __init__(
        self,
        model: str,
        labels: Sequence[str],
        score: float,
        nms: float,
        tracker: str,
        device: str,
        batch: int,
    ) -> None:
        self.labels = options.vocabulary(labels)
        self.score, self.nms, self.batch = score, nms, max(1, batch)
        self.tracker = options.tracker(tracker)
        self.name = os.path.expanduser(model)
        self.model = load(self.name, device)
        self._digest = ""

    def describe(self) -> dict[str, Any]:
        """Return what the boxes depend on: weights, labels, versions."""
        if not self._digest:
            self._digest = weights.digest(_folder(self.name))
        return {
            "model": self.name,
            "weights": self._digest,
            "labels": list(self.labels),
            "transformers": weights.version("transformers"),
            "trackers": weights.version("trackers"),
        }

    def detect(self, footage: Footage) -> list[Box]:
        """Return the boxes of all frames, each object under one track."""
        frames = footage.frames
        found: list[list[Box]] = []
        for start in range(0, len(frames), self.batch):
            pictures = list(frames[start : start + self.batch])
            for picture, raw in zip(pictures, self._look(pictures), strict=True):
                boxes = _boxes(raw, len(found), self.labels, picture.shape[1], picture.shape[0])
                found.append(filters.suppress(boxes, self.nms))
        return tracking.follow(frames, found, self.score, self.tracker)

    def _look(self, pictures: Sequence[np.ndarray]) -> list[Raw]:
        """Return the raw detections of a batch of frames."""
        try:
            with torch.inference_mode():
                return self.model.look(pictures, self.labels, self.score * UNSURE)
        except torch.OutOfMemoryError as error:
            raise W2VError(
                f"{self.name}: out of memory on {self.model.device} with {len(pictures)} frames",
                "look at fewer frames at a time: zero-shot:batch=1,…",
            ) from error


@dataclass(frozen=True)
class Matcher:
    """A model that scores every box against every label: OWL-ViT, OWLv2, OmDet-Turbo."""

    model: Any
    processor: Any
    device: str

    def look(
        self, pictures: Sequence[np.ndarray], labels: Sequence[str], floor: float
    ) -> list[Raw]:
        """Return the detections of each picture that score more than ``floor``."""
        prompt = PROMPTS.get(self.model.config.model_type, "{}")
        texts = [[prompt.format(label) for label in labels]] * len(pictures)
        asked = self.processor(
            images=list(pictures), text=texts, return_tensors="pt", truncation=True
        )
        given = self.model(**asked.to(self.device))
        told = self.processor.post_process_grounded_object_detection(
            given, threshold=floor, target_sizes=[p.shape[:2] for p in pictures]
        )
        return [(one["boxes"].cpu(), one["scores"].cpu(), one["labels"].cpu()) for one in told]


@dataclass(frozen=True)
class Reader:
    """A model that reads all labels as one sentence: Grounding DINO, MM Grounding DINO."""

    model: Any
    processor: Any
    device: str

    def look(
        self, pictures: Sequence[np.ndarray], labels: Sequence[str], floor: float
    ) -> list[Raw]:
        """Return the detections of each picture that score more than ``floor``.

        A vocabulary that is too long for one sentence is asked in several.
        """
        parts: list[list[Raw]] = [[] for _ in pictures]
        for first, group in self.sentences(labels):
            text, spans = self.spell(group)
            asked = self.processor(
                images=list(pictures), text=[text] * len(pictures), return_tensors="pt"
            )
            given = self.model(**asked.to(self.device))
            for part, logits, boxes, picture in zip(
                parts, given.logits.cpu(), given.pred_boxes.cpu(), pictures, strict=True
            ):
                xyxy, scores, which = read_phrases(logits, boxes, spans, floor)
                height, width = picture.shape[:2]
                part.append((xyxy * torch.tensor([width, height] * 2), scores, which + first))
        return [_join(part) for part in parts]

    def sentences(self, labels: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Yield the labels in groups that fit the model's text, each with its first index."""
        limit = int(self.model.config.max_text_len)
        first, group = 0, [labels[0]]
        for k, label in enumerate(labels[1:], start=1):
            if len(self.processor.tokenizer(self.sentence([*group, label])).input_ids) > limit:
                yield first, group
                first, group = k, []
            group = [*group, label]
        yield first, group

    @staticmethod
    def sentence(labels: Sequence[str]) -> str:
        """Return the sentence that asks for some labels: lower case, each ended by a full stop."""
        return " ".join(f"{label.lower()}." for label in labels)

    def spell(self, labels: Sequence[str]) -> tuple[str, list[list[int]]]:
        """Return the sentence and, for each label, the indices of its tokens."""
        text = self.sentence(labels)
        offsets = self.processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        spans, start = [], 0
        for label in labels:
            end = start + len(label.lower())
            spans.append([k for k, (a, b) in enumerate(offsets) if start <= a < b <= end])
            start = end + len(". ")
        return text, spans


def read_phrases(
    logits: torch.Tensor, boxes: torch.Tensor, spans: Sequence[Sequence[int]], floor: float
) -> Raw:
    """Return the boxes that score more than ``floor`` for a label, each with its best label.

    A box's score for a label is the greatest probability among the label's own tokens. The
    processor of transformers instead joins all tokens above a threshold, which yields phrases
    that are no label ("chair table", "##vision") and boxes without one.

    Args:
        logits: (N, T) of N boxes against T tokens.
        boxes: (N, 4) centre, width and height in 0..1.
        spans: The tokens of each label.
        floor: Least score.

    Returns:
        Corners in 0..1, scores, indices of labels.
    """
    odds = logits.sigmoid()
    scores, which = torch.stack([odds[:, list(s)].amax(dim=1) for s in spans], dim=1).max(dim=1)
    keep = scores > floor
    centre, half = boxes[keep, :2], boxes[keep, 2:] / 2
    return torch.cat([centre - half, centre + half], dim=1), scores[keep], which[keep]


def _join(parts: Sequence[Raw]) -> Raw:
    """Return what several sentences found in one picture."""
    boxes, scores, which = zip(*parts, strict=True)
    return torch.cat(boxes), torch.cat(scores), torch.cat(which)


def _boxes(raw: Raw, frame: int, labels: Sequence[str], width: int, height: int) -> list[Box]:
    """Return the detections of one frame, cut at its border; what is left of a pixel goes."""
    found = []
    for (x1, y1, x2, y2), score, which in zip(*(part.tolist() for part in raw), strict=True):
        left, top = max(0.0, x1), max(0.0, y1)
        right, bottom = min(float(width), x2), min(float(height), y2)
        if right - left >= 1 and bottom - top >= 1:
            box = (left, top, right, bottom)
            found.append(Box(frame=frame, track=None, label=labels[which], xyxy=box, score=score))
    return found


def load(model: str, device: str) -> Matcher | Reader:
    """Return a model on its device; what is on disk already is never looked for elsewhere.

    Raises:
        BadFile: There is no such folder, or it holds no zero-shot detector.
    """
    if model.startswith((".", "/")) and not Path(model).is_dir():
        raise BadFile(f"{model}: no such folder")
    try:
        processor, network = _from_disk_first(AutoProcessor, model), _network(model)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadFile(
            f"{model}: not a zero-shot detector that can be loaded ({reason})",
            "give its folder, or fetch one first: hf download IDEA-Research/grounding-dino-tiny",
        ) from error
    kind = Reader if network.config.model_type in PHRASES else Matcher
    place = options.device(device)
    return kind(network.to(place).eval(), processor, place)


def _network(model: str) -> Any:
    return _from_disk_first(AutoModelForZeroShotObjectDetection, model, use_safetensors=True)


def _folder(model: str) -> Path:
    """Return the folder that a model lies in: itself, or its snapshot in the local cache."""
    if Path(model).is_dir():
        return Path(model)
    return Path(cached_file(model, "config.json", local_files_only=True)).parent


def _from_disk_first(auto: Any, model: str, **options: Any) -> Any:
    """Load from the folder or the local cache; only then, and only if allowed, from the hub."""
    try:
        return auto.from_pretrained(model, local_files_only=True, **options)
    except OSError:
        if Path(model).is_dir() or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
            raise
    return auto.from_pretrained(model, **options)
