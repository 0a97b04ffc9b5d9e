"""Two or more runs on the same questions: differences with intervals, and tables of them.

Intervals come from the paired bootstrap over scenes (``w2v.metrics``). McNemar's exact test looks
at the questions of which one run was right and the other wrong; it takes them for independent,
which those of one scene are not, so of the two the interval is to be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2v import evaluating, metrics
from w2v.errors import BadFile, W2VError
from w2v.metrics import Estimate, Sample, Sums
from w2v.records import Answer

MAIN = ("reward", "accuracy", "unparsed")
"""What is shown where no metric is named; a benchmark may lack some of them."""
SHARED = ("benchmark", "version", "metrics", "questions", "generation")


class UnequalProtocols(W2VError):
    """Two runs did not do the same, so that their figures say nothing about each other."""


@dataclass(frozen=True)
class Run:
    """The answers of one evaluation, by question, and how they came about."""

    name: str
    protocol: Mapping[str, Any]
    answers: Mapping[str, Answer]


@dataclass(frozen=True)
class Change:
    """One run against an earlier one, in one metric.

    ``better`` and ``worse`` count the questions that changed sides and ``p`` is that of McNemar's
    exact test; None for a metric that is not right or wrong.
    """

    estimate: Estimate
    better: int | None = None
    worse: int | None = None
    p: float | None = None


@dataclass(frozen=True)
class Row:
    """One metric of one group: the figure of each run, and the change of each but the first."""

    group: str
    metric: str
    figures: tuple[Estimate, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side.

    ``against[k]`` is the place of the run that run k + 1 is held against; ``left_out`` counts the
    questions that not all of them answered.
    """

    runs: tuple[Run, ...]
    against: tuple[int, ...]
    rows: tuple[Row, ...]
    questions: int
    scenes: int
    left_out: int = 0

    @property
    def names(self) -> list[str]:
        """The names of the runs."""
        return [run.name for run in self.runs]

    @property
    def tested(self) -> bool:
        """Whether any change has a p; no metric but one that is right or wrong has."""
        return any(change.p is not None for row in self.rows for change in row.changes)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON."""
        return {
            "runs": [{"name": r.name, "protocol": r.protocol.get("protocol")} for r in self.runs],
            "questions": self.questions,
            "scenes": self.scenes,
            "left out": self.left_out,
            "rows": [_row_json(row, self) for row in self.rows],
        }


def _row_json(row: Row, whole: Comparison) -> dict[str, Any]:
    changes = [
        {
            "run": whole.names[k + 1],
            "against": whole.names[whole.against[k]],
            **change.estimate.to_json(),
            "better": change.better,
            "worse": change.worse,
            "p": change.p,
        }
        for k, change in enumerate(row.changes)
    ]
    figures = [figure.to_json() for figure in row.figures]
    return {"group": row.group, "metric": row.metric, "figures": figures, "changes": changes}


# ── reading ───────────────────────────────────────────────────────────────────────────────────


def read(path: Path) -> Run:
    """Return the run in a folder of ``w2v eval``, or in a file of answers that lies in one.

    Raises:
        BadFile: There are no answers, or not all of them yet.
    """
    file = path / evaluating.LOG if path.is_dir() else path
    if not file.is_file():
        raise BadFile(f"{path}: holds no {evaluating.LOG}", "name a folder of w2v eval")
    beside = file.parent / evaluating.PROTOCOL
    protocol = evaluating.read_protocol(beside) if beside.exists() else {}
    answers = evaluating.read_log(file)
    if not answers:
        raise BadFile(f"{file}: holds no answers")
    for answer in answers.values():
        if not {"scene", "group", "values"} <= set(answer.meta):
            raise BadFile(f"{file}: {answer.id} says nothing of its scene", "was it w2v eval?")
    return Run(str(path), protocol, answers)


def short_names(runs: Sequence[Run]) -> list[Run]:
    """Return the runs named by the ends of their paths, or else by what these do not share."""
    parts = [Path(run.name.removesuffix(".jsonl")).parts for run in runs]
    if len({part[-1] for part in parts}) == len(runs):
        return [
            Run(part[-1], run.protocol, run.answers) for part, run in zip(parts, runs, strict=True)
        ]
    head = tail = 0
    least = min(map(len, parts)) - 1
    while len(runs) > 1 and head < least and len({p[head] for p in parts}) == 1:
        head += 1
    while len(runs) > 1 and tail < least - head and len({p[-1 - tail] for p in parts}) == 1:
        tail += 1
    names = ["/".join(p[head : len(p) - tail]) for p in parts]
    return [Run(name, run.protocol, run.answers) for name, run in zip(names, runs, strict=True)]


def check(runs: Sequence[Run]) -> None:
    """Refuse runs of unequal protocols.

    Raises:
        UnequalProtocols: Naming what differs.
    """
    first, *rest = runs
    for run in rest:
        if first.protocol and run.protocol:
            differ = evaluating.unequal(first.protocol, run.protocol, SHARED)
            missing = set(first.answers) ^ set(run.answers)
            if not differ and missing:
                differ = [f"{len(missing)} questions were answered in one only"]
        else:
            differ = [f"no {evaluating.PROTOCOL} says how they came about"]
        if differ:
            raise UnequalProtocols(
                f"{first.name} and {run.name} cannot be compared: {'; '.join(differ)}",
                "evaluate both alike; or say --force to compare what they have in common",
            )


# ── comparing ─────────────────────────────────────────────────────────────────────────────────


def compare(
    runs: Sequence[Run], wanted: Sequence[str] = (), *, previous: bool = False
) -> Comparison:
    """Compare runs on the questions that all of them answered.

    Args:
        runs: Each later one is held against the first.
        wanted: Metrics; all of them where none is named.
        previous: Whether each is held against the one before it instead.

    Raises:
        W2VError: They have no question in common, or none of the metrics.
    """
    shared = set.intersection(*(set(run.answers) for run in runs))
    if not shared:
        raise UnequalProtocols("the runs have no question in common")
    samples = [
        [metrics.sample(answer) for name, answer in run.answers.items() if name in shared]
        for run in runs
    ]
    against = tuple(range(len(runs) - 1)) if previous else (0,) * (len(runs) - 1)
    tables = [metrics.tables(one) for one in samples]
    rows: list[Row] = []
    for group in tables[0]:
        rows += _group_rows(group, [table.get(group, {}) for table in tables], samples, against)
    known = {row.metric for row in rows}
    if unknown := [name for name in wanted if name not in (*known, *MAIN)]:
        raise W2VError(
            f"no run has a metric {unknown[0]!r}", f"they have: {', '.join(sorted(known))}"
        )
    chosen = tuple(row for row in rows if not wanted or row.metric in wanted)
    every = set().union(*(set(run.answers) for run in runs))
    scenes = {sample.scene for sample in samples[0]}
    return Comparison(
        tuple(runs), against, chosen, len(shared), len(scenes), len(every) - len(shared)
    )


def _group_rows(
    group: str,
    tables: Sequence[Mapping[str, Sums]],
    samples: Sequence[Sequence[Sample]],
    against: Sequence[int],
) -> Iterable[Row]:
    """Yield a row per metric that all runs have; all figures of it come from the same draws."""
    for metric in (name for name in tables[0] if all(name in table for table in tables)):
        sums = [table[metric] for table in tables]
        drawn = metrics.drawn(sums)
        figures = tuple(
            metrics.estimate(one, drawn[k] if drawn else None) for k, one in enumerate(sums)
        )
        values = [_binary(group, metric, part) for part in samples]
        changes = []
        for k, before in enumerate(against, start=1):
            apart = metrics.apart(sums[before], sums[k], drawn and (drawn[before], drawn[k]))
            changes.append(Change(apart, *_sides(values[before], values[k])))
        yield Row(group, metric, figures, tuple(changes))


def _binary(group: str, metric: str, samples: Iterable[Sample]) -> dict[str, float] | None:
    """Return a metric's values by question, None where it is not one of right or wrong."""
    found = {
        one.question: one.outcome.values[metric]
        for one in samples
        if group in (one.outcome.group, metrics.ALL) and metric in one.outcome.values
    }
    if metric in ("reward", "unparsed") or not found or not set(found.values()) <= {0.0, 1.0}:
        return None
    return found


