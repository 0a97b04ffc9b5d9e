"""What ``w2v eval`` does: ask a student, log each answer at once, and report with intervals.

A batch is one write to the log, so that a kill loses at most the batch in flight. Batches are cut
from the whole list of questions, never from what is left, and a batch that is not whole in the log
is asked again: whatever happened, the same questions share a batch, and the log comes out the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from w2v import __version__, blind, metrics, paths
from w2v.errors import BadFile, BadRecord, ForeignOutput, W2VError
from w2v.kinds import Benchmark, DescribesItself, Student
from w2v.metrics import Estimate, Sample
from w2v.provenance import digest
from w2v.records import Answer, Question
from w2v.stream import Stage, dumps, line, loads, write_atomic

LOG, PROTOCOL, METRICS, BLIND = "answers.jsonl", "protocol.json", "metrics.json", "blind.jsonl"
METRICS_VERSION = 1
"""To be raised whenever the same outcomes would give other figures."""
GENERATION = ("image_tokens", "max_new_tokens", "dtype", "temperature", "seed", "prompt")
"""What two runs must have in common to be compared; weights and family may differ."""

WINDOW = 15
"""Batches among which questions change places; odd, so that 2, 4 or 8 shards get all kinds."""


class StudentFailed(W2VError):
    """A student raised while answering, or gave something else than one text per question."""


# ── questions ─────────────────────────────────────────────────────────────────────────────────


def gather(stage: Stage, benchmark: Benchmark, limit: int | None) -> list[Question]:
    """Return the questions, the first ``limit``.

    Raises:
        BadRecord: Two questions have one id, or one has no answer.
        BadFile: There are none.
    """
    found: list[Question] = []
    seen: set[str] = set()
    for number, question in enumerate(benchmark.questions()):
        if limit is not None and number >= limit:
            break
        stage.inputs += 1
        if question.id in seen:
            wrong = BadRecord(f"two questions have the id {question.id!r}", "see w2v validate")
            stage.fail("bad record", wrong, question.id)
        elif not question.answer.strip():
            stage.fail("bad record", BadRecord(f"{question.id}: no answer"), question.id)
        else:
            seen.add(question.id)
            found.append(question)
    if not found:
        raise BadFile("there are no questions to ask")
    return found


def opened(
    stage: Stage, questions: Iterable[Question], root: Path, beside: Path | None
) -> Iterator[tuple[Question, Question]]:
    """Yield each question with its twin whose images are paths that can be opened.

    Those whose pictures are missing ``fail``, before any model is loaded.
    """
    known: dict[str, str] = {}
    for question in questions:
        try:
            tags = sum(message.content.count("<image>") for message in question.messages)
            if tags != len(question.images):
                raise BadRecord(
                    f"{tags} <image> tags, {len(question.images)} images",
                    "w2v validate finds such rows",
                )
            for path in question.images:
                if path not in known:
                    known[path] = str(paths.resolve(root, path, beside))
        except W2VError as error:
            wrong = BadFile(f"{question.id}: {error.what}", error.hint)
            stage.fail("bad picture", wrong, question.id)
            continue
        yield question, replace(question, images=tuple(known[path] for path in question.images))


def digest_of(questions: Iterable[Question]) -> str:
    """Return what stands for a list of questions: all that a student sees and is graded by."""
    parts = (
        (
            question.id,
            question.task_type,
            [(message.role, message.content) for message in question.messages],
            question.images,
            question.answer,
            question.form,
            question.options,
        )
        for question in questions
    )
    return digest([digest(*part) for part in parts])


# ── the protocol ──────────────────────────────────────────────────────────────────────────────


def protocol(
    benchmark: str, version: str, questions: Sequence[Question], student: str, told: dict[str, Any]
) -> dict[str, Any]:
    """Return what a run did, with the hash of all that must be equal in runs to be compared.

    Args:
        benchmark: Its name.
        version: Of its scoring.
        questions: All of them, before they are cut into shards.
        student: As typed.
        told: What the student says of itself.
    """
    shared = {
        "benchmark": benchmark,
        "version": version,
        "metrics": METRICS_VERSION,
        "questions": digest_of(questions),
        "generation": {key: told[key] for key in GENERATION if key in told},
    }
    return {
        "protocol": digest(shared),
        **shared,
        "number": len(questions),
        "student": student,
        "described": told,
        "w2v": __version__,
    }


def build_student(typed: str) -> Student:
    """Return a student by name, or from the folder of a checkpoint."""
    from w2v.students import resolve

    made: Student = resolve.student(typed)
    return made


def describe(student: Student) -> dict[str, Any]:
    """Return what a student says of itself; nothing where it cannot."""
    return student.describe() if isinstance(student, DescribesItself) else {}


def unequal(one: Mapping[str, Any], two: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Return a sentence for each thing in which two protocols differ."""
    told = []
    for key in keys:
        a, b = one.get(key), two.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            told += unequal(a, b, sorted({*a, *b}))
        elif a != b:
            told.append(f"{key} is {_short(a)} and {_short(b)}")
    return told


