"""The answers that Envoy makes itself, in OpenAI's error shape: SDKs raise their usual exceptions.

Each is told by Envoy's response code details, which never reach a client: they may hold the paths
of sockets. `code` is ours and says what to do; docs/errors.md lists them. It stands in the body, in
a header (an answer to HEAD has no body, and few clients show that of a refused WebSocket) and in
the log.
"""

from __future__ import annotations

from dataclasses import dataclass

from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2 as cel
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm,
)

from thruway_operator.envoy.names import METADATA
from thruway_operator.envoy.wire import extension, struct

__all__ = ["CODE_HEADER", "CODE_IN_LOG", "REPLIES", "Reply", "local_reply_config"]

CODE_HEADER = "x-thruway-code"
_RETRY_HEADER = "x-should-retry"
"""OpenAI's SDKs obey it (`_should_retry` in their base client)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One of Envoy's own answers and what becomes of it."""

    when: str
    """A condition in CEL."""
    code: str
    message: str
    status: int = 0
    """Status for the client; 0 keeps Envoy's, which is then below 500."""
    retry: bool = True
    """False for what stays wrong until somebody has changed something."""


_DETAILS = "response.code_details"


def _is(*starts: str) -> str:
    return " || ".join(f'{_DETAILS}.startsWith("{start}")' for start in starts)


def _holds(start: str, part: str) -> str:
    return f'{_is(start)} && {_DETAILS}.contains("{part}")'


_NOT_SENT = "so nothing was sent. Try again in a moment."
_NO_ANSWER = "upstream_reset_before_response_started"
_NO_CONNECTION = (f"{_NO_ANSWER}{{remote_connection_f", f"{_NO_ANSWER}{{local_connection_f")
_UNTRUSTED = "upstream_certificate_invalid"
_DIRECT = (f"%METADATA(ROUTE:{METADATA}:code)%", "%LOCAL_REPLY_BODY%")

_OF_ROUTES = (
    # What a route says itself: its code and its sentence are in the route. With a status of 500 or
    # more, something that the route needs is not there.
    Reply(f"{_is('direct_response')} && response.code >= 500", *_DIRECT, status=503, retry=False),
    Reply(_is("direct_response"), *_DIRECT),
)

_OF_CLIENTS = (
    Reply(
        _is("missing_api_key"),
        "missing_api_key",
        "You didn't provide an API key. Send a key of this proxy as your SDK's `api_key`.",
    ),
    Reply(
        _is("unknown_api_key"),
        "invalid_api_key",
        "Incorrect API key provided. Send a key of this proxy, not one of the upstream's.",
    ),
    Reply(
        # The last: just below a limit, and with what Envoy and extproc add, beyond it.
        _is(
            "http1.headers_too_large",
            "http1.too_many_headers",
            "header_mutation_result_exceeds_limit",
        ),
        "request_headers_too_large",
        "The request's line and headers are larger than 60 KiB, or there are more than 200 "
        "headers. Send less.",
        431,
    ),
    Reply(
        _is("request_header_timeout"),
        "request_headers_timeout",
        "The request's headers were not complete within 10 seconds. Send them at once.",
    ),
    Reply(
        _is("absolute_path_rejected", "route_not_found"),
        "route_not_found",
        "No PassthroughRoute serves this. Check the base URL.",
    ),
    Reply(
        _is("http1.", "http2.", "http.", "missing_host_header", "path_normalization_failed"),
        "malformed_request",
        "This is no request that HTTP allows: check its first line, its Host, the characters in "
        "its path and headers, and how its body is sent. If the base URL begins with https://, try "
        "http://.",
        400,
    ),
)

_OF_THE_PROXY = (
    Reply(
        # Before it has any routes, extproc gets the request, and no rule.
        _is("cluster_not_found", "thruway_rule_missing"),
        "config_pending",
        f"The proxy is still getting its configuration, {_NOT_SENT}",
        503,
    ),
    Reply(
        _is("thruway_rule"),
        "configuration_mismatch",
        "The proxy and its request processor are of different versions, so nothing was sent. "
        "Finish the upgrade of Thruway.",
        503,
        retry=False,
    ),
    Reply(
        _is("ext_proc", "spurious_message", "unhandled_message", "header_mutation_"),
        "processor_unavailable",
        f"The proxy's request processor gave no usable answer, {_NOT_SENT}",
        503,
    ),
    Reply(
        _is("rbac_access_denied"),
        "not_processed",
        f"The proxy's request processor did not handle the request, {_NOT_SENT}",
        503,
    ),
    Reply(
        _is("failed_to_inject_credential"),
        "credential_missing",
        "The route's credential is not there, so nothing was sent. Check the Secret that the route "
        "names.",
        503,
        retry=False,
    ),
)

