"""The CRD in a real API server: what it takes, what it refuses, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from thruway_operator.api.route import PassthroughRoute, PassthroughRouteSpec
from thruway_operator.translate import Resources, translate
from thruway_testing.plane.cluster_user import User
from thruway_testing.plane.kubernetes.api import ROUTES
from thruway_testing.product.bad_input import (
    CANARY,
    HEAD,
    PLACES,
    SPEC,
    WEIRD,
    WRONG_TYPES,
    Steps,
    changed,
    name_of,
    out_of_range,
)
from thruway_testing.product.up import wait_until

if TYPE_CHECKING:
    import httpx

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.plane.kubernetes.kubectl import Kubectl

NAME = "passthroughroutes.thruway.dev"
EXAMPLES = Path(__file__).parents[2] / "examples"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/passthroughroutes.thruway.dev"


def tried(plane: ControlPlane, spec: Any, name: str = "all") -> httpx.Response:
    """Create a route, strictly, without creating it."""
    return plane.api.call(
        "POST",
        ROUTES.format("default"),
        {**HEAD, "metadata": {"name": name}, "spec": spec},
        params={"dryRun": "All", "fieldValidation": "Strict"},
    )


def refusal(plane: ControlPlane, spec: Any) -> str:
    """Return the API server's message, which there has to be."""
    answer = tried(plane, spec)
    assert 400 <= answer.status_code < 500, answer.text[:500]
    return str(answer.json()["message"])


