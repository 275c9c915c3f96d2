"""The answers that Envoy makes itself, in OpenAI's error shape: SDKs raise their usual exceptions.

Each is told by Envoy's response code details, which never reach a client: they may hold the paths
of sockets. `code` is ours and says what to do; docs/errors.md lists them.
"""

from __future__ import annotations

from dataclasses import dataclass

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.access_loggers.filters.cel import v3 as cel
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.google.protobuf import Struct

from thruway_operator.envoy.names import METADATA
from thruway_operator.envoy.wire import packed

__all__ = ["REPLIES", "Reply", "local_reply_config"]


@dataclass(frozen=True, slots=True)
class Reply:
    """One of Envoy's own answers and what becomes of it."""

    details: str
    """Start of the response code details that tell it."""
    code: str
    message: str
    status: int = 0
    """Status for the client; 0 keeps Envoy's."""


_BUSY = "Try again in a moment."

REPLIES = (
    Reply("direct_response", f"%METADATA(ROUTE:{METADATA}:code)%", "%LOCAL_REPLY_BODY%"),
    Reply(
        "thruway_rule",
        "configuration_mismatch",
        "The proxy and its processor are of different versions. Finish the upgrade of Thruway.",
        503,
    ),
    Reply(
        "ext_proc",
        "processor_unavailable",
        f"The proxy's processor did not answer, so nothing was sent. {_BUSY}",
        503,
    ),
    Reply(
        "rbac_access_denied",
        "not_processed",
        f"The proxy's processor did not handle the request, so nothing was sent. {_BUSY}",
        503,
    ),
    Reply(
        "failed_to_inject_credential",
        "credential_missing",
        "The route's credential is not there, so nothing was sent. Check its Secret.",
        503,
    ),
    Reply(
        "cluster_not_found",
        "config_pending",
        f"The proxy is still getting its configuration. {_BUSY}",
        503,
    ),
    Reply(
        "no_healthy_upstream",
        "upstream_unresolved",
        "The upstream's host name does not resolve. Check the route's upstream and DNS.",
        502,
    ),
    Reply(
        "upstream_reset_before_response_started{connection_timeout",
        "upstream_connect_timeout",
        "The upstream accepted no connection in time. Check the route's upstream.",
        504,
    ),
    Reply(
        "upstream_reset_before_response_started{remote_connection_failure",
        "upstream_unreachable",
        "The upstream accepts no connection. Check the route's upstream, its port and its TLS.",
        502,
    ),
    Reply(
        "upstream_reset_before_response_started{local_connection_failure",
        "upstream_unreachable",
        "The upstream accepts no connection. Check the route's upstream, its port and its TLS.",
        502,
    ),
    Reply(
        "upstream_reset_before_response_started",
        "upstream_reset",
        "The upstream closed the connection before it answered.",
        502,
    ),
    Reply(
        "upstream_response_timeout",
        "upstream_timeout",
        "The upstream did not answer within the route's `timeouts.request`.",
        504,
    ),
    Reply(
        "stream_idle_timeout",
        "idle_timeout",
        "Nothing passed in either direction for as long as the route's `timeouts.idle`.",
        504,
    ),
    Reply(
        "request_headers_too_large",
        "request_headers_too_large",
        "The request's headers are larger than 60 KiB. Send less.",
    ),
)

_ANYTHING_ELSE = Reply("", "proxy_error", "The proxy could not handle the request.")


def local_reply_config() -> hcm.LocalReplyConfig:
    """Return the mapping of Envoy's own answers; the first that fits is taken."""
    return hcm.LocalReplyConfig(
        mappers=[_mapper(reply) for reply in REPLIES], body_format=_format(_ANYTHING_ELSE)
    )


def _mapper(reply: Reply) -> hcm.ResponseMapper:
    expression = f'response.code_details.startsWith("{reply.details}")'
    return hcm.ResponseMapper(
        filter=accesslog.AccessLogFilter(
            extension_filter=accesslog.ExtensionFilter(
                name="envoy.access_loggers.extension_filters.cel",
                typed_config=packed(cel.ExpressionFilter(expression=expression)),
            )
        ),
        status_code=reply.status or None,
        body_format_override=_format(reply),
    )


def _format(reply: Reply) -> core.SubstitutionFormatString:
    kind = "invalid_request_error" if not reply.status else "thruway_error"
    error = {"message": reply.message, "type": kind, "param": None, "code": reply.code}
    return core.SubstitutionFormatString(json_format=Struct.from_dict({"error": error}))
