"""What ``w2v validate`` does: run checks row by row and on the whole, balance, split, report."""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from w2v import formats, paths, workers
from w2v import split as parts
from w2v.errors import BadRecord, MissingPackage
from w2v.kinds import Check, RowCheck
from w2v.plugins import Spec, parse_spec
from w2v.records import Question
from w2v.stream import Stage, dumps, line, write_atomic

DEFAULT = ("grammar", "images", "boxes", "moves", "geometry", "duplicates", "leaks", "balance")
OPTIONAL = ("blind",)
"""Run by default too where the package it needs is installed."""
ENOUGH = 1000
"""Questions that are worth a process."""
TOGETHER = 200
"""Questions of one scene that a process takes at a time: they share pictures and bundles."""


def build_checks(specs: tuple[Spec, ...], root: Path, stage: Stage) -> dict[str, Check]:
    """Return the checks by name, in order; ``root`` goes to those that read files."""
    made = {str(spec): _with_root(spec, root).make() for spec in specs}
    if not specs:
        made = {name: _with_root(parse_spec("check", name), root).make() for name in DEFAULT}
        for name in OPTIONAL:
            try:
                made[name] = _with_root(parse_spec("check", name), root).make()
            except MissingPackage as error:
                stage.log(f"check {name!r} left out: {error.what} ({error.hint})")
    return made


def _with_root(spec: Spec, root: Path) -> Spec:
    if "root" not in inspect.signature(spec.offer.make).parameters:
        return spec
    return replace(spec, options={"root": str(root)} | spec.options)


def read(stage: Stage, path: str) -> Iterator[Question]:
    """Yield questions from native rows, and from World2VLM rows, which carry no ``kind``."""
    return stage.parse(path, question_of)


def question_of(line: dict[str, Any]) -> Question:
    """Return a row, native or World2VLM's, as a question.

    Raises:
        BadRecord: It is neither.
    """
    if "kind" not in line and "messages" in line and "task_type" in line:
        return formats.FORMATS["world2vlm"].read(line)
    return Question.from_json(line)


def rows(
    stage: Stage,
    questions: Iterable[Question],
    checks: dict[str, Check],
    processes: int | None = 1,
) -> list[Question]:
    """Return the questions that no check rejects; each other is dropped for its first problem.

    Checks of single questions that come before all others are shared among processes.

    Args:
        stage: Where rejects are counted.
        questions: In the order in which checks see them; what is kept stays in it.
        checks: By name, in order.
        processes: How many to start; None: as many as there is enough to do for.
    """
    alone: dict[str, RowCheck] = {}
    for name, check in checks.items():
        if not isinstance(check, RowCheck):
            break
        alone[name] = check
    rest = {name: check for name, check in checks.items() if name not in alone}
    groups, number = workers.enough(_neighbours(questions), ENOUGH, processes)
    if number > 1 and alone:
        found = _found_together(groups, alone, number)
    else:
        found = ((question, _first(question, alone)) for group in groups for question in group)
    kept = []
    for question, first in stage.progress(found):
        stage.inputs += 1
        if rejected := first or _first(question, rest):
            reason, detail = rejected
            stage.drop(reason)
            stage.reject(reason, detail, question.id)
        else:
            kept.append(question)
    return kept


def _neighbours(questions: Iterable[Question]) -> Iterator[list[Question]]:
    """Yield the questions in runs of one scene, but not too many at a time."""
    for _, scene in itertools.groupby(questions, lambda question: question.scene):
        while run := list(itertools.islice(scene, TOGETHER)):
            yield run


Rejected = tuple[str, str]
"""Why a question is left out: the check and its word for the count, and a sentence."""


def _first(question: Question, checks: Mapping[str, Check]) -> Rejected | None:
    """Return the first problem that a check has with a question."""
    for name, check in checks.items():
        problem = check.row(question)
        if problem is not None:
            return f"{name}: {problem.reason}", problem.detail
    return None


def _found_together(
    groups: Iterator[list[Question]], checks: Mapping[str, RowCheck], number: int
) -> Iterator[tuple[Question, Rejected | None]]:
    """Yield each question with its first problem, as several processes find them."""

    def look(group: list[Question]) -> tuple[list[Rejected | None], dict[str, Counter[Any]]] | None:
        for check in checks.values():
            check.tally.clear()
        try:
            problems = [_first(question, checks) for question in group]
        except Exception:  # noqa: BLE001  here it fails again, where it is told
            return None
        return problems, {name: check.tally.copy() for name, check in checks.items()}

    with workers.Workers(look, number) as several:
        for group, made in several.map(groups):
            if made is None:
                yield from ((question, _first(question, checks)) for question in group)
                continue
            problems, tallies = made
            for name, tally in tallies.items():
                checks[name].tally.update(tally)
            yield from zip(group, problems, strict=True)


def balanced(
    stage: Stage, questions: list[Question], how: str | None, per_task: int | None, seed: int
) -> list[Question]:
    """Return the rows that a balance leaves, in their order; ``how`` None is ``answers`` if it can.

    Raises:
        MissingPackage: The balance that was asked for needs a package that is not installed.
    """
    if how == "none" or not questions:
        return questions
    from w2v.balance import balance

    try:
        made = balance(questions, how or "answers", seed=seed, per_task=per_task)
    except MissingPackage as error:
        if how is not None:
            raise
        stage.log(f"answers not balanced: {error.what} ({error.hint})")
        return questions
    for reason, count in made.dropped.items():
        stage.drop(f"balance: {reason}", count)
    if made.short:
        stage.notes["balance short of"] = made.short
    return made.kept


def split(
    questions: list[Question], shares: Mapping[str, float] | None, seed: int
) -> list[Question]:
    """Return the rows with ``meta.split`` set, scene by scene."""
    if shares is None:
        return questions
    names = parts.assign_all({q.scene for q in questions}, shares, seed)
    return [replace(q, meta=q.meta | {"split": names[q.scene]}) for q in questions]


def whole(
    stage: Stage, questions: list[Question], checks: dict[str, Check], report: Path | None
) -> list[str]:
    """Judge the set; return why it fails, after writing the report and the counts per task."""
    failures: list[str] = []
    figures: dict[str, Any] = {}
    for name, check in checks.items():
        verdict = check.whole(questions)
        failures += [f"{name}: {failure}" for failure in verdict.failures]
        if verdict.figures:
            figures[name] = dict(verdict.figures)
    stage.notes["tasks"] = dict(sorted(Counter(q.task_type for q in questions).items()))
    stage.log("kept " + (", ".join(f"{k} {n}" for k, n in stage.notes["tasks"].items()) or "none"))
    if report:
        told = {**stage.figures(), "checks": figures, "failures": failures}
        write_atomic(report, dumps(told) + "\n")
    return failures


def write_parts(questions: list[Question], folder: Path) -> None:
    """Write ``NAME.jsonl`` for every part of a split, or ``questions.jsonl``, each at once.

    Raises:
        BadRecord: A part is called what no file in the folder can be called.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[str]] = {}
    for question in questions:
        name = str(question.meta.get("split", "questions"))
        found.setdefault(name, []).append(line(question))
    for name in found:
        if name != paths.safe_name(name):
            raise BadRecord(
                f"a part of the split is called {name!r}", "use letters, digits and ._- only"
            )
    for name, lines in found.items():
        write_atomic(folder / f"{name}.jsonl", "".join(lines))
