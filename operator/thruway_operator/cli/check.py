"""`thruway check`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from thruway_operator.cli.shared import (
    Unusable,
    accessed,
    as_json,
    check_name,
    cluster_options,
    echo,
    input_options,
    loaded,
    namespace_option,
    output_option,
)

if TYPE_CHECKING:
    from pathlib import Path

    from thruway_operator.diagnose.findings.finding import Finding
    from thruway_operator.diagnose.offline.loading import Input
    from thruway_operator.kube import Access

__all__ = ["check"]


@click.command()
@input_options
@output_option("findings are")
@click.option(
    "--cluster",
    is_flag=True,
    help="Also check against the cluster as if the routes were applied; nothing is written.",
)
@namespace_option(
    "With --cluster: the namespace of routes that name none.  [default: the kubeconfig's]"
)
@cluster_options
def check(  # noqa: PLR0917 - click passes them by name
    files: tuple[Path, ...],
    port: int,
    output: str,
    cluster: bool,
    namespace: str | None,
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Report errors and warnings in routes.

    The check is as strict as `thruway up` and includes Envoy's own validation. It prints one line
    for each finding, with file, line, field and remedy.

    With --cluster, it is as strict as the cluster that kubectl would use. It includes the API
    server's validation, conflicts with existing routes, missing Secrets and missing permissions.

    \b
    Exit code 0: there are no errors, but there may be warnings.
    Exit code 1: there are errors.
    Exit code 2: the arguments, the files or the cluster cannot be used.
    """
    from thruway_operator.diagnose.offline.checking import check as run
    from thruway_operator.text.colors import wants_color

    if cluster and not files:
        raise Unusable("--cluster needs -f: name the files to check")
    if namespace is not None and not cluster:
        raise Unusable("-n needs --cluster: without a cluster there are no namespaces")
    check_name("-n", namespace)
    in_cluster = None
    if cluster:
        access = accessed(kubeconfig, context)
        given = loaded(files, port, namespace or access.namespace)
        in_cluster = _in_cluster(given, access)
    else:
        given = loaded(files, port)
    report = run(given, in_cluster=in_cluster)
    secrets = given.secrets()
    if output == "json":
        as_json(report.data(), secrets)
    else:
        color = wants_color(sys.stdout)
        for finding in report.findings:
            echo(finding.text(color=color), secrets)
        echo(report.summary())
    sys.exit(1 if report.count("error") else 0)


def _in_cluster(given: Input, access: Access) -> list[Finding]:
    from thruway_operator.diagnose.online.check import ClusterError, check_in_cluster

    try:
        return check_in_cluster(given, access)
    except ClusterError as error:
        raise Unusable(str(error), whole=True) from None
