"""The built-in tasks of ``w2v build-tasks``. This half is light; the tasks are in its siblings.

Every task has the options ``templates`` (w2v or paper), ``form`` (plain, choice, sentence or
mixed) and ``seed``; another seed makes other draws among objects, partners and options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from w2v import hookimpl
from w2v.kinds import Offer

if TYPE_CHECKING:
    from w2v.kinds import Task


@hookimpl
def w2v_tasks() -> Mapping[str, Offer]:
    """Offer the eight tasks of World2VLM (arXiv 2604.26934, appendix B)."""
    makers = {"A1": a1, "A2": a2, "A3": a3, "A4": a4, "D1": d1, "D2": d2, "D3": d3, "D4": d4}
    return {name: Offer(make=make, licence="MIT", may_train=True) for name, make in makers.items()}


def a1(templates: str = "w2v", form: str = "plain", seed: int = 0) -> Task:
    """Two pictures: which way did the camera move, and how many meters?"""
    from w2v.tasks.asking import Asker
    from w2v.tasks.motion import WhichMoves, one_step

    return WhichMoves(Asker("A1", templates, form, seed), one_step)


def a2(templates: str = "w2v", form: str = "plain", seed: int = 0) -> Task:
    """Two pictures: which way did the camera turn, and how many degrees?"""
    from w2v.tasks.asking import Asker
    from w2v.tasks.motion import WhichMoves, one_turn

    return WhichMoves(Asker("A2", templates, form, seed), one_turn)


def a3(templates: str = "w2v", form: str = "plain", seed: int = 0) -> Task:
    """Two pictures: which two or three moves lie between them, in order?"""
    from w2v.tasks.asking import Asker
    from w2v.tasks.motion import WhichMoves, two_or_three

    return WhichMoves(Asker("A3", templates, form, seed), two_or_three)


def a4(templates: str = "w2v", form: str = "plain", seed: int = 0) -> Task:
    """Two pictures and a claim about the moves between them: true or false?"""
    from w2v.tasks.asking import Asker
    from w2v.tasks.motion import Claims

    return Claims(Asker("A4", templates, form, seed))


def d1(
    templates: str = "w2v",
    form: str = "plain",
    seed: int = 0,
    per_clip: int = 1,
    clear: float = 0.5,
    match: float = 0.3,
) -> Task:
    """A box in the first picture and the moves: where is the object in the second?

    ``per_clip`` objects are asked about at most. An object must be visible to a share of
    ``clear`` in both frames, and its box agree with its reprojection to an IoU of ``match``,
    where these are known.
    """
    from w2v.tasks.asking import Asker
    from w2v.tasks.objects import WhereTo

    return WhereTo(Asker("D1", templates, form, seed), per_clip, clear, match)


def d2(
    templates: str = "w2v",
    form: str = "plain",
    seed: int = 0,
    gone: float = 0.1,
    visible: float = 0.6,
    paired: bool = True,
) -> Task:
    """One picture and the moves: will an object be gone from view?

    An object is gone where at most a share of ``gone`` of it is visible at the end, there where
    at least ``visible`` is; nothing is asked in between. With ``paired`` a clip is asked about
    only where one object is gone and another is not, so that the moves alone tell nothing.
    """
    from w2v.tasks.asking import Asker
    from w2v.tasks.objects import IsGone

    return IsGone(Asker("D2", templates, form, seed), gone, visible, paired)


def d3(
    templates: str = "w2v",
    form: str = "plain",
    seed: int = 0,
    clear: float = 0.5,
    match: float = 0.3,
) -> Task:
    """Two boxes of one object: which one or two moves lie between the pictures?

    ``clear`` and ``match`` are as in D1.
    """
    from w2v.tasks.asking import Asker
    from w2v.tasks.objects import WhichMovesByBox

    return WhichMovesByBox(Asker("D3", templates, form, seed), clear, match)


def d4(
    templates: str = "w2v",
    form: str = "plain",
    seed: int = 0,
    clear: float = 0.5,
    match: float = 0.3,
) -> Task:
    """Two boxes of one label: are they around the same object?

    ``clear`` and ``match`` are as in D1.
    """
    from w2v.tasks.asking import Asker
    from w2v.tasks.objects import IsSame

    return IsSame(Asker("D4", templates, form, seed), clear, match)
