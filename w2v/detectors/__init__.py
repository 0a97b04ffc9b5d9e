"""Detectors that come with w2v: a simulator's own knowledge, and open-vocabulary models.

A manifest: light to import. Each factory imports its heavy half when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping

from w2v import hookimpl
from w2v.kinds import Detector, Offer
from w2v.plugins import need

INDOOR = (
    "chair+stool+sofa+table+bed+cabinet+bookshelf+nightstand+door+window+curtain+lamp+television"
    "+computer monitor+laptop+keyboard+picture+mirror+clock+potted plant+vase+pillow+rug+trash can"
    "+box+basket+backpack+suitcase+book+bottle+cup+bowl+refrigerator+oven+microwave+kettle+sink"
    "+toilet+bathtub+towel+fan+radiator+bicycle+person"
)
"""Things of rooms, without near-synonyms: a track never changes its label, so one object must not
have two names to waver between."""


@hookimpl
def w2v_detectors() -> Mapping[str, Offer]:
    """Offer the built-in detectors."""
    return {
        "oracle": Offer(
            make=make_oracle, licence="MIT", may_train=True, can=frozenset({"needs-truth"})
        ),
        "zero-shot": Offer(
            make=make_zero_shot,
            licence="Apache-2.0 (code; weights: see the card of the model)",
        ),
        "yolo": Offer(make=make_yolo, licence="AGPL-3.0"),
    }


def make_oracle(min_pixels: int = 16) -> Detector:
    """Read the boxes off a simulator's masks; objects of fewer pixels count as out of sight."""
    need("numpy", "w2v[images]")
    from w2v.detectors.oracle import Oracle

    return Oracle(min_pixels)


def make_zero_shot(
    model: str,
    labels: tuple[str, ...] = tuple(INDOOR.split("+")),
    score: float = 0.3,
    nms: float = 0.5,
    tracker: str = "botsort",
    device: str = "auto",
    batch: int = 8,
) -> Detector:
    """Detect with a zero-shot model of transformers and follow each object through all frames.

    Args:
        model: Folder or hub id: Grounding DINO, MM Grounding DINO, OWL-ViT, OWLv2, OmDet-Turbo.
        labels: What to look for, as ``chair+sofa``, or a ``.txt`` file with one label per line.
        score: Least score that starts a track; half of it continues one.
        nms: IoU above which the weaker of two boxes of one label is dropped.
        tracker: ``botsort`` (allows for the motion of the camera) or ``bytetrack``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …
        batch: Frames looked at together.
    """
    for package in ("torch", "torchvision", "transformers", "trackers"):
        need(package, "w2v[zero-shot]")
    from w2v.detectors.zeroshot import ZeroShot

    return ZeroShot(model, labels, score, nms, tracker, device, batch)


def make_yolo(
    model: str,
    labels: tuple[str, ...] = (),
    clip: str = "",
    score: float = 0.3,
    nms: float = 0.5,
    tracker: str = "botsort",
    size: int = 640,
    device: str = "auto",
) -> Detector:
    """Detect and track with a YOLO or YOLO-World file of ultralytics (AGPL-3.0).

    Args:
        model: A ``.pt`` file. It is a pickle, which may run code: load only files you trust.
        labels: What a YOLO-World is to look for (``chair+sofa`` or a ``.txt`` file); default: the
            names stored in the file.
        clip: Folder of the CLIP text model (ViT-B/32) that ``labels`` need.
        score: Least score of a box that questions may be asked about; 0.1 continues a track.
        nms: IoU above which the weaker of two boxes of one label is dropped.
        tracker: ``botsort`` (allows for the motion of the camera) or ``bytetrack``.
        size: Longer side, in pixels, of what the network sees.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …
    """
    for package in ("torch", "ultralytics", "lap"):
        need(package, "w2v[yolo]")
    from w2v.detectors.yolo import Yolo

    return Yolo(model, labels, clip, score, nms, tracker, size, device)