def test_it_is_established_without_complaints(control_plane: ControlPlane) -> None:
    crd = control_plane.api.get(CRD)

    conditions = {item["type"]: item["status"] for item in crd["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}  # no NonStructuralSchema
    assert crd["status"]["acceptedNames"]["shortNames"] == ["ptr"]


def test_every_field_is_explained(kubectl: Kubectl) -> None:
    # The API server publishes its OpenAPI a moment after the CRD is established.
    wait_until(lambda: kubectl.run("explain", "ptr", check=False).returncode == 0, "its OpenAPI")
    told = kubectl.run("explain", "ptr.spec.upstream").stdout
    assert "http:// or https:// URL without user info" in told
    assert "versionPrefix\t<string>" in told
    everything = kubectl.run("explain", "ptr", "--recursive").stdout
    assert "secretKeyRef\t<Object> -required-" in everything
    assert "<no description>" not in told


def test_everything_in_one_route_and_the_examples_apply(
    control_plane: ControlPlane, kubectl: Kubectl
) -> None:
    assert tried(control_plane, SPEC).status_code == 201
    for file in sorted(EXAMPLES.glob("*.yaml")):
        said = kubectl.run("apply", "--server-side", "--validate=strict", "-f", str(file)).stdout
        kinds = [item["kind"] for item in yaml.safe_load_all(file.read_text()) if item]
        assert said.count("serverside-applied") == len(kinds)


def test_defaults_are_filled_in(control_plane: ControlPlane) -> None:
    parts = ("timeouts", "retries", "clientAuth", "upstream")
    given = {"path": "/a", "provider": "openai", **{part: {} for part in parts}}
    spec = tried(control_plane, given).json()["spec"]

    assert spec["timeouts"] == {"connect": "5s", "request": "0s", "idle": "3600s"}
    assert spec["retries"]["attempts"] == 1
    assert spec["clientAuth"] == {"type": "None"}
    assert spec["upstream"]["protocol"] == "Auto"
    assert spec["exposure"] == "Namespace"


def test_status_is_a_subresource(control_plane: ControlPlane, namespace: str) -> None:
    user = User(control_plane.api, namespace)
    user.apply("a", "https://api.example.com")
    path = f"{ROUTES.format(namespace)}/a"

    control_plane.api.merge(path, {"status": {"url": "http://ignored"}})
    control_plane.api.merge(f"{path}/status", {"status": {"url": "u"}, "spec": {"path": "/b"}})

    found = user.get("a")
    assert found["status"] == {"url": "u"}
    assert found["spec"]["path"] == "/a"


def test_lists_of_names_are_merged_by_name(control_plane: ControlPlane, namespace: str) -> None:
    path = f"{ROUTES.format(namespace)}/a"
    base = {**HEAD, "metadata": {"name": "a"}}

    def rules(*names: str) -> dict[str, Any]:
        listed = [{"name": name, "value": "v"} for name in names]
        headers = {"request": {"headers": {"set": listed}}}
        return {**base, "spec": {"path": "/a", "provider": "openai", **headers}}

    control_plane.api.apply(path, rules("x-one"), manager="one")
    control_plane.api.apply(path, rules("x-two"), manager="two")

    headers = control_plane.api.get(path)["spec"]["request"]["headers"]["set"]
    assert {item["name"] for item in headers} == {"x-one", "x-two"}


@pytest.mark.parametrize(("place", "schema"), PLACES, ids=[name_of(p) for p, _ in PLACES])
def test_every_field_of_the_wrong_type_or_out_of_range(
    place: Steps, schema: dict[str, Any], control_plane: ControlPlane
) -> None:
    for wrong in (*WRONG_TYPES[schema["type"]], *out_of_range(place, schema)):
        message = refusal(control_plane, changed(place, lambda _, wrong=wrong: wrong))  # type: ignore[misc]
        assert name_of(place) in message, (wrong, message[:300])


@pytest.mark.parametrize("place", [p for p, s in PLACES if s["type"] == "object"], ids=name_of)
def test_an_unknown_sibling(place: Steps, control_plane: ControlPlane) -> None:
    message = refusal(control_plane, changed(place, lambda old: {**old, "nonsense": 1}))
    assert f'unknown field "{name_of(place)}.nonsense"' in message


STRINGS = [(place, schema) for place, schema in PLACES if schema["type"] == "string"]
ODD = [
    "", " ", "x", "/", "//", "/a/", "/a//b", "/.", "/a/..", "/%2e", "/a?b", "a b", "-", "*", "*.",
    "*.a.example", "A.example", "a.example:1", "0s", "1", "-1s", "5m", "1h1h", "999999h", "host",
    "Host", "content-length", "connection", "x-envoy-a", "x-thruway-a", ":path", "authorization",
    "api-key", "é", "http://a.example", "https://u:p@a.example", "https://a.example?x",
    "https://a.example#x", "ftp://a.example", "http://", "http://[::1]", "http://a.example/../b",
    "http://a b", "v1", "/v1", "/v1beta", "/V1", "/v", CANARY, WEIRD, "a\tb", "a\nb", " a", "a ",
]  # fmt: skip


@settings(
    max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    place=st.sampled_from([place for place, _ in STRINGS]),
    value=st.one_of(st.sampled_from(ODD), st.text(max_size=20)),
)
def test_the_api_server_refuses_what_the_model_does_and_takes_what_it_takes(
    place: Steps, value: str, control_plane: ControlPlane
) -> None:
    """Invariant: nobody learns from the operator what the API server could have told."""
    spec = changed(place, lambda _: value)
    answer = tried(control_plane, spec)
    against = ours(spec)

    if answer.status_code == 201 and any(words in against for words in FOR_TRANSLATION_ALONE):
        return
    assert (answer.status_code == 201) == (not against), (place, value, answer.text[:600])


# What an expression of bounded cost cannot say of a URL, or needs a preset; it becomes a condition.
FOR_TRANSLATION_ALONE = (
    "has no valid host name",
    "has no valid IPv4 address",
    "has no valid IPv6 address",
    "is not a URL, or its port is not between 1 and 65535",
    "has no valid port",
    "has a path that is no base path",
    "must not contain a zone in its IPv6 address",
    "can never match",
)


def ours(spec: dict[str, Any]) -> str:
    """Return what the model or the translator has against a spec."""
    try:
        made = PassthroughRouteSpec.model_validate(spec)
    except ValidationError as error:
        return str(error)
    route = PassthroughRoute(namespace="default", name="all", spec=made)
    verdict = translate(Resources((route,))).verdicts[route.id]
    return "" if verdict.accepted.status else verdict.accepted.message


def test_a_name_that_only_holds_what_a_key_begins_with(control_plane: ControlPlane) -> None:
    ref = {"name": "task-credentials", "key": "DISK-SECRETKEY"}
    spec = {"path": "/a", "provider": "openai", "credential": {"secretKeyRef": ref}}
    assert tried(control_plane, spec).status_code == 201
    ref["key"] = CANARY
    assert "looks like an API key itself" in refusal(control_plane, spec)


KEYS = {"type": "APIKey", "secretRef": {"name": "clients"}}
BARE = [{"path": "/v1/x", "upstream": {"url": "http://a.ex"}}]
TOKEN = {"name": "X-Gateway", "secretKeyRef": {"name": "a", "key": "b"}}
RULES: list[tuple[dict[str, Any], str, str]] = [
    ({"path": "/a"}, "spec", "`provider` or `upstream.url` is required: say where requests go"),
    ({"path": "/a", "provider": "openai", "exposure": "Cluster"}, "spec", "requires clientAuth"),
    ({"path": "/a", "upstream": {"url": "https://u:p@a.ex"}}, "spec.upstream.url", "credential"),
    ({"path": "/a", "upstream": {"url": "https://a.ex/../b"}}, "spec.upstream.url", "write the"),
    (
        {"path": "/a", "provider": "openai", "clientAuth": {"type": "APIKey"}},
        "spec.clientAuth", "secretRef",
    ),
    (
        {"path": "/a", "provider": "openai", "clientAuth": {"header": "X-Proxy-Key"}},
        "spec.clientAuth", "header requires type APIKey",
    ),
    (
        {"path": "/a", "provider": "openai", "clientAuth": {**KEYS, "header": "Cookie"}},
        "spec.clientAuth.header", "has another purpose: use a header that carries nothing else",
    ),
    (
        {"path": "/a", "provider": "openai", "clientAuth": KEYS, "overrides": BARE},
        "spec", "every override requires a credential",
    ),
    (
        {
            "path": "/a", "provider": "openai", "clientAuth": {**KEYS, "header": "X-Proxy-Key"},
            "request": {"headers": {"forwardOnly": ["x-proxy-key"]}},
        },
        "spec", "request.headers.forwardOnly names the header that carries Thruway's key",
    ),
    (
        {
            "path": "/a", "provider": "openai",
            "request": {"headers": {"setFromSecret": [TOKEN], "remove": ["x-gateway"]}},
        },
        "spec.request.headers", "remove names a header of setFromSecret: keep one of the two",
    ),
    (
        {
            "path": "/a", "provider": "openai",
            "credential": {"secretKeyRef": {"name": "a", "key": "b"}, "header": "x-gateway"},
            "request": {"headers": {"setFromSecret": [TOKEN]}},
        },
        "spec", "request.headers.setFromSecret names the header that carries the credential",
    ),
    (
        {"path": "/a", "provider": "openai", "timeouts": {"connect": "soon"}},
        "spec.timeouts.connect", "must be a duration such as 5s, 1m30s or 250ms; 0s means no limit",
    ),
    (
        {"path": "a", "provider": "openai"},
        "spec.path", "must be one or more whole segments such as /openai_passthrough",
    ),
    (
        {"path": "/a", "provider": "openai", "hostnames": ["A:1"]},
        "spec.hostnames[0]", "must be a lower-case host name without port",
    ),
    *(
        (
            {"path": "/a", "provider": "openai", "allowedOrigins": [origin]},
            "spec.allowedOrigins[0]", words,
        )
        for origin, words in (
            ("*", "must be an origin as browsers send it, scheme://host[:port]"),
            ("null", "must be an origin as browsers send it, scheme://host[:port]"),
            ("https://app.example/", "must be an origin as browsers send it, scheme://host[:port]"),
            ("https://app.example:443", "names the scheme's default port, which browsers omit"),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(RULES)))
def test_rules_name_the_field_and_the_remedy(number: int, control_plane: ControlPlane) -> None:
    spec, field, words = RULES[number]
    message = refusal(control_plane, spec)
    assert f"{field}:" in message
    assert words in message


def test_with_a_header_of_its_own_for_the_key_overrides_may_be_bare(
    control_plane: ControlPlane, namespace: str
) -> None:
    auth = {**KEYS, "header": "X-Proxy-Key"}
    spec = {"path": "/a", "provider": "openai", "clientAuth": auth, "overrides": BARE}
    spec["request"] = {"headers": {"setFromSecret": [TOKEN]}}
    body = {"apiVersion": "thruway.dev/v1alpha1", "kind": "PassthroughRoute", "spec": spec}
    path = f"{ROUTES.format(namespace)}/a"
    control_plane.api.apply(path, {**body, "metadata": {"name": "a"}})


def test_every_list_and_string_has_a_limit(control_plane: ControlPlane) -> None:
    crd = control_plane.api.get(CRD)
    whole = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    unlimited: list[str] = []

    def walk(schema: dict[str, Any], place: str) -> None:
        kind = schema.get("type")
        if kind == "string" and "maxLength" not in schema and "enum" not in schema:
            unlimited.append(place)
        if kind == "array":
            if "maxItems" not in schema:
                unlimited.append(place)
            walk(schema["items"], f"{place}[]")
        for name, inner in schema.get("properties", {}).items():
            walk(inner, f"{place}.{name}")

    walk(whole["properties"]["spec"], "spec")
    walk(whole["properties"]["status"], "status")
    assert not unlimited
