"""`thruway completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from thruway_operator.cli.shared import Unusable

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell's completion script for commands and options.

    \b
    bash: eval "$(thruway completion bash)"   in ~/.bashrc
    zsh:  eval "$(thruway completion zsh)"    in ~/.zshrc
    fish: thruway completion fish | source    in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise Unusable("SHELL must be one of bash, zsh, fish")
    root = context.find_root().command
    click.echo(kind(root, {}, "thruway", "_THRUWAY_COMPLETE").source())
