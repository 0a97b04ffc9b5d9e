"""Figures of many answers, each with a 95 % interval that respects scenes.

Questions about one scene are not independent, so scenes are drawn again, not questions (cluster
bootstrap; Davison and Hinkley 1997, 3.8): an interval covers other scenes of the same kind. The
draws depend on nothing but the names of the scenes, so that two runs over the same questions are
drawn alike and can be compared draw by draw.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from w2v.kinds import Outcome
from w2v.provenance import seed_of
from w2v.records import Answer, Question

ALL = "all"
"""The group that holds all others; its figures are the mean of theirs, each counting alike."""
BALANCED = "balanced accuracy"
DRAWS = 2000
_AT_ONCE = 4_000_000  # cells of one table of draws


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer as it counts; ``scene`` is what it shares with answers it depends on."""

    question: str
    scene: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, its 95 % interval (None where one scene is all there is), and of how many."""

    value: float
    low: float | None
    high: float | None
    number: int

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as plain JSON."""
        return {
            "value": _round(self.value),
            "interval": [_round(self.low), _round(self.high)],
            "number": self.number,
        }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


@dataclass(frozen=True, slots=True)
class Group:
    """The figures of one group of questions, by metric."""

    questions: int
    scenes: int
    estimates: Mapping[str, Estimate]


# ── answers as they are stored ────────────────────────────────────────────────────────────────


def scene_of(question: Question) -> str:
    """Return what a question shares with those it depends on: the scene, as far as it is known."""
    return question.scene or question.clip or question.id


def stored(question: Question, outcome: Outcome) -> dict[str, Any]:
    """Return what an answer carries in ``meta`` so that it can be counted by itself."""
    return {
        "scene": scene_of(question),
        "group": outcome.group,
        "values": dict(outcome.values),
        **({"truth": outcome.truth} if outcome.truth else {}),
    }


def sample(answer: Answer) -> Sample:
    """Read back what ``stored`` wrote.

    Raises:
        KeyError: The answer was not written by ``w2v eval``.
    """
    meta = answer.meta
    outcome = Outcome(meta["group"], meta["values"], meta.get("truth", ""))
    return Sample(answer.question, meta["scene"], outcome)


# ── tables of sums ────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Sums:
    """One metric: by stratum and scene, the sum of its values and how many there are.

    The figure is the mean over strata of the mean over values. Most metrics have one stratum;
    a balanced accuracy has one per class, the group ``all`` one per group.
    """

    total: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(_zeros))
    count: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(_zeros))

    def add(self, stratum: str, scene: str, value: float) -> None:
        """Count one value."""
        self.total[stratum][scene] += value
        self.count[stratum][scene] += 1

    @property
    def number(self) -> int:
        """How many values there are."""
        return int(sum(sum(scenes.values()) for scenes in self.count.values()))

    @property
    def value(self) -> float:
        """The figure."""
        means = [
            math.fsum(self.total[stratum].values()) / sum(scenes.values())
            for stratum, scenes in self.count.items()
        ]
        return math.fsum(means) / len(means)

    def drawn(self, draws: np.ndarray, scenes: Sequence[str]) -> np.ndarray:
        """Return (B,) float64, the figure in each draw; NaN where a draw holds no value.

        Args:
            draws: (B, S), how often each scene is in each draw.
            scenes: S names.
        """
        place = {scene: k for k, scene in enumerate(scenes)}
        means = []
        for stratum, counts in self.count.items():
            total, count = np.zeros(len(scenes)), np.zeros(len(scenes))
            at = [place[scene] for scene in counts]
            count[at] = list(counts.values())
            total[at] = [self.total[stratum][scene] for scene in counts]
            number = draws @ count
            with np.errstate(invalid="ignore"):
                means.append(np.where(number > 0, (draws @ total) / number, np.nan))
        found = np.array(means)
        known = ~np.isnan(found)
        with np.errstate(invalid="ignore"):
            return np.where(known, found, 0.0).sum(0) / known.sum(0)


def _zeros() -> dict[str, float]:
    return defaultdict(float)


Tables = dict[str, dict[str, Sums]]
"""By group and metric."""


