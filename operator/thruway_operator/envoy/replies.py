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
    """One of Envoy's own replies, and what clients get instead."""

    when: str
    """A condition in CEL."""
    code: str
    message: str
    status: int = 0
    """Status for the client; 0 keeps Envoy's, which is then from 400 to 499."""
    retry: bool = True
    """False for errors that persist until somebody changes something."""


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
    # Responses of a route itself, which contains the code and the message. From 500 on, something
    # that the route needs does not exist.
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
        # The last one: the headers exceed the limit only with what Envoy and extproc add.
        _is(*_TOO_LARGE, "header_mutation_result_exceeds_limit"),
        _LARGE,
        "The request's line and headers are larger than 60 KiB, or there are more than 200 "
        "headers. Send fewer or shorter headers.",
        431,
    ),
    Reply(
        _is("request_header_timeout"),
        "request_headers_timeout",
        "The request's headers were not complete within 10 seconds. Send them without a pause.",
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
        "This is not a valid HTTP request: check its first line, its Host header, the characters "
        "in its path and headers, and how its body is sent. If the base URL begins with "
        "https://, try http://.",
        400,
    ),
)

_OF_THE_PROXY = (
    Reply(
        # Before Envoy has any routes, extproc gets the request, but no rule.
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
        f"The proxy's request processor sent no usable response, {_NOT_SENT}",
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
        "The route's credential does not exist, so nothing was sent. Check the Secret that the "
        "route names.",
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
        "Check the route's upstream, and firewalls and proxies on the way.",
        504,
    ),
    Reply(
        _holds(_NO_ANSWER, "certificate_has_expired"),
        _UNTRUSTED,
        "The upstream's certificate has expired, so nothing was sent. The upstream's operator "
        "must renew it.",
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
        "The upstream's certificate is not signed by a trusted CA, so nothing was sent. Name the "
        "CA in `upstream.tls.caCertificateRef`, or add it to the trusted CAs of the machine.",
        502,
        retry=False,
    ),
    Reply(
        # An internal address belongs to a tunnel.
        f"{_holds(_NO_ANSWER, 'Connection_reset_by_peer')} && "
        'upstream.address.startsWith("envoy:")',
        "forward_proxy_failed",
        "The forward proxy opened no tunnel to the upstream, or closed it, so nothing was sent. "
        "Thruway's log says why: the proxy cannot be reached, rejects this upstream, or requires "
        "a login.",
        502,
    ),
    Reply(
        _holds(_NO_ANSWER, "TLS_error"),
        "upstream_tls_failed",
        "The upstream and the proxy did not agree on TLS, so nothing was sent. Check that the "
        "route's upstream is https:// on that port, and `upstream.tls`: minVersion, and "
        "clientCertificateRef if it requires a certificate.",
        502,
        retry=False,
    ),
    Reply(
        _is(*_NO_CONNECTION),
        "upstream_unreachable",
        "The upstream does not accept connections, so nothing was sent. Check the host and the "
        "port of the route's upstream, and that it is running.",
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
        "The upstream's response is not valid HTTP, ends within its headers, or has headers larger "
        "than 256 KiB. Check that the route's upstream is the intended API.",
        502,
    ),
    Reply(
        # The body is incomplete. Envoy writes before it reads, so a failed write hides a response
        # that has already arrived.
        f"({_is(*_CUT)}) && request.total_size < request.size",
        "upstream_closed_early",
        "The upstream closed the connection while the request's body was still being sent, so its "
        "response, if there was one, is lost. The usual reason is a body that is too large: send "
        "a smaller one, or check the upstream's log.",
        502,
    ),
    Reply(
        _is(_NO_ANSWER),
        "upstream_reset",
        "The upstream closed the connection before it responded. It may have started to process "
        "the request.",
        502,
    ),
    Reply(
        _is("response_timeout"),
        "upstream_timeout",
        "The upstream's response was not complete within the route's `timeouts.request`. Increase "
        "it, or request less.",
        504,
    ),
    Reply(
        _is("stream_idle_timeout"),
        "idle_timeout",
        "Nothing was sent in either direction for the route's `timeouts.idle`. Increase it, or "
        "stream.",
        504,
    ),
)

_LOOK = "The proxy could not handle the request. See its log."

REPLIES = (
    *_OF_ROUTES,
    *_OF_CLIENTS,
    *_OF_THE_PROXY,
    *_OF_UPSTREAMS,
    Reply("response.code >= 400 && response.code < 500", "proxy_error", _LOOK),
    # A reply that a filter generates is never a success, whatever its status.
    Reply("true", "proxy_error", _LOOK, 500),
)
"""The first one that matches is used."""

# How a call can end after its response has started, or without one. The headers, and a code in
# them, may then be the upstream's.
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
    # error may have a header of this name. Envoy reports no normal end of a WebSocket, so
    # 101 says nothing. Without a response, reading its headers would be an error.
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
"""The code of a call, for the access log: empty if the upstream responded completely."""
