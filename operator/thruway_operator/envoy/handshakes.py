"""WebSocket handshakes to which the upstream does not respond with 101.

Envoy forwards 4xx and 5xx responses to `Upgrade: websocket`, but drops the body of any other
response and turns the rest into a local reply. For other upgrades it forwards every response, and
still holds back what the client sends until the upstream accepts. So the route disguises the
upgrade, and the cluster's last filter restores the client's header.

Over HTTP/2 a 2xx would accept the handshake (RFC 8441, 5), and Envoy starts the timeout of a
disguised handshake only when the client has sent everything. So there, and on routes with
`timeouts.request`, the local reply stays, as a 502 with our code, and a filter removes the
upstream's headers.
"""

from __future__ import annotations

from envoy.extensions.common.matching.v3 import extension_matcher_pb2 as matching
from envoy.extensions.filters.common.matcher.action.v3 import skip_action_pb2 as skip
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2 as header_mutation
from envoy.type.matcher.v3 import http_inputs_pb2 as http_inputs

from thruway_operator.envoy.names import HANDSHAKE_FILTER
from thruway_operator.envoy.replies import CODE_HEADER, RETRY_HEADER, UPGRADE_REFUSED
from thruway_operator.envoy.wire import extension

__all__ = ["DISGUISE", "handshake_filter", "undisguise"]

_UPGRADE = "upgrade"
_ASIDE = "x-thruway-upgrade"
_DISGUISED = 'request.protocol == "HTTP/2" ? "websocket" : "thruway"'

DISGUISE: list[dict[str, object]] = [
    {
        "header": {"key": _ASIDE, "value": f"%REQ({_UPGRADE})%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    },
    {
        "header": {"key": _UPGRADE, "value": f"%CEL({_DISGUISED})%"},
        "append_action": "OVERWRITE_IF_EXISTS",
    },
]
"""The changes to request headers on a route that serves WebSocket."""


def undisguise() -> dict[str, object]:
    """Return the upstream HTTP filter that restores the `Upgrade` header."""
    restored = {
        "header": {"key": _UPGRADE, "value": f"%REQ({_ASIDE})%"},
        "append_action": "OVERWRITE_IF_EXISTS",
    }
    mutations = [{"append": restored}, {"remove": _ASIDE}]
    config = header_mutation.HeaderMutation(mutations={"request_mutations": mutations})
    return extension("envoy.filters.http.header_mutation", config)


def handshake_filter() -> dict[str, object]:
    """Return the listener's filter; it is always on, because each route would need a matcher."""
    own = {"content-type": "application/json", CODE_HEADER: UPGRADE_REFUSED, RETRY_HEADER: "false"}
    mutations = [
        {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": "[^:].*"}}}},
        *({"append": {"header": {"key": key, "value": value}}} for key, value in own.items()),
    ]
    config = header_mutation.HeaderMutation(mutations={"response_mutations": mutations})
    wrapped = matching.ExtensionWithMatcher(
        extension_config=extension("envoy.filters.http.header_mutation", config),
        xds_matcher=_ONLY_REFUSED,
    )
    return extension(HANDSHAKE_FILTER, wrapped)


def _is_not(header: str, value: str) -> dict[str, object]:
    found = http_inputs.HttpResponseHeaderMatchInput(header_name=header)
    equal = {"input": extension("header", found), "value_match": {"exact": value}}
    return {"not_matcher": {"single_predicate": equal}}


_ONLY_REFUSED = {
    "matcher_list": {
        "matchers": [
            {
                "predicate": {
                    "or_matcher": {
                        "predicate": [
                            _is_not(CODE_HEADER, UPGRADE_REFUSED),
                            _is_not(":status", "502"),
                        ]
                    }
                },
                "on_match": {"action": extension("skip", skip.SkipFilter())},
            }
        ]
    }
}
