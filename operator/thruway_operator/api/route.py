"""`PassthroughRoute` (`thruway.dev/v1alpha1`), the resource that users write."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from thruway_operator.api.checks import (
    check_header_removed,
    check_header_written,
    check_names_a_key,
    check_unique,
)
from thruway_operator.api.types import (
    ConfigMapKey,
    Duration,
    HeaderName,
    HeaderValue,
    Hostname,
    Model,
    ObjectName,
    QueryName,
    RoutePath,
    ServerName,
    UpstreamPath,
)

__all__ = [
    "API_VERSION",
    "KIND",
    "CaCertificateRef",
    "ClientAuth",
    "Credential",
    "Exposure",
    "HeaderRules",
    "KeyRef",
    "NameValue",
    "Override",
    "OverrideUpstream",
    "PassthroughRoute",
    "PassthroughRouteSpec",
    "Provider",
    "QueryNameValue",
    "QueryRules",
    "RequestHeaderRules",
    "RequestRules",
    "ResponseRules",
    "Retries",
    "SecretRef",
    "Timeouts",
    "Upstream",
    "UpstreamProxy",
    "UpstreamTls",
]

API_VERSION = "thruway.dev/v1alpha1"
KIND = "PassthroughRoute"

VersionPrefix = Annotated[str, StringConstraints(pattern=r"^(/v[0-9]+[a-z0-9]*)?$", max_length=32)]
Text = Annotated[str, StringConstraints(max_length=1024)]


Provider = Literal["openai", "anthropic", "gemini"]
"""A preset: upstream, credential scheme and version prefix of a well-known API."""

Exposure = Literal["Namespace", "Cluster"]
"""Who may reach the route: its own namespace's sidecars, or the shared gateway."""


class KeyRef(Model):
    """A key of an object in the route's own namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: ConfigMapKey = Field(description="Key in the Secret's data.")

    @field_validator("key", "name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        return check_names_a_key(value)


class CaCertificateRef(Model):
    """Where a CA bundle (PEM) is found, in the route's own namespace."""

    kind: Literal["ConfigMap", "Secret"] = Field(
        default="ConfigMap", description="Kind of the object that holds the bundle."
    )
    name: ObjectName = Field(description="Name of the object.")
    key: ConfigMapKey = Field(default="ca.crt", description="Key in the object's data.")


class UpstreamTls(Model):
    """How the upstream's certificate is checked. Only for `https://` upstreams."""

    server_name: ServerName | None = Field(
        default=None,
        description="Name sent by SNI and expected in the certificate. Unset: the URL's host.",
    )
    min_version: Literal["TLSv1.2", "TLSv1.3"] = Field(
        default="TLSv1.2", description="The oldest TLS version that is accepted."
    )
    ca_certificate_ref: CaCertificateRef | None = Field(
        default=None, description="CA bundle to trust instead of the system's."
    )


class UpstreamProxy(Model):
    """The forward proxy that leads to an upstream."""

    url: Annotated[str, StringConstraints(max_length=1024)] = Field(
        description=(
            "http:// or https:// URL of the proxy, without path and user info, such as "
            'http://proxy.corp.example:3128. "": none, whatever the default is.'
        ),
    )
    secret_key_ref: KeyRef | None = Field(
        default=None,
        description="The Secret's key that holds `user:password` for the proxy. Unset: no login.",
    )


class Upstream(Model):
    """The API that a route leads to."""

    url: Annotated[str, StringConstraints(min_length=8, max_length=1024)] | None = Field(
        default=None,
        description=(
            "http:// or https:// URL without user info, query and fragment. A base path is kept: "
            "what follows the route's path is joined to it. Unset: the provider's."
        ),
    )
    version_prefix: VersionPrefix | None = Field(
        default=None,
        description=(
            "Inserted where the client's path does not begin with a version, such as /v1. "
            'Unset: the provider\'s, or none. "": none.'
        ),
    )
    tls: UpstreamTls = Field(default_factory=UpstreamTls, description="TLS to the upstream.")
    protocol: Literal["Auto", "HTTP1", "HTTP2"] = Field(
        default="Auto",
        description="Auto: by ALPN over https://, HTTP/1.1 over http://.",
    )
    proxy: UpstreamProxy | None = Field(
        default=None,
        description=(
            "Forward proxy to reach the upstream through. Unset: on a laptop as HTTPS_PROXY, "
            "HTTP_PROXY and NO_PROXY say, otherwise none."
        ),
    )


