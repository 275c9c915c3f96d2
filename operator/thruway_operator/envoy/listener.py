"""The listener, which never changes: every filter is installed, and routes enable them.

A changed listener cuts long streams after its drain time, so only routes, clusters and secrets
change. The settings keep paths, queries and headers byte for byte; those of Envoy's guide for
edge proxies (normalising paths, merging slashes) would break passthrough.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from envoy.config.core.v3 import protocol_pb2 as protocol
from envoy.config.listener.v3 import listener_pb2 as listener
from envoy.config.rbac.v3 import rbac_pb2 as rbac
from envoy.extensions.access_loggers.stream.v3 import stream_pb2 as stream
from envoy.extensions.filters.http.api_key_auth.v3 import api_key_auth_pb2 as api_key_auth
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2 as ext_proc
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2 as header_mutation
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as rbac_filter
from envoy.extensions.filters.http.router.v3 import router_pb2 as router
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm,
)
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    header_mutation_pb2 as early_mutation,
)
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2 as previous_hosts
from envoy.type.v3 import percent_pb2

from thruway_extproc.rule import CREDENTIAL_HEADERS, KEPT_ASIDE, KEY_HEADER
from thruway_operator.envoy.cors import origin_filter
from thruway_operator.envoy.downstream import downstream_tls
from thruway_operator.envoy.errorformats import local_reply_config
from thruway_operator.envoy.handshakes import handshake_filter
from thruway_operator.envoy.names import (
    CLIENT_AUTH_FILTER,
    EXT_PROC_CLUSTER,
    EXT_PROC_FILTER,
    GUARD_FILTER,
    KEY_FILTER,
    METADATA,
    ROUTE_CONFIG,
)
from thruway_operator.envoy.peers import TCP_KEEPALIVE
from thruway_operator.envoy.replies import CODE_IN_LOG
from thruway_operator.envoy.wire import (
    AS_SENT,
    ads,
    duration,
    extension,
    joined,
    serialized,
    struct,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thruway_operator.envoy.downstream import Downstream

__all__ = ["ACCESS_LOG", "render_listener"]

_HOUR = 3_600_000
_MESSAGE_TIMEOUT = 10_000
"""How long extproc may take, in milliseconds. It needs less than one, but a laptop may stall, and
kubelet takes seconds to restart a killed container, which is a sidecar's only worker."""
_JITTER = 8
"""HttpProtocolOptions.max_connection_duration_jitter, which xds-protos 1.85 does not know."""
_TCP_KEEPALIVE = 37
"""Listener.tcp_keepalive, which xds-protos 1.85 does not know either."""


def _first_of(*operators: tuple[str, str]) -> str:
    """Return the command operator for the first of these (command, parameter) with a value."""
    listed = [{"command": command, "param": parameter} for command, parameter in operators]
    return f"%COALESCE({json.dumps({'operators': listed})})%"


ACCESS_LOG = {
    "event": "call",
    "time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    # What the client requested, without query values. It comes from extproc, because Envoy's own
    # path is the upstream's by then, or from Envoy if extproc did not see the request.
    "path": _first_of(("DYNAMIC_METADATA", f"{METADATA}:path"), ("PATH", "NQ")),
    "protocol": "%PROTOCOL%",
    "route": "%ROUTE_NAME%",
    "client": f"%DYNAMIC_METADATA({METADATA}:client)%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "upstream_ms": "%RESPONSE_DURATION%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    # The cluster's name: host:port as in the route, a slash, and a hash of the settings.
    "upstream": "%UPSTREAM_CLUSTER_RAW%",
    "address": "%UPSTREAM_HOST%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "upstream_request_id": "%RESP(X-REQUEST-ID)%",
    "code": CODE_IN_LOG,
    "user_agent": "%REQ(USER-AGENT)%",
}
"""One line for each call. `thruway up` prints the same fields, and `upstream_status`."""


