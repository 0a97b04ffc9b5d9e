"""Every place where a plugin can plug in. Each hook returns plain data.

A *factory* is a function that builds the thing: its parameters are the options a user may
set (``svc:steps=30``), its docstring is the help, and it does its heavy imports inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from w2v.kinds import Offer

hookspec = pluggy.HookspecMarker("w2v")


@hookspec
def w2v_teachers() -> Mapping[str, Offer]:  # type: ignore[empty-body]
    """World models for ``w2v render``, by the name the user types."""


@hookspec
def w2v_detectors() -> Mapping[str, Offer]:  # type: ignore[empty-body]
    """Object detectors with a tracker for ``w2v annotate``."""


@hookspec
def w2v_tasks() -> Mapping[str, Offer]:  # type: ignore[empty-body]
    """Kinds of question for ``w2v build-tasks``."""


@hookspec
def w2v_checks() -> Mapping[str, Offer]:  # type: ignore[empty-body]
    """Checks for ``w2v validate``."""


@hookspec
def w2v_rewards() -> Mapping[str, Offer]:  # type: ignore[empty-body]
    """Ways to grade a response, for ``w2v score`` and for training."""


@hookspec
def w2v_students() -> Mapping[str, Offer]:  # type: ignore[empty-body]
    """Vision-language models to train and to evaluate."""


@hookspec
def w2v_benchmarks() -> Mapping[str, Offer]:  # type: ignore[empty-body]
    """Public benchmarks with their authors' scoring."""


@hookspec
def w2v_commands(cli: click.Group) -> None:
    """Add a subcommand to ``w2v``; asked for only when the name is not a built-in one."""