_OF_UPSTREAMS = (
    Reply(
        _is("no_healthy_upstream"),
        "upstream_unresolved",
        "The upstream's host name does not resolve, so nothing was sent. Check the name in the "
        "route's upstream, and DNS.",
        502,
    ),
    Reply(
        _is(f"{_NO_ANSWER}{{connection_timeout"),
        "upstream_connect_timeout",
        "No connection to the upstream within the route's `timeouts.connect`, so nothing was sent. "
        "Check the route's upstream, and what stands between: firewalls, a proxy.",
        504,
    ),
    Reply(
        _holds(_NO_ANSWER, "certificate_has_expired"),
        _UNTRUSTED,
        "The upstream's certificate has expired, so nothing was sent. Whoever runs the upstream "
        "has to renew it.",
        502,
        retry=False,
    ),
    Reply(
        _holds(_NO_ANSWER, "SAN_matcher"),
        _UNTRUSTED,
        "The upstream's certificate is for another name, so nothing was sent. Check the host in "
        "the route's upstream, or set `upstream.tls.serverName`.",
        502,
        retry=False,
    ),
    Reply(
        _holds(_NO_ANSWER, "CERTIFICATE_VERIFY_FAILED"),
        _UNTRUSTED,
        "The upstream's certificate is of no authority that is trusted here, so nothing was sent. "
        "Name the right one in `upstream.tls.caCertificateRef`, or add it to the machine's.",
        502,
        retry=False,
    ),
    Reply(
        # An internal address is the beginning of a tunnel.
        f"{_holds(_NO_ANSWER, 'Connection_reset_by_peer')} && "
        'upstream.address.startsWith("envoy:")',
        "forward_proxy_failed",
        "The forward proxy of this network opened no tunnel to the upstream, or broke it off, so "
        "nothing was sent. Thruway's log says why: it cannot be reached, refuses this upstream, or "
        "wants a login.",
        502,
    ),
    Reply(
        _holds(_NO_ANSWER, "TLS_error"),
        "upstream_tls_failed",
        "The upstream and the proxy did not agree on TLS, so nothing was sent. Check that the "
        "route's upstream is https:// on that port, and `upstream.tls.minVersion`.",
        502,
        retry=False,
    ),
    Reply(
        _is(*_NO_CONNECTION),
        "upstream_unreachable",
        "The upstream accepts no connection, so nothing was sent. Check the host and the port of "
        "the route's upstream, and that it runs.",
        502,
    ),
    Reply(
        _is(f"{_NO_ANSWER}{{protocol_error"),
        "upstream_invalid_response",
        "What the upstream answered is not HTTP, or was cut off in its headers, or has headers "
        "larger than 256 KiB. Check that the route's upstream is the API that is meant.",
        502,
    ),
    Reply(
        _is(_NO_ANSWER),
        "upstream_reset",
        "The upstream closed the connection before it answered. It may have begun to handle the "
        "request.",
        502,
    ),
    Reply(
        _is("response_timeout"),
        "upstream_timeout",
        "The upstream's answer was not complete within the route's `timeouts.request`. Raise it, "
        "or ask for less.",
        504,
    ),
    Reply(
        _is("stream_idle_timeout"),
        "idle_timeout",
        "Nothing passed in either direction for as long as the route's `timeouts.idle`. Raise it, "
        "or stream.",
        504,
    ),
)

_LOOK = "The proxy could not handle the request. Its log says more."

REPLIES = (
    *_OF_ROUTES,
    *_OF_CLIENTS,
    *_OF_THE_PROXY,
    *_OF_UPSTREAMS,
    Reply("response.code >= 400 && response.code < 500", "proxy_error", _LOOK),
    # An answer that a filter makes itself is no success, whatever it says.
    Reply("true", "proxy_error", _LOOK, 500),
)
"""The first that fits is taken."""

# Calls that ended after the answer had begun, or without one: there is only the log to tell.
_WITHOUT_STATUS = (
    (_is("downstream_remote_disconnect", "downstream_local_disconnect"), "client_closed"),
    # Envoy answers these by a reset of the stream.
    (_is("http2.header_list_size", "http2.too_many_headers"), "request_headers_too_large"),
    (_is("http2."), "malformed_request"),
)
_ENDED_EARLY = (
    (_is("upstream_reset_after_response_started"), "upstream_cut_off"),
    (_is("response_timeout"), "upstream_timeout"),
    (_is("stream_idle_timeout"), "idle_timeout"),
    (_is("http1."), "malformed_request"),
)


def _code_in_log() -> str:
    # A WebSocket has no end that Envoy would call a good one, so 101 says nothing. A client that
    # left early has no status, and comparing it with a number would be an error.
    choices = [
        (f'{_DETAILS} == "via_upstream" || (has(response.code) && response.code == 101)', '""'),
        *((when, f'"{code}"') for when, code in _WITHOUT_STATUS),
        (
            f'has(response.code) && response.code >= 400 && "{CODE_HEADER}" in response.headers',
            f'response.headers["{CODE_HEADER}"]',
        ),
        *((when, f'"{code}"') for when, code in _ENDED_EARLY),
    ]
    found = '""'
    for when, code in reversed(choices):
        found = f"({when}) ? {code} : ({found})"
    return found


CODE_IN_LOG = f"%CEL({_code_in_log()})%"
"""The code of a call, for the access log: empty where the upstream has answered in full."""


def local_reply_config() -> hcm.LocalReplyConfig:
    """Return the mapping of Envoy's own answers; the first that fits is taken."""
    return hcm.LocalReplyConfig(mappers=[_mapper(reply) for reply in REPLIES])


def _mapper(reply: Reply) -> hcm.ResponseMapper:
    headers = [_header(CODE_HEADER, reply.code)]
    if not reply.retry:
        headers.append(_header(_RETRY_HEADER, "false"))
    condition = cel.ExpressionFilter(expression=reply.when)
    return hcm.ResponseMapper(
        filter={
            "extension_filter": extension("envoy.access_loggers.extension_filters.cel", condition)
        },
        status_code={"value": reply.status} if reply.status else None,
        headers_to_add=headers,
        body_format_override={"json_format": struct({"error": _error(reply)})},
    )


def _header(name: str, value: str) -> dict[str, object]:
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def _error(reply: Reply) -> dict[str, object]:
    kind = "thruway_error" if reply.status >= 500 else "invalid_request_error"
    return {"message": reply.message, "type": kind, "param": None, "code": reply.code}
