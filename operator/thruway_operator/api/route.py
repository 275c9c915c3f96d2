"""`PassthroughRoute` (`thruway.dev/v1alpha1`), the resource that users write."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from thruway_operator.api.checks import check_header_of_key
from thruway_operator.api.destinations import Destination, Reference, references_of
from thruway_operator.api.modifiers import (
    HeaderRules,
    NameValue,
    Prefix,
    QueryNameValue,
    QueryRules,
    RequestHeaderRules,
    ResponseHeaderRules,
    SecretHeader,
    SecretHeaderName,
)
from thruway_operator.api.presets import PRESETS
from thruway_operator.api.types import (
    Duration,
    HeaderName,
    Hostname,
    Model,
    ObjectName,
    Origin,
    RoutePath,
    UpstreamPath,
)
from thruway_operator.api.upstream import (
    CaCertificateRef,
    KeyRef,
    SecretRef,
    Upstream,
    UpstreamProxy,
    UpstreamTls,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    "ResponseHeaderRules",
    "ResponseRules",
    "Retries",
    "SecretHeader",
    "SecretRef",
    "Timeouts",
    "Upstream",
    "UpstreamProxy",
    "UpstreamTls",
]

API_VERSION = "thruway.dev/v1alpha1"
KIND = "PassthroughRoute"


Provider = Literal["openai", "anthropic", "gemini"]
"""A preset: upstream, credential scheme and version prefix of a well-known API."""

Exposure = Literal["Namespace", "Cluster"]
"""Who may reach the route: its own namespace's sidecars, or the shared gateway."""


class Credential(Model):
    """What is injected in place of the client's credential."""

    secret_key_ref: KeyRef = Field(description="The Secret's key that holds the credential.")
    header: SecretHeaderName | None = Field(
        default=None, description="Header that carries it. Unset: the provider's, or Authorization."
    )
    prefix: Prefix | None = Field(
        default=None,
        description=(
            "Text before the secret. Unset: the provider's; otherwise `Bearer ` in "
            "Authorization and nothing in other headers."
        ),
    )


class ClientAuth(Model):
    """How clients prove who they are to Thruway."""

    type: Literal["None", "APIKey"] = Field(default="None", description="None or APIKey.")
    secret_ref: SecretRef | None = Field(
        default=None,
        description="For APIKey: the Secret whose data entries are client-id: key.",
    )
    header: Annotated[HeaderName, AfterValidator(check_header_of_key)] | None = Field(
        default=None,
        description=(
            "The only header that carries Thruway's key; it is removed. If the route has no "
            "credential, the client's own is forwarded. Unset: any header in which clients of AI "
            "APIs send a key."
        ),
    )


Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class RequestRules(Model):
    """Which requests are allowed, and how they are changed."""

    methods: list[Method] = Field(
        default=[], max_length=7, description="Allowed methods; others get 405. Empty: all."
    )
    headers: RequestHeaderRules = Field(
        default_factory=RequestHeaderRules, description="Changes to request headers."
    )
    query: QueryRules = Field(default_factory=QueryRules, description="Changes to the query.")


class ResponseRules(Model):
    """How responses are changed."""

    headers: ResponseHeaderRules = Field(
        default_factory=ResponseHeaderRules, description="Changes to response headers."
    )


class OverrideUpstream(Upstream):
    """The upstream of an override. `url` is required; `versionPrefix` defaults to the route's."""

    @model_validator(mode="after")
    def _has_url(self) -> OverrideUpstream:
        if self.url is None:
            raise ValueError("an override requires `url`: the upstream of its endpoints")
        return self


class Override(Model):
    """Endpoints with an upstream of their own."""

    path: UpstreamPath = Field(
        description="Upstream path with its version, such as /v1/responses. Whole segments match."
    )
    match: Literal["Prefix", "Exact"] = Field(
        default="Prefix", description="Prefix: this path and all below it. Exact: this path alone."
    )
    upstream: OverrideUpstream = Field(description="Where these endpoints go.")
    credential: Credential | None = Field(
        default=None,
        description="The key that Envoy injects there. Unset: the client's own is forwarded.",
    )


