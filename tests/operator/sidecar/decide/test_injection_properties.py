"""Whatever a pod looks like, a second pass changes nothing, and meshes may come before or after."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from thruway_operator.sidecar.decide import (
    Injected,
    Namespace,
    Refused,
    RouteFacts,
    Skipped,
    inject,
)
from thruway_operator.sidecar.decide.names import MESH, OUR_CONTAINERS, OUR_VOLUMES
from thruway_testing.product.injection import SETTINGS

BASE_URLS = {"OPENAI_BASE_URL", "OPENAI_API_BASE"}
NAMESPACE = Namespace("shop", {"thruway.dev/inject": "enabled"})
ROUTES = [
    RouteFacts("openai", "/openai_passthrough", "/v1", "openai", "1"),
    RouteFacts("claude", "/claude", "/v1", "anthropic", "2"),
]

names = st.sampled_from(["app", "helper", "migrate", "logs", "warm-up", *MESH])
variables = st.sampled_from(
    ["A", "OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_KEY", "ANTHROPIC_AUTH_TOKEN"]
)
proxies = st.sampled_from(["HTTP_PROXY", "https_proxy", "NO_PROXY", "no_proxy"])
values = st.sampled_from(["x", "", "*", ".svc, localhost", "a,127.0.0.1", "$(B)"])
env = st.lists(
    st.builds(lambda name: {"name": name, "value": "x"}, variables)
    | st.builds(lambda name, value: {"name": name, "value": value}, proxies, values)
    | st.builds(lambda name: {"name": name, "valueFrom": {"secretKeyRef": {}}}, proxies),
    max_size=4,
    unique_by=lambda item: str(item["name"]),
)
containers = st.fixed_dictionaries(
    {"name": names, "image": st.just("i")},
    optional={
        "env": env,
        "restartPolicy": st.just("Always"),
        "envFrom": st.just([{"secretRef": {"name": "s"}}]),
        "securityContext": st.sampled_from([{"runAsUser": uid} for uid in (1000, 65532, 65533)]),
        "ports": st.just([{"containerPort": 8080}]),
    },
)
unique = st.lists(containers, max_size=4, unique_by=lambda item: str(item["name"]))
volumes = st.lists(st.sampled_from(["a", "b"]).map(lambda n: {"name": n, "emptyDir": {}}))


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    every = draw(unique.filter(bool))
    split = draw(st.integers(0, len(every) - 1))
    spec: dict[str, Any] = {"containers": every[split:]}
    if split or draw(st.booleans()):
        spec["initContainers"] = every[:split]
    if found := draw(volumes):
        spec["volumes"] = found
    annotations = draw(
        st.sampled_from([{}, {"thruway.dev/port": "4100"}, {"linkerd.io/inject": "enabled"}])
    )
    return {"metadata": {"name": "app", "annotations": annotations}, "spec": spec}


def injected(pod: dict[str, Any]) -> dict[str, Any]:
    before = copy.deepcopy(pod)
    found = inject(pod, NAMESPACE, SETTINGS, ROUTES)
    assert isinstance(found, Injected), found
    assert pod == before, "the input is not changed"
    return found.pod


@given(pods())
def test_idempotent(pod: dict[str, Any]) -> None:
    once = injected(pod)
    assert injected(once) == once


@given(pods())
def test_nothing_of_the_pods_own_is_lost(pod: dict[str, Any]) -> None:
    spec = injected(pod)["spec"]
    for kind in ("initContainers", "containers"):
        kept = [item for item in spec[kind] if item["name"] not in OUR_CONTAINERS]
        given_ones = pod["spec"].get(kind, [])
        assert [{**item, "env": item.get("env", [])[:0]} for item in kept] == [
            {**item, "env": []} for item in given_ones
        ]
        for item, given_one in zip(kept, given_ones, strict=True):
            own = given_one.get("env", [])
            for before, after in zip(own, item.get("env", []), strict=False):
                if before["name"].upper() == "NO_PROXY" and "value" in before:
                    assert after["value"].startswith(before["value"])
                    assert {**after, "value": before["value"]} == before
                else:
                    assert after == before
    kept_volumes = [item for item in spec["volumes"] if item["name"] not in OUR_VOLUMES]
    assert kept_volumes == pod["spec"].get("volumes", [])


@given(pods())
def test_ours_stand_together_after_the_mesh_and_before_the_rest(pod: dict[str, Any]) -> None:
    names = [item["name"] for item in injected(pod)["spec"]["initContainers"]]
    places = [names.index(name) for name in OUR_CONTAINERS]
    first, last = min(places), max(places)
    assert last - first == 2
    assert names[first] == "thruway-bootstrap"
    assert all(name not in MESH for name in names[last:])
    assert first == 0 or names[first - 1] in MESH


@given(pods())
def test_whoever_may_call_is_told_where(pod: dict[str, Any]) -> None:
    spec = injected(pod)["spec"]
    inits = spec["initContainers"]
    last = max(n for n, item in enumerate(inits) if item["name"] in OUR_CONTAINERS)
    for item in (*inits[last + 1 :], *spec["containers"]):
        told = [entry for entry in item.get("env", ()) if entry["name"] in BASE_URLS]
        assert bool(told) is (item["name"] not in MESH) or item["name"] in MESH
    for item in inits[: last - 2]:
        before = {entry["name"] for entry in item.get("env", ())}
        assert "http://127.0.0.1" not in str(item) or BASE_URLS & before


@given(pods())
def test_one_providers_base_urls_never_lead_to_two_places_of_ours(pod: dict[str, Any]) -> None:
    """A container that sets one of two variables gets no other value for the other."""
    before = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    spec = injected(pod)["spec"]
    after = {item["name"]: item for item in (*spec["initContainers"], *spec["containers"])}
    for item in before:
        own = {entry["name"] for entry in item.get("env", ())}
        now = {entry["name"] for entry in after[item["name"]].get("env", ())}
        if own & BASE_URLS:
            assert not BASE_URLS & (now - own)


@given(pods())
def test_both_forms_of_no_proxy_hold_what_the_container_excepts(pod: dict[str, Any]) -> None:
    """Whichever form a program reads, it finds the container's own entries and the sidecar."""
    spec = injected(pod)["spec"]
    inits = spec["initContainers"]
    last = max(n for n, item in enumerate(inits) if item["name"] in OUR_CONTAINERS)
    every = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    before = {item["name"]: {e["name"]: e for e in item.get("env", ())} for item in every}
    for item in (*inits[last + 1 :], *spec["containers"]):
        own = before[item["name"]]
        proxies_set = [own[name] for name in ("HTTP_PROXY", "https_proxy") if name in own]
        uses = any(entry.get("value") or "valueFrom" in entry for entry in proxies_set)
        hidden = any("valueFrom" in own.get(name, {}) for name in ("NO_PROXY", "no_proxy"))
        if item["name"] in MESH or not uses or hidden:
            continue
        env_now = {entry["name"]: entry["value"] for entry in item["env"] if "value" in entry}
        said = [env_now.get(name, "") for name in ("NO_PROXY", "no_proxy")]
        if not any(said):
            assert item.get("envFrom")
            continue
        for value in said:
            assert (
                value == "*"
                or {"127.0.0.1", "localhost"} <= set(value.split(","))
                or (value == ".svc, localhost,127.0.0.1")
            )


