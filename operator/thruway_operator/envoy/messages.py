"""Envoy's messages as plain data, with what is packed in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2
from envoy.extensions.filters.http.api_key_auth.v3 import api_key_auth_pb2
from envoy.extensions.filters.http.credential_injector.v3 import credential_injector_pb2
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2
from envoy.extensions.http.header_formatters.preserve_case.v3 import preserve_case_pb2
from envoy.extensions.http.injected_credentials.generic.v3 import generic_pb2
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2
from envoy.extensions.transport_sockets.internal_upstream.v3 import internal_upstream_pb2
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2, json_format, wrappers_pb2
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from thruway_extproc.rule import METADATA_KEY
from thruway_operator.envoy.names import EXT_PROC_FILTER

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor

__all__ = ["PACKED", "parsed", "rule_of", "to_plain", "unpacked"]

PACKED = (
    cluster_pb2,
    route_pb2,
    secret_pb2,
    api_key_auth_pb2,
    cares_dns_resolver_pb2,
    credential_injector_pb2,
    dns_cluster_pb2,
    ext_proc_pb2,
    generic_pb2,
    header_mutation_pb2,
    http_protocol_options_pb2,
    internal_upstream_pb2,
    preserve_case_pb2,
    raw_buffer_pb2,
    tls_pb2,
    upstream_codec_pb2,
)
"""The modules of all that may be packed in a route or a cluster: what was imported is found."""

_NEWER = {("envoy.extensions.http.injected_credentials.generic.v3.Generic", 3): "headerValuePrefix"}
"""Texts that xds-protos 1.85 does not know, by message and field number."""

_WRAPPERS = (
    wrappers_pb2.BoolValue,
    wrappers_pb2.DoubleValue,
    wrappers_pb2.UInt32Value,
    wrappers_pb2.UInt64Value,
)


def unpacked(packed: any_pb2.Any) -> Message:
    """Return what is packed.

    Raises:
        KeyError: Its type is not of `PACKED`.
    """
    found = GetMessageClass(Default().FindMessageTypeByName(packed.TypeName()))()
    found.ParseFromString(packed.value)
    return found


def to_plain(message: Message) -> Any:  # noqa: ANN401 - plain data
    """Return a message as protobuf's JSON has it, but 64-bit numbers are numbers.

    The order is that of the fields' declaration, and in a map, which has none, that of the keys.
    """
    if isinstance(message, any_pb2.Any):
        return {"@type": message.type_url, **to_plain(unpacked(message))}
    if isinstance(message, _WRAPPERS):
        return message.value
    if message.DESCRIPTOR.file.package == "google.protobuf":
        return json.loads(json_format.MessageToJson(message, sort_keys=True))
    fields = sorted(message.ListFields(), key=lambda pair: pair[0].index)
    return {field.json_name: _part(field, value) for field, value in fields} | _newer(message)


def _newer(message: Message) -> dict[str, str]:
    unknown = UnknownFieldSet(message)
    fields = [unknown[index] for index in range(len(unknown))]
    name = message.DESCRIPTOR.full_name
    return {_NEWER[name, field.field_number]: field.data.decode() for field in fields if field.data}


def _part(field: FieldDescriptor, value: Any) -> Any:  # noqa: ANN401 - plain data
    if isinstance(value, Mapping):
        return {key: _part(field, value[key]) for key in sorted(value)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_part(field, inner) for inner in value]
    if isinstance(value, Message):
        return to_plain(value)
    return field.enum_type.values_by_number[value].name if field.enum_type else value


def parsed(kind: str, body: bytes) -> Any:  # noqa: ANN401 - untyped protobuf
    """Return the message of a serialized resource of this xDS type."""
    name = kind.rpartition("/")[2]
    return GetMessageClass(Default().FindMessageTypeByName(name)).FromString(body)


def rule_of(route: route_components_pb2.Route) -> str:
    """Return the encoded rule that a rendered route carries; "" if it has none."""
    config = ext_proc_pb2.ExtProcPerRoute()
    if EXT_PROC_FILTER in route.typed_per_filter_config:
        route.typed_per_filter_config[EXT_PROC_FILTER].Unpack(config)
    for pair in config.overrides.grpc_initial_metadata:
        if pair.key == METADATA_KEY:
            return str(pair.value)
    return ""
