"""Envoy's own replies: their status, code and message. `errorformats` renders them.

Envoy's response code details identify each. They never reach a client, because they may contain
the paths of sockets. `code` is ours and says what to do; docs/errors.md lists them. It is in the
body, in a header (responses to HEAD have no body, and few clients show that of a refused WebSocket)
and in the log.
"""

from __future__ import annotations

from dataclasses import dataclass

from thruway_operator.envoy.names import METADATA

__all__ = [
    "CODE_HEADER",
    "CODE_IN_LOG",
    "DIRECT",
    "REPLIES",
    "RETRY_HEADER",
    "UPGRADE_REFUSED",
    "Reply",
]

CODE_HEADER = "x-thruway-code"
RETRY_HEADER = "x-should-retry"
"""OpenAI's and Anthropic's SDKs obey it (`_should_retry` in their base clients)."""
UPGRADE_REFUSED = "upstream_refused_upgrade"


@dataclass(frozen=True, slots=True)
class Reply:
    """One of Envoy's own answers and what becomes of it."""

    when: str
    """A condition in CEL."""
    code: str
    message: str
    status: int = 0
    """Status for the client; 0 keeps Envoy's, which is then from 400 to 499."""
    retry: bool = True
    """False for what stays wrong until somebody has changed something."""


_DETAILS = "response.code_details"


def _is(*starts: str) -> str:
    return " || ".join(f'{_DETAILS}.startsWith("{start}")' for start in starts)


def _holds(start: str, part: str) -> str:
    return f'{_is(start)} && {_DETAILS}.contains("{part}")'


_NOT_SENT = "so nothing was sent. Try again in a moment."
_NO_ANSWER = "upstream_reset_before_response_started"
_CUT = (f"{_NO_ANSWER}{{connection_termination", f"{_NO_ANSWER}{{remote_reset")
_NO_CONNECTION = (f"{_NO_ANSWER}{{remote_connection_f", f"{_NO_ANSWER}{{local_connection_f")
_TOO_LARGE = ("http1.headers_too_large", "http1.too_many_headers")
_LARGE = "request_headers_too_large"
_UNTRUSTED = "upstream_certificate_invalid"
_DIRECT = (f"%METADATA(ROUTE:{METADATA}:code)%", "%LOCAL_REPLY_BODY%")

DIRECT = _is("direct_response")
"""The condition for the response of a route that forwards nothing."""

_OF_ROUTES = (
    # What a route says itself: its code and its sentence are in the route. With a status of 500 or
    # more, something that the route needs is not there.
    Reply(f"{DIRECT} && response.code >= 500", *_DIRECT, status=503, retry=False),
    Reply(DIRECT, *_DIRECT),
)

_OF_CLIENTS = (
    Reply(
        _is("missing_api_key"),
        "missing_api_key",
        "You didn't provide an API key. Send a key of this proxy as your SDK's `api_key`.",
        401,
    ),
    Reply(
        _is("unknown_api_key"),
        "invalid_api_key",
        "Incorrect API key provided. Send a key of this proxy, not one of the upstream's.",
        401,
    ),
    Reply(
        # The last: just below a limit, and with what Envoy and extproc add, beyond it.
        _is(*_TOO_LARGE, "header_mutation_result_exceeds_limit"),
        _LARGE,
        "The request's line and headers are larger than 60 KiB, or there are more than 200 "
        "headers. Send less.",
        431,
    ),
    Reply(
        _is("request_header_timeout"),
        "request_headers_timeout",
        "The request's headers were not complete within 10 seconds. Send them at once.",
        408,
    ),
    Reply(
        _is("absolute_path_rejected", "route_not_found"),
        "route_not_found",
        "No PassthroughRoute serves this. Check the base URL.",
        404,
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
        "route's upstream is https:// on that port, and `upstream.tls`: minVersion, and "
        "clientCertificateRef if it asks for a certificate.",
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
        # Otherwise the response passes, see `handshakes`.
        _is("websocket_handshake_unsuccessful"),
        UPGRADE_REFUSED,
        "The upstream did not accept the WebSocket handshake: its response was a success or a "
        "redirect, but not 101. Check that this path of the upstream serves WebSocket.",
        502,
        retry=False,
    ),
    Reply(
        _is(f"{_NO_ANSWER}{{protocol_error"),
        "upstream_invalid_response",
        "What the upstream answered is not HTTP, or was cut off in its headers, or has headers "
        "larger than 256 KiB. Check that the route's upstream is the API that is meant.",
        502,
    ),
    Reply(
        # Bytes of the body are missing. Envoy writes before it reads, so a write that fails hides a
        # response that is already there.
        f"({_is(*_CUT)}) && request.total_size < request.size",
        "upstream_closed_early",
        "The upstream closed the connection while the request's body was still being sent, so its "
        "response, if it sent one, is lost. Its usual reason is a body that is too large: send "
        "less, or look at the upstream's log.",
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

# How a call can end after its response has begun, or without one. By then the headers can be the
# upstream's, and so can a code in them.
_ENDED = (
    (_is("downstream_remote_disconnect", "downstream_local_disconnect"), "client_closed"),
    (_is("upstream_reset_after_response_started"), "upstream_cut_off"),
    (_is("response_timeout"), "upstream_timeout"),
    (_is("stream_idle_timeout"), "idle_timeout"),
    (_is("http2.header_list_size", "http2.too_many_headers", *_TOO_LARGE), _LARGE),
    (_is("http1.", "http2."), "malformed_request"),
)


def _code_in_log() -> str:
    # The details decide, not the status: Envoy's own reply to gRPC is a 200, and an upstream's
    # error may have a header of this name. A WebSocket has no end that Envoy would call a good one,
    # so 101 says nothing. Without a response, looking into its headers would be an error.
    choices = [
        (f'{_DETAILS} == "via_upstream" || (has(response.code) && response.code == 101)', '""'),
        *((when, f'"{code}"') for when, code in _ENDED),
        (
            f'has(response.code) && "{CODE_HEADER}" in response.headers',
            f'response.headers["{CODE_HEADER}"]',
        ),
    ]
    found = '""'
    for when, code in reversed(choices):
        found = f"({when}) ? {code} : ({found})"
    return found


CODE_IN_LOG = f"%CEL({_code_in_log()})%"
"""The code of a call, for the access log: empty where the upstream has responded in full."""
