"""What the options of several detectors mean: labels, tracker, device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from w2v.errors import BadFile, BadOption

TRACKERS = ("botsort", "bytetrack")


def tracker(name: str) -> str:
    """Return the name of a tracker if there is one.

    Raises:
        BadOption: There is none of that name.
    """
    if name not in TRACKERS:
        raise BadOption(f"no tracker is called {name!r}", f"known: {', '.join(TRACKERS)}")
    return name


def vocabulary(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the labels to look for, once each: as given, or the lines of one ``.txt`` file.

    Raises:
        BadFile: The file cannot be read.
        BadOption: There is no label, or one holds a full stop.
    """
    if len(labels) == 1 and labels[0].endswith(".txt"):
        try:
            labels = Path(labels[0]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadFile(f"{labels[0]}: cannot be read as labels ({error})") from error
    told = tuple(dict.fromkeys(filter(None, (" ".join(label.split()) for label in labels))))
    if not told:
        raise BadOption("there is no label to look for", "write labels=chair+sofa")
    if dotted := [label for label in told if "." in label]:
        raise BadOption(f"label {dotted[0]!r} holds a full stop, which ends a label")
    return told


def device(name: str) -> str:
    """Return the device to run on; ``auto`` is the first GPU, else the CPU.

    Raises:
        BadOption: torch has no such device here.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise BadOption(f"device {name!r} is not available here", "use device=cpu") from error
    return name
