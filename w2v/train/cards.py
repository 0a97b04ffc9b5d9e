"""The model card of a run: what it was made from, on what, by whose leave, with what result."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2v import __version__, stream
from w2v.records import Run

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")


def versions() -> dict[str, Any]:
    """Return the versions that a run depends on."""
    found = {"w2v": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"versions": found}


def write(folder: Path, record: Run, told: Mapping[str, Any], tasks: Mapping[str, int]) -> None:
    """Write ``README.md`` into the folder of a run."""
    stream.write_atomic(folder / "README.md", card(record, told, tasks))


def card(record: Run, told: Mapping[str, Any], tasks: Mapping[str, int]) -> str:
    """Return a model card as the hub reads it: metadata, then prose.

    Args:
        record: Of the run.
        told: What ``w2v.json`` says beside the weights.
        tasks: Number of questions of each task.
    """
    adapter = record.settings.get("tune") in ("lora", "qlora")
    base = str(told.get("base", ""))
    licences = record.meta.get("licences") or ["unknown"]
    teachers = record.meta.get("teachers") or ["unknown"]
    lines = [
        "---",
        f"library_name: {'peft' if adapter else 'transformers'}",
        "pipeline_tag: image-text-to-text",
        *([f"base_model: {base}"] if base and not _is_path(base) else []),
        f"tags: [w2v, trl, {record.method}]",
        "---",
        f"# {record.id}",
        "",
        f"`{record.student}`, trained by `w2v {record.method}` on what world models imagine.",
        "",
        f"- Base: `{base or record.student}`",
        f"- Questions: `{record.trained_on}`, digest `{record.settings.get('questions', '')}`",
        f"- Tasks: {', '.join(f'{task} {number}' for task, number in tasks.items())}",
        f"- Teachers: {', '.join(teachers)}",
        f"- Licences of what it was trained on: {', '.join(licences)}",
        f"- Pictures: at most {told.get('image_tokens', '?')} tokens each; "
        f"boxes: {told.get('boxes', '?')}",
        "",
        "The licence of the base and those above bind whoever uses these weights.",
        "",
        *_table("Settings", record.settings),
        *_table("Metrics, last logged", record.metrics),
        *_table("Versions", record.meta.get("versions", {})),
    ]
    return "\n".join(lines)


def _is_path(base: str) -> bool:
    """Return whether a base is a folder of this machine, which the hub would take for an id."""
    return base.startswith(("/", ".")) or Path(base).is_dir()


def _table(title: str, values: Mapping[str, Any]) -> list[str]:
    """Return a Markdown table of values."""
    if not values:
        return []
    rows = [f"| {key} | {_cell(value)} |" for key, value in sorted(values.items())]
    return [f"## {title}", "", "| | |", "| --- | --- |", *rows, ""]


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else stream.dumps(value)
    return text.replace("|", "\\|")
