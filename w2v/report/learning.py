"""What students learned, as sections of a page: figures side by side, curves, wins and losses."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from w2v import comparing, evaluating
from w2v.comparing import Change, Comparison, Row, Run
from w2v.metrics import Estimate
from w2v.records import Question
from w2v.report import sheets
from w2v.report.page import Markup, picture, table, text
from w2v.stream import loads

METRICS = "metrics.jsonl"
BAR, GAP, HEIGHT, LEFT, FOOT = 14, 18, 180, 44, 24
WIDTH = 560


CURVES = ("loss", "eval_loss", "reward", "kl", "length")
"""Figures of training that are drawn, those of all runs in one chart each."""


def sections(
    whole: Comparison,
    questions: Mapping[str, Question] | None = None,
    root: Path = Path("."),
    number: int = 6,
) -> Iterator[str]:
    """Yield the figures of runs side by side, and what each won and lost against an earlier one.

    Args:
        whole: Runs side by side.
        questions: By id; of those that are known, wins and losses show the pictures.
        root: Folder that paths of pictures are relative to.
        number: How many wins and how many losses are shown of each change.
    """
    yield figures(whole)
    for k in range(len(whole.against)):
        yield changes(whole, k, questions or {}, root, number)


def is_exam(path: Path) -> bool:
    """Return whether a path is a folder of ``w2v eval``, or a file of answers in one."""
    return (path if path.is_dir() else path.parent).joinpath(evaluating.PROTOCOL).is_file()


def is_training(path: Path) -> bool:
    """Return whether a path is the folder of a training run."""
    return (path / METRICS).is_file() and (path / "run.json").is_file()


def exams(runs: Sequence[Path]) -> Comparison | None:
    """Return runs of ``w2v eval``, each held against the one before it; None of none.

    Raises:
        BadFile: One cannot be read.
        UnequalProtocols: They were not asked the same.
    """
    if not runs:
        return None
    found = comparing.short_names([comparing.read(run) for run in runs])
    comparing.check(found)
    return comparing.compare(found, comparing.MAIN, previous=True)


def curves(runs: Sequence[Path]) -> Iterator[str]:
    """Yield a chart of each figure that training runs have written, and of each task's reward."""
    drawn: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in CURVES}
    for run in runs:
        for line in (run / METRICS).read_text(encoding="utf-8").splitlines():
            told = loads(line)
            for name, value in told.items():
                title = _chart(name)
                if title and isinstance(value, int | float):
                    label = f"{run.name} {name.split('/')[1]}" if "/" in name else run.name
                    points = drawn.setdefault(title, {}).setdefault(label, [])
                    points.append((told["step"], value))
    made = [curve(title, lines) for title, lines in drawn.items()]
    if any(made):
        yield "<h2>Training</h2>"
        yield from made


def _chart(name: str) -> str:
    """Return the title of the chart that a figure is drawn in, or nothing."""
    task = re.fullmatch(r"tasks/(\w+)/reward", name)
    return "reward of each task" if task else name if name in CURVES else ""


# ── figures ───────────────────────────────────────────────────────────────────────────────────


def figures(whole: Comparison, metric: str = "reward") -> str:
    """Return a chart of one metric and the table of all, with 95 % intervals."""
    shown = [row for row in whole.rows if row.metric == metric]
    head = comparing.header(whole, "−")
    rows = [
        [row.group, row.metric, *map(_figure, row.figures), *_changed(row, whole.tested)]
        for row in whole.rows
    ]
    about = text(
        f"{whole.questions} questions in {whole.scenes} scenes; 95 % intervals over scenes."
    )
    bars = f"<h3>{text(metric)}</h3>{_bars(shown, whole.names)}" if shown else ""
    return f"<h2>Figures</h2><p>{about}</p>{bars}{table(head, rows)}"


def _figure(estimate: Estimate, signed: bool = False) -> Markup:
    form = "{:+.3f}" if signed else "{:.3f}"
    around = ""
    if estimate.low is not None and estimate.high is not None:
        around = f" [{form.format(estimate.low)}, {form.format(estimate.high)}]"
    return Markup(f"{form.format(estimate.value)}<small class=faint>{around}</small>")


def _changed(row: Row, tested: bool) -> Iterable[object]:
    """Yield a cell per change, bold where the interval leaves out 0; its p beside it if tested."""
    for change in row.changes:
        told = _figure(change.estimate, signed=True)
        yield Markup(f"<b>{told}</b>") if _sure(change) else told
        if tested:
            yield comparing.p_value(change.p)


def _sure(change: Change) -> bool:
    """Return whether the interval leaves out 0."""
    low, high = change.estimate.low, change.estimate.high
    return low is not None and high is not None and (low > 0 or high < 0)


