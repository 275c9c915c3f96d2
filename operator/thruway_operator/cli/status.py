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
    PROXIES: how many hold it, of how many are connected. Before it a sentence if no operator runs,
    as far as you may list Leases in the whole cluster: the table is then what the last one said.

    \b
    Exit code 0: all routes are served as they were written.
    Exit code 1: some route is not, or no operator runs.
    Exit code 2: the cluster cannot be asked.
    """
    from thruway_operator.diagnose.online.status import StatesError, read_states, table

    check_name("-n", namespace)
    try:
        states = read_states(accessed(kubeconfig, context), namespace)
    except StatesError as error:
        raise Unusable(str(error), whole=True) from None
    if output == "json":
        as_json(states.data())
    else:
        where = f"in namespace {namespace}" if namespace else "in this cluster"
        nothing = [f"There is no PassthroughRoute {where}."]
        head = [states.warning, ""] if states.warning else []
        for line in (*head, *(table(states.routes) if states.routes else nothing)):
            click.echo(line)
    sys.exit(0 if states.good else 1)
