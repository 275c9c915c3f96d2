"""The listener, which never changes: every filter is installed, routes turn them on and off.

A change of listener cuts long streams after its drain time, so only routes, clusters and secrets
ever change. The settings keep paths, queries and headers byte for byte; those of Envoy's guide for
edge proxies (normalising paths, merging slashes) would break passthrough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.rbac import v3 as rbac
from envoy_data_plane.envoy.extensions.access_loggers.stream import v3 as stream
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.http.rbac import v3 as rbac_filter
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts import v3 as previous_hosts
from envoy_data_plane.envoy.type import v3 as type_pb
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Struct

from thruway_extproc.rule import CREDENTIAL_HEADERS
from thruway_operator.envoy.names import (
    EXT_PROC_CLUSTER,
    EXT_PROC_FILTER,
    GUARD_FILTER,
    METADATA,
    ROUTE_CONFIG,
)
from thruway_operator.envoy.replies import local_reply_config
from thruway_operator.envoy.wire import ads, duration, packed

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ACCESS_LOG", "render_listener"]

_HOUR = 3_600_000
_MESSAGE_TIMEOUT = 5_000
"""How long extproc may take, in milliseconds: it needs less than one, but a laptop may stall."""

ACCESS_LOG = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    # What the client asked for, without the values of its query; extproc says it, because the path
    # is the upstream's by the time of the log. Requests that extproc never saw have `raw_path`.
    "path": f"%DYNAMIC_METADATA({METADATA}:path)%",
    "raw_path": "%PATH(NQ)%",
    "protocol": "%PROTOCOL%",
    "route": "%ROUTE_NAME%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "upstream_ms": "%RESPONSE_DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "upstream_host": "%UPSTREAM_HOST%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "upstream_request_id": "%RESP(X-REQUEST-ID)%",
    "code": f"%METADATA(ROUTE:{METADATA}:code)%",
    "user_agent": "%REQ(USER-AGENT)%",
}


def render_listener(addresses: Sequence[tuple[str, int]]) -> listener.Listener:
    """Return the listener on these (address, port) pairs, of which there is at least one."""
    first, *more = [_address(host, port) for host, port in addresses]
    return listener.Listener(
        name="thruway",
        address=first,
        additional_addresses=[listener.AdditionalAddress(address=address) for address in more],
        per_connection_buffer_limit_bytes=64 * 1024,
        # With it a second program could take the same port unnoticed and get half the connections.
        enable_reuse_port=False,
        filter_chains=[
            listener.FilterChain(
                filters=[
                    listener.Filter(
                        name="envoy.filters.network.http_connection_manager",
                        typed_config=packed(_connection_manager()),
                    )
                ]
            )
        ],
    )


def _address(host: str, port: int) -> core.Address:
    return core.Address(socket_address=core.SocketAddress(address=host, port_value=port))


def _connection_manager() -> hcm.HttpConnectionManager:
    return hcm.HttpConnectionManager(
        stat_prefix="thruway",
        rds=hcm.Rds(route_config_name=ROUTE_CONFIG, config_source=ads()),
        use_remote_address=True,
        skip_xff_append=True,
        generate_request_id=False,
        preserve_external_request_id=True,
        server_header_transformation=(
            hcm.HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH
        ),
        # A plain-text client would make an HTTP/2 TLS upstream see `:scheme: http`.
        scheme_header_transformation=core.SchemeHeaderTransformation(match_upstream=True),
        normalize_path=False,
        merge_slashes=False,
        path_with_escaped_slashes_action=(
            hcm.HttpConnectionManagerPathWithEscapedSlashesAction.KEEP_UNCHANGED
        ),
        # Without it Envoy answers 100 before anybody has decided anything.
        proxy_100_continue=True,
        request_headers_timeout=duration(10_000),
        stream_idle_timeout=duration(_HOUR),
        # Lets a client that is still sending read an early answer. A WebSocket client waits for all
        # of it after the closing handshake (RFC 6455, 7.1.1), so it is short.
        delayed_close_timeout=duration(200),
        max_request_headers_kb=60,
        common_http_protocol_options=core.HttpProtocolOptions(
            idle_timeout=duration(_HOUR),
            max_headers_count=200,
            headers_with_underscores_action=(
                core.HttpProtocolOptionsHeadersWithUnderscoresAction.ALLOW
            ),
        ),
        http_protocol_options=core.Http1ProtocolOptions(enable_trailers=True),
        http2_protocol_options=core.Http2ProtocolOptions(
            max_concurrent_streams=256,
            initial_stream_window_size=1 << 20,
            initial_connection_window_size=4 << 20,
            allow_connect=True,
            connection_keepalive=core.KeepaliveSettings(
                interval=duration(30_000), timeout=duration(10_000)
            ),
        ),
        # Off here and on in the routes that lead to an HTTP/1.1 cluster.
        upgrade_configs=[
            hcm.HttpConnectionManagerUpgradeConfig(upgrade_type="websocket", enabled=False)
        ],
        local_reply_config=local_reply_config(),
        access_log=[_access_log()],
        http_filters=[_ext_proc(), _guard(), _router()],
    )


def _access_log() -> accesslog.AccessLog:
    # Standard output: off the request path, and where a cluster's log collectors look.
    line = stream.StdoutAccessLog(
        log_format=core.SubstitutionFormatString(json_format=Struct.from_dict(ACCESS_LOG))
    )
    return accesslog.AccessLog(name="envoy.access_loggers.stdout", typed_config=packed(line))


def _ext_proc() -> hcm.HttpFilter:
    modes = ext_proc.ProcessingModeHeaderSendMode
    service = core.GrpcService(
        envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=EXT_PROC_CLUSTER),
        # Not envoy_grpc.retry_policy, which is for ADS streams alone.
        retry_policy=_try_the_other_worker(),
    )
    config = ext_proc.ExternalProcessor(
        stat_prefix="thruway",
        grpc_service=service,
        failure_mode_allow=False,
        status_on_error=type_pb.HttpStatus(code=type_pb.StatusCode.ServiceUnavailable),
        message_timeout=duration(_MESSAGE_TIMEOUT),
        processing_mode=ext_proc.ProcessingMode(
            request_header_mode=modes.SEND,
            response_header_mode=modes.SKIP,
            request_trailer_mode=modes.SKIP,
            response_trailer_mode=modes.SKIP,
        ),
        route_cache_action=ext_proc.ExternalProcessorRouteCacheAction.RETAIN,
        # `:authority` may change, and a change that is not allowed is an error, not dropped.
        mutation_rules=mutation.HeaderMutationRules(allow_all_routing=True, disallow_is_error=True),
        metadata_options=ext_proc.MetadataOptions(
            receiving_namespaces=ext_proc.MetadataOptionsMetadataNamespaces(untyped=[METADATA])
        ),
        forward_rules=ext_proc.HeaderForwardingRules(
            disallowed_headers=matcher.ListStringMatcher(
                patterns=[
                    matcher.StringMatcher(exact=name, ignore_case=True)
                    for name in CREDENTIAL_HEADERS
                ]
            )
        ),
    )
    return hcm.HttpFilter(name=EXT_PROC_FILTER, typed_config=packed(config))


def _try_the_other_worker() -> core.RetryPolicy:
    predicate = core.RetryPolicyRetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts",
        typed_config=packed(previous_hosts.PreviousHostsPredicate()),
    )
    return core.RetryPolicy(
        retry_on="connect-failure,refused-stream,unavailable,reset",
        num_retries=10,  # a second or so: as long as a killed worker takes to come back
        retry_back_off=core.BackoffStrategy(base_interval=duration(20), max_interval=duration(200)),
        retry_host_predicate=[predicate],
        host_selection_retry_max_attempts=5,
    )


def _guard() -> hcm.HttpFilter:
    # Envoy lets a request pass whose ext_proc stream closes cleanly without an answer; this not.
    processed = rbac.SourcedMetadata(
        metadata_matcher=matcher.MetadataMatcher(
            filter=METADATA,
            path=[matcher.MetadataMatcherPathSegment(key="processed")],
            value=matcher.ValueMatcher(bool_match=True),
        ),
        metadata_source=rbac.MetadataSource.DYNAMIC,
    )
    policy = rbac.Policy(
        permissions=[rbac.Permission(any=True)],
        principals=[rbac.Principal(sourced_metadata=processed)],
    )
    config = rbac_filter.Rbac(
        rules=rbac.Rbac(action=rbac.RbacAction.ALLOW, policies={"processed": policy})
    )
    return hcm.HttpFilter(name=GUARD_FILTER, typed_config=packed(config))


def _router() -> hcm.HttpFilter:
    return hcm.HttpFilter(
        name="envoy.filters.http.router",
        typed_config=packed(router.Router(suppress_envoy_headers=True)),
    )
