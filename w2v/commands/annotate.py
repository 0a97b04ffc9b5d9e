"""``w2v annotate``: clips in, clips with boxes out."""

from __future__ import annotations

from pathlib import Path

import click

from w2v import bundles, paths, stream
from w2v.commands.options import accept_licence, check_licence, input_path, stage_options
from w2v.errors import W2VError
from w2v.plugins import Named, Spec

_SHARE = click.FloatRange(0, 1)


@click.command()
@click.argument("clips", required=False)
@click.option(
    "--detector", type=Named("detector"), required=True, help="Detector and tracker to look with."
)
@click.option("--min-score", type=_SHARE, default=0.3, show_default=True, help="Least confidence.")
@click.option("--nms", type=_SHARE, default=0.5, show_default=True, help="IoU of two of a class.")
@click.option("--min-area", type=_SHARE, default=0.01, show_default=True, help="Of the picture.")
@click.option("--max-area", type=_SHARE, default=0.6, show_default=True, help="Of the picture.")
@click.option("--margin", type=_SHARE, default=0.01, show_default=True, help="To each border.")
@accept_licence
@stage_options(on_error="skip")
def annotate(
    clips: str | None,
    detector: Spec,
    min_score: float,
    nms: float,
    min_area: float,
    max_area: float,
    margin: float,
    accepted: tuple[str, ...],
    settings: stream.Settings,
) -> None:
    """Find and follow the objects in each clip.

    Reads clips (JSONL or a tree of bundles), writes clips with boxes. A box outside the limits
    stays in the record, marked so that no question is asked about it; the limits are the
    paper's. Boxes that the same detector already found in the same frames are not sought again.
    """
    from w2v import annotating
    from w2v.detectors.filters import Filters

    chosen = Filters(
        min_score=min_score, nms=nms, min_area=min_area, max_area=max_area, margin=margin
    )
    with stream.stage("annotate", settings, "clips") as stage:
        check_licence(detector, accepted)
        looker = detector.make()
        found = bundles.clips(stage, input_path(clips))
        for clip in stage.progress(stream.take(found, settings.shard, settings.limit)):
            stage.inputs += 1
            if settings.dry_run:
                continue
            try:
                folder: Path = paths.resolve(settings.root, clip.bundle)
                boxed, cached = annotating.annotate(
                    clip, folder, settings.root, looker, str(detector), chosen
                )
            except W2VError as error:
                stage.fail(type(error).__name__, error, clip.id)
                continue
            if cached:
                stage.notes["cached"] = stage.notes.get("cached", 0) + 1
            stage.write(boxed)
