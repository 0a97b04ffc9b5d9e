"""``w2v render``: scenes in, clips out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from w2v import motion, stream
from w2v.commands.options import Size, accept_licence, check_licence, input_path, stage_options
from w2v.errors import BadFile, BadRecord, ForeignOutput, W2VError
from w2v.plugins import Named, Spec
from w2v.records import Move, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from w2v.kinds import Teacher


def _frames(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value not in ("all", "ends") and not (value.isdecimal() and 2 <= int(value) <= 999):
        raise click.BadParameter(f"{value!r} is not all, ends or a number from 2 to 999")
    return value


def _moves(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[Move, ...] | None:
    try:
        return None if value is None else motion.read(value)
    except BadRecord as error:
        raise click.BadParameter(error.message) from error


@click.command()
@click.argument("scenes", required=False)
@click.option(
    "--teacher", type=Named("teacher"), required=True, help="World model to imagine with."
)
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the frames; running again continues it.",
)
@click.option(
    "--scenes", "number", type=click.IntRange(1), help="Let the teacher make N scenes (sim)."
)
@click.option(
    "--moves",
    metavar="TEXT",
    callback=_moves,
    help="One path for every scene: 'turn left 30 degrees; move …'.",
)
@click.option(
    "--trajectories",
    default="w2v",
    show_default=True,
    help="Which paths to draw: w2v, world2vlm (the paper's) or hy.",
)
@click.option(
    "--draws",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="How often to draw each of them, with other amounts.",
)
@click.option("--size", type=Size(), help="Size of the frames. Default: that of the picture.")
@click.option(
    "--frames",
    callback=_frames,
    default="all",
    show_default=True,
    metavar="all|ends|N",
    help="Frames to store of each path; a teacher with random access renders only these.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other paths.")
@click.option("--overwrite", is_flag=True, help="Replace scenes that other settings made.")
@accept_licence
@stage_options(on_error="skip")
def render(
    scenes: str | None,
    teacher: Spec,
    out: Path,
    number: int | None,
    moves: tuple[Move, ...] | None,
    trajectories: str,
    draws: int,
    size: tuple[int, int] | None,
    frames: str,
    seed: int,
    overwrite: bool,
    accepted: tuple[str, ...],
    settings: stream.Settings,
) -> None:
    """Imagine camera moves in each scene.

    Reads scenes (JSONL, a folder of pictures, or - for stdin), writes clips.

    \b
    w2v render --teacher sim --scenes 20 --size 256x256 -o d > clips.jsonl
    w2v scenes photos | w2v render --teacher depth-warp -o d > clips.jsonl
    """
    from w2v import paths, rendering, sampling

    if moves and draws > 1:
        raise click.UsageError("--draws draws paths anew, and --moves gives one: leave one out")
    sampler = sampling.explicit(moves) if moves else sampling.sampler(trajectories, draws)
    with stream.stage("render", settings, "scenes") as stage:
        check_licence(teacher, accepted)
        world = teacher.make()
        paths.relative(settings.root, out)
        plan = rendering.Plan(
            teacher=str(teacher),
            offer=teacher.offer,
            sampler=sampler,
            trajectories=motion.say(moves) if moves else _named(trajectories, draws),
            size=size,
            frames=frames,
            seed=seed,
            root=settings.root,
            out=out,
            overwrite=overwrite,
        )
        if not settings.dry_run:
            out.mkdir(parents=True, exist_ok=True)
        found = _scenes(scenes, number, seed, teacher, world, stage)
        total = number if settings.shard == (0, 1) else None
        for scene in stage.progress(stream.take(found, settings.shard, settings.limit), total):
            stage.inputs += 1
            if settings.dry_run:
                continue
            try:
                for clip in rendering.render_scene(scene, world, plan, stage.drop):
                    stage.write(clip)
            except ForeignOutput:
                raise
            except W2VError as error:
                stage.fail(type(error).__name__, error, scene.id)


def _named(trajectories: str, draws: int) -> str:
    return trajectories if draws == 1 else f"{trajectories} x {draws}"


def _scenes(
    scenes: str | None,
    number: int | None,
    seed: int,
    spec: Spec,
    world: Teacher,
    stage: stream.Stage,
) -> Iterator[Scene]:
    """Yield the scenes to start from, refusing an id that comes twice."""
    from w2v import rgbd
    from w2v.kinds import MakesScenes

    if number is not None:
        if not isinstance(world, MakesScenes):
            raise click.UsageError(f"teacher {spec.name!r} makes no scenes: name some instead")
        found: Iterator[Scene] = iter(world.scenes(number, seed))
    elif scenes is None and isinstance(world, MakesScenes) and "makes-scenes" in spec.offer.can:
        raise click.UsageError(f"say how many scenes {spec.name!r} is to make: --scenes N")
    else:
        path = input_path(scenes)
        if path != "-" and Path(path).is_dir():

            def drop(reason: str, where: str) -> None:
                stage.fail(reason, BadFile(f"{where}: {reason}"), where)

            found = rgbd.find_scenes(Path(path), stage.settings.root, drop=drop)
        else:
            found = rgbd.read_scenes(stage, path)
    seen: set[str] = set()
    for scene in found:
        if not scene.id.strip():
            stage.fail("no id", BadRecord("a scene has an empty id"), scene.image)
            continue
        if scene.id in seen:
            twice = BadRecord(f"scene id {scene.id!r} comes twice", "ids must be unique")
            stage.fail("id twice", twice, scene.id)
            continue
        seen.add(scene.id)
        yield scene
