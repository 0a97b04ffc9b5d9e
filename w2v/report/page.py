"""One HTML page about a folder: what became of what, which answers there are, and how they look.

The page needs nothing but itself: pictures are data URIs, charts are inline SVG, and every text
that comes from a record is escaped.
"""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from w2v import __version__, bundles
from w2v.errors import BadFile, BadRecord, W2VError
from w2v.records import Clip, Question
from w2v.report import answers, sheets
from w2v.stream import loads, open_input, raw

STAGES = ("scenes", "render", "annotate", "build-tasks", "validate", "sft", "grpo", "align", "eval")
CLIPS = 4
BAR, ROW, LABEL, MOST = 360, 22, 230, 16


@dataclass
class Findings:
    """What a folder holds.

    ``stages`` are the figures of the stages, ``tallies`` the questions by task; ``missing`` counts
    the pictures that could not be read, ``unread`` the lines that were not questions.
    """

    source: str
    beside: Path
    files: list[str] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    tallies: dict[str, answers.Tally] = field(default_factory=dict)
    clips: list[Clip] = field(default_factory=list)
    missing: Counter[str] = field(default_factory=Counter)
    unread: int = 0


# ── gathering ──────────────────────────────────────────────────────────────────────────────────


def gather(source: Path, number: int, seed: int) -> Findings:
    """Read a folder, or one file of questions.

    Of a folder: summaries (``*.json`` that ``--summary`` wrote), questions (``questions.jsonl``,
    else every JSONL file whose first line is a question; one id counts once) and some clips.

    Raises:
        BadFile: There is nothing to report.
    """
    found = Findings(str(source), source if source.is_dir() else source.parent)
    files = _question_files(source) if source.is_dir() else [source]
    found.files = [file.name for file in files]
    found.tallies = answers.tally(_questions(files, found), number, seed)
    if source.is_dir():
        found.stages = _stages(source)
        found.clips = list(_clips(source))
    if not (found.tallies or found.stages or found.clips):
        raise BadFile(
            f"{source}: no questions, no clips and no summaries",
            "name a JSONL file of questions, or the folder that stages wrote into",
        )
    return found


def questions_of(source: Path, names: Container[str]) -> dict[str, Question]:
    """Return the questions of these ids that a folder or a file holds."""
    files = _question_files(source) if source.is_dir() else [source]
    found = _questions(files, Findings(str(source), source))
    return {question.id: question for question in found if question.id in names}


def _question_files(folder: Path) -> list[Path]:
    known = folder / "questions.jsonl"
    if known.is_file():
        return [known]
    return [file for file in sorted(folder.glob("*.jsonl")) if _first_kind(file) == Question.kind]


def _first_kind(file: Path) -> str:
    with open_input(str(file)) as lines:
        for _, _, value in raw(lines, file.name):
            return str(value.get("kind")) if isinstance(value, dict) else ""
    return ""


def _questions(files: Iterable[Path], found: Findings) -> Iterator[Question]:
    seen: set[str] = set()
    for file in files:
        with open_input(str(file)) as lines:
            for _, _, value in raw(lines, file.name):
                try:
                    question = Question.from_json(value if isinstance(value, dict) else {})
                except BadRecord:
                    found.unread += 1
                    continue
                if question.id not in seen:
                    seen.add(question.id)
                    yield question


def _stages(folder: Path) -> list[dict[str, Any]]:
    """Return the figures of each stage in the order of the pipeline; parts of one are added up."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.json")):
        try:
            told = loads(file.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(told, dict) and _is_summary(told):
            name = told["stage"]
            found[name] = _added(found[name], told) if name in found else told
    place = {name: k for k, name in enumerate(STAGES)}
    return sorted(found.values(), key=lambda told: place.get(told["stage"], len(place)))


def _is_summary(told: dict[str, Any]) -> bool:
    counts = [told.get("in"), told.get("out")]
    for reasons in (told.get("dropped", {}), told.get("failed", {})):
        counts += reasons.values() if isinstance(reasons, dict) else [None]
    return isinstance(told.get("stage"), str) and all(type(n) is int for n in counts)


def _added(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of two parts of one stage together."""
    both = {"stage": one["stage"], "in": one["in"] + other["in"], "out": one["out"] + other["out"]}
    for name in ("dropped", "failed"):
        both[name] = dict(Counter(one.get(name, {})) + Counter(other.get(name, {})))
    return both


