"""What holds for every translation, whatever the routes are."""

import re
from typing import Any

import pytest
from envoy.config.route.v3 import route_components_pb2 as route_pb
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thruway_extproc.rule import METADATA_KEY, decode
from thruway_operator import ir
from thruway_operator.api.route import PassthroughRoute, PassthroughRouteSpec
from thruway_operator.envoy.names import EXT_PROC_FILTER
from thruway_operator.envoy.routes import render_routes
from thruway_operator.resources.secret import SecretValue
from thruway_operator.translate import Resources, Translation, translate
from thruway_operator.translate.conflicts import overlap
from thruway_testing.product.golden import snapshot_of_translation

CANARY = "sk-canary-4Yq"
HOSTS = ["a.example", "b.example", "x.a.example", "y.x.a.example", "*.a.example", "*.example",
         "*.x.a.example"]  # fmt: skip

segments = st.sampled_from(["a", "b", "v1", "aX"])
route_paths = st.lists(segments, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
urls = st.sampled_from(
    ["http://h.example", "https://192.0.2.1", "ftp://h.example", "http://u@h.example"]
)  # fmt: skip
keys = st.sampled_from(["GOOD", "EMPTY", "BAD", "NOPE"])
credentials = st.fixed_dictionaries(
    {"secretKeyRef": st.fixed_dictionaries({"name": st.sampled_from(["s", "nope"]), "key": keys})},
    optional={
        "header": st.sampled_from(["X-Key", "Api-Key"]),
        "prefix": st.sampled_from(["", "%"]),
    },
)
values = st.text("a%(){}\"'\\ é😀:,;", max_size=8).map("<{}>".format)  # no blank at either end
headers = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["X-A", "X-B", "X-Key"]), "value": values}),
    max_size=3,
    unique_by=lambda item: item["name"],
)  # fmt: skip
overrides = st.fixed_dictionaries(
    {
        "path": st.sampled_from(["/v1/a", "/v1/b", "/v1", "/a", "/v2/a"]),
        "upstream": st.fixed_dictionaries({"url": urls}),
    },
    optional={"match": st.sampled_from(["Prefix", "Exact"]), "credential": credentials},
)
specs = st.fixed_dictionaries(
    {"path": route_paths, "upstream": st.fixed_dictionaries({"url": urls})},
    optional={
        "provider": st.sampled_from(["openai", "gemini"]),
        "hostnames": st.lists(st.sampled_from(HOSTS), max_size=3),
        "credential": credentials,
        "overrides": st.lists(overrides, max_size=3),
        "request": st.fixed_dictionaries(
            {"headers": st.fixed_dictionaries({"set": headers, "add": headers})}
        ),
        "response": st.fixed_dictionaries(
            {"headers": st.fixed_dictionaries({"set": headers, "add": headers})}
        ),
        "timeouts": st.fixed_dictionaries({"connect": st.sampled_from(["5s", "5s", "0s"])}),
    },
)
ages = st.sampled_from(["1", "2", "3"])
spec_lists = st.lists(st.tuples(specs, ages), min_size=1, max_size=6)


def resources(routes: list[PassthroughRoute]) -> Resources:
    secret = {
        "GOOD": SecretValue(CANARY),
        "EMPTY": SecretValue(" "),
        "BAD": SecretValue(f"{CANARY}\n{CANARY}"),
        "ca.crt": SecretValue(f"-----BEGIN CERTIFICATE-----\n{CANARY}"),
    }
    return Resources(routes=tuple(routes), secrets={("default", "s"): secret})


def routes_of(found: list[tuple[Any, str]], start: int = 0) -> list[PassthroughRoute]:
    return [route(f"r{index}", spec, age) for index, (spec, age) in enumerate(found, start)]


def route(name: str, spec: Any, age: str = "1") -> PassthroughRoute:
    checked = PassthroughRouteSpec.model_validate(spec)
    return PassthroughRoute(name=name, created=age, spec=checked)


def served(translation: Translation) -> dict[str, ir.Route]:
    return {found.id: found for found in translation.config.routes}


@given(spec_lists, st.data())
def test_the_order_of_the_input_means_nothing(
    found: list[tuple[Any, str]], data: st.DataObject
) -> None:
    """Translation and every byte for Envoy are the same for any order of the same resources."""
    routes = routes_of(found)
    shuffled = data.draw(st.permutations(routes))
    one, other = translate(resources(routes)), translate(resources(shuffled))
    assert one == other
    assert list(one.verdicts) == list(other.verdicts)
    snapshots = [snapshot_of_translation(each, "CA") for each in (one, other)]
    assert snapshots[0] == snapshots[1]


@given(spec_lists, specs, ages)
def test_a_bad_route_changes_nothing_for_the_others(
    found: list[tuple[Any, str]], spec: Any, age: str
) -> None:
    """With or without a route that is refused for itself, the others yield the same."""
    bad = route("bad", {**spec, "timeouts": {"connect": "0s"}}, age)
    routes = routes_of(found)
    without, with_it = translate(resources(routes)), translate(resources([bad, *routes]))
    assert not with_it.verdicts["default/bad"].accepted.status
    assert with_it.config == without.config
    others = {name: verdict for name, verdict in with_it.verdicts.items() if name != "default/bad"}
    assert others == without.verdicts


