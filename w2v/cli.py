"""The ``w2v`` command: a list of subcommands, signals and exit codes, and nothing else."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from w2v import __version__, errors, plugins
from w2v.commands import (
    annotate,
    build_tasks,
    compare,
    completion,
    convert,
    demo,
    doctor,
    grpo,
    merge,
    pretrain,
    render,
    report,
    scenes,
    score,
    sft,
    validate,
)
from w2v.commands import eval as eval_command
from w2v.commands import plugins as plugins_command


def _load_files(ctx: Any, param: Any, files: tuple[Path, ...]) -> None:
    for path in files:
        plugins.register_file(path)


class Plugged(click.Group):
    """A group that asks plugins for commands only when it has to."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a built-in command at once, or look for it among the plugins."""
        if cmd_name not in self.commands:
            self._ask_plugins(cmd_name)
        if cmd_name not in self.commands:
            self._ask_plugins(None)
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, for ``--help``."""
        self._ask_plugins(None)
        return super().list_commands(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(errors.UnknownName("command", args[0], self.commands, plugins.broken).message)
        return super().resolve_command(ctx, args)

    def _ask_plugins(self, name: str | None) -> None:
        """Let the plugin of that name, or every plugin, add its commands."""
        before = dict(self.commands)
        plugins.discover(name)
        plugins.pm.hook.w2v_commands(cli=self)
        for taken in (n for n, command in before.items() if self.commands.get(n) is not command):
            if _is_built_in(before[taken]):
                self.commands[taken] = before[taken]
                click.echo(f"a plugin offers a command {taken!r}: the built-in one stays", err=True)


def _is_built_in(command: click.Command) -> bool:
    module = getattr(command.callback, "__module__", "")
    return module.startswith("w2v.commands.")


SETTINGS: dict[str, Any] = {
    "auto_envvar_prefix": "W2V",
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


@click.group(cls=Plugged, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="w2v")
@click.option(
    "--plugin",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=_load_files,
    help="Load a plugin from a Python file. Repeatable.",
)
def cli() -> None:
    """Teach vision-language models with what world models imagine.

    \b
    w2v render --teacher sim --scenes 20 -o d | w2v annotate --detector oracle \\
      | w2v build-tasks | w2v validate > questions.jsonl
    """


for _command in (
    scenes.scenes,
    render.render,
    annotate.annotate,
    build_tasks.build_tasks,
    validate.validate,
    score.score,
    sft.sft,
    grpo.grpo,
    merge.merge,
    pretrain.pretrain,
    eval_command.evaluate,
    compare.compare,
    convert.convert,
    report.report,
    demo.demo,
    plugins_command.plugins_group,
    doctor.doctor,
    completion.completion,
):
    cli.add_command(_command)


def _interrupt(number: int, frame: Any) -> NoReturn:
    """Leave as for an exception, so that half-written files are cleaned up; exit 75."""
    raise SystemExit(errors.INTERRUPTED)


AGAIN = 0.01
"""Seconds after which an exception of a signal is raised again where it was swallowed."""


def _swallowed(lost: Any) -> None:
    """Raise again what a signal raised where no exception gets out (a weakref's callback)."""
    if not isinstance(lost.exc_value, (SystemExit, KeyboardInterrupt)):
        sys.__unraisablehook__(lost)
        return
    told = lost.exc_value

    def again(number: int, frame: Any) -> NoReturn:
        raise told

    signal.signal(signal.SIGALRM, again)
    signal.setitimer(signal.ITIMER_REAL, AGAIN)


def listen() -> None:
    """Let SIGTERM and SIGUSR1 end this process as an exception would, wherever they come in."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, _interrupt)
    sys.unraisablehook = _swallowed


def main() -> None:
    """Run from the shell: 75 when told to stop, 130 on Ctrl-C, 141 when the pipe was closed."""
    listen()
    if sys.stdin is None:  # started with its input closed (<&-): that is an empty input
        sys.stdin = open(os.devnull)
    if sys.stdout is None or sys.stderr is None:
        sys.exit(errors.FAILED)  # nobody to tell anything
    try:
        code = cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        # Where it met code that was made from text, as dataclasses are, CPython (3.11) would end
        # a -m run by the signal, though it was caught, unless such code runs again.
        exec("")
        code = errors.CTRL_C
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BrokenPipeError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        code = errors.CLOSED_PIPE
    sys.exit(code if isinstance(code, int) else errors.DONE)
