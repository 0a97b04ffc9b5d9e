"""What ``torch.compile`` needs on a CPU, found without importing torch."""

from __future__ import annotations

import os
import shutil

from w2v.errors import BadOption


def compiler() -> str | None:
    """Return the path of a C++ compiler, None where there is none."""
    names = (os.environ.get("CXX", ""), "g++", "clang++")
    return next(filter(None, map(shutil.which, filter(None, names))), None)


def need_compiler(option: str) -> None:
    """Make sure that there is a C++ compiler.

    Raises:
        BadOption: There is none; ``option`` is what asked for it.
    """
    if compiler() is None:
        raise BadOption(f"{option}: no C++ compiler is installed", "leave it out, or install g++")