@given(spec_lists, specs)
def test_a_younger_route_changes_nothing_for_the_older(
    found: list[tuple[Any, str]], spec: Any
) -> None:
    """What is served stays served, byte for byte, when a younger route appears."""
    routes = routes_of(found)
    before = translate(resources(routes))
    after = translate(resources([route("young", spec, "9"), *routes]))
    assert {name: after.verdicts[name] for name in before.verdicts} == before.verdicts
    still = {name: item for name, item in served(after).items() if name != "default/young"}
    assert still == served(before)


def collide(one: PassthroughRoute, other: PassthroughRoute) -> bool:
    """Whether the two claim a common path on a common host name; slow and plain."""
    first, second = f"{one.spec.path}/", f"{other.spec.path}/"
    if not (first.startswith(second) or second.startswith(first)):
        return False
    names = [name.replace("*", star) for name in HOSTS for star in ("s", "s.s")]
    return any(answers(one, name) and answers(other, name) for name in names)


def answers(route: PassthroughRoute, name: str) -> bool:
    patterns = route.spec.hostnames
    return not patterns or any(fits(pattern, name) for pattern in patterns)


def fits(pattern: str, name: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".+"), name) is not None


@given(spec_lists)
def test_dedicated_means_dedicated(found: list[tuple[Any, str]]) -> None:
    """No two served routes collide, and whoever is Conflicted collides with an older one served."""
    routes = {item.id: item for item in routes_of(found)}
    translation = translate(resources(list(routes.values())))
    winners = [routes[name] for name in served(translation)]
    for index, one in enumerate(winners):
        assert not any(collide(one, other) for other in winners[index + 1 :])
    for name, verdict in translation.verdicts.items():
        if verdict.accepted.reason == "Conflicted":
            named = [other for other in winners if f" {other.id}," in verdict.accepted.message]
            assert len(named) == 1
            assert collide(routes[name], named[0])
            assert (named[0].created, named[0].id) < (routes[name].created, name)


@given(st.sampled_from(HOSTS), st.sampled_from(HOSTS))
def test_overlap_is_what_some_name_fits(one: str, other: str) -> None:
    """Two host names overlap exactly if some name fits both, and the order means nothing."""
    names = [name.replace("*", star) for name in HOSTS for star in ("s", "s.s")]
    expected = any(fits(one, name) and fits(other, name) for name in names)
    assert overlap(one, other) is overlap(other, one) is expected


@given(spec_lists)
def test_every_route_gets_a_verdict_and_only_accepted_ones_are_served(
    found: list[tuple[Any, str]],
) -> None:
    """A verdict for each route; served are exactly the accepted; every message is one sentence."""
    routes = routes_of(found)
    translation = translate(resources(routes))
    assert list(translation.verdicts) == sorted(item.id for item in routes)
    accepted = [name for name, verdict in translation.verdicts.items() if verdict.accepted.status]
    assert list(served(translation)) == accepted
    for verdict in translation.verdicts.values():
        for condition in (verdict.accepted, verdict.resolved_refs):
            assert re.fullmatch(r"[A-Z][A-Za-z]+", condition.reason)
            assert condition.message
            assert "\n" not in condition.message
        assert verdict.good is (not verdict.complaints)


@given(specs)
def test_what_is_refused_does_not_depend_on_what_is_referred_to(spec: Any) -> None:
    """Whether a route is accepted is the same with all of its Secrets and with none."""
    item = route("r", spec)
    with_secrets = translate(resources([item])).verdicts["default/r"]
    without = translate(Resources(routes=(item,))).verdicts["default/r"]
    assert with_secrets.accepted == without.accepted


@given(specs)
def test_a_credential_is_injected_or_nothing_passes(spec: Any) -> None:
    """A branch with a credential has it in its cluster and takes the client's away, or refuses."""
    translation = translate(resources([route("r", spec)]))
    for item in translation.config.routes:
        wanted = {o["path"]: "credential" in o for o in spec.get("overrides", [])}
        wanted[""] = "credential" in spec
        if len(wanted) <= len(spec.get("overrides", [])):
            continue  # Prefix and Exact of one path: which branch is which cannot be told by name
        for branch in item.branches:
            if isinstance(branch.outcome, ir.Refusal):
                assert wanted[branch.name]
                assert branch.outcome.status == 503
                continue
            injected = branch.outcome.endpoint.credential
            assert (injected is not None) is wanted[branch.name]
            assert branch.outcome.rule.drop_credentials is wanted[branch.name]
            if injected:
                assert {"authorization", injected.header} <= {
                    *branch.outcome.client_headers_removed
                }
                assert injected.secret in translation.config.secrets


