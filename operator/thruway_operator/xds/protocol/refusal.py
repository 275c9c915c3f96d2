"""What Envoy said when it refused a response, made fit for a status condition and a log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thruway_operator.xds.protocol.resources import SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Refusal", "refusal_text"]

_LIMIT: Final = 1000
# Envoy prints the whole offending message ("goo.gle/debugproto", or by chance "debugstr" or
# "debugonly", and its text format), which for RDS is everybody's routes: megabytes, and none of one
# tenant's business.
_DUMP: Final = re.compile(r"\s*goo\.gle/debug\w+.*?(?:\n: |\Z)", re.DOTALL)
_HARMLESS_FOR_SECRETS: Final = {"Failed to load trusted CA certificates from <inline>"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A NACK of something that is still offered.

    `names` maps the resources of the refused response to the versions it held. Envoy says which of
    them it disliked in `message` only, and only sometimes; the good ones may have been applied
    (clusters) or not (routes, and anything that fails its proto constraints).
    """

    token: int
    type_url: str
    names: Mapping[str, str]
    message: str


def refusal_text(type_url: str, message: str) -> str:
    """Return Envoy's message without dumps of configuration, at most 1000 characters.

    For secrets only messages known to quote nothing are passed on.
    """
    if type_url == SECRET and message not in _HARMLESS_FOR_SECRETS:
        return "Envoy refused the secret (its message is withheld: it may quote the secret)"
    text = " ".join(_DUMP.sub(" ", message).split())
    return (text or "refused without a message")[:_LIMIT]
