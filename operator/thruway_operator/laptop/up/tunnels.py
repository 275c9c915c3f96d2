"""Turns Envoy's log lines about failed tunnels through forward proxies into sentences."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from thruway_operator.translate import Translation

__all__ = ["TunnelTroubles", "proxies_used", "trouble"]

_ANSWERED = "via_upstream"  # Envoy's response code details
_AGAIN = 10.0  # seconds until the same sentence is repeated

_ANSWERS = {
    "403": "it does not allow this upstream; ask its administrator",
    "405": "it opens no tunnels there; ask its administrator",
    "407": "it requires a valid login: set it as user:password@ in the variable, or with "
    "`upstream.proxy.secretKeyRef`",
    "502": "it cannot reach the upstream",
    "503": "it cannot reach the upstream",
    "504": "it cannot reach the upstream",
}


def trouble(line: bytes) -> str | None:
    """Return a sentence for a line of Envoy's log about a failed tunnel; None for other lines."""
    if not line.startswith(b"{") or b'"tunnel"' not in line:
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not {"tunnel", "cluster"} <= entry.keys():
        return None
    target, status = entry["tunnel"], str(entry.get("status"))
    proxy = "/".join(str(entry["cluster"]).split("/")[1:-1])  # proxy/HOST:PORT/…
    details = str(entry.get("details"))
    if details == _ANSWERED:
        why = _ANSWERS.get(status, "ask its administrator")
        return f"The proxy {proxy} returned {status} to CONNECT {target}: {why}."
    reason = str(entry.get("reason") or "")
    return f"The proxy {proxy}, on the way to {target}, {_unreachable(details, reason)}."


def _unreachable(details: str, reason: str) -> str:
    if details.startswith("no_healthy_upstream"):
        return "has a name that does not resolve: check the name and DNS"
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return "has a certificate that is not trusted: put its CA into SSL_CERT_FILE"
    if "TLS_error" in reason:
        return "does not use TLS there: check whether its URL is http:// or https://"
    words = re.split("[:{|]", (reason or details).rstrip("}"))[-1].replace("_", " ").strip(" -")
    return f"cannot be reached ({words}): check host and port of the proxy"


class TunnelTroubles:
    """Reports each sentence, the same one at most every ten seconds."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: dict[str, float] = {}

    def __call__(self, line: bytes) -> bool:
        """Return whether this line was about a tunnel."""
        sentence = trouble(line)
        if sentence is None:
            return False
        now = time.monotonic()
        self._said = {text: then for text, then in self._said.items() if now - then < _AGAIN}
        if sentence not in self._said:
            self._said[sentence] = now
            self._say(sentence)
        return True


def proxies_used(translation: Translation) -> dict[str, list[str]]:
    """Return the upstreams behind each proxy in use, by the proxy's `host:port`."""
    used: dict[str, set[str]] = {}
    for route in translation.config.routes:
        for branch in route.branches:
            endpoint = getattr(branch.outcome, "endpoint", None)
            if endpoint and endpoint.proxy:
                name = f"{endpoint.proxy.host}:{endpoint.proxy.port}"
                used.setdefault(name, set()).add(endpoint.host)
    return {name: sorted(hosts) for name, hosts in sorted(used.items())}
