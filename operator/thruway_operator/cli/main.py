"""The root of the command."""

from __future__ import annotations

from importlib.metadata import version

import click

from thruway_operator.cli.bootstrap import bootstrap
from thruway_operator.cli.check import check
from thruway_operator.cli.completion import completion
from thruway_operator.cli.doctor import doctor
from thruway_operator.cli.explain import explain
from thruway_operator.cli.inject import inject
from thruway_operator.cli.operator import operator
from thruway_operator.cli.root import Root
from thruway_operator.cli.status import status
from thruway_operator.cli.translate import translate
from thruway_operator.cli.up import up

__all__ = ["main"]


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("thruway"), message="thruway %(version)s")
def main() -> None:
    """Call AI APIs directly, without each service holding an API key."""


for _command in (
    up,
    check,
    translate,
    explain,
    inject,
    status,
    doctor,
    completion,
    operator,
    bootstrap,
):
    main.add_command(_command)