@given(pods(), st.sampled_from(["istio-proxy", "linkerd-proxy"]), st.booleans())
def test_a_mesh_may_come_before_or_after(pod: dict[str, Any], proxy: str, native: bool) -> None:
    def mesh(given_pod: dict[str, Any]) -> dict[str, Any]:
        """What a mesh's injector does: its containers go first."""
        changed = copy.deepcopy(given_pod)
        spec = changed["spec"]
        init = {"name": f"{proxy.split('-', maxsplit=1)[0]}-init", "image": "m"}
        car = {"name": proxy, "image": "m"}
        inits = [init, {**car, "restartPolicy": "Always"}] if native else [init]
        spec["initContainers"] = [*inits, *spec.get("initContainers", [])]
        if not native:
            spec["containers"] = [*spec["containers"], car]
        return changed

    every = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    if any(item["name"] in MESH for item in every):
        return
    before, after = injected(mesh(pod)), injected(mesh(injected(pod)))
    assert after == before


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: (
    st.lists(inner) | st.dictionaries(st.sampled_from(
        ["metadata", "spec", "containers", "initContainers", "volumes", "name", "env", "labels",
         "annotations", "ports", "securityContext", "nodeSelector", "os", "thruway.dev/inject"]
    ), inner)
)))  # fmt: skip
def test_what_is_no_pod_is_refused_in_a_sentence(anything: Any) -> None:
    manifest = anything if isinstance(anything, dict) else {"spec": anything}
    found = inject(manifest, NAMESPACE, SETTINGS, ROUTES)
    if isinstance(found, Refused):
        assert found.sentence
    else:
        assert isinstance(found, Injected | Skipped)
