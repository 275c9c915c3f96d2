"""Where a route leads, and the objects that it refers to: parts of `PassthroughRoute`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from thruway_operator.api.checks import check_names_a_key
from thruway_operator.api.types import ConfigMapKey, Model, ObjectName, ServerName

__all__ = [
    "CaCertificateRef",
    "KeyRef",
    "SecretRef",
    "Upstream",
    "UpstreamProxy",
    "UpstreamTls",
]

VersionPrefix = Annotated[str, StringConstraints(pattern=r"^(/v[0-9]+[a-z0-9]*)?$", max_length=32)]


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


class SecretRef(Model):
    """A Secret in the route's own namespace."""

    name: ObjectName = Field(description="Name of the Secret.")


class UpstreamTls(Model):
    """How both sides authenticate by TLS. Only for `https://` upstreams."""

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
    client_certificate_ref: SecretRef | None = Field(
        default=None,
        description=(
            "The Secret of type kubernetes.io/tls (tls.crt, tls.key) with the certificate that "
            "Thruway presents to an upstream that requests one."
        ),
    )


class UpstreamProxy(Model):
    """The forward proxy through which an upstream is reached."""

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
            "what follows the route's path is appended to it. Unset: the provider's."
        ),
    )
    version_prefix: VersionPrefix | None = Field(
        default=None,
        description=(
            "Inserted if the client's path does not begin with a version, such as /v1. "
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
            "Forward proxy for the upstream. Unset: on a laptop, as in HTTPS_PROXY, HTTP_PROXY and "
            "NO_PROXY; in a cluster, the chart's egressProxy."
        ),
    )
