"""``w2v merge``: an adapter and its base as one checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from w2v import stream
from w2v.commands.options import stage_options
from w2v.commands.training import need_packages


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="New folder for the merged model.",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Of the written weights; auto: as the base.",
)
@stage_options(on_error="fail")
def merge(run: Path, output: Path, dtype: str, settings: stream.Settings) -> None:
    """Merge an adapter into its base.

    Takes the folder of a run, or of one of its checkpoints, and writes a checkpoint that any
    tool loads: safetensors, processor, chat template, generation settings, card. Its logits are
    compared with those of base and adapter before the folder gets its name (exit 4 if they
    differ). Writes the record.
    """
    need_packages()
    from w2v.train.merge import merge as join

    with stream.stage("merge", settings, "models") as stage:
        record = join(stage, run, output, dtype)
        if record is not None:
            stage.write(record)
