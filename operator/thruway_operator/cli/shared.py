"""What the commands have in common: options, output, and errors about unusable arguments."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from thruway_operator.diagnose.offline.loading import Input
    from thruway_operator.kube import Access
    from thruway_operator.resources.secret import SecretValue

__all__ = [
    "Unusable",
    "accessed",
    "as_json",
    "check_name",
    "cluster_options",
    "echo",
    "input_options",
    "loaded",
    "namespace_option",
    "output_option",
    "say",
]

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LONG_WORD = re.compile(r"\S{200,}")

F = TypeVar("F", bound="Callable[..., Any]")


class Unusable(click.UsageError):
    """Arguments are unusable; the message is a sentence that repeats no value.

    `whole`: the message is complete, and the help would add nothing.
    """

    def __init__(
        self, message: str, ctx: click.Context | None = None, *, whole: bool = False
    ) -> None:
        super().__init__(message, ctx)
        self.whole = whole


def input_options(function: F) -> F:
    """Add `-f` and `--port`."""
    files = click.option(
        "-f",
        "--file",
        "files",
        multiple=True,
        type=click.Path(path_type=Path),
        help=(
            "File or folder of PassthroughRoute, Secret and ConfigMap documents, or - for the "
            "standard input; may be given several times. Without it: the environment's routes."
        ),
    )
    port = click.option(
        "--port",
        default=4000,
        show_default=True,
        type=click.IntRange(1, 65535),
        help="Port that `thruway up` serves on.",
    )
    return files(port(function))


def cluster_options(function: F) -> F:
    """Add `--kubeconfig` and `--context`."""
    kubeconfig = click.option(
        "--kubeconfig",
        metavar="FILE",
        help="The kubeconfig to use.  [default: the same as kubectl]",
    )
    context = click.option("--context", help="The kubeconfig's context to use.")
    return kubeconfig(context(function))


def output_option(what: str) -> Callable[[F], F]:
    """Add `-o`, text or JSON; `what` begins its help text."""
    return click.option(
        "-o",
        "--output",
        default="text",
        show_default=True,
        type=click.Choice(["text", "json"]),
        help=f"How {what} printed.",
    )


def namespace_option(what: str) -> Callable[[F], F]:
    """Add `-n`; the command must pass its value to `check_name`."""
    return click.option("-n", "--namespace", help=what)


def check_name(argument: str, value: str | None) -> None:
    """Reject an invalid object name, because it would become a part of a URL."""
    if value is not None and not _NAME.fullmatch(value):
        raise Unusable(f"{argument} is not the name of an object: give it as kubectl prints it")


def accessed(kubeconfig: str | None, context: str | None) -> Access:
    """Return the access to the cluster that kubectl would use; raise Unusable if there is none."""
    from thruway_operator.kube import AccessError, load_access

    with _unusable(AccessError):
        return load_access(os.environ, kubeconfig=kubeconfig, context=context)


def loaded(files: tuple[Path, ...], port: int, namespace: str = "default") -> Input:
    """Read the files, or the environment; `namespace` is that of objects without one.

    Raises:
        Unusable: a path or a variable cannot be used at all.
    """
    from thruway_operator.diagnose.offline.loading import LoadError, load
    from thruway_operator.sources.files.watch import STANDARD_INPUT

    with _unusable(LoadError):
        given = sys.stdin.buffer.read() if STANDARD_INPUT in files else None
        return load(files, os.environ, port=port, standard_input=given, namespace=namespace)


@contextlib.contextmanager
def _unusable(*kinds: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        raise Unusable(str(error), whole=True) from None


def echo(text: str, secrets: Iterable[SecretValue] = ()) -> None:
    """Print text without these secrets."""
    from thruway_operator.text.safe import Redactor

    redactor = Redactor()
    for secret in secrets:
        redactor.register(secret.reveal().strip())
    click.echo(redactor.redact(text))


def as_json(data: Any, secrets: Iterable[SecretValue] = ()) -> None:  # noqa: ANN401 - plain data
    """Print plain data as JSON without these secrets."""
    import json

    from thruway_operator.diagnose.offline.shown import redacted

    click.echo(json.dumps(redacted(data, secrets), indent=2, ensure_ascii=False))


def say(command: str, sentence: str) -> None:
    """Print a problem to standard error, in one line."""
    from thruway_operator.diagnose.findings.finding import conceal

    # A value may have any length; the problem and the remedy follow it.
    text = _LONG_WORD.sub(lambda found: f"{found[0][:60]}…", conceal(sentence))
    click.echo(f"{command}: {text[:2000]}", err=True)
