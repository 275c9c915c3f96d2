"""CEL rules of the CRD: what the model and the translation reject beyond patterns.

Each applies to a class of the model (`Upstream`), a field (`Timeouts.connect`) or the items of a
field (`HeaderRules.remove[]`). Messages are those of the model, unless those contain a value.
https://kubernetes.io/docs/reference/using-api/cel/
"""

from __future__ import annotations

from dataclasses import dataclass

from thruway_extproc.rule import CREDENTIAL_HEADERS
from thruway_operator.api.checks import (
    HOP_BY_HOP,
    KEY_PATTERN,
    LOGGED,
    TAKEN,
    TAKEN_PREFIXES,
)

__all__ = ["RULES", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL expression that must be true, and the message if it is not."""

    expression: str
    message: str

    def schema(self) -> dict[str, str]:
        """Return it in the schema's form."""
        return {"rule": self.expression, "message": self.message}


def _listed(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


def _not_in(what: str, names: tuple[str, ...]) -> str:
    return f"!({what}.lowerAscii() in {_listed(names)})"


def _framing(what: str) -> tuple[Rule, ...]:
    return (
        Rule(
            _not_in(what, HOP_BY_HOP),
            "belongs to one connection, not to the message: remove it",
        ),
        Rule(
            _not_in(what, ("host", "content-length")),
            "is set from the upstream's URL or the body: remove it",
        ),
    )


def _touched(what: str) -> tuple[Rule, ...]:
    return (
        *_framing(what),
        Rule(
            f"!{what}.lowerAscii().startsWith('x-envoy-') && "
            f"!{what}.lowerAscii().startsWith('x-thruway-')",
            "names that begin with x-envoy- or x-thruway- are reserved: use another",
        ),
    )


_OF_SECRET = (
    *_touched("self"),
    Rule(_not_in("self", LOGGED), "is written to the log: use another header for a secret"),
)

_OF_KEY = (
    *_OF_SECRET,
    Rule(
        "self.matches('^[A-Za-z0-9_-]+$')",
        "may only contain letters, digits, - and _: use a name such as X-Proxy-Key",
    ),
    Rule(
        _not_in("self", TAKEN)
        + "".join(f" && !self.lowerAscii().startsWith('{prefix}')" for prefix in TAKEN_PREFIXES),
        "has another purpose: use a header that carries nothing else, such as X-Proxy-Key",
    ),
)

_NAMES_A_KEY = Rule(
    f"!self.matches('^({KEY_PATTERN})')",  # at the start, like in the model
    "looks like an API key itself: put it into a Secret, and name the Secret's key here",
)

_URL = (
    Rule("self.matches('^(?i)https?://')", "must begin with http:// or https://"),
    Rule("self.matches('^[!-~]+$')", "may only contain printable ASCII characters, without spaces"),
    Rule(
        "!self.matches('^[^/]*//[^/?#]*@')",
        "must not contain a user and password: use `credential`",
    ),
    Rule("!self.contains('?')", "must not contain a query: use `request.query`"),
    Rule("!self.contains('#')", "must not contain a fragment: remove what follows the #"),
    Rule("self.matches('^[^/]*//[^/]')", "has no valid host name"),
    Rule(
        r"!self.matches('(?i)/(\\.|%2e){1,2}(/|$)')",
        "must not contain dot segments: write the path without them",
    ),
)


def _unique(field: str) -> Rule:
    return Rule(
        f"!has(self.{field}) || self.{field}.all(a, "
        f"self.{field}.exists_one(b, b.name.lowerAscii() == a.name.lowerAscii()))",
        f"{field} contains a name twice (case does not matter): keep one",
    )


_HEADER_RULES = (
    _unique("set"),
    Rule(
        "!has(self.remove) || self.remove.all(a, "
        "self.remove.exists_one(b, b.lowerAscii() == a.lowerAscii()))",
        "remove contains a name twice (case does not matter): keep one",
    ),
)

_TLS = Rule(
    "!has(self.tls) || !has(self.url) || self.url.matches('^(?i)https://')",
    "tls has no effect on an http:// upstream: remove it, or use https://",
)

_API_KEY = "has(self.clientAuth) && self.clientAuth.type == 'APIKey'"
_NAMES = {
    "set": "h.name",
    "add": "h.name",
    "remove": "h",
    "forwardOnly": "h",
    "setFromSecret": "h.name",
}


def _untouched(owner: str, verb: str, what: str) -> Rule:
    path = "self.request.headers"
    return Rule(
        f"!has(self.{owner}) || !has(self.{owner}.header) || !has(self.request) || "
        f"!has({path}) || !has({path}.{verb}) || !{path}.{verb}.exists(h, "
        f"{_NAMES[verb]}.lowerAscii() == self.{owner}.header.lowerAscii())",
        f"request.headers.{verb} names the header that carries {what}: remove it from the rules",
    )


def _set_from_secret_alone(verb: str) -> Rule:
    return Rule(
        f"!has(self.setFromSecret) || !has(self.{verb}) || !self.setFromSecret.exists(s, "
        f"self.{verb}.exists(h, {_NAMES[verb]}.lowerAscii() == s.name.lowerAscii()))",
        f"{verb} names a header of setFromSecret: keep one of the two",
    )


RULES: dict[str, tuple[Rule, ...]] = {
    "KeyRef.name": (_NAMES_A_KEY,),
    "KeyRef.key": (_NAMES_A_KEY,),
    "Upstream": (_TLS,),
    "Upstream.url": _URL,
    "OverrideUpstream": (_TLS,),
    "OverrideUpstream.url": _URL,
    "UpstreamProxy": (
        Rule(
            "self.url != '' || !has(self.secretKeyRef)",
            'secretKeyRef has no effect with url "": remove it, or give the URL of the proxy',
        ),
    ),
    "UpstreamProxy.url": (
        Rule(
            "self == '' || self.matches('^(?i)https?://[!-.0-~]+/*$')",
            'must be http:// or https:// with a host and no path, or "" for none',
        ),
        Rule(
            "!self.contains('@') && !self.contains('?') && !self.contains('#')",
            "must not contain a user, password, query or fragment: put the login into secretKeyRef",
        ),
    ),
    "Credential.header": _OF_SECRET,
    "SecretHeader.name": _OF_SECRET,
    "ClientAuth.header": _OF_KEY,
    "NameValue.name": (
        *_touched("self"),
        Rule(
            _not_in("self", CREDENTIAL_HEADERS),
            "carries a credential, which rules must not contain: use `credential`, so that the key "
            "stays in a Secret",
        ),
    ),
    "ResponseHeaderRules": _HEADER_RULES,
    "ResponseHeaderRules.remove[]": (
        *_framing("self"),
        Rule(
            "!self.lowerAscii().startsWith('x-thruway-')",
            "names that begin with x-thruway- are reserved: remove it",
        ),
    ),
    "RequestHeaderRules": (
        *_HEADER_RULES,
        _unique("setFromSecret"),
        *map(_set_from_secret_alone, ("set", "add", "remove")),
    ),
    "RequestHeaderRules.remove[]": _touched("self"),
    "Timeouts.connect": (
        Rule(
            "self.matches('[1-9]')",
            "must not be 0s, because a connection needs a limit: use one such as 5s",
        ),
    ),
    "ClientAuth": (
        Rule(
            "self.type != 'APIKey' || has(self.secretRef)",
            "type APIKey requires secretRef: name the Secret with the keys",
        ),
        Rule(
            "self.type == 'APIKey' || !has(self.secretRef)",
            "secretRef requires type APIKey: set it, or remove secretRef",
        ),
        Rule(
            "self.type == 'APIKey' || !has(self.header)",
            "header requires type APIKey: set it, or remove header",
        ),
    ),
    "PassthroughRouteSpec.allowedOrigins[]": (
        Rule(
            "!self.matches('^http://.*:80$|^https://.*:443$')",
            "names the scheme's default port, which browsers omit: omit it too",
        ),
    ),
    "PassthroughRouteSpec": (
        Rule(
            "has(self.provider) || (has(self.upstream) && has(self.upstream.url))",
            "`provider` or `upstream.url` is required: say where requests go",
        ),
        Rule(
            f"self.exposure != 'Cluster' || ({_API_KEY})",
            "exposure Cluster requires clientAuth of type APIKey: every pod can reach the route",
        ),
        Rule(
            f"!({_API_KEY}) || has(self.clientAuth.header) || !has(self.overrides) || "
            "self.overrides.all(o, has(o.credential))",
            "with clientAuth every override requires a credential, because the client's key is "
            "Thruway's and is not forwarded: set one, or clientAuth.header",
        ),
        *(
            _untouched("credential", verb, "the credential")
            for verb in ("set", "add", "remove", "setFromSecret")
        ),
        *(
            _untouched("clientAuth", verb, "Thruway's key")
            for verb in ("set", "add", "remove", "forwardOnly")
        ),
    ),
}