def tables(samples: Iterable[Sample]) -> Tables:
    """Return the sums of every metric, group by group in order of names, ``all`` last.

    ``all`` is there where there are several groups; it has the metrics that all of them have.
    """
    found: Tables = defaultdict(dict)
    for one in samples:
        group, truth = found[one.outcome.group], one.outcome.truth
        for name, value in one.outcome.values.items():
            group.setdefault(name, Sums()).add("", one.scene, value)
        if truth and "accuracy" in one.outcome.values:
            sums = group.setdefault(BALANCED, Sums())
            sums.add(truth, one.scene, one.outcome.values["accuracy"])
    ordered = dict(sorted(found.items()))
    if len(ordered) > 1:
        ordered[ALL] = _together(ordered)
    return ordered


def _together(groups: Tables) -> dict[str, Sums]:
    """Return the metrics that all groups share, each group one stratum."""
    first, *rest = groups.values()
    together = {}
    for name in (n for n in first if n != BALANCED and all(n in group for group in rest)):
        together[name] = sums = Sums()
        for group, metrics in groups.items():
            sums.total[group] = metrics[name].total[""]
            sums.count[group] = metrics[name].count[""]
    return together


# ── intervals ─────────────────────────────────────────────────────────────────────────────────


def draws(scenes: Sequence[str], number: int = DRAWS) -> Iterator[np.ndarray]:
    """Yield (B, S) int64 tables, how often each of S scenes is in each of ``number`` draws."""
    size = len(scenes)
    rng = np.random.default_rng(seed_of("bootstrap", *scenes))
    at_once = max(1, _AT_ONCE // size)
    for start in range(0, number, at_once):
        yield rng.multinomial(size, [1 / size] * size, size=min(at_once, number - start))


def interval(figures: np.ndarray) -> tuple[float | None, float | None]:
    """Return the middle 95 % of (B,) drawn figures; (None, None) of nothing."""
    figures = figures[~np.isnan(figures)]
    if not len(figures):
        return None, None
    low, high = np.percentile(figures, (2.5, 97.5))
    return float(low), float(high)


def scenes_of(metrics: Iterable[Sums]) -> list[str]:
    """Return the names of all scenes in some sums, in order."""
    return sorted({s for sums in metrics for scenes in sums.count.values() for s in scenes})


def estimate(sums: Sums, drawn: np.ndarray | None) -> Estimate:
    """Return a figure with its interval; ``drawn`` is None where there is none."""
    low, high = (None, None) if drawn is None else interval(drawn)
    return Estimate(sums.value, low, high, sums.number)


def drawn(metrics: Sequence[Sums], number: int = DRAWS) -> list[np.ndarray] | None:
    """Return (B,) figures of each metric, all from the same draws; None where one scene is all."""
    scenes = scenes_of(metrics)
    if len(scenes) < 2:
        return None
    parts = [[sums.drawn(part, scenes) for sums in metrics] for part in draws(scenes, number)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def summarize(samples: Iterable[Sample]) -> dict[str, Group]:
    """Return the figures of every group, ``all`` last."""
    samples = list(samples)
    seen: dict[str, set[str]] = defaultdict(set)
    count: dict[str, int] = defaultdict(int)
    for one in samples:
        for group in (one.outcome.group, ALL):
            seen[group].add(one.scene)
            count[group] += 1
    groups = {}
    for name, metrics in tables(samples).items():
        figures = drawn(list(metrics.values()))
        estimates = {
            metric: estimate(sums, figures[k] if figures else None)
            for k, (metric, sums) in enumerate(metrics.items())
        }
        groups[name] = Group(count[name], len(seen[name]), estimates)
    return groups


# ── two runs ──────────────────────────────────────────────────────────────────────────────────


def difference(one: Sums, two: Sums) -> Estimate:
    """Return ``two - one`` with the interval of the paired bootstrap: both have the same draws."""
    return apart(one, two, drawn([one, two]))


def apart(one: Sums, two: Sums, figures: Sequence[np.ndarray] | None) -> Estimate:
    """Return ``two - one``; ``figures`` are those of each in the same draws."""
    low, high = (None, None) if figures is None else interval(figures[1] - figures[0])
    return Estimate(two.value - one.value, low, high, min(one.number, two.number))


def mcnemar(worse: int, better: int) -> float:
    """Return the two-sided p of McNemar's exact test (1947), from the counts of changed answers.

    Args:
        worse: Questions that were right before and are wrong now.
        better: Questions that were wrong before and are right now.
    """
    number = worse + better
    tail = ways = 1
    for k in range(min(worse, better)):
        ways = ways * (number - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**number)
