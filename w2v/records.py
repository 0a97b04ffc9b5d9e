"""The five records that flow between stages, one JSON object per line.

Every record is frozen and keyword-only. Reading checks names and types all the way down;
unknown keys are refused except under ``meta``. Pixels never travel in JSON: records name files,
relative to ``--root``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

from w2v.errors import BadRecord

Quad = tuple[float, float, float, float]
Row = tuple[float, float, float, float]
Matrix = tuple[Row, Row, Row, Row]
C = TypeVar("C")


def quick(cls: type[C]) -> type[C]:
    """Give a frozen, slotted, keyword-only dataclass an ``__init__`` twice as fast as its own.

    Its own sets every field through ``object.__setattr__``, a call by name. This one lets the new
    instance be one of a subclass that is not frozen while it is filled. Stages make records by
    the hundred thousand.
    """
    kind: Any = cls
    thawed = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    known: dict[str, Any] = {
        "cls": cls,
        "own": kind.__init__,
        "thawed": type(cls.__name__, (cls,), {"__slots__": (), **thawed}),
        "become": object.__setattr__,
        "missing": dataclasses.MISSING,
    }
    heads, fresh, names = [], [], []
    for item in dataclasses.fields(kind):
        name = item.name
        names.append(name)
        if item.default_factory is not dataclasses.MISSING:
            known[f"make_{name}"] = item.default_factory
            fresh.append(f" if {name} is missing: {name} = make_{name}()")
            heads.append(f"{name}=missing")
        elif item.default is not dataclasses.MISSING:
            known[f"else_{name}"] = item.default
            heads.append(f"{name}=else_{name}")
        else:
            heads.append(name)
    source = (
        f"def __init__(self, *, {', '.join(heads)}):",
        *fresh,
        " if self.__class__ is not cls:",  # a subclass may be laid out in another way
        f"  return own(self, {', '.join(f'{name}={name}' for name in names)})",
        " become(self, '__class__', thawed)",
        *(f" self.{name} = {name}" for name in names),
        " self.__class__ = cls",
    )
    exec("\n".join(source), known)  # as dataclasses itself makes methods
    kind.__init__ = known["__init__"]
    return cls


class Record:
    """What all five share: an ``id`` as the first field, and free-form ``meta`` as the last."""

    __slots__ = ()
    kind: ClassVar[str] = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record as a dict for one line of JSON, ``kind`` first."""
        kind: Any = type(self)
        return _writer(kind)(self)

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Self:
        """Build the record from a parsed line, or raise BadRecord naming the bad key."""
        found = line.get("kind")
        if found != cls.kind:
            raise BadRecord(f"expected a {cls.kind}, got {found or 'a line without kind'}")
        made: Self = build(cls, {k: v for k, v in line.items() if k != "kind"}, cls.kind)
        return made


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One camera move. ``amount`` > 0, in meters, or in degrees when ``verb`` is a turn."""

    verb: str
    amount: float


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Intrinsics:
    """A pinhole camera without distortion; all in pixels, pixel centres at half integers."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class DepthFile:
    """A z-depth picture the size of the image: value x ``meters_per_unit`` is meters, 0 unknown."""

    path: str
    meters_per_unit: float


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One object in one frame, or the knowledge that it is out of sight there.

    ``xyxy`` is in pixels of the stored frame, x right, y down; None where the object is known to
    be out of sight. ``visible`` is the share of the object's outline that is in the frame and
    not hidden, in [0, 1]; None where that is unknown. ``kept`` is False where a filter of
    ``annotate`` ruled that no question may be asked about this box. ``match`` says how well the
    box agrees with the reprojection of the same track from frame 0 (IoU), where that is known.
    """

    frame: int
    track: int | None
    label: str
    xyxy: Quad | None
    score: float = 1.0
    visible: float | None = None
    kept: bool = True
    match: float | None = None


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Scene(Record):
    """A picture to start from.

    ``image`` is empty where the teacher makes its own picture. ``known`` says how the intrinsics
    are known: given, estimated or assumed. ``pose`` is the camera-to-world pose of the picture in
    some world frame, where known; it is used to measure teachers, never to label.
    """

    kind: ClassVar[str] = "scene"
    id: str
    image: str
    source: str = "real"
    intrinsics: Intrinsics | None = None
    known: str = ""
    depth: DepthFile | None = None
    pose: Matrix | None = None
    caption: str = ""
    licence: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Clip(Record):
    """What a teacher imagined along ``moves``.

    ``bundle`` is the folder that holds every frame; ``first`` and ``last`` are the two frames
    that questions show. ``boxes`` is None until annotated, then holds the objects of those two
    frames (all frames are in the bundle). ``last_frame`` is the index of ``last`` in the bundle.
    """

    kind: ClassVar[str] = "clip"
    id: str
    scene: str
    teacher: str
    moves: tuple[Move, ...]
    bundle: str
    first: str
    last: str
    last_frame: int
    intrinsics: Intrinsics
    source: str = "real"
    units_per_meter: float | None = None
    boxes: tuple[Box, ...] | None = None
    quality: dict[str, Any] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation; ``<image>`` in the content stands for the next picture."""

    role: str
    content: str


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Record):
    """One thing to ask a student: a World2VLM training row that knows where it came from.

    ``form`` says how ``answer`` is written (plain, choice or sentence); ``options`` are the texts
    of a choice in order A, B, …; ``direction`` is forward or inverse; ``evidence`` holds what the
    label was derived from, enough to derive it again from ``bundle``.
    """

    kind: ClassVar[str] = "question"
    id: str
    task_type: str
    messages: tuple[Message, ...]
    images: tuple[str, ...]
    answer: str
    form: str = "plain"
    options: tuple[str, ...] = ()
    direction: str = ""
    scene: str = ""
    clip: str = ""
    bundle: str = ""
    source: str = ""
    teacher: str = ""
    weight: float = 1.0
    evidence: dict[str, Any] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The words of the user's turn, without the ``<image>`` tags."""
        said = next((m.content for m in self.messages if m.role == "user"), "")
        return said.replace("<image>", "").strip()

    @property
    def gold(self) -> Gold:
        """What a reward needs in order to grade a response."""
        return Gold(self.task_type, self.answer, self.form, self.options, self.prompt)


