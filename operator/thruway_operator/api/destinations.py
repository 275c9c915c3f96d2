"""Where the requests of a route go, and the objects that its spec names, each with its field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.api.route import Credential, PassthroughRouteSpec
    from thruway_operator.api.upstream import Upstream

__all__ = ["Destination", "Reference", "references_of"]


@dataclass(frozen=True, slots=True)
class Destination:
    """The route's own upstream, or that of an override, with the credential that is sent there."""

    field: str
    """`spec`, or `spec.overrides[0]`."""
    path: str
    """The override's path; "" for the route itself."""
    upstream: Upstream
    url: str
    """The upstream's URL, unchecked; if the spec has none, the provider's."""
    credential: Credential | None


@dataclass(frozen=True, slots=True)
class Reference:
    """A Secret or ConfigMap in the route's namespace; `key` is "" if all of it is meant."""

    field: str
    use: Literal["credential", "header", "login", "ca", "certificate", "clients"]
    name: str
    key: str = ""
    kind: Literal["ConfigMap", "Secret"] = "Secret"

    @property
    def sends(self) -> bool:
        """Whether the value is put into a header of requests to the upstream."""
        return self.use in ("credential", "header")


def references_of(spec: PassthroughRouteSpec) -> Iterator[Reference]:
    """Yield every object that the spec names, in the order of its destinations."""
    for item in spec.destinations():
        if item.credential:
            ref = item.credential.secret_key_ref
            field = f"{item.field}.credential.secretKeyRef"
            yield Reference(field, "credential", ref.name, ref.key)
        yield from _of_upstream(item.upstream, f"{item.field}.upstream")
    for index, header in enumerate(spec.request.headers.set_from_secret):
        ref = header.secret_key_ref
        field = f"spec.request.headers.setFromSecret[{index}].secretKeyRef"
        yield Reference(field, "header", ref.name, ref.key)
    if clients := spec.client_auth.secret_ref:
        yield Reference("spec.clientAuth.secretRef", "clients", clients.name)


def _of_upstream(upstream: Upstream, field: str) -> Iterator[Reference]:
    if upstream.proxy and (login := upstream.proxy.secret_key_ref):
        yield Reference(f"{field}.proxy.secretKeyRef", "login", login.name, login.key)
    if ca := upstream.tls.ca_certificate_ref:
        yield Reference(f"{field}.tls.caCertificateRef", "ca", ca.name, ca.key, ca.kind)
    if certificate := upstream.tls.client_certificate_ref:
        yield Reference(f"{field}.tls.clientCertificateRef", "certificate", certificate.name)
