"""Changes to headers and queries, as parts of `PassthroughRoute`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from thruway_operator.api.checks import (
    check_header_of_secret,
    check_header_removed,
    check_header_written,
    check_response_header_removed,
    check_unique,
)
from thruway_operator.api.types import HeaderName, HeaderValue, Model, QueryName
from thruway_operator.api.upstream import KeyRef  # noqa: TC001 - pydantic reads it

__all__ = [
    "HeaderRules",
    "NameValue",
    "Prefix",
    "QueryNameValue",
    "QueryRules",
    "RequestHeaderRules",
    "ResponseHeaderRules",
    "SecretHeader",
    "SecretHeaderName",
]

Text = Annotated[str, StringConstraints(max_length=1024)]
SecretHeaderName = Annotated[HeaderName, AfterValidator(check_header_of_secret)]
Prefix = Annotated[str, StringConstraints(max_length=64, pattern=r"^[ -~]*$")]


class SecretHeader(Model):
    """A header whose value comes from a Secret; it replaces the client's."""

    name: SecretHeaderName = Field(description="Name of the header.")
    prefix: Prefix | None = Field(
        default=None,
        description=(
            "Text before the secret. Unset: `Bearer ` in Authorization and nothing in other "
            "headers."
        ),
    )
    secret_key_ref: KeyRef = Field(description="The Secret's key that holds the value.")


class NameValue(Model):
    """A header to set or to add."""

    name: Annotated[HeaderName, AfterValidator(check_header_written)] = Field(
        description="Name of the header."
    )
    value: HeaderValue = Field(description="Its value, taken literally.")


class QueryNameValue(Model):
    """A query parameter to set or to provide."""

    name: QueryName = Field(description="Name of the parameter, not encoded.")
    value: Text = Field(description="Its value, not encoded.")


class HeaderRules(Model):
    """Changes to headers: `remove` first, then `set` (replace), then `add` (append)."""

    set: list[NameValue] = Field(default=[], max_length=32, description="Replace or create.")
    add: list[NameValue] = Field(default=[], max_length=32, description="Append one more.")
    remove: list[Annotated[HeaderName, AfterValidator(check_header_removed)]] = Field(
        default=[], max_length=32, description="Remove by name."
    )

    @field_validator("remove")
    @classmethod
    def _removed_once(cls, value: list[str]) -> list[str]:
        return check_unique(value, str.lower)

    @field_validator("set")
    @classmethod
    def _set_once(cls, value: list[NameValue]) -> list[NameValue]:
        check_unique([item.name for item in value], str.lower)
        return value


class RequestHeaderRules(HeaderRules):
    """Changes to the headers of requests."""

    forward_only: list[HeaderName] = Field(
        default=[],
        max_length=64,
        description=(
            "If not empty, only these client headers are forwarded, and those that frame or "
            "describe the body (such as Content-Type)."
        ),
    )
    set_from_secret: list[SecretHeader] = Field(
        default=[],
        max_length=8,
        description=(
            "Headers from Secrets, such as a gateway's token in addition to the credential. Only "
            "for the route's own upstream: overrides do not inherit them."
        ),
    )

    @field_validator("set_from_secret")
    @classmethod
    def _injected_once(cls, value: list[SecretHeader]) -> list[SecretHeader]:
        check_unique([item.name for item in value], str.lower)
        return value


class ResponseHeaderRules(HeaderRules):
    """Changes to the headers of responses."""

    remove: list[Annotated[HeaderName, AfterValidator(check_response_header_removed)]] = Field(
        default=[], max_length=32, description="Remove by name."
    )


class QueryRules(Model):
    """Changes to the query of requests; other parameters pass unchanged, byte for byte."""

    default: list[QueryNameValue] = Field(
        default=[], max_length=32, description="Added if the client does not send it."
    )
    set: list[QueryNameValue] = Field(
        default=[], max_length=32, description="Replaces whatever the client sends."
    )
    remove: list[QueryName] = Field(default=[], max_length=32, description="Removed by name.")

    @field_validator("default", "set")
    @classmethod
    def _named_once(cls, value: list[QueryNameValue]) -> list[QueryNameValue]:
        check_unique([item.name for item in value], str)
        return value
