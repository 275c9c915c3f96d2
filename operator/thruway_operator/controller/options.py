"""The options of an operator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from thruway_operator.resources.model import ForwardProxies
from thruway_operator.sources.kubernetes.cluster import Watched

if TYPE_CHECKING:
    from pathlib import Path

    from thruway_operator.sidecar.decide import Settings

__all__ = ["Gateway", "Injector", "OperatorOptions", "OwnCertificates"]


@dataclass(frozen=True, slots=True)
class Gateway:
    """The shared gateway: the ServiceAccount of its pods, and the upstreams it may reach."""

    namespace: str
    service_account: str
    url: str = ""
    """The URL at which clients reach it, for `status.url`."""
    allow_private_upstreams: bool = False


@dataclass(frozen=True, slots=True)
class OwnCertificates:
    """The existing objects that hold the certificates, empty at first, and the DNS names."""

    secret: str
    config_map: str
    names: tuple[str, ...]
    overlap: float = 3600.0
    """Seconds for which a new CA is published before it signs."""


@dataclass(frozen=True, slots=True)
class Injector:
    """The webhook that puts sidecars into pods."""

    settings: Settings
    host: str
    """The address to listen on; "" means all addresses."""
    port: int
    webhook: str = ""
    """Name of the configuration whose CA to maintain; "" if a CA injector maintains it."""


@dataclass(frozen=True, slots=True)
class OperatorOptions:
    """One replica of the operator."""

    replica: str
    """Its pod's name."""
    namespace: str
    """Its pod's namespace, which also holds the Leases."""
    service_account: str
    address: str
    """Host and port at which the other replicas reach its xDS port."""
    certificate: Path
    key: Path
    authorities: Path
    """PEM files: the certificate and key that serve xDS, and the CA to verify other replicas."""
    own_certificates: OwnCertificates | None
    """If set, this operator creates these files itself, from these objects."""
    token: Path
    """The file with its own token of audience `thruway-xds`, to authenticate to other replicas."""
    xds_listen: str = "0.0.0.0:18000"
    health_host: str = ""
    health_port: int = 8080
    watched: Watched = field(default_factory=Watched)
    gateway: Gateway | None = None
    injector: Injector | None = None
    extra_authorities: Path | None = None
    """A PEM file with CAs to trust for upstreams, in addition to the system's."""
    proxies: ForwardProxies = field(default_factory=ForwardProxies)
    """The network's forward proxies, through which upstreams are reached."""
    sidecar_url: str = "http://127.0.0.1:4000"
    """The URL at which an application reaches its sidecar, for `status.url`."""
