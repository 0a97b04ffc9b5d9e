"""YOLO and YOLO-World through ultralytics, which is AGPL-3.0: imported in this module alone.

The frames go through its tracker one by one with ``persist=True``. World2VLM hands it a list of
files instead, and then ultralytics starts afresh with every file: its ids are ranks by confidence.
Its trackers look at places and not at labels, so a track here is the pair of ultralytics' id and
label: where the label changes, another track starts.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from w2v import torchvision_cpu
from w2v.detectors import options, weights
from w2v.errors import BadFile, BadOption
from w2v.kinds import Footage
from w2v.records import Box

os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_OFFLINE", "true")
_SETTINGS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "w2v" / "ultralytics"
os.environ.setdefault("YOLO_CONFIG_DIR", str(_SETTINGS))
torchvision_cpu.install()

import torch  # noqa: E402
from ultralytics import YOLO  # noqa: E402

UNSURE = 0.1
"""Score from which a detection may continue a track."""
LOST = 10
"""Frames a lost track waits for its object; clips have 8 to 46, and a longer wait risks another."""


class Yolo:
    """A YOLO with one of ultralytics' trackers."""

    def __init__(
        self,
        model: str,
        labels: Sequence[str],
        clip: str,
        score: float,
        nms: float,
        tracker: str,
        size: int,
        device: str,
    ) -> None:
        self.file, self.score, self.nms, self.size = Path(model).expanduser(), score, nms, size
        self.clip = Path(clip).expanduser() if clip else None
        self.device = options.device(device)
        self.tracker = options.tracker(tracker)
        self.model = load(self.file)
        if labels:
            name(self.model, options.vocabulary(labels), self.clip)

    def describe(self) -> dict[str, Any]:
        """Return what the boxes depend on: weights, labels, versions."""
        return {
            "model": self.file.name,
            "weights": weights.digest(self.file),
            "clip": weights.digest(self.clip) if self.clip else "",
            "labels": [self.model.names[k] for k in sorted(self.model.names)],
            "ultralytics": weights.version("ultralytics"),
        }

    def detect(self, footage: Footage) -> list[Box]:
        """Return the boxes of all frames, each object under one track."""
        # Tracks of the clip before must not be continued.
        for tracker in getattr(self.model.predictor, "trackers", ()):
            tracker.reset()
        numbers: dict[tuple[int, str], int] = {}
        boxes: list[Box] = []
        with tempfile.TemporaryDirectory() as folder:
            file = settings(self.tracker, self.score, Path(folder))
            for index, frame in enumerate(footage.frames):
                boxes += self._look(index, frame, file, numbers)
        return boxes

    def _look(
        self, index: int, frame: np.ndarray, file: str, numbers: dict[tuple[int, str], int]
    ) -> Iterator[Box]:
        """Yield the boxes of the next frame.

        Args:
            index: Of the frame.
            frame: (H, W, 3) uint8 sRGB.
            file: Settings of the tracker.
            numbers: Our number for each id and label met so far; grows.
        """
        told = self.model.track(
            np.ascontiguousarray(frame[..., ::-1]),  # ultralytics takes arrays for BGR
            persist=True,
            tracker=file,
            conf=min(self.score, UNSURE),
            iou=self.nms,
            imgsz=self.size,
            device=self.device,
            verbose=False,
        )[0]
        height, width = frame.shape[:2]
        found = told.boxes
        ids = [None] * len(found) if found.id is None else found.id.int().tolist()
        rows = zip(found.xyxy.tolist(), found.conf.tolist(), found.cls.tolist(), ids, strict=True)
        for (x1, y1, x2, y2), score, which, track in rows:
            label = told.names[int(which)]
            left, top = max(0.0, x1), max(0.0, y1)
            right, bottom = min(float(width), x2), min(float(height), y2)
            if (track is None and score < self.score) or right - left < 1 or bottom - top < 1:
                continue
            yield Box(
                frame=index,
                track=track and numbers.setdefault((track, label), len(numbers) + 1),
                label=label,
                xyxy=(left, top, right, bottom),
                score=score,
            )


def settings(tracker: str, score: float, folder: Path) -> str:
    """Write the settings of a tracker to a file in the folder and return its path.

    Scores sort detections into sure and unsure ones; which detection belongs to which track is
    decided by place alone (``fuse_score`` off), so the order of scores cannot change an id.
    """
    told = {
        "tracker_type": tracker,
        "track_high_thresh": score,
        "new_track_thresh": score,
        "track_low_thresh": min(score, UNSURE),
        "track_buffer": LOST,
        "match_thresh": 0.8,
        "fuse_score": False,
        "gmc_method": "sparseOptFlow",
        "proximity_thresh": 0.5,
        "appearance_thresh": 0.8,
        "with_reid": False,
        "model": "auto",
    }
    file = folder / "tracker.yaml"
    file.write_text(json.dumps(told), encoding="utf-8")  # JSON is YAML
    return str(file)


def load(file: Path) -> Any:
    """Return the YOLO in a ``.pt`` file.

    Raises:
        BadFile: There is no such file, or it holds no YOLO.
    """
    hint = "fetch yolov8l-worldv2.pt from ultralytics' releases (AGPL-3.0) and give its path"
    if file.suffix != ".pt" or not file.is_file():
        raise BadFile(f"{file}: no such .pt file", hint)
    try:
        return YOLO(str(file), task="detect", verbose=False)
    except Exception as error:  # unpickling a foreign file may fail in any way
        raise BadFile(f"{file}: not a YOLO ({type(error).__name__}: {error})", hint) from error


def name(model: Any, labels: Sequence[str], clip: Path | None) -> None:
    """Make a YOLO-World look for other labels.

    Ultralytics' own way needs a package that is on no index; the same features come out of the
    CLIP text model of transformers.

    Raises:
        BadOption: It is no YOLO-World, or no matching CLIP was given.
    """
    network = model.model
    if not hasattr(network, "txt_feats"):
        raise BadOption(
            "this YOLO knows its own labels only: it is no YOLO-World",
            f"leave out labels; it has: {', '.join(map(str, model.names.values()))}",
        )
    if clip is None:
        raise BadOption(
            "labels need the CLIP text model that YOLO-World was trained with",
            "hf download openai/clip-vit-base-patch32, then add clip=FOLDER",
        )
    features = read(labels, clip)
    wanted = network.txt_feats.shape[-1]
    if features.shape[-1] != wanted:
        raise BadOption(f"{clip} has {features.shape[-1]} features, this YOLO-World needs {wanted}")
    network.txt_feats, network.model[-1].nc = features, len(labels)
    network.names = dict(enumerate(labels))
    model.predictor = None  # it holds a copy with the old labels


def read(labels: Sequence[str], clip: Path) -> torch.Tensor:
    """Return (1, N, D) text features of unit length from a folder with a CLIP.

    Raises:
        BadFile: The folder holds no CLIP text model.
    """
    from transformers import AutoTokenizer, CLIPTextModelWithProjection

    try:
        tokenizer = AutoTokenizer.from_pretrained(clip, local_files_only=True)
        encoder = CLIPTextModelWithProjection.from_pretrained(
            clip, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise BadFile(f"{clip}: not a CLIP text model ({error})") from error
    with torch.no_grad():
        given = tokenizer(list(labels), padding=True, truncation=True, return_tensors="pt")
        features = encoder.eval()(**given).text_embeds
    return torch.nn.functional.normalize(features, dim=-1)[None]
