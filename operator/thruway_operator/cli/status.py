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
    """Show every route of the cluster that kubectl would use, and its state.

    It prints a table, then a sentence for each route whose current version is not served by every
    proxy, or by any. PROXIES shows how many of the connected proxies hold the route. If no operator
    runs, a sentence before the table says so, and the table shows the last operator's report. To
    detect this, you need permission to list Leases in the whole cluster.

    \b
    Exit code 0: all routes are ready: every connected proxy serves their current version.
    Exit code 1: a route is not ready, or no operator runs.
    Exit code 2: the cluster cannot be queried.
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
