"""`PassthroughRoute`: what is refused is refused with one sentence that names the field."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from thruway_operator.api.problems import field_name, problems
from thruway_operator.api.route import PassthroughRoute, PassthroughRouteSpec
from thruway_operator.api.types import milliseconds

Place = tuple[str | int, ...]
CANARY = "sk-canary-4Yq"

UPSTREAM: dict[str, Any] = {
    "url": "https://api.openai.com",
    "versionPrefix": "/v1",
    "tls": {
        "serverName": "api.openai.com",
        "minVersion": "TLSv1.3",
        "caCertificateRef": {"kind": "Secret", "name": "ca", "key": "ca.pem"},
        "clientCertificateRef": {"name": "client"},
    },
    "protocol": "HTTP2",
    "proxy": {
        "url": "http://proxy.corp.example:3128",
        "secretKeyRef": {"name": "proxy", "key": "login"},
    },
}
CREDENTIAL: dict[str, Any] = {
    "secretKeyRef": {"name": "keys", "key": "OPENAI_API_KEY"},
    "header": "X-Key",
    "prefix": "Key ",
}
RESPONSE_HEADERS: dict[str, Any] = {
    "set": [{"name": "X-A", "value": "1"}],
    "add": [{"name": "X-B", "value": "2"}],
    "remove": ["X-C"],
}
# Every field there is.
_WHOLE: dict[str, Any] = {
    "path": "/openai_passthrough",
    "hostnames": ["api.example.com"],
    "provider": "openai",
    "upstream": UPSTREAM,
    "credential": CREDENTIAL,
    "clientAuth": {"type": "APIKey", "secretRef": {"name": "clients"}, "header": "X-Proxy-Key"},
    "request": {
        "methods": ["GET"],
        "headers": {
            **RESPONSE_HEADERS,
            "forwardOnly": ["Accept"],
            "setFromSecret": [
                {
                    "name": "X-Gateway",
                    "prefix": "Token ",
                    "secretKeyRef": {"name": "gateway", "key": "TOKEN"},
                }
            ],
        },
        "query": {
            "default": [{"name": "a", "value": "1"}],
            "set": [{"name": "b", "value": "2"}],
            "remove": ["c"],
        },
    },
    "response": {"headers": RESPONSE_HEADERS},
    "overrides": [
        {
            "path": "/v1/responses",
            "match": "Exact",
            "upstream": UPSTREAM,
            "credential": CREDENTIAL,
        }
    ],
    "timeouts": {"connect": "1s", "request": "1m30s", "idle": "1h"},
    "retries": {"attempts": 2, "retryOn": ["ConnectFailure"]},
    "allowedOrigins": ["https://app.example"],
    "exposure": "Cluster",
}
WHOLE: dict[str, Any] = json.loads(json.dumps(_WHOLE))  # nothing in it is shared


def places(data: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield every place inside the data, with what is there."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield (*place, key), value
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))


PLACES = list(places(WHOLE))
MAPPINGS = [((), WHOLE), *((place, value) for place, value in PLACES if isinstance(value, dict))]


def named(case: Any) -> str:
    return field_name(case) if isinstance(case, tuple) else ""


def with_value(place: Place, value: Any) -> dict[str, Any]:
    spec: Any = copy.deepcopy(WHOLE)
    target = spec
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    assert isinstance(spec, dict)
    return spec


def said(spec: Any) -> list[str]:
    """Return what is said of a spec."""
    try:
        PassthroughRouteSpec.model_validate(spec)
    except ValidationError as error:
        return [str(problem) for problem in problems(error, ("spec",))]
    return []


def the_problem(spec: Any, place: Place) -> str:
    """Return the one sentence said of one place."""
    (sentence,) = said(spec)
    field, _, text = sentence.partition(": ")
    assert field == field_name(("spec", *place))
    assert re.fullmatch(r"[a-z`][^\n]*[^.\n]", text), text  # whole sentences are made by others
    assert "nput should" not in text  # pydantic's own words
    return text


def test_the_whole_spec_is_valid() -> None:
    assert said(WHOLE) == []


def schema_places(schema: Any, definitions: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for option in schema.get("anyOf", ()):
        yield from schema_places(option, definitions, place)
    if schema.get("type") not in (None, "null"):
        yield place, schema
    for name, inner in schema.get("properties", {}).items():
        yield from schema_places(inner, definitions, (*place, name))
    if "items" in schema:
        yield from schema_places(schema["items"], definitions, (*place, 0))


SCHEMA = PassthroughRouteSpec.model_json_schema()
SCHEMA_PLACES = list(schema_places(SCHEMA, SCHEMA["$defs"]))


def test_these_tests_cover_every_field() -> None:
    assert {place for place, _ in SCHEMA_PLACES} == {place for place, _ in PLACES} | {()}


@pytest.mark.parametrize(("place", "schema"), SCHEMA_PLACES, ids=named)
def test_every_field_is_bounded(place: Place, schema: Any) -> None:
    """So that one resource cannot fill the API server, nor a rule its 4 KiB many times over."""
    match schema["type"]:
        case "string":
            assert "enum" in schema or "const" in schema or "maxLength" in schema
        case "array":
            assert "maxItems" in schema
        case "integer":
            assert {"minimum", "maximum"} <= set(schema)
        case other:
            assert other == "object"
            assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("place", "schema"), [item for item in SCHEMA_PLACES if "description" not in item[1]], ids=named
)
def test_what_has_no_description_is_an_item_or_an_option(place: Place, schema: Any) -> None:
    """The reference page is made of the descriptions."""
    owner: Any = SCHEMA
    for part in place:
        if "$ref" in owner:
            owner = SCHEMA["$defs"][owner["$ref"].rpartition("/")[2]]
        owner = owner["items"] if isinstance(part, int) else owner["properties"][part]
        for option in owner.get("anyOf", ()):
            if "$ref" in option or "items" in option:
                owner = {**owner, **option}
    assert isinstance(place[-1], int) or "description" in owner


WRONG: list[Any] = [None, 3, 2.5, True, "text", [], ["text"], {}, {"a": 1}, 10**30]


def fits(value: Any, good: Any) -> bool:
    return type(value) is type(good) or (value in ([], {}) and type(good) is type(value))


@pytest.mark.parametrize(("place", "good"), PLACES, ids=named)
def test_a_wrong_type_is_named(place: Place, good: Any) -> None:
    for value in WRONG:
        if fits(value, good) or (value is None and optional(place)):
            continue
        text = the_problem(with_value(place, value), place)
        expected = "must be " if good not in ENUMERATED else "must be one of "
        assert text.startswith(expected), (value, text)


OPTIONAL = {
    "provider", "url", "versionPrefix", "serverName", "caCertificateRef", "credential", "header",
    "prefix", "secretRef", "proxy", "clientCertificateRef",
}  # fmt: skip


def optional(place: Place) -> bool:
    return place[-1] in OPTIONAL or place[-2:] == ("proxy", "secretKeyRef")


ENUMERATED = [
    "openai", "TLSv1.3", "Secret", "HTTP2", "APIKey", "GET", "Exact", "ConnectFailure", "Envoy",
    "Cluster",
]  # fmt: skip


@pytest.mark.parametrize(("place", "mapping"), MAPPINGS, ids=named)
def test_an_unknown_sibling_is_named(place: Place, mapping: Any) -> None:
    text = the_problem(with_value((*place, "nope"), CANARY), (*place, "nope"))
    assert text == "is not a known field: check its spelling, or remove it"


@pytest.mark.parametrize(("place", "mapping"), MAPPINGS, ids=named)
def test_only_camel_case_is_known(place: Place, mapping: Any) -> None:
    """As in Kubernetes: there, snake_case would be an unknown field too."""
    for name in mapping:
        snake = re.sub("(?=[A-Z])", "_", name).lower()
        if snake != name:
            spec = with_value((*place, snake), mapping[name])
            assert "is not a known field" in the_problem(spec, (*place, snake))


@pytest.mark.parametrize(("place", "mapping"), MAPPINGS, ids=named)
def test_a_key_that_is_no_text_is_refused(place: Place, mapping: Any) -> None:
    (sentence,) = said(with_value((*place, 7), CANARY))
    assert sentence.endswith("has a key that is not text: put it in quotes")
    assert CANARY not in sentence


BOUNDED = [item for item in SCHEMA_PLACES if {"maxLength", "maxItems"} & set(item[1])]


@pytest.mark.parametrize(("place", "schema"), BOUNDED, ids=named)
def test_too_long_is_named_with_the_limit(place: Place, schema: Any) -> None:
    if "maxLength" in schema:
        limit = schema["maxLength"]
        text = the_problem(with_value(place, "a" * (limit + 1)), place)
        assert text == f"may be at most {limit} characters long"
    else:
        limit = schema["maxItems"]
        item = dict(PLACES)[(*place, 0)]
        text = the_problem(with_value(place, [item] * (limit + 1)), place)
        assert text == f"may have at most {limit} entries"


@pytest.mark.parametrize(("place", "good"), PLACES, ids=named)
def test_no_value_is_repeated(place: Place, good: Any) -> None:
    """A key pasted into the wrong place must not show up in a status, a log or a terminal."""
    pasted = [
        CANARY, f"Bearer {CANARY}", f" {CANARY}\n", f"https://{CANARY}@h", f"/{CANARY}/",
        f"é{CANARY}", f"x-envoy-{CANARY}", f"x-thruway-{CANARY}", CANARY * 100, f"{CANARY}\ud800",
        [CANARY], [CANARY, CANARY], [{"name": CANARY, "value": CANARY}] * 2, [{"name": CANARY}],
        {"name": CANARY}, {"url": CANARY}, {"type": CANARY}, [[CANARY]], {"secretKeyRef": CANARY},
    ]  # fmt: skip
    for value in pasted:
        for sentence in said(with_value(place, value)):
            assert CANARY not in sentence
            assert "\n" not in sentence


A = {"name": "X-A", "value": "1"}
TWICE = r"entries \[0\] and \[1\] have the same name: keep one"


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        (("path",), "", "may not be empty"),
        (("path",), "/", "must be one or more whole segments"),
        (("path",), "openai", "must be one or more whole segments"),
        (("path",), "/openai/", "must be one or more whole segments"),
        (("path",), "/a//b", "must be one or more whole segments"),
        (("path",), "/a/../b", "must be one or more whole segments"),
        (("path",), "/.well-known", "must be one or more whole segments"),
        (("path",), "/a%2Fb", "must be one or more whole segments"),
        (("path",), "/a?b", "must be one or more whole segments"),
        (("path",), "/a\n", "must be one or more whole segments"),
        (("path",), "/é", "must be one or more whole segments"),
        (("hostnames", 0), "API.example.com", "must be a lower-case host name without port"),
        (("hostnames", 0), "a.b:80", "must be a lower-case host name without port"),
        (("hostnames", 0), "*", "must be a lower-case host name without port"),
        (("hostnames", 0), "a.*.b", "must be a lower-case host name without port"),
        (("hostnames", 0), "-a", "must be a lower-case host name without port"),
        (("provider",), "other", "must be one of openai, anthropic or gemini"),
        (("upstream", "url"), "http://", "is too short"),
        (("upstream", "versionPrefix"), "v1", "must be a version such as /v1"),
        (("upstream", "versionPrefix"), "/1", "must be a version such as /v1"),
        (("upstream", "versionPrefix"), "/v1/", "must be a version such as /v1"),
        (("upstream", "versionPrefix"), "/V1", "must be a version such as /v1"),
        (("upstream", "tls", "serverName"), "*.a.b", "must be a lower-case host name"),
        (("upstream", "tls", "minVersion"), "TLSv1.1", "must be one of TLSv1.2 or TLSv1.3"),
        (("upstream", "tls", "caCertificateRef", "kind"), "Pod", "must be one of"),
        (("upstream", "tls", "caCertificateRef", "name"), "A_B", "is not a valid name"),
        (("upstream", "tls", "caCertificateRef", "key"), "a b", "may only contain letters, digits"),
        (("upstream", "protocol"), "HTTP3", "must be one of Auto, HTTP1 or HTTP2"),
        (("credential", "secretKeyRef", "name"), "", "may not be empty"),
        (("credential", "secretKeyRef", "key"), "a/b", "may only contain letters, digits"),
        (("credential", "header"), "Host", "Host is set from the upstream's URL"),
        (("credential", "header"), "a b", "is not a header name"),
        (("credential", "header"), "User-Agent", "User-Agent is written to the log"),
        (("clientAuth", "header"), "Cookie", "Cookie has another purpose: use a header"),
        (("clientAuth", "header"), "Content-Type", "Content-Type has another purpose"),
        (("clientAuth", "header"), "Sec-Fetch-Mode", "Sec-Fetch-Mode has another purpose"),
        (("clientAuth", "header"), "X-Forwarded-Proto", "X-Forwarded-Proto has another purpose"),
        (("clientAuth", "header"), "Referer", "Referer has another purpose"),
        (("clientAuth", "header"), "x'+'y", "may only contain letters, digits, - and _"),
        (("clientAuth", "header"), "Host", "Host is set from the upstream's URL"),
        (("clientAuth", "header"), "TE", "TE belongs to one connection"),
        (("clientAuth", "header"), "X-Request-Id", "X-Request-Id is written to the log"),
        (("clientAuth", "header"), "x-thruway-key", "names that begin with x-envoy- or x-thru"),
        (("request", "headers", "setFromSecret", 0, "name"), "Host", "Host is set from the"),
        (("request", "headers", "setFromSecret", 0, "name"), "x-request-id", "x-request-id is"),
        (("request", "headers", "setFromSecret", 0, "prefix"), "ü ", "may only contain printable"),
        (("credential", "prefix"), "Bearer\t", "may only contain printable ASCII"),
        (("credential", "prefix"), "ü ", "may only contain printable ASCII"),
        (("clientAuth", "type"), "Basic", "must be one of None or APIKey"),
        (("request", "methods", 0), "get", "must be one of GET, HEAD, POST"),
        (("request", "methods", 0), "CONNECT", "must be one of GET, HEAD, POST"),
        (("request", "headers", "set", 0, "name"), ":path", "is not a valid header name"),
        (("request", "headers", "set", 0, "value"), "", "may not be empty"),
        (("request", "headers", "set", 0, "value"), "a\r\nb: c", "must not contain control"),
        (("request", "headers", "set", 0, "value"), " a", "must not contain control"),
        (("request", "headers", "set", 0, "value"), "a\x7f", "must not contain control"),
        (("request", "headers", "set"), [A, {"name": "x-a", "value": "2"}], TWICE),
        (("request", "headers", "remove"), ["a", "A", "b"], TWICE),
        (("request", "headers", "remove", 0), ":path", "is not a valid header name"),
        (("request", "headers", "forwardOnly", 0), "a:", "is not a header name"),
        (("request", "query", "set"), [A, A], TWICE),
        (("request", "query", "default"), [A, A], TWICE),
        (("request", "query", "remove", 0), "a\x00", "is not a valid parameter name"),
        (("overrides", 0, "path"), "/v1/responses/", "must be one or more whole segments"),
        (("overrides", 0, "match"), "Regex", "must be one of Prefix or Exact"),
        (("overrides", 0, "upstream"), {}, "an override requires `url`"),
        (("overrides", 0, "upstream"), {"tls": {}}, "an override requires `url`"),
        (("timeouts", "connect"), "5", "must be a duration such as 5s"),
        (("timeouts", "request"), "1.5s", "must be a duration such as 5s"),
        (("timeouts", "idle"), "-1s", "must be a duration such as 5s"),
        (("timeouts", "idle"), "1d", "must be a duration such as 5s"),
        (("timeouts", "idle"), "999999s", "must be a duration such as 5s"),
        (("retries", "attempts"), -1, "must be 0 or more"),
        (("retries", "attempts"), 11, "must be 10 or less"),
        (("retries", "retryOn"), [], "must have at least 1 entry"),
        (("retries", "retryOn", 0), "5xx", "must be one of ConnectFailure"),
        (("allowedOrigins",), ["https://a.example"] * 17, "may have at most 16 entries"),
        (("allowedOrigins", 0), "*", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "null", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "a.example", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "https://a.example/", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "https://a.example/b", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "https://A.example", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "HTTPS://a.example", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "https://*.a.example", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "https://u@a.example", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "https://a.example:0", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "https://a.example:65536", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "https://", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "https://a.example\n", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "https://a.example?b", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "https://é.example", "must be an origin as browsers send it"),
        (("allowedOrigins", 0), "https://a.example:443", "names the scheme's default port"),
        (("allowedOrigins", 0), "http://[::1]:80", "names the scheme's default port"),
        (("exposure",), "Public", "must be one of Namespace or Cluster"),
    ],
)  # fmt: skip
def test_out_of_range(place: Place, value: Any, text: str) -> None:
    spec = with_value(place, value)
    (sentence,) = said(spec)
    field, _, rest = sentence.partition(": ")
    assert field == field_name(("spec", *place))
    assert re.match(text, rest)


RESERVED = [
    "Connection", "keep-alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
    "TE", "Trailer", "Transfer-Encoding", "Upgrade", "HOST", "Content-Length", "X-Envoy-Anything",
    "x-thruway-rule", ":authority", ":path",
]  # fmt: skip
CREDENTIALS = ["Authorization", "api-key", "X-Api-Key", "x-goog-api-key", "X-LiteLLM-Api-Key"]


@pytest.mark.parametrize("name", [*RESERVED, *CREDENTIALS])
@pytest.mark.parametrize("side", ["request", "response"])
@pytest.mark.parametrize("verb", ["set", "add"])
def test_reserved_headers_cannot_be_written(side: str, verb: str, name: str) -> None:
    place: Place = (side, "headers", verb, 0, "name")
    (sentence,) = said(with_value(place, name))
    assert sentence.startswith(field_name(("spec", *place)) + ": ")


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize("side", ["request", "response"])
def test_reserved_headers_cannot_be_removed(side: str, name: str) -> None:
    if (side, name) == ("response", "X-Envoy-Anything"):
        name = "X-Thruway-Code"
    place: Place = (side, "headers", "remove", 0)
    (sentence,) = said(with_value(place, name))
    assert sentence.startswith(field_name(("spec", *place)) + ": ")


@pytest.mark.parametrize(
    "name", ["x-envoy-upstream-service-time", "X-Envoy-Decorator-Operation", "x-envoy-overloaded"]
)
def test_an_upstreams_own_envoy_headers_can_be_removed(name: str) -> None:
    spec = with_value(("response", "headers", "remove"), [name])
    found = PassthroughRouteSpec.model_validate(spec)
    assert found.response.headers.remove == [name]


def test_engine_is_no_field() -> None:
    assert said(with_value(("engine",), "Envoy")) == [
        "spec.engine: is not a known field: check its spelling, or remove it"
    ]


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_headers_carry_no_credential(name: str) -> None:
    (sentence,) = said(with_value(("credential", "header"), name))
    assert sentence.startswith("spec.credential.header: ")


@pytest.mark.parametrize("name", CREDENTIALS)
def test_credential_headers_can_be_removed_and_carry_credentials(name: str) -> None:
    assert said(with_value(("request", "headers", "remove"), [name])) == []
    assert said(with_value(("credential", "header"), name)) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("path",), "/a"),
        (("path",), "/A-b_c~d.e/v1"),
        (("hostnames",), ["*.example.com", "localhost", "10.0.0.1"]),
        (("upstream", "versionPrefix"), ""),
        (("upstream", "versionPrefix"), "/v1beta2"),
        (("credential", "prefix"), ""),
        (("request", "headers", "set", 0, "value"), 'größe "100%"\t%REQ(a)%'),
        (("request", "headers", "add"), [{"name": "Set-Me", "value": "1"}] * 2),
        (("request", "headers", "forwardOnly"), ["Authorization", "Content-Type"]),
        (("request", "query", "set"), [{"name": "a", "value": ""}, {"name": "A", "value": "é&="}]),
        (("request", "query", "remove"), ["include[]", "a b", "é"]),
        (("response", "headers", "remove"), ["Set-Cookie", "Server"]),
        (("allowedOrigins",), ["app://obsidian.md", "vscode-file://vscode-app"]),
        (("allowedOrigins",), ["http://tauri.localhost", "https://[::1]:8443", "https://a:80"]),
        (("timeouts", "idle"), "0s"),
        (("timeouts", "idle"), "1h2m3s4ms"),
        (("retries", "attempts"), 0),
    ],
)
def test_what_is_allowed(place: Place, value: Any) -> None:
    assert said(with_value(place, value)) == []


def test_required_fields() -> None:
    assert said({}) == ["spec.path: is required"]
    assert said({"path": "/a"}) == [
        "spec: `provider` or `upstream.url` is required: say where requests go"
    ]
    assert said({"path": "/a", "upstream": {"url": "http://h.example"}}) == []
    assert said({"path": "/a", "provider": "openai"}) == []
    assert said({"path": "/a", "provider": "openai", "overrides": [{}], "credential": {}}) == [
        "spec.credential.secretKeyRef: is required",
        "spec.overrides[0].path: is required",
        "spec.overrides[0].upstream: is required",
    ]
    assert said([]) == ["spec: must be a mapping of fields"]
    assert said(None) == ["spec: must be a mapping of fields"]


def test_defaults_are_those_of_the_design() -> None:
    spec = PassthroughRouteSpec.model_validate({"path": "/a", "provider": "openai"})
    assert spec.model_dump(by_alias=True) == {
        "path": "/a",
        "hostnames": [],
        "provider": "openai",
        "upstream": {
            "url": None,
            "versionPrefix": None,
            "tls": {
                "serverName": None,
                "minVersion": "TLSv1.2",
                "caCertificateRef": None,
                "clientCertificateRef": None,
            },
            "protocol": "Auto",
            "proxy": None,
        },
        "credential": None,
        "clientAuth": {"type": "None", "secretRef": None, "header": None},
        "request": {
            "methods": [],
            "headers": {
                "set": [],
                "add": [],
                "remove": [],
                "forwardOnly": [],
                "setFromSecret": [],
            },
            "query": {"default": [], "set": [], "remove": []},
        },
        "response": {"headers": {"set": [], "add": [], "remove": []}},
        "overrides": [],
        "timeouts": {"connect": "5s", "request": "0s", "idle": "3600s"},
        "retries": {
            "attempts": 1,
            "retryOn": ["ConnectFailure", "RefusedStream", "ResetBeforeRequest"],
        },
        "allowedOrigins": [],
        "exposure": "Namespace",
    }


def test_defaults_of_optional_parts() -> None:
    spec = PassthroughRouteSpec.model_validate(
        {
            "path": "/a",
            "upstream": {"url": "https://h.example", "tls": {"caCertificateRef": {"name": "ca"}}},
            "credential": {"secretKeyRef": {"name": "s", "key": "k"}},
            "overrides": [{"path": "/v1/x", "upstream": {"url": "http://h.example"}}],
        }
    )
    authority = spec.upstream.tls.ca_certificate_ref
    assert authority is not None
    assert (authority.kind, authority.key) == ("ConfigMap", "ca.crt")
    assert spec.credential is not None
    assert (spec.credential.header, spec.credential.prefix) == (None, None)
    assert (spec.overrides[0].match, spec.overrides[0].credential) == ("Prefix", None)


def test_every_problem_is_told() -> None:
    found = said({"path": "a", "provider": "x", "hostnames": ["A"], "nope": 1})
    assert [sentence.partition(":")[0] for sentence in found] == [
        "spec.path", "spec.hostnames[0]", "spec.provider", "spec.nope",
    ]  # fmt: skip


def test_a_routes_identity() -> None:
    spec = PassthroughRouteSpec.model_validate(WHOLE)
    assert PassthroughRoute(name="a", spec=spec).id == "default/a"
    assert PassthroughRoute(namespace="team", name="a.b", spec=spec).id == "team/a.b"
    with pytest.raises(ValidationError):
        PassthroughRoute(name="A_B", spec=spec)
    with pytest.raises(ValidationError):
        PassthroughRoute(namespace="a/b", name="a", spec=spec)


def test_pydantics_own_words_hide_the_value_too() -> None:
    with pytest.raises(ValidationError) as caught:
        PassthroughRouteSpec.model_validate(with_value(("upstream", "protocol"), CANARY))
    assert CANARY not in str(caught.value) + repr(caught.value)


def test_a_route_is_frozen() -> None:
    spec = PassthroughRouteSpec.model_validate(WHOLE)
    with pytest.raises(ValidationError):
        spec.path = "/b"


UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
parts = st.tuples(st.integers(0, 99_999), st.sampled_from(list(UNITS)))


@given(st.lists(parts, min_size=1, max_size=3))
def test_durations(written: list[tuple[int, str]]) -> None:
    """A duration is the sum of its parts, and every such duration is valid."""
    duration = "".join(f"{number}{unit}" for number, unit in written)
    assert milliseconds(duration) == sum(number * UNITS[unit] for number, unit in written)
    assert said(with_value(("timeouts", "idle"), duration)) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted({str(p[-1]) for p, _ in PLACES})), inner)
    ),
    max_leaves=12,
)


@given(st.sampled_from([place for place, _ in PLACES]), json_values)
def test_anything_anywhere_is_valid_or_explained(place: Place, value: Any) -> None:
    """Whatever stands in a field, validation returns, and each sentence names a field in spec."""
    for sentence in said(with_value(place, value)):
        assert re.match(r"spec(\.|:|\[)", sentence)
        assert "nput should" not in sentence


@pytest.mark.parametrize("field", ["name", "key"])
def test_a_key_pasted_in_place_of_its_name_is_refused_and_not_repeated(field: str) -> None:
    """Names of Secrets and of their entries are shown in errors, so no key may pass for one."""
    ref = {"name": "openai", "key": "OPENAI_API_KEY", field: "sk-proj-abcdefgh12345678"}
    with pytest.raises(ValidationError) as caught:
        PassthroughRouteSpec.model_validate(
            {"path": "/a", "provider": "openai", "credential": {"secretKeyRef": ref}}
        )
    (problem,) = problems(caught.value)
    assert "looks like an API key itself" in str(problem)
    assert "sk-proj" not in str(problem)
