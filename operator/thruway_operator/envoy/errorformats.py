"""Renders Envoy's own replies as the JSON that the SDKs of the route's provider parse.

A route names its format in its metadata, so the listener has a mapper for each reply in each
format. Requests that match no route get OpenAI's format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2 as cel
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm,
)

from thruway_operator import ir
from thruway_operator.envoy.cors import cors_headers
from thruway_operator.envoy.names import METADATA
from thruway_operator.envoy.replies import CODE_HEADER, DIRECT, REPLIES, RETRY_HEADER
from thruway_operator.envoy.wire import extension, struct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.envoy.replies import Reply

__all__ = ["local_reply_config"]

# https://docs.anthropic.com/en/api/errors
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
_GEMINI_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def local_reply_config() -> hcm.LocalReplyConfig:
    """Return the mapping of Envoy's own replies; the first one that matches is used."""
    errors = [_mapper(reply, of) for reply in REPLIES for of in reversed(ir.ErrorFormat)]
    return hcm.LocalReplyConfig(mappers=[_unchanged(), *errors])


def _unchanged() -> hcm.ResponseMapper:
    # The response to a preflight is not an error.
    return hcm.ResponseMapper(filter=_if(f"{DIRECT} && response.code < 300"))


def _mapper(reply: Reply, of: ir.ErrorFormat) -> hcm.ResponseMapper:
    headers = [_header(CODE_HEADER, reply.code), *cors_headers()]
    if not reply.retry:
        headers.append(_header(RETRY_HEADER, "false"))
    return hcm.ResponseMapper(
        filter=_if(_when(reply, of)),
        status_code={"value": reply.status} if reply.status else None,
        headers_to_add=headers,
        body_format_override={"json_format": struct(_BODIES[of](reply))},
    )


def _if(condition: str) -> dict[str, object]:
    expression = cel.ExpressionFilter(expression=condition)
    return {"extension_filter": extension("envoy.access_loggers.extension_filters.cel", expression)}


def _when(reply: Reply, of: ir.ErrorFormat) -> str:
    if of is ir.ErrorFormat.OPENAI:
        return reply.when
    # Without such metadata the expression fails, and then the mapper does not apply.
    said = f'xds.route_metadata.filter_metadata["{METADATA}"]["format"]'
    return f'{said} == "{of}" && ({reply.when})'


def _header(name: str, value: str) -> dict[str, object]:
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def _openai(reply: Reply) -> dict[str, object]:
    kind = "thruway_error" if reply.status >= 500 else "invalid_request_error"
    return {
        "error": {"message": reply.message, "type": kind, "param": None, "code": reply.code},
    }


def _anthropic(reply: Reply) -> dict[str, object]:
    kind = _by_status(reply, _ANTHROPIC_TYPES, "invalid_request_error")
    if reply.status == 503 and not reply.retry:
        kind = "api_error"  # the SDK's users would wait for an overload to end
    return {
        "type": "error",
        "error": {"type": kind, "message": reply.message, "code": reply.code},
        "request_id": "%REQ(X-REQUEST-ID)%",
    }


def _gemini(reply: Reply) -> dict[str, object]:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reply.code,
        "domain": "thruway.dev",
    }
    return {
        "error": {
            "code": "%RESPONSE_CODE%",
            "message": reply.message,
            "status": _by_status(reply, _GEMINI_STATUSES, "INVALID_ARGUMENT"),
            "details": [info],
        }
    }


_BODIES = {
    ir.ErrorFormat.OPENAI: _openai,
    ir.ErrorFormat.ANTHROPIC: _anthropic,
    ir.ErrorFormat.GEMINI: _gemini,
}


def _by_status(reply: Reply, names: Mapping[int, str], otherwise: str) -> str:
    """Return the name for the reply's status, or the expression that finds it for Envoy's."""
    if reply.status:
        return names.get(reply.status, otherwise)
    found = f'"{otherwise}"'
    for status, name in names.items():
        if status < 500:  # see Reply.status
            found = f'response.code == {status} ? "{name}" : {found}'
    return f"%CEL({found})%"
