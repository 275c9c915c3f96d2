"""`thruway bootstrap`: writes Envoy's bootstrap when its pod starts, from the pod's own image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from thruway_operator.cli.shared import Unusable
from thruway_operator.text.hostport import split_host_port

if TYPE_CHECKING:
    from thruway_operator.envoy.bootstrap import ProxyOptions

__all__ = ["bootstrap"]


@click.command(hidden=True)
@click.option("--folder", default="/run/thruway", show_default=True, help="Folder to write to.")
@click.option("--pod", envvar="POD_NAME", required=True, help="The pod's name.")
@click.option("--namespace", envvar="POD_NAMESPACE", required=True, help="The pod's namespace.")
@click.option(
    "--operator", required=True, metavar="HOST:PORT", help="Address of the operator's xDS."
)
@click.option("--operator-name", default="thruway-operator", help="The name in its certificate.")
@click.option("--token", required=True, help="The pod's token with audience thruway-xds.")
@click.option("--authorities", required=True, help="CA of the operator's certificate (PEM).")
@click.option(
    "--listen", "listens", multiple=True, metavar="ADDRESS:PORT", help="Address for clients."
)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, help="Number of extproc processes."
)
@click.option("--tls-certificate", help="Certificate chain of the listener (PEM).")
@click.option("--tls-key", help="The certificate's key (PEM).")
@click.option(
    "--connection-age",
    type=click.IntRange(0, 86_400),
    default=0,
    help="Seconds after which connections close, after a response; 0: never.",
)
@click.option(
    "--patience",
    type=click.IntRange(0, 3600),
    default=0,
    help="Seconds without configuration after which connections are accepted; 0: never.",
)
def bootstrap(**given: Any) -> None:  # noqa: ANN401 - checked by click
    """Write Envoy's bootstrap into a folder. Used by the chart."""
    from thruway_operator.envoy.bootstrap import render_bootstrap
    from thruway_operator.envoy.controlplane import secret_files
    from thruway_operator.envoy.downstream import certificate_files
    from thruway_operator.envoy.wire import serialized

    options = _options(given)
    assert options.xds_service is not None  # noqa: S101 (for the type)
    files = secret_files(options.xds_service)
    if options.downstream.certificate:
        files |= certificate_files(options.downstream.certificate)
    folder = Path(given["folder"])
    try:
        for name, text in files.items():
            _write(folder / name, text.encode())
        _write(folder / "bootstrap.pb", serialized(render_bootstrap(options)))
    except OSError as error:
        click.echo(
            f"thruway bootstrap: cannot write into {folder} ({error.strerror}): mount a folder "
            "there that is writable for this user",
            err=True,
        )
        sys.exit(1)


def _write(path: Path, data: bytes) -> None:
    """Write a file that only this user, as whom Envoy runs, may read."""
    path.unlink(missing_ok=True)  # the mode applies only to new files
    path.touch(0o600)
    path.write_bytes(data)


def _options(given: dict[str, Any]) -> ProxyOptions:
    from thruway_operator.envoy.bootstrap import ProxyOptions
    from thruway_operator.envoy.controlplane import XdsService
    from thruway_operator.envoy.downstream import Certificate, Downstream

    folder = given["folder"]
    chain, key = given["tls_certificate"], given["tls_key"]
    if bool(chain) != bool(key):
        raise Unusable("--tls-certificate and --tls-key belong together: give both")
    if not folder.startswith("/"):
        raise Unusable("--folder must be an absolute path")
    service = XdsService(
        addresses=(_address(given["operator"], "--operator"),),
        server_name=given["operator_name"],
        token_file=given["token"],
        ca_file=given["authorities"],
        folder=folder,
    )
    return ProxyOptions(
        node_id=f"{given['pod']}.{given['namespace']}",
        addresses=tuple(
            _address(item, "--listen") for item in given["listens"] or ("127.0.0.1:4000",)
        ),
        admin_socket=f"{folder}/admin.sock",
        xds_service=service,
        extproc_sockets=tuple(
            f"{folder}/extproc-{number}.sock" for number in range(given["workers"])
        ),
        downstream=Downstream(
            certificate=Certificate(chain, key, folder) if chain else None,
            connection_age_ms=given["connection_age"] * 1000,
        ),
        patience_ms=given["patience"] * 1000,
    )


def _address(text: str, option: str) -> tuple[str, int]:
    found = split_host_port(text)
    if found is None or not all(found):
        raise Unusable(f"{option} must be ADDRESS:PORT, with a port from 1 to 65535")
    return found
