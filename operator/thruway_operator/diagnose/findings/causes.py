"""Says why a call failed, and what to do, by its code or the upstream's status.

The codes are those of docs/errors.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thruway_operator.diagnose.findings.recentcalls import Call
    from thruway_operator.diagnose.findings.routes import KeyRef
    from thruway_operator.diagnose.findings.states import Trouble

__all__ = ["cause"]

_FIREWALL: Final = (
    "check host and port of upstream.url, that something listens there, and that no NetworkPolicy "
    "or firewall blocks it; behind a proxy set upstream.proxy (docs/network.md)"
)
_ITS_LOG: Final = "see the upstream's own log, and the timeouts of proxies in between"
_CODES: Final[dict[str, Trouble]] = {
    "upstream_unresolved": (
        "{host} cannot be resolved",
        "check its spelling in the route's upstream.url, the cluster's DNS, and that no "
        "NetworkPolicy blocks port 53",
    ),
    "upstream_unreachable": ("nothing accepts connections at {address}", _FIREWALL),
    "upstream_connect_timeout": ("no connection to {address} is established in time", _FIREWALL),
    "upstream_certificate_invalid": (
        "the certificate of {address} is not signed by a trusted CA, or has expired",
        "set upstream.tls.caCertificateRef, or the chart's value extraCA",
    ),
    "upstream_tls_failed": (
        "the TLS handshake with {address} fails",
        "check the scheme and the port of upstream.url, and upstream.tls.minVersion",
    ),
    "forward_proxy_failed": (
        "the network's forward proxy opens no tunnel to {address}",
        "check upstream.proxy of the route and the chart's value egressProxy (docs/network.md)",
    ),
    "upstream_reset": ("{address} closes connections before it responds", _ITS_LOG),
    "upstream_closed_early": ("{address} closes connections while it gets the request", _ITS_LOG),
    "upstream_cut_off": ("{address} closes connections within its responses", _ITS_LOG),
    "upstream_invalid_response": (
        "{address} does not respond by HTTP",
        "check that upstream.url is the intended API, and its scheme",
    ),
    "upstream_refused_upgrade": (
        "{address} does not accept WebSocket",
        "check that this path of the upstream serves WebSocket",
    ),
    "upstream_timeout": (
        "{address} does not respond within timeouts.request of the route",
        "increase it, or see why the upstream is slow",
    ),
    "idle_timeout": (
        "{address} sends nothing for timeouts.idle of the route",
        "increase it, or see why the upstream is slow",
    ),
}
_STATUSES: Final[dict[int, Trouble]] = {
    403: (
        "{address} itself returns 403",
        "check which project, region and models its key may use; Thruway passes this response",
    ),
    404: (
        "{address} itself returns 404",
        "compare the path in upstream.url and the application's base URL with the upstream's API",
    ),
    429: (
        "{address} itself returns 429",
        "check the key's rate limit and quota at the upstream; Thruway passes this response",
    ),
}
_WRONG_KEY: Final = "put the right key into the Secret; this is reported until calls succeed"
_OWN_KEY: Final = "give the client a key that the upstream accepts, or the route a credential"


def cause(call: Call, keys: Sequence[tuple[str, KeyRef | None]]) -> Trouble:
    """Return why a call failed, as a clause, and the remedy.

    `keys` are the routes to this upstream, and the key of a Secret that each sends.
    """
    if call.code:
        what, remedy = _by_code(call)
    elif call.status == 401:
        what, remedy = _rejected(keys)
    else:
        what, remedy = _STATUSES.get(call.status) or (
            f"{{address}} itself returns {call.status}",
            "see the upstream's status page or log; Thruway passes this response unchanged",
        )
    host = call.upstream.rpartition(":")[0]
    return what.replace("{host}", host).replace("{address}", call.upstream), remedy


def _by_code(call: Call) -> Trouble:
    if call.code == "upstream_certificate_invalid" and "SAN_matcher" in call.details:
        return (
            "the certificate of {address} has another name",
            "correct upstream.url, or set upstream.tls.serverName to the certificate's name",
        )
    return _CODES.get(call.code) or (
        f"Thruway's error is {call.code}",
        f"docs/errors.md says what {call.code} means and what to do",
    )


def _rejected(keys: Sequence[tuple[str, KeyRef | None]]) -> Trouble:
    whose = list(dict.fromkeys(_whose(route, key) for route, key in keys)) or ["the key"]
    remedies = [_WRONG_KEY] if any(key for _, key in keys) or not keys else []
    remedies += [_OWN_KEY] if any(not key for _, key in keys) else []
    return f"{{address}} rejects {', or '.join(whose)} with 401", "; ".join(remedies)


def _whose(route: str, key: KeyRef | None) -> str:
    if key is None:
        return f"the client's own key (route {route} has no credential)"
    return f"key {key[1]} of Secret {key[0]} (route {route})"
