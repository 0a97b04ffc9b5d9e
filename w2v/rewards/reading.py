"""From what a model wrote to the one answer it gave.

Models wrap answers in thoughts, tags, boxes, bold type and JSON, and change tense and word order.
All of that is forgiven here. Giving several answers is not: what cannot be read as one answer is
not read at all, so that listing and hedging earn nothing.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from w2v import boxes, motion
from w2v.records import Move, Quad

T = TypeVar("T", bound=Hashable)

_TAGGED = re.compile(r"<answer>(.*?)(?=</?answer>|$)", re.IGNORECASE | re.DOTALL)
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_FINAL = re.compile(r"\bfinal answer\b(?:\s+is\b)?\W?(.*)", re.IGNORECASE | re.DOTALL)
_SHORT = re.compile(r"\banswer\s*:(.*)", re.IGNORECASE | re.DOTALL)
_LATEX = re.compile(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}")
_FENCE = re.compile(r"```(?:\w*\n)?")


def visible(response: str) -> str:
    """Return what follows the thoughts, if there are any; nothing of thoughts never ended."""
    if "think>" not in response:
        return response.strip()
    said = response.rpartition("</think>")[2]
    return said.partition("<think>")[0].strip()


def one_answer(text: str, read: Callable[[str], T | None]) -> T | None:
    """Return what ``read`` finds in the stated answer, or in the whole text if none is stated.

    Answers that are stated more than once must agree.
    """
    found = {read(_bare(part)) for part in _stated(text)}
    return found.pop() if len(found) == 1 else None


def _stated(text: str) -> list[str]:
    """Return the parts of a text that are marked as the answer; the text itself if none is."""
    if "\\" not in text and "<" not in text and "nswer" not in text.lower():
        return [text]
    parts = [text]
    for pattern in (_TAGGED, _BOXED, _FINAL, _SHORT):
        parts = [inner for part in parts for inner in (pattern.findall(part) or [part])]
    return parts


def _bare(text: str) -> str:
    """Return an answer without code fences, LaTeX text commands, and the JSON around it."""
    if "`" in text:
        text = _FENCE.sub("", text).replace("`", "")
    if "\\" in text:
        text = _LATEX.sub(r"\1", text)
    text = text.strip()
    return _value(text) if text.startswith("{") else text


def _value(text: str) -> str:
    """Return the answer in a JSON object, or the text itself where there is none."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(found, dict) or "answer" not in found:
        return text
    value = found["answer"]
    return value if isinstance(value, str) else json.dumps(value)


# ── moves ─────────────────────────────────────────────────────────────────────────────────────

_AMOUNT = r"(?:\d+(?:\.\d+)?|\.\d+)"
_UNIT = r"(?:meters?|metres?|m|degrees?|deg|°)"
_WAY = r"(?:forward|backward|left|right)"
# In turn: tenses and synonyms, hedges about amounts, centimeters, "turn 30 degrees to the left".
_REPHRASED: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\b(?:mov|shift|straf)(?:es|ed|e|ing|s)?\b"), "move"),
    (re.compile(r"\b(?:turn|rotat)(?:es|ed|e|ing|s)?\b"), "turn"),
    (re.compile(r"\b(forward|backward)s\b"), r"\1"),
    (re.compile(r"\bto (?:the|its) (left|right)\b"), r"\1"),
    (re.compile(r"(?:\b(?:by|about|around|approximately|roughly)\s+|~\s*)(?=[\d.])"), ""),
    (
        re.compile(rf"(?<![\d.])({_AMOUNT})\s*(?:cm|centimet(?:er|re)s?)\b"),
        lambda match: f"{float(match[1]) / 100:.4f} meters",
    ),
    (re.compile(rf"\b(move|turn) ({_AMOUNT})\s*({_UNIT}) ({_WAY})\b"), r"\1 \4 \2 \3"),
)
# A line that ends in a comma or semicolon goes on in the next one.
_OR = re.compile(r"\b(?:or|either|maybe|alternatively)\b|(?<![;,])\n")


@functools.lru_cache(4096)
def read_moves(text: str) -> tuple[Move, ...] | None:
    """Read the moves of one answer, in order, or None for none or for several answers.

    One move per line is one answer. Different lists on different lines, or with "or" between
    them, are several; the same list twice is one.
    """
    text = _canonical(text)
    if not _OR.search(text):
        return motion.parse(text) or None
    lists = [moves for part in _OR.split(text) if (moves := motion.parse(part))]
    if len(set(lists)) <= 1:
        return lists[0] if lists else None
    if all(word == "\n" for word in _OR.findall(text)) and all(len(moves) == 1 for moves in lists):
        return tuple(move for (move,) in lists)
    return None


def _canonical(text: str) -> str:
    """Return the text in the words that ``motion.parse`` reads."""
    lines = text.lower().replace("*", "").splitlines()
    text = "\n".join([" ".join(line.split()) for line in lines])
    for pattern, instead in _REPHRASED:
        text = pattern.sub(instead, text)
    return text


# ── boxes ─────────────────────────────────────────────────────────────────────────────────────

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_BOX = re.compile(
    rf"[\[(]\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)?\s*,\s*\(?\s*{_NUMBER}\s*,\s*{_NUMBER}\s*[\])]"
)
_FAR = 100 * boxes.GRID


def read_box(text: str) -> Quad | None:
    """Read the one box in a text, in brackets, parentheses or two points; None for 0 or more."""
    found = {(float(a), float(b), float(c), float(d)) for a, b, c, d in _BOX.findall(text)}
    box = found.pop() if len(found) == 1 else None
    return box if box and max(map(abs, box)) < _FAR else None
