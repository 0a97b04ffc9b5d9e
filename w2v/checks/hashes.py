"""Whether pictures of a benchmark are among those trained on, as seen by a perceptual hash."""

from __future__ import annotations

import collections
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from w2v import images, paths
from w2v.errors import BadFile, OutsideRoot
from w2v.kinds import Problem, Verdict
from w2v.records import Question

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Contamination:
    """Compares each picture with all pictures of a folder."""

    def __init__(self, root: Path, against: Path | None, distance: int) -> None:
        self.root, self.against, self.distance = root, against, distance
        self.tally: collections.Counter[str] = collections.Counter()
        self.unreadable = 0
        self._files: list[Path] = []
        self._hashes = np.zeros(0, dtype=np.uint64)
        self._like: Callable[[str], tuple[Path, int] | None]
        self._like = functools.lru_cache(1 << 17)(self._find)
        if against is not None:
            self._read(against)

    def row(self, question: Question) -> Problem | None:
        """Return a problem for a question that shows a picture of the benchmark."""
        for name in question.images if self.against else ():
            if found := self._like(name):
                self.tally["matched"] += 1
                file, bits = found
                detail = f"{name} looks like {file} ({bits} of 64 bits differ)"
                return Problem(reason="benchmark image", detail=detail)
        return None

    def whole(self, kept: Iterable[Question]) -> Verdict:
        """Report what was compared; a match rejects its question and fails nothing."""
        if self.against is None:
            return Verdict(figures={"compared": 0, "note": "no folder given: against=FOLDER"})
        figures = {
            "compared": len(self._files),
            "unreadable": self.unreadable,
            "matched": self.tally["matched"],
            "distance": self.distance,
        }
        return Verdict(figures=figures)

    def _read(self, against: Path) -> None:
        """Hash the benchmark's pictures.

        Raises:
            BadFile: There is no such folder, or no picture in it.
        """
        if not against.is_dir():
            raise BadFile(f"{against}: no such folder", "write contamination:against=FOLDER")
        hashes = []
        for file in pictures(against):
            try:
                hashes.append(perceptual_hash(file))
                self._files.append(file)
            except BadFile:
                self.unreadable += 1
        if not hashes:
            raise BadFile(f"{against}: no picture in it that can be read")
        self._hashes = np.array(hashes, dtype=np.uint64)

    def _find(self, name: str) -> tuple[Path, int] | None:
        """Return the benchmark's picture nearest to one, where it is near enough."""
        try:
            value = np.uint64(perceptual_hash(paths.resolve(self.root, name)))
        except (BadFile, OutsideRoot):
            return None  # what cannot be read is the business of the check of images
        bits = np.bitwise_count(self._hashes ^ value)
        nearest = int(bits.argmin())
        apart = int(bits[nearest])
        return (self._files[nearest], apart) if apart <= self.distance else None


def pictures(folder: Path) -> Iterator[Path]:
    """Yield the pictures in a folder and all folders in it, in order of name."""
    for here, inner, names in os.walk(folder):
        inner.sort()
        yield from (Path(here) / n for n in sorted(names) if n.lower().endswith(PICTURES))


def perceptual_hash(file: Path) -> int:
    """Return the 64-bit perceptual hash of a picture (imagehash's ``phash``, 8 x 8).

    Raises:
        BadFile: It cannot be read.
    """
    import imagehash
    from PIL import Image

    bits = imagehash.phash(Image.fromarray(images.load(file))).hash
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")