def _clips(folder: Path) -> Iterator[Clip]:
    """Yield a few clips, evenly taken from all bundles."""
    if not (folder / "scenes").is_dir():
        return
    found = list(bundles.find(folder))
    for k in range(0, len(found), max(1, len(found) // CLIPS))[:CLIPS]:
        try:
            yield bundles.read(found[k], folder)
        except W2VError:
            continue


# ── the page ───────────────────────────────────────────────────────────────────────────────────


def draw(
    found: Findings, root: Path, *, number: int = 12, seed: int = 0, between: int = 0
) -> dict[str, Image.Image]:
    """Return the sheet of each task; pictures that are missing are counted in ``found``.

    Args:
        found: What ``gather`` found.
        root: Folder that paths in records are relative to.
        number: Rows of each sheet.
        seed: Another seed, another sample.
        between: Further frames to show between the first and the last.
    """
    return {
        task: sheets.sheet(
            counted.sample(number),
            root,
            number=number,
            seed=seed,
            between=between,
            title=sheets.headline(counted, number),
            beside=found.beside,
            missing=lambda path: found.missing.update([path]),
        )
        for task, counted in found.tallies.items()
    }


def sections(found: Findings, drawn: Mapping[str, Image.Image]) -> Iterator[str]:
    """Yield the parts of a page about data, with the sheets that ``draw`` drew."""
    yield from (_head(found), _funnel(found.stages), _balance(found.tallies))
    for task in drawn:
        yield _task_section(found.tallies[task], drawn[task])
    yield _clip_section(found)


def document(title: str, sections: Iterable[str]) -> str:
    """Return a page of sections of HTML; empty ones are left out."""
    body = "\n".join(filter(None, sections))
    return _PAGE.format(title=text(title), style=_STYLE, body=body)


def text(value: object) -> str:
    """Return a value as text that is safe in HTML, also within quotes."""
    return html.escape(str(value), quote=True)


def _head(found: Findings) -> str:
    total = sum(t.count for t in found.tallies.values())
    facts = [f"{total} questions in {len(found.tallies)} tasks"]
    facts += [f"from {', '.join(found.files)}"] if found.files else []
    facts += [f"{found.unread} lines were not questions"] if found.unread else []
    missing = found.missing.total()
    warning = ""
    if missing:
        names = "".join(f"<li><code>{text(n)}</code></li>" for n in sorted(found.missing)[:20])
        warning = (
            f'<details class="bad"><summary>{missing} pictures could not be read</summary>'
            f"<ul>{names}</ul></details>"
        )
    return (
        f"<h1>{text(found.source)}</h1><p>{text('; '.join(facts))}.</p>{warning}"
        f"<p class=faint>w2v {text(__version__)}</p>"
    )


def _funnel(stages: Sequence[dict[str, Any]]) -> str:
    """Return what became of what: a bar and a row per stage, and the reasons."""
    if not stages:
        return ""
    rows, reasons = [], []
    for told in stages:
        lost = {name: told.get(name, {}) for name in ("dropped", "failed")}
        sums = [told["out"], sum(lost["dropped"].values()), sum(lost["failed"].values())]
        rows.append([told["stage"], told["in"], *sums, Markup(_stacked(told["stage"], sums))])
        for name, counts in lost.items():
            ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            reasons += [[told["stage"], name, reason, count] for reason, count in ordered]
    funnel = table(["stage", "in", "out", "dropped", "failed", "share"], rows)
    why = table(["stage", "", "reason", "count"], reasons) if reasons else ""
    return f"<h2>What became of what</h2>{funnel}{why}"


def _stacked(name: str, sums: Sequence[int]) -> str:
    """Return a bar of three parts: kept, dropped, failed."""
    total, left, parts = max(1, sum(sums)), 0.0, []
    for kind, count in zip(("kept", "dropped", "failed"), sums, strict=True):
        width = 200 * count / total
        parts.append(f'<rect class={kind} x="{left:.1f}" width="{width:.1f}" height="12"/>')
        left += width
    label = f"{name}: {sums[0]} kept, {sums[1]} dropped, {sums[2]} failed"
    head = f'<svg role="img" aria-label="{text(label)}" width="200" height="12">'
    return f"{head}{''.join(parts)}</svg>"


def _balance(tallies: Mapping[str, answers.Tally]) -> str:
    """Return how many questions of each task there are, and what a constant answer earns."""
    if not tallies:
        return ""
    rows = [
        [
            t.task_type,
            t.count,
            ", ".join(f"{name} {n}" for name, n in sorted(t.forms.items())),
            len(t.kinds),
            f"{t.constant:.1%}",
            f"{t.weight / t.count:.3f}",
        ]
        for t in tallies.values()
    ]
    names = ["task", "questions", "forms", "kinds of answers", "constant answer", "mean weight"]
    return (
        f"<h2>Tasks</h2>{table(names, rows)}<p class=faint>Constant answer: the share of "
        "questions that always giving the commonest kind of answer would get right.</p>"
    )


def _task_section(counted: answers.Tally, drawn: Image.Image) -> str:
    task = counted.task_type or "no task"
    alt = f"Sample of {task} questions with their pictures, boxes, answers and evidence"
    return f"<h2>{text(task)}</h2>{_histogram(counted)}{picture(drawn, alt)}"


def _histogram(counted: answers.Tally) -> str:
    """Return a bar per kind of answer, the commonest first."""
    ordered = sorted(counted.kinds.items(), key=lambda item: (-item[1], item[0]))
    bars = ordered[:MOST]
    if rest := sum(n for _, n in ordered[MOST:]):
        bars.append((f"{len(ordered) - MOST} more kinds", rest))
    top = max(n for _, n in bars)
    drawn = []
    for k, (name, n) in enumerate(bars):
        y, width = k * ROW, BAR * n / top
        share = f"{n} ({n / counted.count:.1%})"
        short = name if len(name) <= 34 else name[:31] + "..."
        drawn.append(
            f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{text(short)}</text>'
            f'<rect class=kept x="{LABEL}" y="{y + 3}" width="{width:.1f}" height="{ROW - 6}"/>'
            f'<text x="{LABEL + width + 6:.1f}" y="{y + 15}">{text(share)}</text>'
        )
    label = f"Answers of {counted.task_type}: " + ", ".join(f"{name} {n}" for name, n in bars)
    width, height = LABEL + BAR + 130, len(bars) * ROW
    return (
        f'<svg role="img" aria-label="{text(label)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">{"".join(drawn)}</svg>'
    )


def _clip_section(found: Findings) -> str:
    drawn = []
    for clip in found.clips:
        shown = sheets.clip_sheet(
            clip, found.beside, missing=lambda path: found.missing.update([path])
        )
        drawn.append(picture(shown, f"Frames of clip {clip.id} with boxes and track numbers"))
    return f"<h2>Clips</h2>{''.join(drawn)}" if drawn else ""


def picture(drawn: Image.Image, alt: str) -> str:
    """Return a picture that the page carries in itself."""
    data = base64.b64encode(sheets.encode(drawn)).decode()
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{text(alt)}" '
        f'width="{drawn.width}" height="{drawn.height}">'
    )


class Markup(str):
    """Text that is HTML already."""


def table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; cells are text unless they are ``Markup``, whole numbers are set right."""
    head = "".join(f"<th>{text(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if isinstance(value, Markup):
        return f"<td>{value}</td>"
    return f"<td{' class=number' if isinstance(value, int) else ''}>{text(value)}</td>"


_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #111; --faint: #666; --line: #ccc;
  --kept: #0072b2; --dropped: #e69f00; --failed: #d55e00 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181c; --ink: #e8e8e8; --faint: #9a9a9a; --line: #3a3f47; --kept: #56b4e9 }
}
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; padding: .25rem .8rem; border-bottom: 1px solid var(--line) }
td.number { text-align: right; font-variant-numeric: tabular-nums }
img { display: block; max-width: 100%; height: auto; margin: 1rem 0 }
svg { display: block; max-width: 100%; margin: 1rem 0 } td svg { margin: 0 }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink) }
rect.kept { fill: var(--kept) } rect.dropped { fill: var(--dropped) }
rect.failed { fill: var(--failed) }
.faint { color: var(--faint) } .bad { color: var(--failed) }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
