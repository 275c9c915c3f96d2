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
from envoy_data_plane.envoy.extensions.filters.http.api_key_auth import v3 as api_key_auth
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.extensions.filters.http.header_mutation import v3 as header_mutation
from envoy_data_plane.envoy.extensions.filters.http.rbac import v3 as rbac_filter
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation import (
    v3 as early_mutation,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts import v3 as previous_hosts
from envoy_data_plane.envoy.type import v3 as type_pb
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Struct

from thruway_extproc.rule import CREDENTIAL_HEADERS, KEPT_ASIDE, KEY_HEADER
from thruway_operator.envoy.names import (
    CLIENT_AUTH_FILTER,
    EXT_PROC_CLUSTER,
    EXT_PROC_FILTER,
    GUARD_FILTER,
    KEY_FILTER,
    METADATA,
    ROUTE_CONFIG,
)
from thruway_operator.envoy.reception import downstream_tls
from thruway_operator.envoy.replies import CODE_IN_LOG, local_reply_config
from thruway_operator.envoy.wire import ads, as_sent, duration, packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thruway_operator.envoy.reception import Reception

__all__ = ["ACCESS_LOG", "render_listener"]

_HOUR = 3_600_000
_MESSAGE_TIMEOUT = 10_000
"""How long extproc may take, in milliseconds. It needs less than one; but a laptop may stall, and
kubelet takes seconds to start a killed container again: in a sidecar it holds the only worker."""

ACCESS_LOG = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    # What the client asked for, without the values of its query; extproc says it, because the path
    # is the upstream's by the time of the log. Requests that extproc never saw have `raw_path`.
    "path": f"%DYNAMIC_METADATA({METADATA}:path)%",
    "raw_path": "%PATH(NQ)%",
    "protocol": "%PROTOCOL%",
    "route": "%ROUTE_NAME%",
    "client": f"%DYNAMIC_METADATA({METADATA}:client)%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "upstream_ms": "%RESPONSE_DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "upstream_host": "%UPSTREAM_HOST%",
    # Its name begins with host:port, which an address does not say.
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "upstream_request_id": "%RESP(X-REQUEST-ID)%",
    "code": CODE_IN_LOG,
    "user_agent": "%REQ(USER-AGENT)%",
}


def render_listener(
    addresses: Sequence[tuple[str, int]], reception: Reception, patience: int = 0
) -> listener.Listener:
    """Return the listener on these (address, port) pairs, of which there is at least one.

    It waits for its routes for `patience` milliseconds; 0: for ever.
    """
    tls = downstream_tls(reception.certificate) if reception.certificate else None
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
                        typed_config=packed(_connection_manager(reception, patience)),
                    )
                ],
                transport_socket=tls,
            )
        ],
    )


def _address(host: str, port: int) -> core.Address:
    return core.Address(socket_address=core.SocketAddress(address=host, port_value=port))


def _connection_manager(reception: Reception, patience: int) -> hcm.HttpConnectionManager:
    age = reception.connection_age_ms
    return hcm.HttpConnectionManager(
        stat_prefix="thruway",
        rds=hcm.Rds(route_config_name=ROUTE_CONFIG, config_source=ads(patience)),
        use_remote_address=True,
        skip_xff_append=True,
        forward_client_cert_details=(
            hcm.HttpConnectionManagerForwardClientCertDetails.ALWAYS_FORWARD_ONLY
        ),
        early_header_mutation_extensions=[_first_mutations()],
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
            max_connection_duration=duration(age) if age else None,
            max_connection_duration_jitter=type_pb.Percent(value=20) if age else None,
            headers_with_underscores_action=(
                core.HttpProtocolOptionsHeadersWithUnderscoresAction.ALLOW
            ),
        ),
        http1_safe_max_connection_duration=bool(age),
        http_protocol_options=core.Http1ProtocolOptions(
            enable_trailers=True,
            accept_http_10=True,
            default_host_for_http_10="localhost",
            allow_custom_methods=True,
            header_key_format=as_sent(),
            # A server may ignore what it is asked to upgrade to (RFC 9110, 7.8); Envoy answers 403.
            ignore_http_11_upgrade=[_anything_but("websocket")],
        ),
        http2_protocol_options=core.Http2ProtocolOptions(
            max_concurrent_streams=256,
            initial_stream_window_size=1 << 20,
            initial_connection_window_size=4 << 20,
            allow_connect=True,
            connection_keepalive=core.KeepaliveSettings(
                interval=duration(30_000), timeout=duration(10_000)
            ),
        ),
        # On for all, so that a route that refuses gives its own answer to a handshake too. What
        # cannot carry a WebSocket never gets one: see routes.needs_twin. CONNECT has one route
        # alone, which refuses it.
        upgrade_configs=[
            hcm.HttpConnectionManagerUpgradeConfig(upgrade_type=upgrade)
            for upgrade in ("websocket", "CONNECT")
        ],
        local_reply_config=local_reply_config(),
        access_log=[_access_log()],
        http_filters=[_key(), _client_auth(), _ext_proc(), _guard(), _router()],
    )


def _anything_but(word: str) -> matcher.StringMatcher:
    # RE2 has no negation: the texts that part from the word at its first letter, its second, …
    parting = [f"{word[:i]}([^{letter}{letter.upper()}].*)?" for i, letter in enumerate(word)]
    pattern = "|".join([*parting, f"{word}.+"])
    return matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=f"(?i)({pattern})"))


def _first_mutations() -> core.TypedExtensionConfig:
    # Names that steer Envoy or Thruway are not the client's to use. What Envoy is about to write
    # over or to drop is kept aside, and extproc puts it back.
    own = mutation.HeaderMutationRemoveOnMatch
    mutations = [
        *(
            mutation.HeaderMutation(
                remove_on_match=own(key_matcher=matcher.StringMatcher(prefix=prefix))
            )
            for prefix in ("x-envoy-", "x-thruway-")
        ),
        *(
            mutation.HeaderMutation(
                append=core.HeaderValueOption(
                    header=core.HeaderValue(key=aside, value=f"%REQ({name})%")
                )
            )
            for name, aside in KEPT_ASIDE.items()
        ),
    ]
    return core.TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation",
        typed_config=packed(early_mutation.HeaderMutation(mutations=mutations)),
    )


def _access_log() -> accesslog.AccessLog:
    # Standard output: off the request path, and where a cluster's log collectors look.
    line = stream.StdoutAccessLog(
        log_format=core.SubstitutionFormatString(json_format=Struct.from_dict(ACCESS_LOG))
    )
    return accesslog.AccessLog(name="envoy.access_loggers.stdout", typed_config=packed(line))


def _key() -> hcm.HttpFilter:
    # Takes a key out of the WebSocket subprotocols; off until a route turns it on.
    return hcm.HttpFilter(
        name=KEY_FILTER, disabled=True, typed_config=packed(header_mutation.HeaderMutation())
    )


def _client_auth() -> hcm.HttpFilter:
    # Off until a route turns it on with its clients' keys.
    return hcm.HttpFilter(
        name=CLIENT_AUTH_FILTER, disabled=True, typed_config=packed(api_key_auth.ApiKeyAuth())
    )


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
                    for name in (*CREDENTIAL_HEADERS, KEY_HEADER)
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
        # More than fit into _MESSAGE_TIMEOUT: Envoy waits for half the interval, on average.
        num_retries=200,
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
