"""What the shared gateway accepts: routes of selected namespaces, to public upstreams, with keys.

A sidecar belongs to its tenant, and may reach what the tenant's pods may reach. The gateway belongs
to everybody: a route must not open a way into the cluster or to the provider's metadata service.
The addresses of a name are not known here; a NetworkPolicy restricts them when connecting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thruway_operator.translate.upstream import read_url
from thruway_operator.translate.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.api.route import PassthroughRoute

__all__ = ["GatewayPolicy", "check_exposure"]

# The URL Standard's "ends in a number": resolvers read 127.1, 0x7f000001 and 017700000001 as
# addresses. https://url.spec.whatwg.org/#ends-in-a-number-checker
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PRIVATE_DOMAINS = ("localhost", "svc", "local", "internal", "intranet", "lan", "home.arpa")


@dataclass(frozen=True, slots=True)
class GatewayPolicy:
    """What the administrator allows the gateway to do."""

    namespaces: frozenset[str] = frozenset()
    """The namespaces whose routes it accepts."""
    allow_private: bool = False
    """Whether it may reach IP addresses, Services and private names."""


def check_exposure(route: PassthroughRoute, gateway: GatewayPolicy | None) -> None:
    """Reject a route of exposure Cluster that the gateway does not accept.

    Raises:
        Refused: with reason NotAllowed or UpstreamNotAllowed.
    """
    if route.spec.exposure != "Cluster":
        return
    if gateway is None:
        raise Refused(
            "NotAllowed",
            "spec.exposure is Cluster, but this installation has no shared gateway: enable it in "
            "the chart (gateway.enabled), or use exposure Namespace",
        )
    if route.namespace not in gateway.namespaces:
        raise Refused(
            "NotAllowed",
            f"namespace {route.namespace} is not among those whose routes the shared gateway "
            "accepts: ask an administrator to label it thruway.dev/gateway=allowed, or use "
            "exposure Namespace",
        )
    if not gateway.allow_private:
        for url, field in _urls(route):
            _refuse_private(url, field)


def _urls(route: PassthroughRoute) -> Iterator[tuple[str, str]]:
    for item in route.spec.destinations():
        if item.url:
            yield item.url, f"{item.field}.upstream.url"
        if item.upstream.proxy and item.upstream.proxy.url:
            yield item.upstream.proxy.url, f"{item.field}.upstream.proxy.url"


def _refuse_private(url: str, field: str) -> None:
    host = read_url(url, field).host.removesuffix(".")
    last = host.rpartition(".")[2]
    if ":" in host or _NUMBER.fullmatch(last):
        what = "an IP address"
    elif "." not in host or any(host.endswith(f".{domain}") for domain in _PRIVATE_DOMAINS):
        what = "a name of this cluster or a private network"
    else:
        return
    raise Refused(
        "UpstreamNotAllowed",
        f"{field} is {what}, which the shared gateway must not reach: use a public host name, or "
        "exposure Namespace",
    )
