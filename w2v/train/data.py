"""Questions as rows for TRL, each of known length, before any model is loaded.

Nothing is cut: a row that is too long is left out and counted. Pictures are opened when a row is
used, never before.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from PIL import Image
from torch.utils.data import Sampler

from w2v import images, paths, plugins, split, stream
from w2v.checks import answers
from w2v.errors import BadFile, BadOption, BadRecord, OutsideRoot, W2VError
from w2v.kinds import Trainable
from w2v.provenance import digest
from w2v.records import Question
from w2v.stream import Stage
from w2v.validating import question_of

INVERSE, FORWARD = "inverse", "forward"
DIRECTIONS = (INVERSE, FORWARD)
Size = tuple[int, int]
Pictures = dict[str, tuple[str, Size]]
"""The file that a picture's name leads to, and its size in pixels."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which questions to train on; an empty part selects all."""

    tasks: tuple[str, ...] = ()
    directions: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def refuses(self, question: Question) -> str:
        """Return why a question is not selected, or nothing."""
        for name, value, wanted in (
            ("task", question.task_type, self.tasks),
            ("direction", question.direction, self.directions),
            ("source", question.source, self.sources),
        ):
            if wanted and value not in wanted:
                return f"{name} not selected"
        return ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A question that fits.

    Args:
        question: Its pictures are files that can be opened.
        turns: Typed content parts, as the student's family wants them, the answer last.
        frames: For each picture, the width and height that boxes are written in.
        prompt: Length in tokens of what is asked, pictures included; 0 where nobody asked.
        length: Length in tokens with the answer and the end of its turn.
    """

    question: Question
    turns: list[dict[str, Any]]
    frames: list[Size]
    prompt: int
    length: int


# ── reading ───────────────────────────────────────────────────────────────────────────────────


def read(
    stage: Stage,
    path: str,
    learner: Trainable,
    selection: Selection,
    max_length: int,
    room: int = 0,
) -> list[Row]:
    """Return the rows that can be trained on; each other is dropped, or fails, with its reason.

    A row fits if it and its answer, or ``room`` tokens of a response, take ``max_length`` tokens.

    What a rule leaves out (not selected, weight 0, too long) is dropped. What is wrong (a picture
    is missing, tags and pictures differ, an empty answer, an unknown task) fails: with
    ``--on-error fail`` that ends the stage.
    """
    beside = Path(path).parent if path != "-" else None
    found = stage.parse(path, question_of)
    rows: list[Row] = []
    known: Pictures = {}  # many questions share a picture
    for question in stage.progress(stream.take(found, (0, 1), stage.settings.limit)):
        stage.inputs += 1
        try:
            row = _row(question, stage, beside, learner, selection, bool(room), known)
        except _Wrong as wrong:
            stage.fail(wrong.reason, wrong.error, question.id)
            continue
        if row and max(row.length, row.prompt + room) > max_length:
            stage.drop(f"longer than {max_length} tokens")
            stage.reject("too long", f"{question.id}: {row.length} tokens", question.id)
        elif row:
            rows.append(row)
    if not rows:
        raise BadFile(f"{path}: no question is left to train on", _told(stage))
    return rows


class _Wrong(Exception):
    """A question that cannot be trained on, and the word that it is counted under."""

    def __init__(self, reason: str, error: W2VError) -> None:
        self.reason, self.error = reason, error


def _row(
    question: Question,
    stage: Stage,
    beside: Path | None,
    learner: Trainable,
    selection: Selection,
    measure_prompt: bool,
    known: Pictures,
) -> Row | None:
    """Return the row, or None where a rule drops it; ``known`` are the pictures seen so far."""
    reason = selection.refuses(question) or ("weight 0" if question.weight == 0 else "")
    if reason:
        stage.drop(reason)
        return None
    _judge(question)
    question, sizes = _pictures(question, stage.settings.root, beside, known)
    family, processor = learner.family, learner.processor
    try:
        frames = family.frames(processor, sizes)
        # Rendering and tokenizing are what reading takes; so only what is needed is measured.
        prompt = family.tokens(processor, question, sizes, answer=False) if measure_prompt else 0
        length = family.tokens(processor, question, sizes, answer=True)
        turns = family.messages(question, answer=True, frames=frames)
    except BadRecord as error:
        raise _Wrong("wrong image count", error) from error
    return Row(question=question, turns=turns, frames=frames, prompt=prompt, length=length)


def _judge(question: Question) -> None:
    """Raise where a question is wrong in itself."""
    if not question.answer.strip():
        raise _Wrong("empty answer", BadRecord(f"{question.id}: the answer is empty"))
    if question.weight < 0:
        raise _Wrong("bad weight", BadRecord(f"{question.id}: weight {question.weight} is below 0"))
    if question.task_type not in answers.IMAGES and not _offered(question.task_type):
        known = ", ".join(sorted({*answers.IMAGES, *plugins.offers("task")}))
        what = f"{question.id}: no task is called {question.task_type!r}"
        raise _Wrong("unknown task", BadRecord(what, f"known: {known}"))


def _offered(task: str) -> bool:
    """Return whether a plugin offers a task of that name."""
    if task not in plugins.offers("task"):
        plugins.discover()
    return task in plugins.offers("task")


def _pictures(
    question: Question, root: Path, beside: Path | None, known: Pictures
) -> tuple[Question, list[Size]]:
    """Return the question with pictures that can be opened, and their sizes in pixels."""
    try:
        for image in question.images:
            if image not in known:
                file = paths.resolve(root, image, beside)
                known[image] = str(file), images.size(file)
    except (BadFile, OutsideRoot) as error:
        wrong = type(error)(f"{question.id}: {error.what}", error.hint)
        raise _Wrong("image missing", wrong) from error
    found = [known[image] for image in question.images]
    return replace(question, images=tuple(file for file, _ in found)), [size for _, size in found]


def _told(stage: Stage) -> str:
    """Return what became of the questions, for a hint."""
    return ", ".join(f"{reason} {n}" for reason, n in stage.dropped.most_common()) or "no rows"


def fingerprint(rows: Iterable[Row]) -> str:
    """Return what tells one set of rows from another: ids, words, pictures' names, weights."""
    made = ""
    for row in rows:
        q = row.question
        names = [Path(image).name for image in q.images]
        made = digest(made, q.id, q.task_type, row.turns, names, q.answer, q.weight, q.direction)
    return made


