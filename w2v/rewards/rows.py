"""Grading plain rows of JSON, as they come from any trainer or evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from w2v.errors import BadRecord
from w2v.kinds import Reward
from w2v.records import Gold


def gold_of(row: Mapping[str, Any]) -> Gold:
    """Return the gold answer of a row; ``form``, ``options`` and ``prompt`` may be absent.

    Raises:
        BadRecord: A value is missing or of the wrong type.
    """
    options = row.get("options") or ()
    if not isinstance(options, list | tuple) or not all(isinstance(o, str) for o in options):
        raise BadRecord("options should be a list of texts")
    return Gold(
        _text(row, "task_type"),
        _text(row, "answer"),
        _text(row, "form", ""),
        tuple(options),
        _text(row, "prompt", ""),
    )


def grade_row(row: Mapping[str, Any], reward: Reward) -> dict[str, Any]:
    """Return the row with ``score``, ``parts`` and ``parsed`` added.

    ``score`` is None for a task the reward does not grade. A response of None (a model that
    failed to answer) is graded as an empty one.

    Raises:
        BadRecord: A value is missing or of the wrong type.
    """
    response = "" if row.get("response", "") is None else _text(row, "response")
    grade = reward(gold_of(row), response)
    if grade is None:
        return {**row, "score": None, "parts": {}, "parsed": None}
    return {**row, "score": grade.score, "parts": dict(grade.parts), "parsed": grade.parsed}


def _text(row: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """Return a text value of a row, or raise BadRecord."""
    value = row.get(key, default)
    if value is None:
        raise BadRecord(f"the row lacks {key!r}", "rows need task_type, answer and response")
    if not isinstance(value, str):
        raise BadRecord(f"{key} should be a text, got {type(value).__name__}")
    return value
