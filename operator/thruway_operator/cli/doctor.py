"""`thruway doctor`."""

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

__all__ = ["doctor"]


@click.command()
@click.argument("pod", required=False)
@namespace_option("The namespace to check.  [default: the kubeconfig's]")
@output_option("the steps are")
@cluster_options
def doctor(
    pod: str | None,
    namespace: str | None,
    output: str,
    kubeconfig: str | None,
    context: str | None,
) -> None:
    """Find the first problem between an application's pod and its upstream.

    It checks, in this order: API server, CRD, operator, labels, webhook, creation of pods,
    certificate, routes, Secrets, sidecar, containers, xDS, upstream, environment. With POD, it
    checks that pod, otherwise the namespace and every pod in it that has a sidecar. It prints one
    line for each step, stops at the first problem, and reports what to do. It writes nothing, and
    shows no value of a Secret.

    \b
    Exit code 0: there are no problems, as far as your permissions allow to check.
    Exit code 1: there is a problem.
    Exit code 2: the arguments or the kubeconfig cannot be used.
    """
    from thruway_operator.diagnose.findings.walk import diagnose
    from thruway_operator.diagnose.online.gather import UnknownError, gather
    from thruway_operator.text.colors import wants_color

    access = accessed(kubeconfig, context)
    check_name("POD", pod)
    check_name("-n", namespace)
    try:
        diagnosis = diagnose(gather(access, namespace, pod))
    except UnknownError as error:
        raise Unusable(str(error), whole=True) from None
    if output == "json":
        as_json(diagnosis.data())
    else:
        color = wants_color(sys.stdout)
        for step in diagnosis.steps:
            click.echo(step.text(color=color))
        click.echo(diagnosis.summary())
    sys.exit(0 if diagnosis.healthy else 1)