def _short(value: Any) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


_SAME_RUN = ("benchmark", "version", "metrics", "questions", "generation", "student", "described")


def claim(folder: Path, told: Mapping[str, Any], overwrite: bool) -> None:
    """Make a folder the output of a run, or find that it is so already.

    Raises:
        ForeignOutput: It holds the answers of another run.
        BadFile: What it says of itself cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if overwrite:
        written = [folder / name for name in (PROTOCOL, METRICS, BLIND)]
        for old in (*written, *folder.glob("answers*.jsonl")):
            old.unlink(missing_ok=True)
    file = folder / PROTOCOL
    if file.exists():
        before = read_protocol(file)
        if differ := unequal(before, told, _SAME_RUN):
            raise ForeignOutput(
                f"{folder} holds the answers of another run: {differ[0]} now",
                "name another folder with -o, or say --overwrite to start again",
            )
        return
    if (folder / LOG).exists():
        raise ForeignOutput(
            f"{folder}: holds {LOG} and no {PROTOCOL}: w2v eval did not write it",
            "name another folder with -o",
        )
    write_atomic(file, dumps(dict(told)) + "\n")


def read_protocol(file: Path) -> dict[str, Any]:
    """Return a stored protocol.

    Raises:
        BadFile: It cannot be read.
    """
    try:
        found = loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise BadFile(f"{file}: {error}", "say --overwrite to start again") from error
    if not isinstance(found, dict):
        raise BadFile(f"{file}: expected a JSON object")
    return found


# ── the log ───────────────────────────────────────────────────────────────────────────────────


class Log:
    """The answers of one shard, on disk as soon as they are given.

    ``batches`` are all batches of the shard, as ids. Only whole batches are kept of what is found;
    a last line that was cut short, or one that is no answer, is taken out.
    """

    def __init__(self, path: Path, batches: Sequence[Sequence[str]]) -> None:
        self.path = path
        self.done: dict[str, Answer] = {}
        self._lock = os.open(path.with_name(f".{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o666)
        self._claim()
        found = read_log(path) if path.exists() else {}
        whole = {name for b in batches if all(name in found for name in b) for name in b}
        self.done |= {name: answer for name, answer in found.items() if name in whole}
        kept = "".join(map(line, self.done.values())).encode()
        if path.exists() and path.read_bytes() != kept:
            write_atomic(path, kept)
        self._file = path.open("ab")

    def _claim(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise ForeignOutput(
                f"{self.path}: another w2v eval is writing it", "wait for it, or use --shard"
            ) from error
        except OSError:
            return  # a file system without locks

    def add(self, answers: Sequence[Answer]) -> None:
        """Append one batch and wait until it is on disk."""
        self._file.write("".join(map(line, answers)).encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.done |= {answer.question: answer for answer in answers}

    def close(self) -> None:
        """Close the files; another process may write them then."""
        self._file.close()
        os.close(self._lock)


def read_log(path: Path) -> dict[str, Answer]:
    """Return the answers in a log by question; lines that cannot be read are passed over."""
    found = {}
    for text in path.read_bytes().splitlines(keepends=True):
        with contextlib.suppress(ValueError, W2VError, AttributeError):
            if text.endswith(b"\n"):
                answer = Answer.from_json(loads(text))
                found[answer.question] = answer
    return found


def log_name(shard: tuple[int, int]) -> str:
    """Return the name of a shard's log; the whole has no numbers."""
    return LOG if shard[1] == 1 else f"answers.{shard[0]}-of-{shard[1]}.jsonl"


# ── asking ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Exam:
    """One student and what it is asked.

    ``shown`` are the questions with paths that can be opened, in the order of ``questions``.
    """

    benchmark: Benchmark
    benchmark_name: str
    student: Student
    student_name: str
    questions: Sequence[Question]
    shown: Sequence[Question]
    folder: Path
    batch: int
    shard: tuple[int, int] = (0, 1)

    @property
    def number(self) -> int:
        """How many questions this shard has."""
        return sum(map(len, self.batches))

    def protocol(self) -> dict[str, Any]:
        """Return what this run does, and the hash of what must be equal to compare it."""
        told = describe(self.student)
        version = self.benchmark.version
        return protocol(self.benchmark_name, version, self.questions, self.student_name, told)

    @property
    def window(self) -> int:
        """Questions that may change places to stand in batches with those like them."""
        return WINDOW * self.batch

    @property
    def batches(self) -> list[list[int]]:
        """The places of the questions in each batch of this shard.

        Questions that are alike stand together, as far as they are not far apart: rows of a batch
        are padded to the longest, and wait for the last answer.
        """
        every = []
        for first in range(0, len(self.questions), self.window):
            near = range(first, min(first + self.window, len(self.questions)))
            alike = sorted(near, key=self._length)
            every += [alike[k : k + self.batch] for k in range(0, len(alike), self.batch)]
        return every[self.shard[0] :: self.shard[1]]

    def _length(self, place: int) -> tuple[Any, ...]:
        """Return what makes a question and its answer long, the longest first."""
        asked = self.questions[place]
        return -len(asked.images), asked.task_type, asked.form, -len(asked.prompt)


