"""Shows an explanation as text and as data, without the client's values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thruway_extproc.mask import mask_query
from thruway_operator.api.presets import NO_CREDENTIAL
from thruway_operator.diagnose.findings.finding import conceal
from thruway_operator.diagnose.offline.loading import DEMONSTRATION
from thruway_operator.diagnose.offline.shown import certificate_view, credential_view, proxy_view

if TYPE_CHECKING:
    from thruway_operator.diagnose.offline.explaining import Explanation, Forwarded

__all__ = ["explanation_data", "explanation_text"]


def explanation_data(told: Explanation) -> dict[str, Any]:
    """Return the explanation for JSON."""
    request, upstream, answer = told.request, told.upstream, told.answer
    data: dict[str, Any] = {
        "version": 1,
        "request": {
            "method": conceal(request.method),
            "host": conceal(request.host),
            "path": conceal(mask_query(request.target)),
        },
        "outcome": "forwarded" if upstream else "refused",
        "route": told.route or None,
        "override": told.override or None,
        "because": [conceal(reason) for reason in told.reasons],
        "others": [{"route": name, "why": conceal(why)} for name, why in told.others],
        "clients": None if told.clients is None else list(told.clients),
        "upstream": None,
        "answer": None,
    }
    if upstream:
        data["upstream"] = _upstream_data(told, upstream)
    if answer:
        data["answer"] = {
            "status": answer.status,
            "code": answer.code,
            "message": conceal(answer.message),
        }
    return data


def _upstream_data(told: Explanation, upstream: Forwarded) -> dict[str, Any]:
    endpoint = upstream.endpoint
    credential = endpoint.credential
    target = _target(told, upstream)
    return {
        "method": conceal(told.request.method),
        "url": f"{upstream.scheme}://{upstream.authority}{target}",
        "authority": upstream.authority,
        "path": target,
        "pathReason": conceal(upstream.path_reason),
        "address": {"host": endpoint.host, "port": endpoint.port},
        "proxy": proxy_view(endpoint.proxy) if endpoint.proxy else None,
        "credential": conceal(credential_view(credential)) if credential else None,
        "setFromSecret": [conceal(credential_view(item)) for item in endpoint.more_headers],
        "clientCertificate": (
            certificate_view(endpoint.tls.client) if endpoint.tls and endpoint.tls.client else None
        ),
        "headers": {
            "set": [{"name": name, "value": conceal(value)} for name, value in _set(upstream)],
            "added": [{"name": name, "value": conceal(value)} for name, value in upstream.added],
            "removed": list(upstream.removed),
            "passed": [conceal(name) for name in upstream.passed],
            "only": list(upstream.only),
        },
    }


def _set(upstream: Forwarded) -> list[tuple[str, str]]:
    # Values are Latin-1 for bytes of UTF-8; the subprotocols are the client's.
    return [
        (name, "…" if name.startswith("sec-websocket-") else _text(value))
        for name, value in upstream.set
    ]


def _text(value: str) -> str:
    return value.encode("latin-1").decode("utf-8", "replace")


def _target(told: Explanation, upstream: Forwarded) -> str:
    """Return path and query; in the query, only parameters set by rules have their values."""
    path, mark, query = upstream.target.partition("?")
    if not mark:
        return conceal(path)
    sent = told.request.target.partition("?")[2].split("&")
    parts = [
        mask_query(f"?{part}")[1:] if part in sent else conceal(part) for part in query.split("&")
    ]
    return conceal(path) + mark + conceal("&".join(parts))


def explanation_text(told: Explanation) -> str:
    """Return the explanation in lines of `word  text`."""
    data = explanation_data(told)
    request = data["request"]
    lines = [("request", f"{request['method']} {request['path']} to host {request['host']}")]
    route = "none" if not told.route else told.route
    lines.append(("route", f"{route}, override {told.override}" if told.override else route))
    lines += [("because", reason) for reason in data["because"]]
    lines += [("not", f"{other['route']}: {other['why']}") for other in data["others"]]
    if data["clients"] is not None:
        lines.append(("clients", _clients(data["clients"])))
    if upstream := data["upstream"]:
        lines += _upstream_lines(upstream, keys=data["clients"] is not None)
    if answer := data["answer"]:
        lines.append(("answer", f"{answer['status']} {answer['code']}: {answer['message']}"))
    return "\n".join(f"{word:<11} {text}" for word, text in lines)


def _clients(names: list[str]) -> str:
    return f"only with the key of one of: {', '.join(names)}; others get 401"


def _upstream_lines(upstream: dict[str, Any], *, keys: bool) -> list[tuple[str, str]]:
    """`keys`: whether clients must send one of Thruway's keys."""
    headers = upstream["headers"]
    without = NO_CREDENTIAL if keys else "the client's own is forwarded"
    url = upstream["url"]
    if url.startswith(f"{DEMONSTRATION}/"):
        without, url = "demonstration, no key", f"{url} (the demonstration's made-up responses)"
    lines = [
        ("upstream", f"{upstream['method']} {url}"),
        ("path", upstream["pathReason"]),
        ("host", upstream["authority"]),
        ("credential", upstream["credential"] or without),
    ]
    lines += [("secret", item) for item in upstream["setFromSecret"]]
    if upstream["clientCertificate"]:
        lines.append(("certificate", upstream["clientCertificate"]))
    if upstream["proxy"]:
        lines.append(("proxy", f"through {upstream['proxy']}"))
    lines += [("set", f"{item['name']}: {item['value']}") for item in headers["set"]]
    lines += [("added", f"{item['name']}: {item['value']}") for item in headers["added"]]
    for word in ("removed", "passed", "only"):
        if headers[word]:
            lines.append((word, ", ".join(headers[word])))
    return lines
