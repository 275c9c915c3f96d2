"""`thruway status`."""

from __future__ import annotations

import sys

import click

from thruway_operator.cli.shared import (
    Unusable,
    accessed,
    as_json,
    check_name,
    cluster_options,
    namespace_option,
    output_option,
)

__all__ = ["status"]


@click.command()
@namespace_option("Only this namespace's routes.  [default: all]")
@output_option("the routes are")
@cluster_options
def status(namespace: str | None, output: str, kubeconfig: str | None, context: str | None) -> None:
    """Show every route of the cluster that kubectl would use, and what became of it.

    A table, then a sentence for each route that is not served by every proxy as it was written.
    PROXIES: how many hold it, of how many are connected.

    \b
    Exit code 0: all routes are programmed.
    Exit code 1: some route is not.
    Exit code 2: the cluster cannot be asked.
    """
    from thruway_operator.inspection.states import StatesError, read_states, table

    check_name("-n", namespace)
    try:
        states = read_states(accessed(kubeconfig, context), namespace)
    except StatesError as error:
        raise Unusable(str(error), whole=True) from None
    if output == "json":
        as_json({"version": 1, "routes": [state.data() for state in states]})
    elif states:
        for line in table(states):
            click.echo(line)
    else:
        where = f"in namespace {namespace}" if namespace else "in this cluster"
        click.echo(f"There is no PassthroughRoute {where}.")
    sys.exit(0 if all(state.good for state in states) else 1)
