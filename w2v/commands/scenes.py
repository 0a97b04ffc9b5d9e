"""``w2v scenes``: photographs in, scenes out."""

from __future__ import annotations

from pathlib import Path

import click

from w2v import stream
from w2v.commands.options import stage_options
from w2v.errors import BadFile


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--intrinsics", metavar="FX,FY,CX,CY", help="In pixels, for every picture.")
@click.option(
    "--field-of-view",
    type=click.FloatRange(1, 179),
    help="Degrees across, assumed where intrinsics are not known.",
)
@click.option(
    "--meters-per-unit",
    type=click.FloatRange(min=0, min_open=True),
    help="Meters that one step of the depth pictures stands for. Default: by layout.",
)
@click.option("--licence", default="", help="Terms of the pictures; they travel with every row.")
@stage_options(on_error="skip")
def scenes(
    folder: Path,
    intrinsics: str | None,
    field_of_view: float | None,
    meters_per_unit: float | None,
    licence: str,
    settings: stream.Settings,
) -> None:
    """Turn a folder of photographs, with depth and poses if there are any, into scenes.

    Known layouts: 7-Scenes (NAME.color.*, NAME.depth.png, NAME.pose.txt, intrinsics.txt),
    ScanNet export, TUM RGB-D, transforms.json, any folder of pictures, and a World2VLM
    manifest.jsonl.
    """
    from w2v import rgbd

    with stream.stage("scenes", settings, "pictures") as stage:

        def drop(reason: str, where: str) -> None:
            stage.inputs += 1
            stage.fail(reason, BadFile(f"{where}: {reason}"), where)

        found = rgbd.find_scenes(
            folder,
            settings.root,
            intrinsics=intrinsics,
            field_of_view=field_of_view,
            meters_per_unit=meters_per_unit,
            licence=licence,
            drop=drop,
        )
        for scene in stream.take(found, settings.shard, settings.limit):
            stage.inputs += 1
            stage.write(scene)
