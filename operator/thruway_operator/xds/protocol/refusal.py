"""Envoy's NACK of a response, made safe for a status condition and a log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thruway_operator.xds.protocol.resources import SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Refusal", "refusal_text"]

_LIMIT: Final = 1000
# Envoy prints the whole invalid message in text format, prefixed with "goo.gle/debugproto" (or,
# chosen at random, "debugstr" or "debugonly"). For RDS it contains the routes of all tenants:
# megabytes, which no single tenant may see.
_DUMP: Final = re.compile(r"\s*goo\.gle/debug\w+.*?(?:\n: |\Z)", re.DOTALL)
_HARMLESS_FOR_SECRETS: Final = {"Failed to load trusted CA certificates from <inline>"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A NACK of resources that are still offered.

    `names` maps the resources of the rejected response to their versions. Only `message` says which
    of them Envoy rejected, and not always. The good ones may have been applied (clusters) or not
    (routes, and any response that violates proto constraints).
    """

    token: int
    type_url: str
    names: Mapping[str, str]
    message: str


def refusal_text(type_url: str, message: str) -> str:
    """Return Envoy's message without dumps of configuration, at most 1000 characters.

    For secrets, only messages known to quote nothing are returned.
    """
    if type_url == SECRET and message not in _HARMLESS_FOR_SECRETS:
        return "Envoy rejected the secret (its message is withheld: it may quote the secret)"
    text = " ".join(_DUMP.sub(" ", message).split())
    return (text or "rejected without a message")[:_LIMIT]
