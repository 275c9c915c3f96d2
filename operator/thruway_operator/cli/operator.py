"""`thruway operator`, which the image runs as `thruway-operator`."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from thruway_operator.cli.injector import injector, injector_options, service_names
from thruway_operator.cli.shared import Unusable
from thruway_operator.text.hostport import split_host_port

if TYPE_CHECKING:
    from thruway_operator.controller.options import Gateway, OperatorOptions, OwnCertificates
    from thruway_operator.resources.model import ForwardProxies

__all__ = ["main", "operator"]

_SERVER_NAME = "thruway-operator"
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(hidden=True)
@click.option("--replica", envvar="POD_NAME", required=True, help="The replica's pod name.")
@click.option("--namespace", envvar="POD_NAMESPACE", required=True, help="The pod's namespace.")
@click.option(
    "--service-account",
    envvar="POD_SERVICE_ACCOUNT",
    default="thruway-operator",
    show_default=True,
    help="The pod's ServiceAccount; all replicas must have the same.",
)
@click.option(
    "--address",
    envvar="POD_IP",
    required=True,
    help="Address, or address:port, at which the other replicas reach this one's xDS port.",
)
@click.option("--xds-listen", default="0.0.0.0:18000", show_default=True, help="Address of xDS.")
@click.option("--health-listen", default=":8080", show_default=True, help="Address of health.")
@click.option("--tls-certificate", type=_FILE, help="Certificate chain (PEM).")
@click.option("--tls-key", type=_FILE, help="The certificate's key (PEM).")
@click.option("--tls-authorities", type=_FILE, help="CA of the other replicas.")
@click.option("--tls-secret", help="Instead: create certificates, and keep them in this Secret.")
@click.option("--tls-config-map", help="Publish their CA in this ConfigMap.")
@click.option(
    "--tls-folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/run/thruway/tls"),
    show_default=True,
    help="Folder for the files created from them.",
)
@click.option(
    "--tls-overlap",
    type=click.IntRange(0, 86_400),
    default=3600,
    show_default=True,
    help="Seconds for which a new CA is published before it signs.",
)
@click.option("--extra-authorities", type=_FILE, help="Additional CAs for upstreams (PEM).")
@click.option("--token", type=_FILE, required=True, help="Its token with audience thruway-xds.")
@click.option(
    "--watch-namespace",
    "namespaces",
    multiple=True,
    help="Watch this namespace; may be given several times.  [default: all]",
)
@click.option(
    "--gateway",
    metavar="NAMESPACE/ACCOUNT",
    help="ServiceAccount of the shared gateway's pods.  [default: no gateway]",
)
@click.option("--gateway-url", default="", help="URL at which clients reach the gateway.")
@click.option(
    "--gateway-selector",
    metavar="LABELS",
    help="Label selector of the namespaces whose routes the gateway accepts.",
)
@click.option(
    "--gateway-namespace",
    "gateway_namespaces",
    multiple=True,
    help="Name of such a namespace; may be given several times.",
)
@click.option(
    "--allow-private-upstreams",
    is_flag=True,
    help="Let the gateway's routes have private addresses and in-cluster Services as upstreams.",
)
@injector_options
@click.option("--kubeconfig", type=_FILE, help="Outside a cluster: the kubeconfig to use.")
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
)
def operator(**given: Any) -> None:  # noqa: ANN401 - checked by click
    """Watch PassthroughRoutes in a cluster and serve them to its Envoys. Used by the chart."""
    # gRPC's core logs errors caused by unauthenticated peers to standard error without any limit.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from thruway_operator.controller.app import OperatorError, run
    from thruway_operator.controller.logs import log_to_stderr

    log_to_stderr(str(given["log_level"]))
    try:
        asyncio.run(run(_options(given), os.environ, kubeconfig=given["kubeconfig"]))
    except OperatorError as error:
        click.echo(f"thruway-operator: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _options(given: dict[str, Any]) -> OperatorOptions:
    from thruway_operator.controller.options import Gateway, OperatorOptions
    from thruway_operator.sources.kubernetes.cluster import Watched

    certificate, key, authorities, own = _certificates(given)
    health_host, health_port = _listen(given["health_listen"], "--health-listen")
    _, xds_port = _listen(given["xds_listen"], "--xds-listen")
    address = given["address"]
    if not _has_port(address):
        address = f"[{address}]:{xds_port}" if ":" in address else f"{address}:{xds_port}"
    return OperatorOptions(
        replica=given["replica"],
        namespace=given["namespace"],
        service_account=given["service_account"],
        address=address,
        certificate=certificate,
        key=key,
        authorities=authorities,
        own_certificates=own,
        token=given["token"],
        xds_listen=given["xds_listen"],
        health_host=health_host,
        health_port=health_port,
        watched=Watched(
            tuple(given["namespaces"]),
            given["gateway_selector"],
            tuple(given["gateway_namespaces"]),
        ),
        gateway=_gateway(given, Gateway),
        injector=injector(given),
        sidecar_url=f"http://127.0.0.1:{given['inject_port']}",
        extra_authorities=given["extra_authorities"],
        proxies=_proxies(),
    )


def _certificates(given: dict[str, Any]) -> tuple[Path, Path, Path, OwnCertificates | None]:
    from thruway_operator.controller.options import OwnCertificates

    files = given["tls_certificate"], given["tls_key"], given["tls_authorities"]
    secret, config_map, folder = given["tls_secret"], given["tls_config_map"], given["tls_folder"]
    if secret and config_map and not any(files):
        own = OwnCertificates(
            secret, config_map, (_SERVER_NAME, *service_names(given)), float(given["tls_overlap"])
        )
        return folder / "tls.crt", folder / "tls.key", folder / "ca.crt", own
    if secret or config_map or not all(files):
        raise Unusable(
            "either --tls-secret and --tls-config-map are needed, or --tls-certificate, --tls-key "
            "and --tls-authorities"
        )
    return *files, None


def _proxies() -> ForwardProxies:
    # Not HTTPS_PROXY itself, because connections to the API server must not use it.
    from thruway_operator.sources.files.proxyenv import environment_proxies
    from thruway_operator.sources.files.watch import SourceError

    names = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
    try:
        return environment_proxies({name: os.environ.get(f"EGRESS_{name}", "") for name in names})
    except SourceError as error:
        text = str(error).replace("variable ", "variable EGRESS_")
        raise Unusable(text.rstrip("."), whole=True) from None


def _gateway(given: dict[str, Any], make: type[Gateway]) -> Gateway | None:
    named = given["gateway"]
    if not named:
        return None
    namespace, slash, account = named.partition("/")
    if not (namespace and slash and account) or "/" in account:
        raise Unusable("--gateway must be NAMESPACE/ACCOUNT, the ServiceAccount of its pods")
    return make(namespace, account, given["gateway_url"], given["allow_private_upstreams"])


def _has_port(address: str) -> bool:
    return bool(re.search(r"(^[^:]+|\])+:[0-9]+$", address))


def _listen(value: str, option: str) -> tuple[str, int]:
    found = split_host_port(value)
    if found is None:
        raise Unusable(f"{option} must be HOST:PORT or :PORT, with a port up to 65535")
    return found


def main() -> None:
    """Run `thruway operator` under its own name."""
    from thruway_operator.cli.main import main as root

    root(["operator", *sys.argv[1:]])
