"""What a model folder says of itself: ``w2v.json`` where w2v wrote it, else ``config.json``.

Light: JSON only, so that a wrong folder is refused before anything heavy is imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2v.errors import BadFile

SETTINGS = "w2v.json"
"""Settings stored beside the weights: family, image_tokens, boxes, base, method, …"""
CONFIG = "config.json"
ADAPTER = "adapter_config.json"


def settings(folder: Path) -> dict[str, Any]:
    """Return what w2v stored beside the weights; empty where it did not write them."""
    return _read(folder / SETTINGS) if (folder / SETTINGS).exists() else {}


def write_settings(folder: Path, values: Mapping[str, Any], *, place: Path | None = None) -> None:
    """Store settings beside the weights.

    The path of a base that was given relative to the working directory is stored as it leads from
    the folder, so that both may be moved together, and used from anywhere.

    Args:
        folder: To write into.
        values: The settings.
        place: Where the folder will lie, if not where it is.
    """
    base = values.get("base")
    if isinstance(base, str) and not os.path.isabs(base) and Path(base).is_dir():
        home = (place or folder).resolve()
        values = {**values, "base": os.path.relpath(Path(base).resolve(), home)}
    text = json.dumps(values, indent=2, sort_keys=True)
    (folder / SETTINGS).write_text(text + "\n", encoding="utf-8")


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter rather than a whole model."""
    return (folder / ADAPTER).exists()


def base_of(folder: Path) -> str:
    """Return the folder or hub id of the model that an adapter belongs to.

    A relative path is read against the adapter's folder, else against the working directory.

    Raises:
        BadFile: The adapter does not say, or what it names is not there.
    """
    named = settings(folder).get("base") or _read(folder / ADAPTER).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise BadFile(f"{folder}: does not say which model the adapter belongs to")
    if not os.path.isabs(named) and (folder / named).is_dir():
        found, here = (folder / named).resolve(), Path.cwd().resolve()
        return str(found.relative_to(here) if found.is_relative_to(here) else found)
    if named.startswith((".", "/")) and not Path(named).is_dir():
        raise BadFile(
            f"{folder}: its base, {named}, is not there", f"--student {folder}:base=PATH names it"
        )
    return named


def model_type(folder: Path) -> str:
    """Return ``model_type`` of a model's, or of an adapter's base's, configuration.

    Raises:
        BadFile: There is no readable configuration.
    """
    if (folder / CONFIG).exists():
        return str(_read(folder / CONFIG).get("model_type", ""))
    if is_adapter(folder):
        base = base_of(folder)
        if Path(base).is_dir():
            return model_type(Path(base))
        return str(settings(folder).get("model_type", ""))
    raise BadFile(
        f"{folder}: holds no model ({CONFIG} or {ADAPTER} is missing)",
        "name the folder of a checkpoint",
    )


def _read(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFile(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(found, dict):
        raise BadFile(f"{path}: expected a JSON object")
    return found
