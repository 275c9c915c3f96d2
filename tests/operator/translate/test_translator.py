"""A whole cluster's translation: groups, the gateway's rules, conflicts across groups, the memo."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thruway_operator.api.route import PassthroughRoute
from thruway_operator.resources.secret import SecretValue
from thruway_operator.translate import Resources, Translation, Translator
from thruway_operator.translate.gateway import GatewayPolicy, check_exposure
from thruway_operator.translate.groups import GATEWAY, groups_of, namespace_group

EVERYBODY = GatewayPolicy(frozenset({"shop", "blog"}))
KEYS: dict[str, Any] = {"clientAuth": {"type": "APIKey", "secretRef": {"name": "clients"}}}


def route(name: str, namespace: str = "shop", created: str = "2026-01-01", **spec: Any) -> Any:
    return PassthroughRoute.model_validate(
        {
            "namespace": namespace,
            "name": name,
            "created": created,
            "spec": {"path": f"/{name}", "provider": "openai", **spec},
        }
    )


def open_route(name: str, **rest: Any) -> Any:
    given: dict[str, Any] = {"exposure": "Cluster", **KEYS, **rest}
    return route(name, **given)


def translated(*routes: PassthroughRoute, gateway: GatewayPolicy | None = EVERYBODY) -> Translation:
    secrets = {
        (namespace, "clients"): {"alice": SecretValue(f"tw-{namespace}")}
        for namespace in ("shop", "blog")
    }
    return under(Translator(groups_of), Resources(routes, secrets), gateway)


def under(
    translator: Translator, resources: Resources, gateway: GatewayPolicy | None
) -> Translation:
    return translator.translate(resources, partial(check_exposure, gateway=gateway))


def served(translation: Translation) -> dict[str, list[str]]:
    return {
        name: [route.id for route in config.routes] for name, config in translation.groups.items()
    }


def said(translation: Translation, name: str) -> tuple[str, str]:
    accepted = translation.verdicts[name].accepted
    return accepted.reason, accepted.message


def test_a_route_is_served_by_its_namespace_and_the_gateway_only_if_it_says_so() -> None:
    translation = translated(route("own"), open_route("all"), route("own", "blog"))

    assert served(translation) == {
        namespace_group("shop"): ["shop/all", "shop/own"],
        namespace_group("blog"): ["blog/own"],
        GATEWAY: ["shop/all"],
    }


@pytest.mark.parametrize(
    ("gateway", "word"),
    [(None, "no shared gateway"), (GatewayPolicy(frozenset({"blog"})), "namespace shop")],
)
def test_the_gateway_takes_routes_of_selected_namespaces_alone(
    gateway: GatewayPolicy | None, word: str
) -> None:
    translation = translated(open_route("all"), route("own"), gateway=gateway)

    reason, message = said(translation, "shop/all")
    assert reason == "NotAllowed"
    assert word in message
    assert served(translation) == {namespace_group("shop"): ["shop/own"]}


def test_exposure_cluster_requires_client_keys() -> None:
    translation = translated(route("all", exposure="Cluster"))

    reason, message = said(translation, "shop/all")
    assert reason == "ClientAuthRequired"
    assert "clientAuth" in message


PRIVATE = [
    "127.0.0.1",
    "10.0.0.7",
    "203.0.113.9",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "127.1",
    "017700000001",
    "127.0.0.0x1",
    "[::1]",
    "[::ffff:10.0.0.1]",
    "localhost",
    "localhost.",
    "api.localhost",
    "litellm",
    "litellm.ai.svc",
    "litellm.ai.svc.cluster.local",
    "litellm.ai.svc.cluster.local.",
    "metadata.google.internal",
    "printer.local",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_the_gateway_reaches_no_address_and_no_private_name(host: str) -> None:
    url = {"url": f"http://{host}"}
    credential = {"secretKeyRef": {"name": "clients", "key": "alice"}}
    override = {"path": "/v1/x", "upstream": url, "credential": credential}
    proxy: dict[str, Any] = {"url": "https://api.example.com", "proxy": url}
    public = {"url": "https://api.example.com"}
    routes = [
        open_route("main", upstream=url, provider=None),
        open_route("aside", upstream=public, overrides=[override]),
        open_route("proxy", upstream=proxy),
    ]

    refused = translated(*routes)
    allowed = translated(*routes, gateway=GatewayPolicy(frozenset({"shop"}), allow_private=True))

    for name in ("main", "aside", "proxy"):
        reason, message = said(refused, f"shop/{name}")
        # What resolvers would take for an address but is none as written is refused for itself.
        assert reason in {"UpstreamNotAllowed", "Invalid"}
        assert "upstream" in message
    assert GATEWAY not in refused.groups
    assert all(said(allowed, f"shop/{r.name}")[0] in {"Accepted", "Invalid"} for r in routes)


def test_sidecars_may_reach_what_their_tenant_may() -> None:
    translation = translated(route("own", upstream={"url": "http://litellm.ai.svc:4000"}))

    assert said(translation, "shop/own")[0] == "Accepted"


def test_in_the_gateway_the_older_of_two_namespaces_wins_and_deleting_it_promotes_the_other() -> (
    None
):
    older = open_route("a", path="/openai", created="2026-01-01")
    newer = open_route("b", namespace="blog", path="/openai/v1", created="2026-01-02")

    both, alone = translated(newer, older), translated(newer)

    assert said(both, "shop/a")[0] == "Accepted"
    reason, message = said(both, "blog/b")
    assert reason == "Conflicted"
    assert "shop/a" in message
    assert namespace_group("blog") not in both.groups  # it has lost, and is served nowhere
    assert served(alone)[GATEWAY] == ["blog/b"]


def test_the_same_path_in_two_namespaces_is_no_conflict_beside_the_gateway() -> None:
    translation = translated(route("a", path="/x"), route("b", "blog", path="/x"))

    assert all(verdict.good for verdict in translation.verdicts.values())


def test_references_are_all_that_a_route_names() -> None:
    key = {"secretKeyRef": {"name": "openai", "key": "K"}}
    ca = {"caCertificateRef": {"kind": "ConfigMap", "name": "ca"}}
    ca_secret = {"caCertificateRef": {"kind": "Secret", "name": "ca-secret"}}
    proxy = {"url": "http://p:1", "secretKeyRef": {"name": "login", "key": "K"}}
    override = {
        "path": "/v1/x",
        "upstream": {"url": "https://a.example", "tls": ca_secret},
        "credential": {"secretKeyRef": {"name": "native", "key": "K"}},
    }
    upstream: dict[str, Any] = {"tls": ca, "proxy": proxy}

    found = route("a", credential=key, upstream=upstream, overrides=[override], **KEYS)

    names = ("ca-secret", "clients", "login", "native", "openai")
    secrets = tuple(("Secret", ("shop", name)) for name in names)
    assert found.objects == (("ConfigMap", ("shop", "ca")), *secrets)
    assert {ref.use: ref.field for ref in found.spec.references()} == {
        "credential": "spec.overrides[0].credential.secretKeyRef",
        "login": "spec.upstream.proxy.secretKeyRef",
        "ca": "spec.overrides[0].upstream.tls.caCertificateRef",
        "clients": "spec.clientAuth.secretRef",
    }
    assert [(item.field, item.path, item.url) for item in found.spec.destinations()] == [
        ("spec", "", "https://api.openai.com"),
        ("spec.overrides[0]", "/v1/x", "https://a.example"),
    ]


def test_a_copy_of_a_route_has_a_digest_of_its_own() -> None:
    one = route("a")
    digest, objects = one.digest, one.objects

    keyed = route("a", **KEYS).spec
    other = one.model_copy(update={"spec": keyed})

    assert (one.digest, one.objects) == (digest, objects)
    assert other.digest == route("a", **KEYS).digest != digest
    assert other.objects == (("Secret", ("shop", "clients")),)


def test_one_change_among_many_translates_one_route_and_leaves_other_groups_alone() -> None:
    translator = Translator(groups_of)
    routes = [route(f"r{n}", f"ns{n % 3}") for n in range(300)]
    before = under(translator, Resources(tuple(routes)), None)
    assert translator.translated == 300

    routes[7] = route("r7", "ns1", path="/changed")
    after = under(translator, Resources(tuple(routes)), None)

    assert translator.translated == 301
    old, new = digests(before), digests(after)
    assert [name for name in new if new[name] != old[name]] == ["ns1/r7"]


def digests(translation: Translation) -> dict[str, str]:
    return {
        item.id: item.digest for config in translation.groups.values() for item in config.routes
    }


@dataclass
class World:
    routes: dict[str, PassthroughRoute] = field(default_factory=dict)
    secrets: dict[tuple[str, str], dict[str, SecretValue]] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()


NAMESPACES = st.sampled_from(["shop", "blog"])
A_ROUTE = st.builds(
    lambda name, namespace, age, path, hosts, open_to_all, keyed: route(
        name,
        namespace,
        f"2026-01-0{age}",
        path=path,
        hostnames=hosts,
        **({"exposure": "Cluster"} if open_to_all else {}),
        **(KEYS if keyed else {}),
    ),
    st.sampled_from("abc"),
    NAMESPACES,
    st.integers(1, 3),
    st.sampled_from(["/x", "/x/y", "/z"]),
    st.sampled_from([[], ["a.example"], ["*.example"]]),
    st.booleans(),
    st.booleans(),
)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), A_ROUTE),
        st.tuples(st.just("delete"), st.tuples(NAMESPACES, st.sampled_from("abc"))),
        st.tuples(st.just("secret"), st.tuples(NAMESPACES, st.sampled_from(["k1", "k2", ""]))),
        st.tuples(st.just("allow"), st.frozensets(NAMESPACES)),
    ),
    max_size=12,
)


def change(world: World, kind: str, value: Any) -> None:
    if kind == "put":
        world.routes[value.id] = value
    elif kind == "delete":
        world.routes.pop("/".join(value), None)
    elif kind == "allow":
        world.allowed = value
    elif value[1]:
        world.secrets[value[0], "clients"] = {"alice": SecretValue(value[1])}
    else:
        world.secrets.pop((value[0], "clients"), None)


@settings(max_examples=150)
@given(CHANGES, st.randoms())
def test_history_and_order_do_not_matter(changes: list[Any], random: Any) -> None:
    """Invariant: what is translated depends on what there is, not on how it came about."""
    world, translator = World(), Translator(groups_of)
    incremental = under(translator, Resources(()), GatewayPolicy())
    for kind, value in changes:
        change(world, kind, value)
        incremental = under(
            translator,
            Resources(tuple(world.routes.values()), dict(world.secrets)),
            GatewayPolicy(world.allowed),
        )
    shuffled = list(world.routes.values())
    random.shuffle(shuffled)
    fresh = under(
        Translator(groups_of),
        Resources(tuple(shuffled), world.secrets),
        GatewayPolicy(world.allowed),
    )

    assert digests(incremental) == digests(fresh)
    assert dict(incremental.groups) == dict(fresh.groups)
    assert dict(incremental.verdicts) == dict(fresh.verdicts)


@settings(max_examples=100)
@given(st.lists(A_ROUTE, max_size=8, unique_by=lambda r: r.id))
def test_no_two_routes_of_one_group_claim_one_path_and_every_loser_lost_to_one_served(
    routes: list[PassthroughRoute],
) -> None:
    """Invariant: dedicated means dedicated, in each group of proxies."""
    translation = translated(*routes)

    everywhere = {name for names in served(translation).values() for name in names}
    for verdict in translation.verdicts.values():
        if verdict.accepted.reason == "Conflicted":
            winner = verdict.accepted.message.split("older route ")[1].split(",")[0]
            assert winner in everywhere
            assert verdict.id not in everywhere
