"""Field types of `PassthroughRoute`: patterns and limits that schema and validation share."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic.alias_generators import to_camel

from thruway_operator.api.checks import check_origin

__all__ = [
    "ConfigMapKey",
    "Duration",
    "HeaderName",
    "HeaderValue",
    "Hostname",
    "Model",
    "ObjectName",
    "Origin",
    "QueryName",
    "RoutePath",
    "ServerName",
    "UpstreamPath",
    "milliseconds",
]

_SEGMENT = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*"  # no leading dot, so never `.` or `..`
_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"


class Model(BaseModel):
    """Base of all models: camelCase in YAML, no unknown fields, no conversions, immutable."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        hide_input_in_errors=True,  # which may be a key in the wrong place
        frozen=True,
        strict=True,
    )


def _text(pattern: str, longest: int, shortest: int = 1) -> object:
    return StringConstraints(pattern=pattern, min_length=shortest, max_length=longest)


RoutePath = Annotated[str, _text(rf"^(/{_SEGMENT})+$", 256)]
"""A route's path: one or more whole segments of unreserved characters, none starting with a dot."""

UpstreamPath = Annotated[str, _text(rf"^(/{_SEGMENT})+$", 256)]
"""A path at the upstream, version included: `/v1/responses`."""

Hostname = Annotated[str, _text(rf"^(\*\.)?{_LABEL}(\.{_LABEL})*$", 253)]
"""A host name in lower case, without port; a leading `*.` stands for one or more labels."""

_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"

Origin = Annotated[
    str,
    _text(
        rf"^[a-z][a-z0-9+.-]*://([a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:{_PORT})?$", 253
    ),
    AfterValidator(check_origin),
]
"""An origin as browsers send it (RFC 6454, 6.2), with any scheme; never `null`."""

ServerName = Annotated[str, _text(rf"^{_LABEL}(\.{_LABEL})*$", 253)]
"""One host name in lower case, without port and wildcard."""

ObjectName = Annotated[str, _text(rf"^{_LABEL}(\.{_LABEL})*$", 253)]
"""A name of a Kubernetes object (RFC 1123 subdomain)."""

ConfigMapKey = Annotated[str, _text(r"^[-._a-zA-Z0-9]+$", 253)]
"""A key of a Secret's or ConfigMap's data."""

HeaderName = Annotated[str, _text(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", 128)]
"""A field name (RFC 9110, 5.1)."""

HeaderValue = Annotated[
    str, _text(r"^[^\x00-\x20\x7f]([^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?$", 1024)
]
"""A field value (RFC 9110, 5.5): no control characters, no space at either end. Sent as UTF-8."""

QueryName = Annotated[str, _text(r"^[^\x00-\x1f\x7f]+$", 128)]
"""The decoded name of a query parameter."""

Duration = Annotated[str, _text(r"^([0-9]{1,5}(h|m|s|ms)){1,4}$", 24)]
"""A duration as in the Gateway API (GEP-2257): `1h30m`, `5s`, `250ms`; `0s` means no limit."""

_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def milliseconds(duration: str) -> int:
    """Return a `Duration` in milliseconds."""
    parts = re.findall(r"([0-9]+)(ms|h|m|s)", duration)
    return sum(int(number) * _UNITS[unit] for number, unit in parts)