def ask(exam: Exam, stage: Stage) -> Iterator[Answer]:
    """Yield the shard's answers as they are given, each once it is on disk.

    What is there is not asked again.
    """
    batches = exam.batches
    names = [[exam.questions[k].id for k in places] for places in batches]
    log = Log(exam.folder / log_name(exam.shard), names)
    if log.done:
        stage.log(f"{len(log.done)} answers are there already")
    try:
        for places, batch in zip(batches, names, strict=True):
            if not all(name in log.done for name in batch):
                log.add(list(_answer(exam, places, stage)))
            yield from (log.done[name] for name in batch if name in log.done)
    finally:
        log.close()


def in_order(exam: Exam, answers: Iterable[Answer]) -> Iterator[Answer]:
    """Yield the answers of ``ask`` in the order of the questions, a window at a time."""
    places = {question.id: place for place, question in enumerate(exam.questions)}
    held: dict[int, Answer] = {}
    window = 0
    try:
        for answer in answers:
            place = places[answer.question]
            if place // exam.window != window:
                yield from map(held.pop, sorted(held))
                window = place // exam.window
            held[place] = answer
    except W2VError:
        yield from map(held.pop, sorted(held))
        raise
    yield from map(held.pop, sorted(held))


def _answer(exam: Exam, places: Sequence[int], stage: Stage) -> Iterator[Answer]:
    """Ask one batch; where it fails under ``skip``, ask one by one and leave out what fails."""
    try:
        said = _respond(exam, places)
    except W2VError as error:
        if len(places) > 1 and stage.settings.on_error == "skip":
            for place in places:
                yield from _answer(exam, [place], stage)
        else:
            stage.fail("no answer", error, exam.questions[places[0]].id)
        return
    for place, response in zip(places, said, strict=True):
        question = exam.questions[place]
        yield scored(exam.benchmark, exam.benchmark_name, question, exam.student_name, response)


def _respond(exam: Exam, places: Sequence[int]) -> list[str]:
    shown = [exam.shown[place] for place in places]
    try:
        said = exam.student.answer(shown)
    except W2VError:
        raise
    except Exception as error:  # noqa: BLE001  a plugin's student may raise anything
        what = f"{type(error).__name__}: {error}"
        raise StudentFailed(f"student {exam.student_name!r} at {shown[0].id}: {what}") from error
    if len(said) != len(shown) or not all(isinstance(text, str) for text in said):
        raise StudentFailed(
            f"student {exam.student_name!r} gave {len(said)} answers to {len(shown)} questions"
        )
    return said


def scored(
    benchmark: Benchmark, name: str, question: Question, student: str, response: str
) -> Answer:
    """Return the record of a response, with its score and what it counts for."""
    response = response.encode("utf-8", "replace").decode()
    grade = benchmark.score(question, response)
    answer = Answer(
        id=f"{question.id}/{digest(student, size=4)}",
        question=question.id,
        student=student,
        benchmark=name,
        response=response,
        score=grade.score if grade else None,
        parts=dict(grade.parts) if grade else {},
        parsed=grade.parsed if grade else None,
    )
    return replace(answer, meta=metrics.stored(question, benchmark.outcome(question, answer)))


def together(exam: Exam) -> list[Answer] | None:
    """Return all answers in order, from the logs of all shards; None where some are still out.

    The one log of all is in the order of the questions then, however they were answered.
    """
    number = exam.shard[1]
    found: dict[str, Answer] = {}
    for part in range(number):
        log = exam.folder / log_name((part, number))
        found |= read_log(log) if log.exists() else {}
        for places in replace(exam, shard=(part, number)).batches:
            if number > 1 and any(exam.questions[k].id not in found for k in places):
                return None
    ordered = [found[question.id] for question in exam.questions if question.id in found]
    data = "".join(map(line, ordered)).encode()
    log = exam.folder / LOG
    if not log.exists() or log.read_bytes() != data:
        write_atomic(log, data)
    return ordered


# ── the figures ───────────────────────────────────────────────────────────────────────────────


