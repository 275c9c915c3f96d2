"""What an operator is told when it starts."""

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
    """The shared gateway: the ServiceAccount of its pods, and what it may reach."""

    namespace: str
    service_account: str
    url: str = ""
    """Where clients reach it, for `status.url`."""
    allow_private_upstreams: bool = False


@dataclass(frozen=True, slots=True)
class OwnCertificates:
    """The objects that hold them, which are there, empty at first; and the names they are for."""

    secret: str
    config_map: str
    names: tuple[str, ...]
    overlap: float = 3600.0
    """Seconds for which a new authority is published before it signs."""


@dataclass(frozen=True, slots=True)
class Injector:
    """The webhook that puts sidecars into pods."""

    settings: Settings
    host: str
    """Where it listens; "" for all addresses."""
    port: int
    webhook: str = ""
    """Name of the configuration whose CA is kept right; "": somebody else does."""


@dataclass(frozen=True, slots=True)
class OperatorOptions:
    """One replica of the operator."""

    replica: str
    """Its pod's name."""
    namespace: str
    """Its pod's namespace: Leases are kept there."""
    service_account: str
    address: str
    """Host and port at which the other replicas reach its xDS port."""
    certificate: Path
    key: Path
    authorities: Path
    """PEM files: what xDS is served with, and what the other replicas are checked with."""
    own_certificates: OwnCertificates | None
    """Whether, and where, this operator makes these files itself."""
    token: Path
    """The file with its own token of audience `thruway-xds`, for the other replicas."""
    xds_listen: str = "0.0.0.0:18000"
    health_host: str = ""
    health_port: int = 8080
    watched: Watched = field(default_factory=Watched)
    gateway: Gateway | None = None
    injector: Injector | None = None
    extra_authorities: Path | None = None
    """PEM: whom upstreams are trusted by, besides those that the system knows."""
    proxies: ForwardProxies = field(default_factory=ForwardProxies)
    """Through which proxies of the network upstreams are reached."""
    sidecar_url: str = "http://127.0.0.1:4000"
    """Where an application reaches its sidecar, for `status.url`."""