def _bars(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return a group of bars per row, one per run, with whiskers for the intervals."""
    group = len(names) * BAR + GAP
    width, drawn = LEFT + len(rows) * group, [_axis(LEFT + len(rows) * group)]
    for k, row in enumerate(rows):
        left = LEFT + GAP / 2 + k * group
        for run, (figure, colour) in enumerate(zip(row.figures, _colours(), strict=False)):
            drawn.append(_bar(left + run * BAR, figure, colour, f"{row.group} {names[run]}"))
        middle = left + len(names) * BAR / 2
        place = f'x="{middle:.1f}" y="{HEIGHT + 16}" text-anchor="middle"'
        drawn.append(f"<text {place}>{text(row.group)}</text>")
    return _svg(width, HEIGHT + FOOT, f"Bars: {', '.join(names)}", drawn) + _legend(names)


def _bar(x: float, figure: Estimate, colour: str, label: str) -> str:
    top = _height(max(0.0, figure.value))
    told = f"{label}: {figure.value:.3f}"
    bar = (
        f'<rect x="{x:.1f}" y="{top:.1f}" width="{BAR - 2}" height="{HEIGHT - top:.1f}" '
        f'fill="{colour}"><title>{text(told)}</title></rect>'
    )
    if figure.low is None or figure.high is None:
        return bar
    middle = x + BAR / 2 - 1
    ends = f'y1="{_height(figure.low):.1f}" y2="{_height(figure.high):.1f}"'
    line = f'<line x1="{middle:.1f}" x2="{middle:.1f}" {ends} stroke="currentColor"/>'
    return f"{bar}{line}"


def _height(share: float) -> float:
    """Return the y of a figure in [0, 1]; beyond that it stays at the edge."""
    return HEIGHT - (HEIGHT - 10) * min(1.0, max(0.0, share))


def _axis(width: float) -> str:
    lines = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _height(share)
        lines.append(
            f'<line x1="{LEFT}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
            f'opacity=".2"/><text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share:g}</text>'
        )
    return "".join(lines)


def _colours() -> Iterable[str]:
    return itertools.cycle(sheets.COLOURS)


def _legend(names: Iterable[str]) -> str:
    """Return names beside their colours."""
    marks = (
        f'<svg width="12" height="12" style="display:inline;margin:0"><rect width="12" '
        f'height="12" fill="{colour}"/></svg> {text(name)} '
        for name, colour in zip(names, _colours(), strict=False)
    )
    return f"<p>{' &nbsp; '.join(marks)}</p>"


def _svg(width: float, height: float, label: str, drawn: Iterable[str]) -> str:
    return (
        f'<svg role="img" aria-label="{text(label)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}">{"".join(drawn)}</svg>'
    )


# ── curves ────────────────────────────────────────────────────────────────────────────────────


def curve(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return a chart of lines, such as a loss over steps; empty where there are no points."""
    lines = {
        name: [(x, y) for x, y in line if math.isfinite(x) and math.isfinite(y)]
        for name, line in lines.items()
    }
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    (left, right), (low, high) = (_range(axis) for axis in zip(*points, strict=True))
    drawn = [
        f'<text x="{LEFT}" y="{HEIGHT + 16}">{left:g}</text>',
        f'<text x="{WIDTH}" y="{HEIGHT + 16}" text-anchor="end">{right:g}</text>',
        f'<text x="{LEFT - 6}" y="{HEIGHT}" text-anchor="end">{low:.3g}</text>',
        f'<text x="{LEFT - 6}" y="14" text-anchor="end">{high:.3g}</text>',
    ]
    for line, colour in zip(lines.values(), _colours(), strict=False):
        places = " ".join(
            f"{LEFT + (WIDTH - LEFT) * (x - left) / (right - left):.1f},"
            f"{_height((y - low) / (high - low)):.1f}"
            for x, y in line
        )
        drawn.append(f'<polyline points="{places}" fill="none" stroke="{colour}"/>')
    chart = _svg(WIDTH, HEIGHT + FOOT, f"{title}: {', '.join(lines)}", drawn)
    return f"<h3>{text(title)}</h3>{chart}{_legend(lines)}"


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return the least and the greatest value, a little apart where they are the same."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


# ── wins and losses ───────────────────────────────────────────────────────────────────────────


def changes(
    whole: Comparison, k: int, questions: Mapping[str, Question], root: Path, number: int
) -> str:
    """Return what run ``k + 1`` won and lost against the one before it, the largest changes first.

    Different tasks come in turn, so that one task does not fill the list.
    """
    before, after = whole.runs[whole.against[k]], whole.runs[k + 1]
    won, lost = comparing.changed(before, after)
    told = [f"<h2>{text(after.name)} against {text(before.name)}</h2>"]
    for word, names in (("Won", won), ("Lost", lost)):
        chosen = _in_turn(names, after)[:number]
        shown = [_case(name, before, after, questions.get(name), root) for name in chosen]
        told.append(f"<h3>{word}: {len(names)} questions</h3>{''.join(shown)}")
    return "".join(told)


def _in_turn(names: Iterable[str], run: Run) -> list[str]:
    """Return the names, those of each group in turn."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(str(run.answers[name].meta["group"]), []).append(name)
    turns = itertools.zip_longest(*(groups[group] for group in sorted(groups)))
    return [name for turn in turns for name in turn if name is not None]


def _case(name: str, before: Run, after: Run, question: Question | None, root: Path) -> str:
    """Return one question with both responses, and its pictures where it is known."""
    shown = ""
    if question is not None:
        drawn = sheets.sheet([question], root, number=1, title=name)
        shown = picture(drawn, f"Pictures, words and right answer of question {name}")
    rows = [
        [run.name, answer.response[:400], "" if answer.score is None else f"{answer.score:.3f}"]
        for run in (before, after)
        for answer in [run.answers[name]]
    ]
    return f"<h4>{text(name)}</h4>{shown}{table(['run', 'response', 'score'], rows)}"
