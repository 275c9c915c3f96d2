"""Turns click's errors about arguments into one sentence that repeats no value.

A value may be a misplaced key, which click would print.
"""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Any

import click

from thruway_operator.cli.shared import Unusable, say

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Root"]

_NAME = "thruway"


class Root(click.Group):
    """The command with its subcommands. Unusable arguments have exit code 2."""

    _chosen = ""

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,  # noqa: ANN401 - click's own
    ) -> Any:  # noqa: ANN401 - click's own
        """Run, and exit unless `standalone_mode` is false."""
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        try:
            code = super().main(args, _NAME, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            code = 2
        except click.UsageError as error:
            # The parser of a subcommand does not name its command.
            command = error.ctx.command_path if error.ctx else f"{_NAME} {self._chosen}".strip()
            hint = "" if isinstance(error, Unusable) and error.whole else f" (see {command} --help)"
            say(command, _sentence(error) + hint)
            code = 2
        except click.ClickException as error:
            say(_NAME, error.format_message())
            code = 1
        except click.Abort:
            code = 130  # like shells on Ctrl-C
        sys.exit(code if isinstance(code, int) else 0)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand, or list the existing ones."""
        name = args[0] if args else ""
        self._chosen = name if self.get_command(ctx, name) else ""
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            names = self.list_commands(ctx)
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"give one of {', '.join(names)}"
            raise Unusable(f"there is no such command: {hint}", ctx)
        return super().resolve_command(ctx, args)


def _sentence(error: click.UsageError) -> str:
    if isinstance(error, Unusable):
        return error.message
    if isinstance(error, click.NoSuchOption):
        close = sorted(error.possibilities or ())
        hint = f"did you mean {' or '.join(close)}?" if close else "check its spelling"
        return f"there is no such option: {hint}"
    if isinstance(error, click.BadOptionUsage):
        needs = "requires" in error.message
        return f"{error.option_name} {'needs a value' if needs else 'takes no value'}"
    if isinstance(error, click.MissingParameter):
        kind = error.param.type if error.param else None
        which = f"one of {', '.join(kind.choices)}" if isinstance(kind, click.Choice) else "it"
        return f"{_name(error.param)} is missing: give {which}"
    if isinstance(error, click.BadParameter):
        return f"{_name(error.param)} {_wanted(error.param)}"
    return "there are too many arguments: quote values that contain spaces, or remove some"


def _name(parameter: click.Parameter | None) -> str:
    if parameter is None:
        return "an argument"
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.human_readable_name


def _wanted(parameter: click.Parameter | None) -> str:
    kind = parameter.type if parameter else None
    if isinstance(kind, click.Choice):
        return f"must be one of {', '.join(map(str, kind.choices))}"
    if isinstance(kind, click.IntRange):
        return f"must be a whole number from {kind.min} to {kind.max}"
    if isinstance(kind, click.types.IntParamType):
        return "must be a whole number"
    return "cannot be used: check it"
