"""`thruway inject`."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from thruway_operator.cli.shared import Unusable, say
from thruway_operator.text.hostport import split_host_port

if TYPE_CHECKING:
    from thruway_operator.sidecar.decide import Settings

__all__ = ["ENVOY_IMAGE", "IMAGE", "inject"]

IMAGE = f"thruway/thruway:{version('thruway')}"
ENVOY_IMAGE = "envoyproxy/envoy:distroless-v1.40.0"
_STANDARD_INPUT = Path("-")
_NAME = "thruway inject"


@click.command()
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help=(
        "File or folder of Pods, Deployments, Jobs, …, or - for the standard input; may be given "
        "several times. PassthroughRoutes in them decide the applications' environment."
    ),
)
@click.option(
    "-o",
    "--output",
    default="yaml",
    show_default=True,
    type=click.Choice(["yaml", "json"]),
    help="Format of the documents.",
)
@click.option(
    "-n",
    "--namespace",
    default="default",
    show_default=True,
    help="Namespace of objects that name none.",
)
@click.option(
    "--operator",
    default="thruway-operator.thruway-system.svc:18000",
    show_default=True,
    metavar="HOST:PORT",
    help="Address at which sidecars reach the operator.",
)
@click.option("--image", default=IMAGE, show_default=True, help="Thruway's image.")
@click.option("--envoy-image", default=ENVOY_IMAGE, show_default=True, help="Envoy's image.")
def inject(  # noqa: PLR0917 - click passes them by name
    files: tuple[Path, ...],
    output: str,
    namespace: str,
    operator: str,
    image: str,
    envoy_image: str,
) -> None:
    """Print manifests with the sidecar in each pod, as the cluster's injector would add it.

    Everything else is printed unchanged, but comments are lost. Warnings go to standard error.

    \b
    Exit code 0: every pod has its sidecar, or needs none.
    Exit code 1: a pod cannot have a sidecar; nothing is printed.
    Exit code 2: the arguments or files cannot be used.
    """
    from thruway_operator.diagnose.offline.inject import inject_texts
    from thruway_operator.sources.files.watch import SourceError, read_texts

    settings = _settings(operator, image, envoy_image)
    try:
        given = sys.stdin.buffer.read() if _STANDARD_INPUT in files else b""
        texts = read_texts(files, given)
    except SourceError as error:
        raise Unusable(str(error).rstrip("."), whole=True) from None
    outcome = inject_texts(texts, settings, namespace)
    for problem in outcome.problems:
        say(_NAME, str(problem))
    if outcome.problems:
        sys.exit(2)
    for refusal in outcome.refusals:
        say(_NAME, f"error: {refusal}")
    for warning in outcome.warnings:
        say(_NAME, f"warning: {warning}")
    if not outcome.pods:
        say(_NAME, "warning: there is no pod in the input: give a Pod, a Deployment, a Job, …")
    if outcome.refusals:
        sys.exit(1)
    click.echo(_text(outcome.documents, output), nl=False)


def _settings(operator: str, image: str, envoy_image: str) -> Settings:
    from thruway_operator.sidecar.decide import Images, InjectorError, Settings
    from thruway_operator.sidecar.decide.settings import check_image

    found = split_host_port(operator)
    if found is None or not all(found):
        raise Unusable("--operator must be HOST:PORT, with a port from 1 to 65535")
    try:
        images = Images(check_image(image, "--image"), check_image(envoy_image, "--envoy-image"))
    except InjectorError as error:
        raise Unusable(str(error)) from None
    return Settings(version=version("thruway"), namespace="", operator=operator, images=images)


def _text(documents: list[object], output: str) -> str:
    import json

    from thruway_operator.diagnose.offline.shown import manifest

    if output == "yaml":
        return "---\n".join(manifest(document) for document in documents)
    whole = documents[0] if len(documents) == 1 else _list(documents)
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _list(documents: list[object]) -> dict[str, object]:
    # JSON cannot hold several documents, but kubectl reads a List.
    return {"apiVersion": "v1", "kind": "List", "items": documents}
