"""The clips that questions were asked about, found again from what the questions say."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from w2v import bundles, paths
from w2v.errors import BadFile, OutsideRoot
from w2v.kinds import Problem
from w2v.records import Clip, Question

RECENT = 512
"""How many clips are kept: questions about one clip stand close together."""


class Clips:
    """Reads the bundle that a question names; the last few stay in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: Callable[[str], Clip | Problem | None] = functools.lru_cache(RECENT)(self._load)

    def find(self, question: Question) -> Clip | Problem | None:
        """Return the clip; what is wrong with its bundle; or None where there is no bundle."""
        return self._read(question.bundle) if question.bundle else None

    def folder(self, clip: Clip) -> Path:
        """Return where a clip's bundle lies."""
        return paths.resolve(self.root, clip.bundle)

    def _load(self, bundle: str) -> Clip | Problem | None:
        try:
            folder = paths.resolve(self.root, bundle)
        except OutsideRoot as error:
            return Problem(reason="outside root", detail=error.what)
        except BadFile:
            return None  # pictures may be passed on without the rest of the bundle
        try:
            return bundles.read(folder, self.root)
        except (BadFile, OutsideRoot) as error:
            return Problem(reason="broken bundle", detail=error.what)
