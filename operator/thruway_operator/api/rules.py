"""CEL rules of the CRD: what the model's validators, and translation, refuse beyond patterns.

By the class of the model (`Upstream`), its field (`Timeouts.connect`) or the items of a field
(`HeaderRules.remove[]`). The messages are those of the model, as far as they need no value.
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
    """A CEL expression that must be true, and what is said if it is not."""

    expression: str
    message: str

    def schema(self) -> dict[str, str]:
        """Return it as the schema has it."""
        return {"rule": self.expression, "message": self.message}


def _listed(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


def _not_in(what: str, names: tuple[str, ...]) -> str:
    return f"!({what}.lowerAscii() in {_listed(names)})"


def _framing(what: str) -> tuple[Rule, ...]:
    return (
        Rule(
            _not_in(what, HOP_BY_HOP),
            "belongs to one connection, not to the message: leave it out",
        ),
        Rule(
            _not_in(what, ("host", "content-length")),
            "is set from the upstream's URL or the body: leave it out",
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
        "may only hold letters, digits, - and _: use a name such as X-Proxy-Key",
    ),
    Rule(
        _not_in("self", TAKEN)
        + "".join(f" && !self.lowerAscii().startsWith('{prefix}')" for prefix in TAKEN_PREFIXES),
        "has another purpose: use a header that carries nothing else, such as X-Proxy-Key",
    ),
)

_NAMES_A_KEY = Rule(
    f"!self.matches('^({KEY_PATTERN})')",  # at the start, as the model has it
    "looks like an API key itself: put the key into a Secret, and name its entry here",
)

_URL = (
    Rule("self.matches('^(?i)https?://')", "must begin with http:// or https://"),
    Rule("self.matches('^[!-~]+$')", "may only hold printable ASCII characters without blanks"),
    Rule(
        "!self.matches('^[^/]*//[^/?#]*@')",
        "may hold no user and password: use `credential`",
    ),
    Rule("!self.contains('?')", "may hold no query: use `request.query`"),
    Rule("!self.contains('#')", "may hold no fragment: remove what follows the #"),
    Rule("self.matches('^[^/]*//[^/]')", "has no valid host name"),
    Rule(
        r"!self.matches('(?i)/(\\.|%2e){1,2}(/|$)')",
        "may hold no dot segments in its path: write the path out",
    ),
)


def _unique(field: str) -> Rule:
    return Rule(
        f"!has(self.{field}) || self.{field}.all(a, "
        f"self.{field}.exists_one(b, b.name.lowerAscii() == a.name.lowerAscii()))",
        f"{field} holds a name twice, in whatever case: keep one",
    )


_HEADER_RULES = (
    _unique("set"),
    Rule(
        "!has(self.remove) || self.remove.all(a, "
        "self.remove.exists_one(b, b.lowerAscii() == a.lowerAscii()))",
        "remove holds a name twice, in whatever case: keep one",
    ),
)

_TLS = Rule(
    "!has(self.tls) || !has(self.url) || self.url.matches('^(?i)https://')",
    "tls has no meaning for an http:// upstream: remove it, or use https://",
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
            'secretKeyRef has no meaning with url "": remove it, or name the proxy',
        ),
    ),
    "UpstreamProxy.url": (
        Rule(
            "self == '' || self.matches('^(?i)https?://[!-.0-~]+/*$')",
            'must be http:// or https:// with a host and no path, or "" for none',
        ),
        Rule(
            "!self.contains('@') && !self.contains('?') && !self.contains('#')",
            "may hold no user, password, query and fragment: put the login into secretKeyRef",
        ),
    ),
    "Credential.header": _OF_SECRET,
    "SecretHeader.name": _OF_SECRET,
    "ClientAuth.header": _OF_KEY,
    "NameValue.name": (
        *_touched("self"),
        Rule(
            _not_in("self", CREDENTIAL_HEADERS),
            "carries a credential, which rules may not hold: use `credential`, so that the key "
            "stays in a Secret",
        ),
    ),
    "ResponseHeaderRules": _HEADER_RULES,
    "ResponseHeaderRules.remove[]": (
        *_framing("self"),
        Rule(
            "!self.lowerAscii().startsWith('x-thruway-')",
            "names that begin with x-thruway- are reserved: leave it out",
        ),
    ),
    "RequestHeaderRules": (
        *_HEADER_RULES,
        _unique("setFromSecret"),
        *map(_set_from_secret_alone, ("set", "add", "remove")),
    ),
    "RequestHeaderRules.remove[]": _touched("self"),
    "Timeouts.connect": (
        Rule("self.matches('[1-9]')", "may not be 0s: a connection needs some limit, as 5s"),
    ),
    "ClientAuth": (
        Rule(
            "self.type != 'APIKey' || has(self.secretRef)",
            "type APIKey needs secretRef: name the keys' Secret",
        ),
        Rule(
            "self.type == 'APIKey' || !has(self.secretRef)",
            "secretRef needs type APIKey: set it, or remove secretRef",
        ),
        Rule(
            "self.type == 'APIKey' || !has(self.header)",
            "header needs type APIKey: set it, or remove header",
        ),
    ),
    "PassthroughRouteSpec.allowedOrigins[]": (
        Rule(
            "!self.matches('^http://.*:80$|^https://.*:443$')",
            "names the scheme's own port, which browsers leave out: leave it out too",
        ),
    ),
    "PassthroughRouteSpec": (
        Rule(
            "has(self.provider) || (has(self.upstream) && has(self.upstream.url))",
            "`provider` or `upstream.url` is required: say where requests go",
        ),
        Rule(
            f"self.exposure != 'Cluster' || ({_API_KEY})",
            "exposure Cluster needs clientAuth of type APIKey: everybody in the cluster reaches it",
        ),
        Rule(
            f"!({_API_KEY}) || has(self.clientAuth.header) || !has(self.overrides) || "
            "self.overrides.all(o, has(o.credential))",
            "with clientAuth every override needs a credential of its own, because the client's "
            "key is Thruway's and passes nowhere: set one, or clientAuth.header",
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