def blind_answers(
    exam: Exam, train: Sequence[Question] | None
) -> tuple[list[Answer], dict[str, dict[str, dict[str, float]]]]:
    """Answer the questions without looking.

    Returns:
        The answers of the best baseline of each group, and by group, baseline and metric the
        figures of all of them. Best is what earns most on these very questions, which flatters it.
    """
    said = blind.answer_all(exam.questions, train)
    given = {
        name: [
            scored(exam.benchmark, exam.benchmark_name, question, f"blind: {name}", response)
            for question, response in zip(exam.questions, responses, strict=True)
            if response is not None
        ]
        for name, responses in said.items()
    }
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name, answers in given.items():
        for group, sums in metrics.tables(map(metrics.sample, answers)).items():
            if group != metrics.ALL:
                figures.setdefault(group, {})[name] = {m: s.value for m, s in sums.items()}
    chosen = {group: _best(told) for group, told in figures.items()}
    place = {question.id: k for k, question in enumerate(exam.questions)}
    best = [
        answer
        for name, answers in given.items()
        for answer in answers
        if chosen[answer.meta["group"]] == name
    ]
    return sorted(best, key=lambda answer: place[answer.question]), figures


def _best(told: Mapping[str, Mapping[str, float]]) -> str:
    """Return the baseline that earns most; the first of equals."""
    return max(told, key=lambda name: told[name].get("reward", told[name]["accuracy"]))


MAIN = ("reward", "accuracy")
"""The metrics in which a student is held against the best baseline."""


def figures(
    answers: Sequence[Answer],
    best: Sequence[Answer] = (),
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
) -> dict[str, Any]:
    """Return the figures of each group as plain JSON, beside what blindness earns.

    Args:
        answers: Of a student.
        best: Of the best baseline of each group.
        baselines: The figures of all of them.
    """
    found: dict[str, Any] = {}
    above = _above([metrics.sample(a) for a in answers], [metrics.sample(a) for a in best])
    for name, group in metrics.summarize(map(metrics.sample, answers)).items():
        told = {metric: estimate.to_json() for metric, estimate in group.estimates.items()}
        found[name] = {"questions": group.questions, "scenes": group.scenes, "metrics": told}
        if name in (baselines or {}):
            earned = (baselines or {})[name]
            found[name] |= {"blind": earned, "best blind": _best(earned)}
        if name in above:
            found[name]["above blind"] = {m: e.to_json() for m, e in above[name].items()}
    return found


def _above(samples: Sequence[Sample], best: Sequence[Sample]) -> dict[str, dict[str, Estimate]]:
    """Return by group how much more a student earns than the best baseline on the same questions.

    Only where all of a group's own parts are there: ``all`` needs a baseline for every group.
    """
    whole = metrics.tables(samples).keys()
    shared = {one.question for one in samples} & {one.question for one in best}
    low = metrics.tables(one for one in best if one.question in shared)
    high = metrics.tables(one for one in samples if one.question in shared)
    return {
        group: {
            metric: metrics.difference(low[group][metric], high[group][metric])
            for metric in MAIN
            if metric in low[group] and metric in high[group]
        }
        for group in low
        if group != metrics.ALL or low.keys() == high.keys() == whole
    }


def finish(
    exam: Exam, answers: Sequence[Answer], train: Sequence[Question] | None, blindly: bool
) -> Iterator[str]:
    """Write ``metrics.json``, and ``blind.jsonl`` if wanted; yield the figures as lines of text."""
    best, baselines = blind_answers(exam, train) if blindly else ([], {})
    if best:
        write_atomic(exam.folder / BLIND, "".join(map(line, best)))
    groups = figures(answers, best, baselines) if answers else {}
    told = {
        "protocol": read_protocol(exam.folder / PROTOCOL)["protocol"],
        "benchmark": exam.benchmark_name,
        "student": exam.student_name,
        "questions": len(exam.questions),
        "answered": len(answers),
        "groups": groups,
    }
    write_atomic(exam.folder / METRICS, dumps(told) + "\n")
    yield from lines(groups)


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield figures as a table for people."""
    yield (
        f"{'task':<6}{'questions':>10}  {'reward':<22}{'accuracy':<22}{'unparsed':>8}  "
        "above the best blind answer"
    )
    for name, group in told.items():
        shown = group["metrics"]
        row = "".join(f"{_estimate(shown.get(metric)):<22}" for metric in MAIN)
        unparsed = shown["unparsed"]["value"] if "unparsed" in shown else 0.0
        above = _estimate(group.get("above blind", {}).get("reward"))
        by = f" ({group['best blind']})" if "best blind" in group else ""
        yield f"{name:<6}{group['questions']:>10}  {row}{unparsed:>8.3f}  {above}{by}".rstrip()


def _estimate(told: Mapping[str, Any] | None) -> str:
    if told is None:
        return ""
    low, high = told["interval"]
    around = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    return f"{told['value']:.3f}{around}"
