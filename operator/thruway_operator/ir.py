"""The intermediate representation between resources and Envoy; it knows neither of them.

Everything is frozen. `Route.digest` tells whether a route has to be rendered again.
Durations are whole milliseconds; 0 means no limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_extproc.rule import Rule
    from thruway_operator.resources.secret import SecretValue

__all__ = [
    "Branch",
    "Client",
    "ClientCertificate",
    "Config",
    "Credential",
    "Endpoint",
    "ErrorFormat",
    "ForwardProxy",
    "HeaderRules",
    "Match",
    "Pages",
    "Protocol",
    "Refusal",
    "Retry",
    "Route",
    "Target",
    "Tls",
]

Pairs: TypeAlias = tuple[tuple[str, str], ...]


class Protocol(StrEnum):
    """The HTTP version used with an upstream; `AUTO` uses ALPN, and HTTP/1.1 without TLS."""

    AUTO = "Auto"
    HTTP1 = "HTTP1"
    HTTP2 = "HTTP2"


class ErrorFormat(StrEnum):
    """The provider whose JSON format a route's own errors use."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to an upstream.

    `ca` names a CA bundle in `Config.authorities`; "" means the system's. `client` names Thruway's
    client certificate in `Config.certificates`; "" means none.
    """

    server_name: str
    minimum: str
    ca: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate with its chain (PEM, the certificate first), and its key (PEM)."""

    chain: str = field(repr=False)
    key: SecretValue


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret that is injected: `header: prefix + secret`. `secret` names it in `Config`."""

    secret: str
    header: str
    prefix: str


@dataclass(frozen=True, slots=True)
class ForwardProxy:
    """A proxy through which an upstream is reached, as many corporate networks require.

    `secure`: connections to the proxy itself use TLS. `login` names, in `Config.secrets`, the text
    after `Basic ` (RFC 7617); "" means no login.
    """

    host: str
    port: int
    secure: bool = False
    login: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One upstream address and how to connect to it; equal endpoints share connections."""

    host: str
    port: int
    tls: Tls | None
    protocol: Protocol
    connect_timeout: int
    credential: Credential | None
    proxy: ForwardProxy | None = None
    more_headers: tuple[Credential, ...] = ()
    """Headers from Secrets in addition to the credential."""

    @property
    def injected(self) -> tuple[Credential, ...]:
        """Every header from a Secret, the credential first."""
        return (*([self.credential] if self.credential else []), *self.more_headers)


@dataclass(frozen=True, slots=True)
class Retry:
    """The number of retries, and the failures to retry (`connect-failure`, `refused-stream`, …)."""

    attempts: int
    on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """Changes to response headers: first `remove`, then `set` (replace), then `add` (append)."""

    set: Pairs = ()
    add: Pairs = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Where the requests of a branch go, and how they are changed on the way."""

    endpoint: Endpoint
    rule: Rule
    client_headers_removed: tuple[str, ...]
    """Client headers that Envoy itself removes, independently of the rule: credentials."""
    response: HeaderRules
    request_timeout: int
    idle_timeout: int
    retry: Retry | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error response that the proxy itself sends, in the route's error format."""

    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Match:
    """A client path: with everything below it, by whole segments, or alone if `exact`."""

    path: str
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Branch:
    """One branch of a route: an override, or (the last one) the route itself."""

    name: str
    matches: tuple[Match, ...]
    outcome: Target | Refusal


@dataclass(frozen=True, slots=True)
class Client:
    """A client that may use a route, identified by one of Thruway's own keys."""

    id: str
    key: SecretValue


@dataclass(frozen=True, slots=True)
class Pages:
    """The web pages and desktop apps that may call a route; false if there are none."""

    origins: tuple[str, ...] = ()
    """As browsers send them: `https://app.example`."""
    local: bool = False
    """Also every page of this machine."""

    def __bool__(self) -> bool:
        return self.local or bool(self.origins)


@dataclass(frozen=True, slots=True)
class Route:
    """One accepted PassthroughRoute. Branches are tried in order."""

    id: str
    hostnames: tuple[str, ...]
    methods: tuple[str, ...]
    branches: tuple[Branch, ...]
    clients: tuple[Client, ...] | None = None
    """The clients that may use the route; None means everyone."""
    error_format: ErrorFormat = ErrorFormat.OPENAI
    key_header: str = ""
    """The only header that carries a client's key; "" means any header that AI clients use."""
    key_parameter: str = ""
    """A query parameter in which clients may also send their key."""
    pages: Pages = Pages()
    digest: str = field(default="", compare=False)
    """A hash of the route and of the secrets and certificates that it names in `Config`: what has
    the same digest is rendered alike."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that one group of proxies serves."""

    routes: tuple[Route, ...]
    secrets: Mapping[str, SecretValue]
    authorities: Mapping[str, str]
    """CA bundles (PEM) by name."""
    certificates: Mapping[str, ClientCertificate] = field(default_factory=dict)
    """Client certificates by name."""

    def secret_values(self) -> list[SecretValue]:
        """Return all secret values."""
        keys = [client.key for route in self.routes for client in route.clients or ()]
        pairs = [pair.key for pair in self.certificates.values()]
        return [*self.secrets.values(), *keys, *pairs]
