"""Options that ``w2v sft`` and ``w2v grpo`` share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from w2v.commands.options import input_path, slurm_shard
from w2v.plugins import need
from w2v.stream import Settings

F = TypeVar("F", bound=Callable[..., Any])

NEEDED = ("torch", "torchvision", "transformers", "trl", "peft", "accelerate", "datasets", "PIL")


def training_options(command: F) -> F:
    """Add the options of a training run."""
    shared = (
        click.argument("questions", required=False),
        click.option(
            "--student",
            required=True,
            metavar="NAME|PATH[:KEY=VALUE,...]",
            help="Whom to train: a student, a folder or a hub id.",
        ),
        click.option(
            "-o",
            "--output",
            required=True,
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder of the run. The same command again continues it.",
        ),
        click.option(
            "--recipe",
            default="default",
            show_default=True,
            help="default or world2vlm (the paper's settings; boxes on the grid 0-1000 for a "
            "student that has not been trained on others).",
        ),
        click.option(
            "--tune",
            type=click.Choice(["lora", "full", "qlora"]),
            default="lora",
            show_default=True,
            help="An adapter on the language side; all weights; an adapter on four-bit weights.",
        ),
        click.option(
            "--train-vision", is_flag=True, help="With --tune full: the vision side learns too."
        ),
        click.option(
            "--set",
            "sets",
            metavar="KEY=VALUE",
            multiple=True,
            help="Any setting of TRL's trainer or of its adapters (lora_r, …). Repeatable.",
        ),
        click.option("--task", "tasks", multiple=True, help="Only this task. Repeatable."),
        click.option(
            "--direction",
            "directions",
            type=click.Choice(["inverse", "forward"]),
            multiple=True,
            help="Only this direction. Repeatable.",
        ),
        click.option("--source", "sources", multiple=True, help="Only this source. Repeatable."),
        click.option(
            "--holdout",
            type=click.FloatRange(0, 1, max_open=True),
            help="Share of scenes to watch, not train on. Default: the recipe's. Rows that "
            "validate --split has put into parts stay there.",
        ),
        click.option(
            "--max-length",
            type=click.IntRange(1),
            default=8192,
            show_default=True,
            help="Longest row in tokens, pictures included; longer ones are left out.",
        ),
        click.option("--seed", type=int, help="Of everything drawn. Default: the recipe's, 42."),
        click.option(
            "--report-to",
            type=click.Choice(["tensorboard", "wandb", "trackio"]),
            multiple=True,
            help="Besides metrics.jsonl. Repeatable.",
        ),
    )
    for option in reversed(shared):
        command = option(command)
    return command


def need_packages() -> None:
    """Raise MissingPackage unless all that training needs is installed."""
    for package in NEEDED:
        need(package, "w2v[train]")


def check_launch(questions: str | None, settings: Settings) -> str:
    """Return the questions' path, after checks that need nothing heavy.

    Raises:
        click.UsageError: Several processes cannot share stdin; training takes no part of its data.
        MissingPackage: Something that training needs is not installed.
    """
    path = input_path(questions)
    if path == "-" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise click.UsageError("several processes cannot share stdin: name a file of questions")
    if settings.shard not in ((0, 1), slurm_shard()):
        raise click.UsageError("training takes all questions: leave --shard out")
    need_packages()
    return path