class Credential(Model):
    """What is injected in place of the client's credential."""

    secret_key_ref: KeyRef = Field(description="The Secret's key that holds the credential.")
    header: Annotated[HeaderName, AfterValidator(check_header_removed)] | None = Field(
        default=None, description="Header that carries it. Unset: the provider's, or Authorization."
    )
    prefix: Annotated[str, StringConstraints(max_length=64, pattern=r"^[ -~]*$")] | None = Field(
        default=None,
        description=(
            "Text in front of the secret. Unset: the provider's; otherwise `Bearer ` in "
            "Authorization and nothing in other headers."
        ),
    )


class SecretRef(Model):
    """A Secret in the route's own namespace."""

    name: ObjectName = Field(description="Name of the Secret.")


class ClientAuth(Model):
    """How clients prove who they are to Thruway."""

    type: Literal["None", "APIKey"] = Field(default="None", description="None or APIKey.")
    secret_ref: SecretRef | None = Field(
        default=None,
        description="For APIKey: the Secret whose data entries are client-id: key.",
    )


class NameValue(Model):
    """A header to set or to add."""

    name: Annotated[HeaderName, AfterValidator(check_header_written)] = Field(
        description="Name of the header."
    )
    value: HeaderValue = Field(description="Its value, taken literally.")


class QueryNameValue(Model):
    """A query parameter to set or to provide."""

    name: QueryName = Field(description="Name of the parameter, not encoded.")
    value: Text = Field(description="Its value, not encoded.")


class HeaderRules(Model):
    """Changes to headers: `remove` first, then `set` (replace), then `add` (append)."""

    set: list[NameValue] = Field(default=[], max_length=32, description="Replace or create.")
    add: list[NameValue] = Field(default=[], max_length=32, description="Append one more.")
    remove: list[Annotated[HeaderName, AfterValidator(check_header_removed)]] = Field(
        default=[], max_length=32, description="Remove by name."
    )

    @field_validator("remove")
    @classmethod
    def _removed_once(cls, value: list[str]) -> list[str]:
        return check_unique(value, str.lower)

    @field_validator("set")
    @classmethod
    def _set_once(cls, value: list[NameValue]) -> list[NameValue]:
        check_unique([item.name for item in value], str.lower)
        return value


class RequestHeaderRules(HeaderRules):
    """Changes to the headers of requests."""

    forward_only: list[HeaderName] = Field(
        default=[],
        max_length=64,
        description=(
            "If not empty, the only client headers that pass on; those that frame or describe the "
            "body (Content-Type and the like) always do."
        ),
    )


class QueryRules(Model):
    """Changes to the query of requests; parameters that are not named keep their bytes."""

    default: list[QueryNameValue] = Field(
        default=[], max_length=32, description="Provided where the client sends none."
    )
    set: list[QueryNameValue] = Field(
        default=[], max_length=32, description="Replaces whatever the client sends."
    )
    remove: list[QueryName] = Field(default=[], max_length=32, description="Removed by name.")

    @field_validator("default", "set")
    @classmethod
    def _named_once(cls, value: list[QueryNameValue]) -> list[QueryNameValue]:
        check_unique([item.name for item in value], str)
        return value


Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class RequestRules(Model):
    """What is allowed of and done to requests."""

    methods: list[Method] = Field(
        default=[], max_length=7, description="Allowed methods; others get 405. Empty: all."
    )
    headers: RequestHeaderRules = Field(
        default_factory=RequestHeaderRules, description="Changes to request headers."
    )
    query: QueryRules = Field(default_factory=QueryRules, description="Changes to the query.")