# ── holding out and weighing ──────────────────────────────────────────────────────────────────


def hold_out(
    rows: Sequence[Row], share: float, seed: int, stage: Stage
) -> tuple[list[Row], list[Row]]:
    """Return rows to train on and rows to watch the loss on; no scene is in both.

    Rows that ``w2v validate --split`` has put into parts stay there: ``train`` is trained on,
    ``val`` is watched, any other part is dropped.
    """
    if any("split" in row.question.meta for row in rows):
        parts = [str(row.question.meta.get("split", "train")) for row in rows]
        for part in parts:
            if part not in ("train", "val"):
                stage.drop(f"split {part}")
    else:
        shares = {"train": 1 - share, "val": share}
        names = split.assign_all({_scene(row) for row in rows}, shares, seed) if share else {}
        parts = [names.get(_scene(row), "train") for row in rows]
    train = [row for row, part in zip(rows, parts, strict=True) if part == "train"]
    held = [row for row, part in zip(rows, parts, strict=True) if part == "val"]
    if not train:
        raise BadOption("every question is held out, none is left to train on", "see --holdout")
    return train, held


def _scene(row: Row) -> str:
    """Return what a row must not be parted from."""
    q = row.question
    return q.scene or q.bundle or "|".join(q.images) or q.id


def coefficients(
    rows: Sequence[Row], lambda_inverse: float | None, lambda_forward: float | None
) -> list[float]:
    """Return what each row's loss is multiplied with, before the mean over an update's rows.

    With weights ``w`` of the questions, N rows in all and ``W_d`` the sum of weights of
    direction d, row i counts ``lambda_d * w_i * N / W_d``. Its mean over all rows is equation 4
    of the paper (arXiv 2604.26934), ``lambda_inv E_inv + lambda_fwd E_fwd``, each E the weighted
    mean over its direction; the mean over rows drawn at random estimates that without bias,
    however large an update. Without lambdas each direction's is its share of the weights, so that
    row i counts ``w_i * N / W``: all questions alike, as in the authors' script.

    A row that counts nothing belongs out of the data (see ``read`` and ``weightless``).

    Raises:
        BadOption: A lambda is given and a row has no direction, or its direction weighs nothing.
    """
    weights = [row.question.weight for row in rows]
    if lambda_inverse is None and lambda_forward is None:
        total = sum(weights)
        return [weight * len(rows) / total for weight in weights]
    lambdas = {
        INVERSE: 1.0 if lambda_inverse is None else lambda_inverse,
        FORWARD: 1.0 if lambda_forward is None else lambda_forward,
    }
    totals = dict.fromkeys(DIRECTIONS, 0.0)
    for row, weight in zip(rows, weights, strict=True):
        if row.question.direction not in totals:
            raise BadOption(
                f"{row.question.id}: has no direction, so no lambda applies to it",
                "leave --lambda-inv and --lambda-fwd out, or select with --direction",
            )
        totals[row.question.direction] += weight
    return [
        lambdas[row.question.direction] * weight * len(rows) / totals[row.question.direction]
        for row, weight in zip(rows, weights, strict=True)
    ]


