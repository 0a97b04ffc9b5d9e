"""What ``w2v annotate`` does with one clip: detect, hold against geometry, filter, store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from w2v import __version__, bundles, paths
from w2v.detectors import crosscheck, filters
from w2v.detectors.filters import Filters
from w2v.errors import BadFile
from w2v.footage import BundleFootage
from w2v.kinds import Detector
from w2v.provenance import digest
from w2v.records import Clip

KEPT = "detect_result.original.jsonl"
"""Where the boxes that another tool found are kept."""


def annotate(
    clip: Clip, folder: Path, root: Path, detector: Detector, typed: str, chosen: Filters
) -> tuple[Clip, bool]:
    """Return the clip with boxes, and whether they were already there.

    Boxes are found again unless the same detector, with the same weights, options and filters,
    found them in the same frames.

    Raises:
        BadFile: A frame or another part of the bundle cannot be read.
        OutsideRoot: The bundle names a frame that does not lie under the root.
    """
    footage = BundleFootage(clip, folder)
    describe = getattr(detector, "describe", dict)
    made: dict[str, Any] = {
        "detector": typed,
        "model": describe(),
        "filters": asdict(chosen),
        "frames": digest([_fingerprint(file, root) for file in footage.files]),
        "version": __version__,
    }
    cached = bundles.read_boxes_meta(folder) == made
    if not cached:
        boxes = crosscheck.check(footage, detector.detect(footage))
        boxes = filters.apply(boxes, clip.intrinsics, chosen)
        _keep_foreign(folder)
        bundles.write_boxes(folder, boxes, clip.intrinsics, len(footage.files), made)
    return bundles.read(folder, root), cached


def _keep_foreign(folder: Path) -> None:
    """Put boxes that another tool left in a bundle aside, once, instead of replacing them."""
    theirs, kept = folder / bundles.BOXES, folder / KEPT
    if theirs.exists() and not kept.exists() and bundles.read_boxes_meta(folder) is None:
        theirs.rename(kept)


def _fingerprint(file: Path, root: Path) -> tuple[str, int, str]:
    """Return the name of a frame, its size, and a digest of its bytes."""
    paths.relative(root, file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadFile(f"{file}: {error.strerror}") from error
    return file.name, len(content), digest(content.hex())
