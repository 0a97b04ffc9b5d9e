"""What a plugin must be able to do: one small protocol for each kind of thing, no base classes.

Shapes: T frames, H x W pixels, N objects. Poses are (T, 4, 4) float64, camera-to-world, meters,
x right, y down, z forward; pose 0 is the identity. Frames are (H, W, 3) uint8 sRGB. Depth is
z-depth in meters, float32, 0 where unknown. A right turn is a positive yaw.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from w2v.records import Answer, Box, Clip, Gold, Intrinsics, Move, Question, Scene

if TYPE_CHECKING:
    from numpy import ndarray as Array


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a plugin offers under one name: how to build it, and what one must know before.

    ``may_train`` says whether its output may train another model (None: unclear).
    ``can`` holds capability words: ``makes-scenes`` (needs no input), ``random-access`` (may be
    asked for single poses of a path), ``needs-depth``, ``needs-truth`` (reads what a simulator
    knows), ``trains`` (a student that is ``Trainable``), ``gpu``.
    """

    make: Callable[..., Any]
    licence: str = ""
    may_train: bool | None = None
    can: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """The picture a teacher starts from, already cropped and resized to the output size.

    ``image`` is (H, W, 3) uint8, None until a teacher that makes its own picture has made it;
    ``depth`` is (H, W) float32 meters where known. Frames come out in the same ``camera``.
    """

    camera: Intrinsics
    image: Array | None = None
    depth: Array | None = None


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object that a simulator put in a scene; ``id`` is its value in the masks."""

    id: int
    label: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What a teacher made of one path, one frame per pose.

    Args:
        frames: (T, H, W, 3) uint8.
        depth: (T, H, W) float32 meters, 0 unknown.
        valid: (T, H, W) bool, pixels that rest on evidence (not invented or filled).
        masks: (T, H, W) uint16 ids of ``things``, 0 for none.
        visible: (T, N) share of each thing that is in the frame and not hidden.
        poses: (T, 4, 4) as executed, where they differ from what was asked.
        units_per_meter: 1.0 for a metric teacher, None where the scale is unknown.
        notes: Anything else worth keeping with the clip; plain JSON.
    """

    frames: Sequence[Array]
    depth: Sequence[Array] | None = None
    valid: Sequence[Array] | None = None
    masks: Sequence[Array] | None = None
    things: Sequence[Thing] = ()
    visible: Array | None = None
    poses: Array | None = None
    units_per_meter: float | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CameraPath:
    """A path to render: (T, 4, 4) ``poses``, and the ``moves`` that they walk.

    ``seed`` is a hash of scene, trajectory and the user's seed: a teacher that draws at random
    seeds with it, so that a path comes out the same whatever else is rendered beside it.
    """

    poses: Array
    moves: tuple[Move, ...] = ()
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A path that a teacher will not render, in a word (collision, coverage, …) and a sentence."""

    reason: str
    detail: str = ""


class Teacher(Protocol):
    """A world model: a picture and camera paths in, frames out."""

    def render(
        self, scene: Scene, anchor: Anchor, paths: Sequence[CameraPath]
    ) -> Iterator[Rendered | Refused]:
        """Yield one result per path, with one frame per pose, in order.

        Work that is done once per scene comes before the first yield; clean up in ``finally``.
        """
        ...


@runtime_checkable
class CompletesAnchor(Protocol):
    """A teacher that can make or complete the anchor: its picture, its depth."""

    def anchor(self, scene: Scene, anchor: Anchor) -> Anchor:
        """Return the anchor with picture and depth filled in as far as this teacher can."""
        ...


@runtime_checkable
class MakesScenes(Protocol):
    """A teacher that needs no input."""

    def scenes(self, number: int, seed: int) -> Iterator[Scene]:
        """Yield that many scenes; scene k of a seed is the same whatever ``number`` is."""
        ...


@runtime_checkable
class KnowsWalls(Protocol):
    """A teacher that can tell whether a camera would bump into something."""

    def collides(self, scene: Scene, poses: Array) -> bool:
        """Return whether walking through these (T, 4, 4) poses hits anything."""
        ...


@runtime_checkable
class GivesTrajectories(Protocol):
    """A teacher that can only show certain paths, such as recorded ones."""

    def trajectories(self, scene: Scene) -> list[tuple[str, tuple[Move, ...]]]:
        """Return (name, moves) of every path of a scene that it can show."""
        ...


class Footage(Protocol):
    """All there is to see in a clip; each part is read from disk when it is asked for."""

    clip: Clip

    @property
    def frames(self) -> Sequence[Array]:
        """(T, H, W, 3) uint8 of every stored frame, in order."""
        ...

    @property
    def masks(self) -> Sequence[Array] | None:
        """(T, H, W) uint16 of a simulator, or None."""
        ...

    @property
    def things(self) -> Sequence[Thing]:
        """The simulator's objects."""
        ...

    @property
    def visible(self) -> Array | None:
        """(T, N) visible share of each thing, or None."""
        ...


