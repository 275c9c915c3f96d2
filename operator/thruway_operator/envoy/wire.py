"""Small helpers of the renderers: packing, durations, sources, and joining serialized messages.

Messages are of protobuf's own classes (`xds-protos`), and nested ones are written as dictionaries,
which these classes take. They are quick to import, which every pod waits for, and to serialize.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from envoy.extensions.http.header_formatters.preserve_case.v3 import preserve_case_pb2
from google.protobuf import any_pb2
from google.protobuf.struct_pb2 import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.message import Message

__all__ = [
    "AS_SENT",
    "ads",
    "any_of",
    "duration",
    "escaped",
    "extension",
    "joined",
    "serialized",
    "struct",
]


def any_of(message: Message) -> any_pb2.Any:
    """Return a message as `google.protobuf.Any`."""
    name = message.DESCRIPTOR.full_name
    return any_pb2.Any(type_url=f"type.googleapis.com/{name}", value=serialized(message))


def extension(name: str, config: Message) -> dict[str, object]:
    """Return the fields of a named extension with a typed config, such as a filter."""
    return {"name": name, "typed_config": any_of(config)}


def serialized(message: Message) -> bytes:
    """Return a message's bytes, the same on every replica: maps are sorted."""
    return message.SerializeToString(deterministic=True)


AS_SENT = {
    "stateful_formatter": extension(
        "envoy.http.stateful_header_formatters.preserve_case",
        preserve_case_pb2.PreserveCaseFormatterConfig(forward_reason_phrase=True),
    )
}
"""Preserves the case of header names and the reason phrase in HTTP/1."""


def duration(milliseconds: int) -> timedelta:
    """Return a duration of so many milliseconds."""
    return timedelta(milliseconds=milliseconds)


def ads(patience: int = 0) -> dict[str, object]:
    """Return the source of everything dynamic: the one delta ADS stream.

    Without a fetch timeout, in milliseconds, an Envoy without configuration stays unready instead
    of serving nothing.
    """
    return {
        "ads": {},
        "resource_api_version": "V3",
        "initial_fetch_timeout": duration(patience),
    }


def struct(values: Mapping[str, Any]) -> Struct:
    """Return plain data as `google.protobuf.Struct`."""
    found = Struct()
    found.update(values)
    return found


def escaped(text: str) -> str:
    """Return literal text for a field that Envoy %-formats for each request."""
    return text.replace("%", "%%")


def joined(parts: Iterable[tuple[int, bytes]]) -> bytes:
    """Return a serialized message made of (field number, serialized sub-message) pairs.

    A RouteConfiguration of thousands of routes is assembled from routes that were serialized once,
    when they changed (protobuf's encoding: a tag of wire type 2, a length, the bytes).
    """
    return b"".join(_varint(number << 3 | 2) + _varint(len(body)) + body for number, body in parts)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
