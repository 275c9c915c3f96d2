"""Client authentication of one route, by Envoy's own filters.

Two filters in turn. The first finds the key, removes the auth scheme and writes the key to
`KEY_HEADER`, which neither extproc nor the upstream gets. The second compares it with the route's
keys. Keys are marked sensitive in Envoy's API, so that its configuration dump shows `[redacted]`
(seen with 1.40).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.extensions.filters.http.api_key_auth.v3 import api_key_auth_pb2 as api_key_auth
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2 as header_mutation

from thruway_extproc.rule import CLIENT_HEADER, CREDENTIAL_HEADERS, KEY_HEADER, KEY_SUBPROTOCOL
from thruway_operator.envoy.names import CLIENT_AUTH_FILTER, KEY_FILTER
from thruway_operator.envoy.wire import any_of

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any

    from thruway_operator import ir

__all__ = ["client_auth_filters"]

_PROXYS_OWN = "x-litellm-api-key"
"""Clients send it in addition to the upstream's key, so it takes precedence."""


def client_auth_filters(route: ir.Route) -> dict[str, Any]:
    """Return the settings that enable client authentication for a route; empty if it has none."""
    if route.clients is None:
        return {}
    sources = [{"header": KEY_HEADER}]
    if route.key_parameter:
        sources.append({"query": route.key_parameter})
    auth = api_key_auth.ApiKeyAuthPerRoute(
        credentials=[{"key": client.key.reveal(), "client": client.id} for client in route.clients],
        # The first value that is not empty decides.
        key_sources=sources,
        # Not `hide_credentials`: it would re-encode the whole query. The listener removes
        # KEY_HEADER from requests to extproc, and the route from requests to the upstream.
        forwarding={"header": CLIENT_HEADER},
    )
    return {KEY_FILTER: any_of(_key_found(route.key_header)), CLIENT_AUTH_FILTER: any_of(auth)}


def _key_found(own: str) -> header_mutation.HeaderMutationPerRoute:
    """`own`: the only header that carries a key; "": the first with a key decides."""
    rest = tuple(name for name in CREDENTIAL_HEADERS if name != _PROXYS_OWN)
    found = [_of_header(name) for name in ([own] if own else [_PROXYS_OWN, *rest])]
    if not own:
        found.append(_of_subprotocols())
    mutations = [
        {"remove": KEY_HEADER},  # the client's own
        *(_write(expression, "ADD_IF_ABSENT") for expression in found),
        _write(_without_scheme(), "OVERWRITE_IF_EXISTS"),
    ]
    if own:
        mutations.append({"remove": own})
    return header_mutation.HeaderMutationPerRoute(mutations={"request_mutations": mutations})


def _write(expression: str, action: str) -> dict[str, object]:
    # If a header is missing, CEL fails and Envoy writes nothing; nor does it write an empty value.
    header = {"key": KEY_HEADER, "value": f"%CEL({expression})%"}
    return {"append": {"header": header, "append_action": action}}


# CEL compiles a regular expression for each request, which costs about 50 µs of Envoy's CPU, so
# the most common forms do without one. Two backslashes are one to CEL.


def _of_header(name: str) -> str:
    """Return the CEL for a header's value; empty for a scheme without a key.

    Several header lines arrive joined by a comma, so they match no key.
    """
    value = f"request.headers['{name}']"
    return rf"{value}.size() == 6 ? re.extract({value}, '(?i)^bearer$|(.*)', '\\1') : {value}"


def _without_scheme() -> str:
    """Return the CEL for the found value without its auth scheme.

    RFC 9110, 11.1: a scheme is case-insensitive, and one or more spaces follow. Some SDKs send
    `Token K` or `Key K`.
    """
    value = f"request.headers['{KEY_HEADER}']"
    # The next filter removes `Bearer ` itself.
    usual = f"{value}.startsWith('Bearer ') && !{value}.startsWith('Bearer  ')"
    plain = rf"!{value}.contains('\t') && (({usual}) || !{value}.contains(' '))"
    blank = r"[ \\t]"
    pattern = rf"^(?:[^ \\t]+{blank}+)?(.*?){blank}*$"
    return rf"{plain} ? {value} : re.extract({value}, '{pattern}', '\\1')"


def _of_subprotocols() -> str:
    """Return the CEL for a key that a browser sends as a WebSocket subprotocol."""
    name = KEY_SUBPROTOCOL.replace(".", r"\\.")
    offers = "request.headers['sec-websocket-protocol']"
    return rf"re.extract({offers}, '(?i){name}([^, ]+)', '\\1')"
