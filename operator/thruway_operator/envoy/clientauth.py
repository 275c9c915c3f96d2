"""Client authentication of one route, by Envoy's own filters.

Two filters in turn. The first finds the key, takes the auth scheme off and writes the key to
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
"""Clients send it beside the upstream's key, so it comes first."""


def client_auth_filters(route: ir.Route) -> dict[str, Any]:
    """Return what turns client authentication on for a route; nothing where it has none."""
    if route.clients is None:
        return {}
    sources = [{"header": KEY_HEADER}]
    if route.key_parameter:
        sources.append({"query": route.key_parameter})
    auth = api_key_auth.ApiKeyAuthPerRoute(
        credentials=[{"key": client.key.reveal(), "client": client.id} for client in route.clients],
        # The first that is not empty decides.
        key_sources=sources,
        # Not `hide_credentials`: it would encode the whole query anew. KEY_HEADER is removed from
        # what extproc gets by the listener and from what the upstream gets by the route.
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
    # Where a header is missing, CEL fails and Envoy writes nothing; so it does with an empty value.
    header = {"key": KEY_HEADER, "value": f"%CEL({expression})%"}
    return {"append": {"header": header, "append_action": action}}


# CEL compiles a regular expression for each request, which costs about 50 µs of Envoy's CPU, so
# that what most clients send does without. Two backslashes are one to CEL.


def _of_header(name: str) -> str:
    """Return the CEL for what a header holds; nothing for a scheme alone.

    Several lines arrive joined by a comma, which no key equals.
    """
    value = f"request.headers['{name}']"
    return rf"{value}.size() == 6 ? re.extract({value}, '(?i)^bearer$|(.*)', '\\1') : {value}"


def _without_scheme() -> str:
    """Return the CEL for what has been found, without its auth scheme.

    RFC 9110, 11.1: a scheme is case-insensitive, one or more blanks follow. Some SDKs send
    `Token K` or `Key K`.
    """
    value = f"request.headers['{KEY_HEADER}']"
    # The next filter itself takes `Bearer ` off.
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
