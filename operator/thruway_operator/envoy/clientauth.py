"""Client authentication of one route, by Envoy's own filters.

The key is the SDK's `api_key`: in the headers in which clients of AI APIs send one, or, from a
browser, in the WebSocket subprotocols. Keys are marked sensitive in Envoy's API, so that its
configuration dump shows `[redacted]` (seen with 1.40).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy.extensions.filters.http.api_key_auth.v3 import api_key_auth_pb2 as api_key_auth
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2 as header_mutation

from thruway_extproc.rule import CLIENT_HEADER, CREDENTIAL_HEADERS, KEY_HEADER, KEY_SUBPROTOCOL
from thruway_operator.envoy.names import CLIENT_AUTH_FILTER, KEY_FILTER
from thruway_operator.envoy.wire import any_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.any_pb2 import Any

    from thruway_operator import ir

__all__ = ["client_auth_filters"]

_SUBPROTOCOLS = "sec-websocket-protocol"


def client_auth_filters(clients: Sequence[ir.Client] | None) -> dict[str, Any]:
    """Return what turns client authentication on for a route; nothing for None."""
    if clients is None:
        return {}
    auth = api_key_auth.ApiKeyAuthPerRoute(
        credentials=[{"key": client.key.reveal(), "client": client.id} for client in clients],
        # The first that is there decides.
        key_sources=[{"header": name} for name in (*CREDENTIAL_HEADERS, KEY_HEADER)],
        forwarding={"header": CLIENT_HEADER, "hide_credentials": True},
    )
    return {KEY_FILTER: any_of(_key_of_subprotocol()), CLIENT_AUTH_FILTER: any_of(auth)}


def _key_of_subprotocol() -> header_mutation.HeaderMutationPerRoute:
    # Two backslashes are one to CEL, whose string is a regular expression of RE2.
    name = KEY_SUBPROTOCOL.replace(".", r"\\.")
    offers = f"request.headers['{_SUBPROTOCOLS}']"
    found = rf"re.extract({offers}, '(?i){name}([^, ]+)', '\\1')"
    header = {
        "header": {"key": KEY_HEADER, "value": f"%CEL({found})%"},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    own_word = {"remove": KEY_HEADER}  # a client's own word for it
    return header_mutation.HeaderMutationPerRoute(
        mutations={"request_mutations": [own_word, {"append": header}]}
    )