class Detector(Protocol):
    """Finds objects in frames and follows each one under one ``track`` number."""

    def detect(self, footage: Footage) -> list[Box]:
        """Return the boxes of all stored frames, in frame order."""
        ...


class Task(Protocol):
    """Turns the clips of one scene into questions; none, where the clips do not suit."""

    def __call__(self, clips: Sequence[Clip], drop: Callable[[str], None]) -> Iterator[Question]:
        """Yield questions with their gold answers.

        Args:
            clips: All clips of one scene, in order.
            drop: Called with a reason for each question that could not be asked.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a check found wrong with one question: a word for the count, and a sentence."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a check says of the whole set: figures to report, and why it fails, if it does."""

    figures: Mapping[str, Any] = field(default_factory=dict)
    failures: Sequence[str] = ()


class Check(Protocol):
    """Looks at questions one by one, and at the end at the whole."""

    def row(self, question: Question) -> Problem | None:
        """Return why this question must be rejected, or None."""
        ...

    def whole(self, kept: Iterable[Question]) -> Verdict:
        """Judge the questions that were kept; called once, after the last row."""
        ...


@runtime_checkable
class RowCheck(Check, Protocol):
    """A check of single questions: what one ``row`` finds hangs on no other question.

    Several processes may share its rows, so it keeps nothing of them but in ``tally``, which is
    emptied and added up between them; ``whole`` goes by that and by the questions kept.
    """

    tally: collections.Counter[Any]


@dataclass(frozen=True, slots=True)
class Grade:
    """A score, the parts it is made of, and what was read out of the response (None: nothing)."""

    score: float
    parts: Mapping[str, float]
    parsed: str | None


class Reward(Protocol):
    """Grades one response."""

    def __call__(self, gold: Gold, response: str) -> Grade | None:
        """Return the grade, or None for a task this reward does not grade."""
        ...


class Student(Protocol):
    """A vision-language model that answers."""

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """Return one response per question, in order.

        ``images`` of the questions are paths that can be opened: who asks has read them against
        the root. Boxes in a response are on the grid 0-1000, whatever the model itself writes.
        """
        ...


@runtime_checkable
class DescribesItself(Protocol):
    """A student that can say what its answers depend on."""

    def describe(self) -> dict[str, Any]:
        """Return plain JSON: weights, settings of pictures and of generation, versions."""
        ...


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A student's model, ready to train or to run.

    Args:
        model: A torch module of transformers (or of PEFT, around one).
        processor: Tokenizer and image processor with its budget set; saved with a checkpoint.
        family: A ``w2v.students.families.Family``.
        folder: What it was loaded from: a folder or a hub id.
        settings: Plain JSON to store with a checkpoint: family, image_tokens, boxes, …
    """

    model: Any
    processor: Any
    family: Any
    folder: str
    settings: Mapping[str, Any]


@runtime_checkable
class Trainable(Protocol):
    """A student that can be trained; all but ``load`` is known before weights are read."""

    @property
    def processor(self) -> Any:
        """Tokenizer and image processor of transformers, with the budget of tokens set."""
        ...

    @property
    def family(self) -> Any:
        """A ``w2v.students.families.Family``: how it is asked, what a picture costs."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain JSON that belongs to the weights and is stored with a checkpoint.

        ``base`` is the folder or hub id that a new adapter belongs to.
        """
        ...

    def load(self, *, dtype: str = "auto", training: bool = False, **more: Any) -> Loaded:
        """Load the weights.

        Args:
            dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
            training: Whether the weights will be trained: then the model stays on the CPU for the
                trainer to place, and an adapter stays trainable.
            more: Handed to ``from_pretrained``, such as ``quantization_config``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one answer counts for in the figures of a benchmark.

    Args:
        group: What it is reported under, such as a task.
        values: By metric; the mean of each over a group is reported. ``accuracy`` is 0 or 1. A
            metric that says nothing about this answer is left out.
        truth: The class of the right answer, where a balanced accuracy is wanted; else empty.
    """

    group: str
    values: Mapping[str, float]
    truth: str = ""


class Benchmark(Protocol):
    """A fixed set of questions and the scoring its authors use."""

    version: str
    """What the scores depend on besides the answers; runs of two versions are not compared."""

    def questions(self) -> Iterator[Question]:
        """Yield the questions, always in the same order."""
        ...

    def score(self, question: Question, response: str) -> Grade | None:
        """Return the authors' grade, or None where they give none."""
        ...

    def outcome(self, question: Question, answer: Answer) -> Outcome:
        """Return what an answer, scored before, counts for."""
        ...