class Timeouts(Model):
    """How long things may take; `0s` means no limit."""

    connect: Duration = Field(default="5s", description="For a connection to the upstream.")
    request: Duration = Field(default="0s", description="For a whole request and its response.")
    idle: Duration = Field(default="3600s", description="Longest pause in both directions.")


RetryOn = Literal["ConnectFailure", "RefusedStream", "ResetBeforeRequest"]


class Retries(Model):
    """Retries that never send a body twice."""

    attempts: int = Field(default=1, ge=0, le=10, description="Attempts after the first; 0: none.")
    retry_on: list[RetryOn] = Field(
        default=["ConnectFailure", "RefusedStream", "ResetBeforeRequest"],
        min_length=1,
        max_length=3,
        description="What is retried.",
    )


class PassthroughRouteSpec(Model):
    """What a user wants."""

    path: RoutePath = Field(
        description="Path on Thruway, such as /openai_passthrough. Whole segments match."
    )
    hostnames: list[Hostname] = Field(
        default=[],
        max_length=16,
        description="Host names that the route serves, without port. Empty: all.",
    )
    provider: Provider | None = Field(
        default=None,
        description="Preset for upstream, credential scheme and version prefix, without a key.",
    )
    upstream: Upstream = Field(default_factory=Upstream, description="Where requests go.")
    credential: Credential | None = Field(
        default=None,
        description="The key that Envoy injects. Unset: the client's own credential is forwarded.",
    )
    client_auth: ClientAuth = Field(
        default_factory=ClientAuth, description="How clients prove who they are."
    )
    request: RequestRules = Field(default_factory=RequestRules, description="Rules for requests.")
    response: ResponseRules = Field(
        default_factory=ResponseRules, description="Rules for responses."
    )
    overrides: list[Override] = Field(
        default=[], max_length=64, description="Endpoints that have another upstream."
    )
    timeouts: Timeouts = Field(default_factory=Timeouts, description="Time limits.")
    retries: Retries = Field(default_factory=Retries, description="What is retried.")
    allowed_origins: list[Origin] = Field(
        default=[],
        max_length=16,
        description=(
            "Web pages and desktop apps that may call this route from a browser, by their origins: "
            "https://app.example or app://obsidian.md. Others cannot read its responses; on a "
            "laptop they get 403."
        ),
    )
    exposure: Exposure = Field(
        default="Namespace",
        description=(
            "Namespace: the sidecars of its namespace. Cluster: also the shared gateway, which "
            "requires clientAuth."
        ),
    )

    @model_validator(mode="after")
    def _has_upstream(self) -> PassthroughRouteSpec:
        if self.provider is None and self.upstream.url is None:
            raise ValueError("`provider` or `upstream.url` is required: say where requests go")
        return self

    @property
    def upstream_url(self) -> str:
        """The URL of the route's own upstream, unchecked: its own, or the provider's."""
        return self.upstream.url or (PRESETS[self.provider].url if self.provider else "")

    def destinations(self) -> list[Destination]:
        """Return where requests go: the route's own upstream first, then the overrides'."""
        own = Destination("spec", "", self.upstream, self.upstream_url, self.credential)
        return [
            own,
            *(
                Destination(
                    f"spec.overrides[{index}]",
                    item.path,
                    item.upstream,
                    item.upstream.url or "",
                    item.credential,
                )
                for index, item in enumerate(self.overrides)
            ),
        ]

    def references(self) -> list[Reference]:
        """Return every Secret and ConfigMap that the spec names."""
        return list(references_of(self))


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

    @cached_property
    def digest(self) -> str:
        """A hash of all of it: routes with equal digests are the same to every reader."""
        return hashlib.blake2b(self.model_dump_json().encode(), digest_size=12).hexdigest()

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> PassthroughRoute:
        """Return a copy, without what was computed from the original."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    @cached_property
    def objects(self) -> tuple[tuple[str, tuple[str, str]], ...]:
        """The kind (Secret, ConfigMap) and the namespace and name of every object it refers to."""
        found = ((ref.kind, (self.namespace, ref.name)) for ref in self.spec.references())
        return tuple(sorted(set(found)))
