"""Reads what `thruway up` would read: the files given, or the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thruway_operator.sources.files.cabundle import CABundleError, system_ca_bundle
from thruway_operator.sources.files.clients import client_keys
from thruway_operator.sources.files.environment import (
    environment_resources,
    needs_demonstration,
    secret_environment,
)
from thruway_operator.sources.files.network import Setting
from thruway_operator.sources.files.origins import allowed_origins
from thruway_operator.sources.files.proxyenv import environment_proxies, proxy_warnings
from thruway_operator.sources.files.watch import STANDARD_INPUT, FileSource, SourceError
from thruway_operator.translate import Resources, Translation, translate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from thruway_operator.resources.secret import SecretValue
    from thruway_operator.sources.files.documents import SourceProblem
    from thruway_operator.sources.files.watch import Reading

__all__ = ["DEMONSTRATION", "ENVIRONMENT", "Input", "LoadError", "load"]

ENVIRONMENT = "environment"
"""Shown instead of a file's name if there is none."""

DEMONSTRATION = "http://demonstration.invalid"
"""Shown for the demonstration upstream, whose port differs each time."""

_LOOPBACK = ("127.0.0.1", "::1")
_LARGEST = 4 * 1024 * 1024  # bytes
_STEP = re.compile(r"(\w+)|\[(\d+)\]")


class LoadError(Exception):
    """The input cannot be read at all; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Input:
    """The input, and where each part of it was read."""

    given: Resources
    """As written."""
    served: Resources
    """As `thruway up` would serve it on this machine."""
    translation: Translation
    system_ca: str = field(repr=False)
    reading: Reading | None
    """None: the environment."""
    demonstration: bool = False
    warnings: tuple[str, ...] = ()
    """Oddities in the environment."""

    @property
    def problems(self) -> list[SourceProblem]:
        """What could not be read in the files."""
        return self.reading.problems if self.reading else []

    def place(self, route: str, place: str) -> tuple[str, int]:
        """Return file and line of a field such as `spec.overrides[0].path` of a route."""
        placed = self.reading.routes.get(route) if self.reading else None
        if placed is None:
            return ENVIRONMENT, 0
        steps = (*placed.location, *_steps(place))
        return placed.document.file, placed.document.line(steps)

    def secrets(self) -> list[SecretValue]:
        """Return every secret that is in use or in the files."""
        written = [value for data in self.served.secrets.values() for value in data.values()]
        proxies = (self.served.proxies.https, self.served.proxies.http)
        logins = [proxy.login for proxy in proxies if proxy and proxy.login]
        return [*self.translation.config.secret_values(), *written, *logins]


def load(
    files: Sequence[Path],
    environment: Mapping[str, str],
    *,
    port: int = 4000,
    standard_input: bytes | None = None,
    namespace: str = "default",
) -> Input:
    """Read the files, or the environment if there are none, and translate.

    `port` is the port of `thruway up`, to which no upstream may lead back. `namespace` is where
    objects without a namespace belong.

    Raises:
        LoadError: a path, a variable or the standard input cannot be used at all.
    """
    try:
        setting = Setting(
            tuple((host, port) for host in _LOOPBACK),
            tuple(client_keys(environment)),
            environment_proxies(environment),
            allowed_origins(environment),
        )
        reading, resources, demonstration = _read(files, environment, standard_input, namespace)
        system_ca = system_ca_bundle(environment)
    except (SourceError, CABundleError) as error:
        raise LoadError(str(error)) from None
    served = setting.apply(resources)
    said = tuple(proxy_warnings(environment))
    return Input(resources, served, translate(served), system_ca, reading, demonstration, said)


def _read(
    files: Sequence[Path],
    environment: Mapping[str, str],
    standard_input: bytes | None,
    namespace: str,
) -> tuple[Reading | None, Resources, bool]:
    if not files:
        demonstration = needs_demonstration(environment)
        resources = environment_resources(environment, DEMONSTRATION if demonstration else "")
        return None, resources, demonstration
    text = _text(standard_input) if STANDARD_INPUT in files else None
    source = FileSource(
        files, secret_environment(environment), standard_input=text, namespace=namespace
    )
    reading = source.read()
    return reading, reading.resources, False


def _text(standard_input: bytes | None) -> str:
    content = standard_input or b""
    if len(content) > _LARGEST:
        raise LoadError(f"The standard input is larger than {_LARGEST >> 20} MiB: give files.")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise LoadError("The standard input is not UTF-8 text: give YAML or JSON.") from None


def _steps(place: str) -> list[str | int]:
    return [int(index) if index else name for name, index in _STEP.findall(place)]