@given(specs)
def test_envoy_finds_nothing_to_format(spec: Any) -> None:
    """In header values every `%` is doubled, a rule has none, and both say what was meant."""
    translation = translate(resources([route("r", spec)]))
    assume(translation.config.routes)
    (item,) = translation.config.routes
    written = spec.get("response", {}).get("headers", {"set": [], "add": []})
    expected = [(pair["name"].lower(), pair["value"]) for pair in written["set"] + written["add"]]
    for parsed in map(route_pb.Route.FromString, render_routes(item)):
        if parsed.HasField("direct_response"):
            continue
        shown = []
        for option in parsed.response_headers_to_add:
            assert "%" not in option.header.value.replace("%%", "")
            shown.append((option.header.key, option.header.value.replace("%%", "%")))
        assert shown == expected
        rule = encoded_rule(parsed)
        assert "%" not in rule
        sent = spec.get("request", {}).get("headers", {"set": []})["set"]
        assert decode(rule).headers_set == tuple((p["name"].lower(), p["value"]) for p in sent)


def encoded_rule(parsed: route_pb.Route) -> str:
    config = ext_proc_pb2.ExtProcPerRoute()
    assert parsed.typed_per_filter_config[EXT_PROC_FILTER].Unpack(config)
    (pair,) = config.overrides.grpc_initial_metadata
    assert pair.key == METADATA_KEY
    return str(pair.value)


@settings(max_examples=50)
@given(spec_lists)
def test_nothing_shows_a_secret(found: list[tuple[Any, str]]) -> None:
    """No repr or str of what goes in, comes out or is raised on the way holds a secret's value."""
    given_resources = resources(routes_of(found))
    translation = translate(given_resources)
    snapshot = snapshot_of_translation(translation, "CA")
    shown = [given_resources, translation, translation.config, *translation.config.routes, snapshot]
    shown += [*translation.verdicts.values(), *translation.config.secrets.values()]
    assert CANARY not in "".join(map(repr, shown)) + "".join(map(str, shown))
    clusters_and_routes = [
        resource.body
        for type_url, of_type in snapshot.items()
        if not type_url.endswith("Secret")
        for resource in of_type.values()
    ]
    assert CANARY.encode() not in b"".join(clusters_and_routes)


def test_a_key_beside_a_certificate_stays_where_it_is() -> None:
    """A Secret's bundle may hold a private key too, which is no CA."""
    spec = {
        "path": "/a",
        "upstream": {
            "url": "https://h.example",
            "tls": {"caCertificateRef": {"kind": "Secret", "name": "s"}},
        },
    }
    translation = translate(resources([route("r", spec)]))
    assert translation.verdicts["default/r"].resolved_refs.reason == "CaCertificateInvalid"
    assert CANARY not in repr(translation)


def test_a_rotated_secret_changes_the_secret_alone() -> None:
    """So that rotation cuts no connection: clusters and routes keep their names and bytes."""
    spec = {"path": "/a", "provider": "openai",
            "credential": {"secretKeyRef": {"name": "s", "key": "k"}}}  # fmt: skip
    snapshots = []
    for value in ("one", "two"):
        data = {("default", "s"): {"k": SecretValue(value)}}
        translation = translate(Resources(routes=(route("r", spec),), secrets=data))
        snapshots.append(snapshot_of_translation(translation, "CA"))
    changed = {
        name
        for type_url, of_type in snapshots[0].items()
        for name, resource in of_type.items()
        if resource != snapshots[1][type_url][name]
    }
    assert changed == {"default/s/k@api.openai.com:443"}


@pytest.mark.parametrize(
    ("secrets", "environment", "said"),
    [
        ({}, None, "there is no Secret s in namespace default: create it"),
        ({}, {}, "there is no Secret s in the files, and no environment variable K"),
        ({}, {"K": "v"}, ""),
        ({"other": "v"}, {"K": "v"}, ""),
        ({"other": "v"}, {}, "Secret s has no key K: add it"),
        ({"K": "v"}, {"K": " "}, ""),
        ({"K": " "}, {"K": "v"}, "key K of Secret s is empty"),
        ({}, {"K": "a\udce9"}, "key K of Secret s contains characters that are not"),
        ({"K": "sk-…"}, None, "key K of Secret s contains a placeholder instead of a credential"),
        ({}, {"K": "a\x00"}, "key K of Secret s contains characters that are not"),
    ],
)  # fmt: skip
def test_where_a_credential_is_looked_up(
    secrets: dict[str, str], environment: dict[str, str] | None, said: str
) -> None:
    """The Secret first, and on a laptop the environment then, by the key's name."""
    spec = {"path": "/a", "provider": "openai",
            "credential": {"secretKeyRef": {"name": "s", "key": "K"}}}  # fmt: skip
    held = {("default", "s"): hidden(secrets)} if secrets else {}
    around = None if environment is None else hidden(environment)
    given_resources = Resources(routes=(route("r", spec),), secrets=held, environment=around)
    found = translate(given_resources).verdicts["default/r"]
    assert found.resolved_refs.status is (not said)
    assert found.resolved_refs.message.startswith(said or "All references were found.")


def hidden(values: dict[str, str]) -> dict[str, SecretValue]:
    return {name: SecretValue(value) for name, value in values.items()}