@dataclass(frozen=True, slots=True)
class Gold:
    """A right answer and how it is written; ``prompt`` may be empty where it is not known."""

    task_type: str
    answer: str
    form: str = ""
    options: tuple[str, ...] = ()
    prompt: str = ""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Record):
    """What a student said to a question, and the score it got."""

    kind: ClassVar[str] = "answer"
    id: str
    question: str
    student: str
    benchmark: str
    response: str
    score: float | None
    parts: dict[str, float] = field(default_factory=dict)
    parsed: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Record):
    """A finished training run; ``checkpoint`` is a folder a student can be loaded from."""

    kind: ClassVar[str] = "run"
    id: str
    method: str
    student: str
    checkpoint: str
    trained_on: str
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


@functools.cache
def _plan(cls: type[Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Return a dataclass's type hints and the names that must be given."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    needed = frozenset(
        f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING
    )
    return {f.name: hints[f.name] for f in fields}, needed


@functools.cache
def _writer(cls: type[Record]) -> Callable[[Record], dict[str, Any]]:
    """Return a function that puts a record of this class into dicts and lists.

    It is written out from the type hints; looking at every value takes eight times as long.
    """
    made: Callable[[Record], dict[str, Any]] = eval(
        f"lambda it: {{'kind': it.kind, {_written(cls, 'it')[1:]}"
    )
    return made


def _written(hint: Any, value: str) -> str:
    """Return the expression of plain JSON for a value of that type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        inner = _written(args[0], value)
        return value if inner == value else f"(None if {value} is None else {inner})"
    if origin is tuple:
        each = f"{value}_".replace(".", "_")
        inner = _written(args[0], each)
        return f"[*{value}]" if inner == each else f"[{inner} for {each} in {value}]"
    if dataclasses.is_dataclass(hint):
        plan = _plan(hint)[0]  # type: ignore[arg-type]
        parts = (f"{name!r}: {_written(inner, f'{value}.{name}')}" for name, inner in plan.items())
        return "{" + ", ".join(parts) + "}"
    return value


def build(cls: Any, line: dict[str, Any], where: str) -> Any:
    """Fill a dataclass from a dict, checking names and types all the way down.

    Raises:
        BadRecord: A key is unknown or missing, or a value is of the wrong type.
    """
    hints, needed = _plan(cls)
    if extra := sorted(set(line) - set(hints)):
        raise BadRecord(f"{where} has no key {extra[0]!r}", "free-form values belong in meta")
    if lacking := sorted(needed - set(line)):
        raise BadRecord(f"{where} lacks {lacking[0]!r}")
    return cls(
        **{name: _check(hints[name], value, f"{where}.{name}") for name, value in line.items()}
    )


def _check(hint: Any, value: Any, where: str) -> Any:
    """Return value as the hinted type, or raise BadRecord."""
    if hint is Any:
        return value
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _check(args[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise BadRecord(f"{where} should be a list, got {_short(value)}")
        inner = args[:1] * len(value) if Ellipsis in args else args
        if len(inner) != len(value):
            raise BadRecord(f"{where} should have {len(inner)} items, got {len(value)}")
        return tuple(
            _check(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(inner, value, strict=True))
        )
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise BadRecord(f"{where} should be an object, got {_short(value)}")
        return build(hint, value, where)
    wanted = origin or hint
    if wanted is float and type(value) is int:
        value = float(value) if abs(value) < 1e300 else math.inf
    if type(value) is not wanted:
        raise BadRecord(f"{where} should be {wanted.__name__}, got {_short(value)}")
    if wanted is float and not math.isfinite(value):
        raise BadRecord(f"{where} should be a finite number, got {value}")
    return value


def _short(value: Any) -> str:
    """Return a value as text that fits on a line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
