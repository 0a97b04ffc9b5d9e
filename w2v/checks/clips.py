"""The clips that questions were asked about, found again from what the questions say."""

from __future__ import annotations

import functools
import weakref
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
        self._read = functools.lru_cache(RECENT)(functools.partial(_load, root))

    def find(self, question: Question) -> Clip | Problem | None:
        """Return the clip; what is wrong with its bundle; or None where there is no bundle."""
        return self._read(question.bundle) if question.bundle else None

    def folder(self, clip: Clip) -> Path:
        """Return where a clip's bundle lies."""
        return paths.resolve(self.root, clip.bundle)


_OPEN: weakref.WeakValueDictionary[Path, Clips] = weakref.WeakValueDictionary()


def clips_of(root: Path) -> Clips:
    """Return the clips under a root, which all checks of a run share, so that each is read once.

    They are gone with the last check that holds them, and are read again after that.
    """
    found = _OPEN.get(root)
    if found is None:
        found = _OPEN[root] = Clips(root)
    return found


def _load(root: Path, bundle: str) -> Clip | Problem | None:
    try:
        folder = paths.resolve(root, bundle)
    except OutsideRoot as error:
        return Problem(reason="outside root", detail=error.what)
    except BadFile:
        return None  # pictures may be passed on without the rest of the bundle
    try:
        return bundles.read(folder, root)
    except (BadFile, OutsideRoot) as error:
        return Problem(reason="broken bundle", detail=error.what)