def _sides(
    before: Mapping[str, float] | None, after: Mapping[str, float] | None
) -> tuple[int | None, int | None, float | None]:
    """Return how many questions became right, how many wrong, and McNemar's p."""
    if before is None or after is None:
        return None, None, None
    pairs = [(before[name], after[name]) for name in before if name in after]
    better, worse = pairs.count((0.0, 1.0)), pairs.count((1.0, 0.0))
    return better, worse, metrics.mcnemar(worse, better)


def changed(one: Run, two: Run) -> tuple[list[str], list[str]]:
    """Return the questions that the second run won and those that it lost, largest change first.

    The reward decides, else the accuracy.
    """
    gains = {}
    for name in one.answers.keys() & two.answers.keys():
        before, after = one.answers[name].meta["values"], two.answers[name].meta["values"]
        metric = "reward" if "reward" in before and "reward" in after else "accuracy"
        gains[name] = after.get(metric, 0.0) - before.get(metric, 0.0)
    order = sorted(gains, key=lambda name: (-abs(gains[name]), name))
    return [n for n in order if gains[n] > 0], [n for n in order if gains[n] < 0]


# ── tables ────────────────────────────────────────────────────────────────────────────────────


def markdown(whole: Comparison) -> str:
    """Return the table in Markdown."""
    head, *rows = _cells(whole, "−")
    rule = ["---", "---", *["---:"] * (len(head) - 2)]
    told = [f"| {' | '.join(c.replace('|', '/') for c in row)} |" for row in (head, rule, *rows)]
    return "\n".join([*told, "", _caption(whole), ""])