def render_listener(
    addresses: Sequence[tuple[str, int]], downstream: Downstream, patience: int = 0
) -> listener.Listener:
    """Return the listener on these (address, port) pairs, of which there is at least one.

    It waits for its routes for `patience` milliseconds; 0: for ever.
    """
    tls = downstream_tls(downstream.certificate) if downstream.certificate else None
    manager = _connection_manager(downstream, patience)
    first, *more = [_address(host, port) for host, port in addresses]
    rendered = listener.Listener(
        name="thruway",
        address=first,
        additional_addresses=[{"address": address} for address in more],
        per_connection_buffer_limit_bytes={"value": 64 * 1024},
        # With it a second program could take the same port unnoticed and get half the connections.
        enable_reuse_port={"value": False},
        filter_chains=[
            {
                "filters": [extension("envoy.filters.network.http_connection_manager", manager)],
                "transport_socket": tls,
            }
        ],
    )
    # The additional addresses inherit it.
    rendered.MergeFromString(joined([(_TCP_KEEPALIVE, serialized(TCP_KEEPALIVE))]))
    return rendered


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}


def _connection_manager(downstream: Downstream, patience: int) -> hcm.HttpConnectionManager:
    age = downstream.connection_age_ms
    return hcm.HttpConnectionManager(
        stat_prefix="thruway",
        rds={"route_config_name": ROUTE_CONFIG, "config_source": ads(patience)},
        use_remote_address={"value": True},
        skip_xff_append=True,
        forward_client_cert_details="ALWAYS_FORWARD_ONLY",
        early_header_mutation_extensions=[_first_mutations()],
        generate_request_id={"value": False},
        preserve_external_request_id=True,
        server_header_transformation="PASS_THROUGH",
        # A plain-text client would make an HTTP/2 TLS upstream see `:scheme: http`.
        scheme_header_transformation={"match_upstream": True},
        normalize_path={"value": False},
        merge_slashes=False,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        # Without it Envoy answers 100 before anybody has decided anything.
        proxy_100_continue=True,
        request_headers_timeout=duration(10_000),
        stream_idle_timeout=duration(_HOUR),
        # Lets a client that is still sending read an early response, and a client that asked for
        # `Connection: close` pause while the end of its response waits here: docs/fidelity.md. A
        # WebSocket client waits for all of it after the closing handshake (RFC 6455, 7.1.1).
        delayed_close_timeout=duration(1_000),
        # After it, a connection that is drained is closed as soon as the proxy has all responses,
        # although its client may not have read them. Clients close it themselves before.
        drain_timeout=duration(_HOUR),
        max_request_headers_kb={"value": 60},
        common_http_protocol_options=_all_protocols(age),
        http1_safe_max_connection_duration=bool(age),
        http_protocol_options={
            "enable_trailers": True,
            "accept_http_10": True,
            "default_host_for_http_10": "localhost",
            "allow_custom_methods": True,
            "header_key_format": AS_SENT,
            # A server may ignore what it is asked to upgrade to (RFC 9110, 7.8); Envoy answers 403.
            "ignore_http_11_upgrade": [_anything_but("websocket")],
        },
        http2_protocol_options={
            "max_concurrent_streams": {"value": 256},
            "initial_stream_window_size": {"value": 1 << 20},
            "initial_connection_window_size": {"value": 4 << 20},
            "allow_connect": True,
        },
        # On for all, so that a route that refuses gives its own answer to a handshake too. What
        # cannot carry a WebSocket never gets one: see clusters.needs_twin. CONNECT has one route
        # alone, which refuses it.
        upgrade_configs=[{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}],
        local_reply_config=local_reply_config(),
        access_log=[_access_log()],
        http_filters=[
            origin_filter(),
            _key(),
            _client_auth(),
            handshake_filter(),
            _ext_proc(),
            _guard(),
            _router(),
        ],
    )


def _all_protocols(age: int) -> protocol.HttpProtocolOptions:
    options = protocol.HttpProtocolOptions(
        idle_timeout=duration(_HOUR),
        max_headers_count={"value": 200},
        headers_with_underscores_action="ALLOW",
    )
    if age:
        options.max_connection_duration.FromMilliseconds(age)
        jitter = percent_pb2.Percent(value=20)
        options.MergeFromString(joined([(_JITTER, serialized(jitter))]))
    return options


