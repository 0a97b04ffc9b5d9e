"""``w2v completion``: the script that teaches a shell to complete w2v."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    w2v completion bash > ~/.local/share/bash-completion/completions/w2v
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None  # the three choices all have one
    root = ctx.find_root()
    script = made(root.command, {}, "w2v", "_W2V_COMPLETE").source()
    click.echo(script)