class ResponseRules(Model):
    """What is done to responses."""

    headers: HeaderRules = Field(
        default_factory=HeaderRules, description="Changes to response headers."
    )


class OverrideUpstream(Upstream):
    """The upstream of an override; `url` is required, `versionPrefix` is the route's if unset."""

    @model_validator(mode="after")
    def _has_url(self) -> OverrideUpstream:
        if self.url is None:
            raise ValueError("an override needs `url`: the upstream that its endpoints go to")
        return self


class Override(Model):
    """Endpoints that go to another upstream than the rest of the route."""

    path: UpstreamPath = Field(
        description="Upstream path with its version, such as /v1/responses, by whole segments."
    )
    match: Literal["Prefix", "Exact"] = Field(
        default="Prefix", description="Prefix: this path and all below it. Exact: this path alone."
    )
    upstream: OverrideUpstream = Field(description="Where these endpoints go.")
    credential: Credential | None = Field(
        default=None,
        description="What is injected there. Unset: the client's own credential passes on.",
    )


class Timeouts(Model):
    """How long things may take; `0s` means no limit."""

    connect: Duration = Field(default="5s", description="For a connection to the upstream.")
    request: Duration = Field(default="0s", description="For a whole request and its answer.")
    idle: Duration = Field(default="3600s", description="Without a byte in either direction.")


RetryOn = Literal["ConnectFailure", "RefusedStream", "ResetBeforeRequest"]


class Retries(Model):
    """Retries that never send a body twice."""

    attempts: int = Field(default=1, ge=0, le=10, description="Tries after the first; 0: none.")
    retry_on: list[RetryOn] = Field(
        default=["ConnectFailure", "RefusedStream", "ResetBeforeRequest"],
        min_length=1,
        max_length=3,
        description="What is tried again.",
    )


class PassthroughRouteSpec(Model):
    """What a user asks for."""

    path: RoutePath = Field(
        description="Path on Thruway, such as /openai_passthrough, by whole segments."
    )
    hostnames: list[Hostname] = Field(
        default=[],
        max_length=16,
        description="Host names that the route answers to, without port. Empty: all.",
    )
    provider: Provider | None = Field(
        default=None,
        description="Preset for upstream, credential scheme and version prefix; never a Secret.",
    )
    upstream: Upstream = Field(default_factory=Upstream, description="Where requests go.")
    credential: Credential | None = Field(
        default=None,
        description="What is injected. Unset: the client's own credential passes on.",
    )
    client_auth: ClientAuth = Field(
        default_factory=ClientAuth, description="How clients prove who they are."
    )
    request: RequestRules = Field(default_factory=RequestRules, description="Rules for requests.")
    response: ResponseRules = Field(
        default_factory=ResponseRules, description="Rules for responses."
    )
    overrides: list[Override] = Field(
        default=[], max_length=64, description="Endpoints that go to another upstream."
    )
    timeouts: Timeouts = Field(default_factory=Timeouts, description="Limits in time.")
    retries: Retries = Field(default_factory=Retries, description="What is tried again.")
    engine: Literal["ExtProc", "Envoy"] = Field(
        default="ExtProc", description="Who rewrites: extproc, or Envoy's own filters."
    )
    exposure: Exposure = Field(default="Namespace", description="Who may reach the route.")

    @model_validator(mode="after")
    def _has_upstream(self) -> PassthroughRouteSpec:
        if self.provider is None and self.upstream.url is None:
            raise ValueError("`provider` or `upstream.url` is required: say where requests go")
        return self


class PassthroughRoute(Model):
    """A route with its identity. `created` orders conflicts: older wins."""

    namespace: ObjectName = "default"
    name: ObjectName
    created: str = ""
    """creationTimestamp (RFC 3339), or a place in the order of files; compared as text."""
    generation: int = 0
    spec: PassthroughRouteSpec

    @property
    def id(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"
