"""Paths in records: relative to the root, never out of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from w2v.errors import BadFile, OutsideRoot

LONGEST = 120
"""Characters of a file name that leave room for what is put before and after it."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def resolve(root: Path, path: str, beside: Path | None = None) -> Path:
    """Return an existing path named in a record.

    It is read against the root, else against the folder of the file that names it, else against
    the working directory. Wherever it is found, it must lie under the root (or, for a path found
    beside its file, under that file's folder); links are followed before that is judged.

    Raises:
        OutsideRoot: The path leads out of the root.
        BadFile: There is no such file.
    """
    if not path or "\0" in path:
        raise BadFile(f"{path!r} is not a path")
    outside = False
    for base in (root, beside, Path(".")):
        if base is None:
            continue
        home = os.path.realpath(base)
        found = os.path.realpath(os.path.join(home, path))
        if found != home and not found.startswith(home.rstrip("/") + "/"):
            outside = True
        elif os.path.exists(found):
            return base / path if not os.path.isabs(path) else Path(path)
    if outside:
        raise OutsideRoot(
            f"{path!r} leads out of the root {str(root)!r}", "name a wider folder with --root"
        )
    raise BadFile(f"{path}: no such file under {str(root)!r}", "name the right folder with --root")


def relative(root: Path, path: Path) -> str:
    """Return a path as records write it: relative to the root, with forward slashes.

    Raises:
        OutsideRoot: The path does not lie under the root.
    """
    home, found = os.path.realpath(root), os.path.realpath(path)
    if found != home and not found.startswith(home.rstrip("/") + "/"):
        raise OutsideRoot(
            f"{str(path)!r} lies outside the root {str(root)!r}", "name a wider folder with --root"
        )
    return Path(os.path.relpath(found, home)).as_posix()


def safe_name(text: str) -> str:
    """Return a text as a file name: letters, digits, ``._-``; never empty, hidden or too long."""
    return _UNSAFE.sub("-", text).strip(".-")[:LONGEST] or "unnamed"