def weightless(
    rows: Sequence[Row], lambda_inverse: float | None, lambda_forward: float | None, stage: Stage
) -> list[Row]:
    """Return the rows without those of a direction whose lambda is 0.

    What counts nothing is not trained on at all: not even its place in a batch remains, so the
    run is the one on the other rows alone.
    """
    kept = []
    for row in rows:
        value = {INVERSE: lambda_inverse, FORWARD: lambda_forward}.get(row.question.direction)
        if value == 0:
            stage.drop(f"lambda of {row.question.direction} is 0")
        else:
            kept.append(row)
    if not kept:
        raise BadOption("no question counts anything", "raise --lambda-inv or --lambda-fwd")
    return kept


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """Return the number of rows of each task."""
    return dict(sorted(Counter(row.question.task_type for row in rows).items()))


# ── for TRL ───────────────────────────────────────────────────────────────────────────────────


def table(rows: Sequence[Row], weights: Sequence[float] = ()) -> Dataset:
    """Return the rows as a table that TRL reads; pictures are opened as rows are taken.

    A taken row has ``prompt`` and ``completion`` (typed turns), ``images`` (PIL, RGB), ``weight``,
    ``question`` (JSON), ``frames``, ``task_type``, ``direction`` and ``length``.
    """
    columns: dict[str, list[Any]] = {
        "turns": [json.dumps(row.turns) for row in rows],
        "question": [stream.line(row.question) for row in rows],
        "frames": [json.dumps(row.frames) for row in rows],
        "images": [list(row.question.images) for row in rows],
        "weight": list(weights) or [1.0] * len(rows),
        "task_type": [row.question.task_type for row in rows],
        "direction": [row.question.direction for row in rows],
        "length": [row.length for row in rows],
    }
    made: Dataset = Dataset.from_dict(columns)
    made.set_transform(_Take())
    return made


class _Take:
    """Turns stored columns into what TRL wants; keeps pictures, since many questions share them.

    Args:
        room: Bytes that the pictures opened last may take together.
    """

    def __init__(self, room: int = 512 << 20) -> None:
        self.room = room
        self.kept: OrderedDict[str, Image.Image] = OrderedDict()

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return columns with typed turns and opened pictures."""
        turns = [json.loads(text) for text in batch.pop("turns")]
        return {
            **batch,
            "prompt": [said[:-1] for said in turns],
            "completion": [said[-1:] for said in turns],
            "frames": [json.loads(text) for text in batch["frames"]],
            "images": [[self._open(path) for path in files] for files in batch["images"]],
        }

    def _open(self, path: str) -> Image.Image:
        """Return a picture, which is shared: nobody may draw on it."""
        if path not in self.kept:
            try:
                found = picture(path)
            except BadFile as error:  # broken beyond its header
                raise BadFile(
                    error.what,
                    "w2v validate finds such rows; mend it and run the same command again",
                ) from error
            self.kept[path] = found
            self.room -= _bytes(found)
            while self.room < 0:
                self.room += _bytes(self.kept.popitem(last=False)[1])
            return found
        self.kept.move_to_end(path)
        return self.kept[path]


def _bytes(shown: Image.Image) -> int:
    return shown.width * shown.height * 4  # as pillow keeps them


def picture(path: str) -> Image.Image:
    """Return a picture as students see it: RGB and upright."""
    return Image.fromarray(images.load(Path(path)))


class InWindows(Sampler[int]):  # type: ignore[misc]
    """Rows in random order; those of one update stand by length, the longest first.

    Rows that are batched together are padded to the longest of them. An update sees the same rows
    as without, so nothing changes but the speed. Order hangs on seed and epoch alone.

    Args:
        lengths: Of every row.
        window: Number of rows of an update, over all processes and accumulation steps.
        seed: Of the order.
    """

    def __init__(self, lengths: Sequence[int], window: int, seed: int) -> None:
        self.lengths, self.window, self.seed = list(lengths), window, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Draw another order; accelerate calls this by its name."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        draw = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self), generator=draw).tolist()
        for start in range(0, len(order), self.window):
            part = order[start : start + self.window]
            yield from sorted(part, key=self.lengths.__getitem__, reverse=True)


def in_order(rows: Sequence[Row], key: Callable[[Row], Any]) -> Iterator[Row]:
    """Yield the first row of each value of a key."""
    seen: set[Any] = set()
    for row in rows:
        if key(row) not in seen:
            seen.add(key(row))
            yield row