def latex(whole: Comparison) -> str:
    """Return the table in LaTeX, for the package booktabs."""
    head, *rows = (list(map(_escape, row)) for row in _cells(whole, "-"))
    body = [" & ".join(row) + r" \\" for row in rows]
    return "\n".join(
        [
            f"% {_caption(whole)}",
            rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


_TEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_TEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}


def _escape(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def _cells(whole: Comparison, minus: str) -> list[list[str]]:
    """Return the table as text, its head first."""
    rows = [header(whole, minus)]
    for row in whole.rows:
        cells = [row.group, row.metric, *(_interval(figure) for figure in row.figures)]
        for change in row.changes:
            cells.append(_interval(change.estimate, signed=True))
            if whole.tested:
                cells.append(p_value(change.p))
        rows.append(cells)
    return rows


def header(whole: Comparison, minus: str) -> list[str]:
    """Return the head of a table: figures of each run, then changes, with a p where one is known.

    Args:
        whole: What the table shows.
        minus: How to write that one run is held against another.
    """
    head = ["task", "metric", *whole.names]
    for k, before in enumerate(whole.against, start=1):
        head.append(f"{whole.names[k]} {minus} {whole.names[before]}")
        if whole.tested:
            head.append("McNemar p")
    return head


def _interval(estimate: Estimate, signed: bool = False) -> str:
    form = "{:+.3f}" if signed else "{:.3f}"
    told = form.format(estimate.value)
    if estimate.low is None or estimate.high is None:
        return told
    return f"{told} [{form.format(estimate.low)}, {form.format(estimate.high)}]"


def p_value(p: float | None) -> str:
    """Return a p as tables show it; empty where there is none."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _caption(whole: Comparison) -> str:
    told = f"{whole.questions} questions in {whole.scenes} scenes"
    if whole.left_out:
        told += f", {whole.left_out} left out that not all runs answered"
    told += "; 95 % intervals over scenes"
    return f"{told}; p takes questions for independent." if whole.tested else f"{told}."