def _anything_but(word: str) -> dict[str, object]:
    # RE2 has no negation: the texts that part from the word at its first letter, its second, …
    parting = [f"{word[:i]}([^{letter}{letter.upper()}].*)?" for i, letter in enumerate(word)]
    pattern = "|".join([*parting, f"{word}.+"])
    return {"safe_regex": {"regex": f"(?i)({pattern})"}}


def _first_mutations() -> dict[str, object]:
    # Names that steer Envoy or Thruway are not the client's to use. What Envoy is about to write
    # over or to drop is kept aside, and extproc puts it back.
    mutations = [
        *(
            {"remove_on_match": {"key_matcher": {"prefix": prefix}}}
            for prefix in ("x-envoy-", "x-thruway-")
        ),
        *(
            {"append": {"header": {"key": aside, "value": f"%REQ({name})%"}}}
            for name, aside in KEPT_ASIDE.items()
        ),
    ]
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        early_mutation.HeaderMutation(mutations=mutations),
    )


def _access_log() -> dict[str, object]:
    # Standard output: off the request path, and where a cluster's log collectors look.
    line = stream.StdoutAccessLog(log_format={"json_format": struct(ACCESS_LOG)})
    return extension("envoy.access_loggers.stdout", line)


def _key() -> dict[str, object]:
    # Takes a key out of the WebSocket subprotocols; off until a route turns it on.
    return {**extension(KEY_FILTER, header_mutation.HeaderMutation()), "disabled": True}


def _client_auth() -> dict[str, object]:
    # Off until a route turns it on with its clients' keys.
    return {**extension(CLIENT_AUTH_FILTER, api_key_auth.ApiKeyAuth()), "disabled": True}


def _ext_proc() -> dict[str, object]:
    hidden = [{"exact": name, "ignore_case": True} for name in (*CREDENTIAL_HEADERS, KEY_HEADER)]
    config = ext_proc.ExternalProcessor(
        stat_prefix="thruway",
        grpc_service={
            "envoy_grpc": {"cluster_name": EXT_PROC_CLUSTER},
            # Not envoy_grpc.retry_policy, which is for ADS streams alone.
            "retry_policy": _try_the_other_worker(),
        },
        failure_mode_allow=False,
        status_on_error={"code": "ServiceUnavailable"},
        message_timeout=duration(_MESSAGE_TIMEOUT),
        processing_mode={
            "request_header_mode": "SEND",
            "response_header_mode": "SKIP",
            "request_trailer_mode": "SKIP",
            "response_trailer_mode": "SKIP",
        },
        route_cache_action="RETAIN",
        # `:authority` may change, and a change that is not allowed is an error, not dropped.
        mutation_rules={
            "allow_all_routing": {"value": True},
            "disallow_is_error": {"value": True},
        },
        metadata_options={"receiving_namespaces": {"untyped": [METADATA]}},
        forward_rules={"disallowed_headers": {"patterns": hidden}},
    )
    return extension(EXT_PROC_FILTER, config)


def _try_the_other_worker() -> dict[str, object]:
    predicate = extension(
        "envoy.retry_host_predicates.previous_hosts", previous_hosts.PreviousHostsPredicate()
    )
    return {
        "retry_on": "connect-failure,refused-stream,unavailable,reset",
        # More than fit into _MESSAGE_TIMEOUT: Envoy waits for half the interval, on average.
        "num_retries": {"value": 200},
        "retry_back_off": {"base_interval": duration(20), "max_interval": duration(200)},
        "retry_host_predicate": [predicate],
        "host_selection_retry_max_attempts": 5,
    }


def _guard() -> dict[str, object]:
    # Envoy lets a request pass whose ext_proc stream closes cleanly without an answer; this not.
    processed = {
        "metadata_matcher": {
            "filter": METADATA,
            "path": [{"key": "processed"}],
            "value": {"bool_match": True},
        },
        "metadata_source": "DYNAMIC",
    }
    policy = rbac.Policy(permissions=[{"any": True}], principals=[{"sourced_metadata": processed}])
    config = rbac_filter.RBAC(rules={"action": "ALLOW", "policies": {"processed": policy}})
    return extension(GUARD_FILTER, config)


def _router() -> dict[str, object]:
    return extension("envoy.filters.http.router", router.Router(suppress_envoy_headers=True))
