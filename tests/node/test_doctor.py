"""`thruway doctor` finds each fault that is planted after good calls, and its remedy ends it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.node.images import USER
from thruway_testing.plane.node.release import UPSTREAM, client, route, values
from thruway_testing.product.command import thruway
from thruway_testing.upstreams.openai_upstream import CANARY_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from thruway_testing.plane.kubernetes.kubectl import Kubectl
    from thruway_testing.plane.node.node import Node
    from thruway_testing.plane.node.release import Release

SIDECARS, CLIENTS = "doctored", "doctored-clients"
CALLS = """
import os, time, urllib.request
while True:
    url = os.environ["OPENAI_BASE_URL"] + "/models"
    key = {"Authorization": "Bearer " + os.environ.get("OPENAI_API_KEY", "any")}
    try:
        urllib.request.urlopen(urllib.request.Request(url, headers=key), timeout=5).read()
    except OSError as error:
        print(error, flush=True)
    time.sleep(0.2)
"""
LISTENS = 'import socket; socket.create_server(("0.0.0.0", 4000)).accept()'


class World:
    """A namespace with a sidecar, another with a client of the gateway; both call all the time."""

    def __init__(self, node: Node, release: Release) -> None:
        self.release = release
        self.node = node
        self.kubectl = node.kubectl(SIDECARS)
        self.clients = node.kubectl(CLIENTS)
        self.operators = node.kubectl(release.namespace)

    def doctor(self, *arguments: str) -> tuple[int, list[str]]:
        config = ("--kubeconfig", str(self.node.admin_kubeconfig))
        result = thruway("doctor", *config, *arguments)
        assert CANARY_KEY not in result.output
        return result.exit_code, result.output.splitlines()

    def finds(self, where: tuple[str, ...], step: str, sentence: str) -> None:
        """Wait until doctor names this fault first, and no other one before it."""
        last: list[str] = []

        def named() -> bool:
            code, lines = self.doctor(*where)
            last[:] = lines
            if code == 0 or len(lines) < 2:  # never a clean verdict of the step that is broken
                assert not any(line.startswith(f"ok    {step} ") for line in lines[-1:])
                return False
            line = lines[-2]
            return line.startswith("FAIL") and line.split()[1] == step and sentence in line

        try:
            wait_until(named, sentence, 60)
        except TimeoutError as error:
            raise AssertionError("\n".join([str(error), *last])) from error

    def is_well(self, where: tuple[str, ...], step: str = "upstream") -> None:
        """Wait until doctor finds nothing, and has checked this step."""
        last: list[str] = []

        def well() -> bool:
            code, lines = self.doctor(*where)
            last[:] = lines
            return code == 0 and any(line.startswith(f"ok    {step} ") for line in lines)

        try:
            wait_until(well, "all is well", 60)
        except TimeoutError as error:
            raise AssertionError("\n".join([str(error), *last])) from error

    def apply(self, kubectl: Kubectl, key: str = CANARY_KEY, **spec: Any) -> None:
        shared = kubectl is self.clients
        more = (
            {"path": "/doctored"}
            if shared
            else {"exposure": "Namespace", "clientAuth": {"type": "None"}}
        )
        for item in route(key=key, **{**more, **spec}):
            kubectl.apply(item)

    def secret(self, **entries: str) -> None:
        item = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openai"}}
        self.kubectl.run("delete", "secret", "openai", "--ignore-not-found")
        if entries:
            self.kubectl.apply({**item, "stringData": entries})

    def heal_by_upgrade(self) -> None:
        self.release.upgrade(values())


@pytest.fixture(scope="module")
def world(node: Node, release: Release) -> World:
    found = World(node, release)
    cluster = node.kubectl()
    for namespace in (SIDECARS, CLIENTS):
        cluster.run("create", "namespace", namespace)
    cluster.run("label", "namespace", SIDECARS, "thruway.dev/inject=enabled")
    cluster.run("label", "namespace", CLIENTS, "thruway.dev/gateway=allowed")
    found.apply(found.kubectl)
    found.apply(found.clients)
    url = f"http://thruway-gateway.{release.namespace}.svc:4000/doctored/v1"
    found.clients.apply(
        client(USER, "web", CALLS, OPENAI_BASE_URL=url, OPENAI_API_KEY="tw-doctored")
    )
    found.kubectl.apply(client(USER, "web", CALLS))
    for kubectl in (found.kubectl, found.clients):
        kubectl.run("wait", "--for=condition=Ready", "--timeout=55s", "pod/web")
    return found


POD = ("-n", SIDECARS, "web")
ALL = ("-n", SIDECARS)
CLIENT = ("-n", CLIENTS, "web")


def spec(**changed: Any) -> Callable[[World], Callable[[], object]]:
    """Change the route of the sidecar; the remedy is to correct the field that doctor names."""

    def plant(world: World) -> Callable[[], object]:
        world.apply(world.kubectl, **changed)
        return partial(_replace_route, world.kubectl, world)

    return plant


def shared_spec(**changed: Any) -> Callable[[World], Callable[[], object]]:
    def plant(world: World) -> Callable[[], object]:
        world.apply(world.clients, **changed)
        return partial(_replace_route, world.clients, world)

    return plant


def _replace_route(kubectl: Kubectl, world: World) -> None:
    world.apply(kubectl)


def secret(**entries: str) -> Callable[[World], Callable[[], object]]:
    def plant(world: World) -> Callable[[], object]:
        world.secret(**entries)
        return lambda: world.secret(OPENAI_API_KEY=CANARY_KEY)

    return plant


def deleted(*what: str) -> Callable[[World], Callable[[], object]]:
    """Delete an object of the chart; the remedy is to upgrade it."""

    def plant(world: World) -> Callable[[], object]:
        world.operators.run("delete", *what)
        return world.heal_by_upgrade

    return plant


def scaled(component: str) -> Callable[[World], Callable[[], object]]:
    def plant(world: World) -> Callable[[], object]:
        name = f"deployment/thruway-{component}"
        world.operators.run("scale", name, "--replicas=0")
        world.release.rolled_out(component)

        def heal() -> None:
            world.operators.run("scale", name, "--replicas=1")
            world.release.rolled_out(component)

        return heal

    return plant


def no_route(world: World) -> Callable[[], object]:
    world.kubectl.run("delete", "passthroughroute", "openai")
    return lambda: world.apply(world.kubectl)


def conflict(world: World) -> Callable[[], object]:
    (*_, item) = route()
    other = {**item, "metadata": {"name": "other"}}
    other["spec"] = {**item["spec"], "exposure": "Namespace", "clientAuth": {"type": "None"}}
    world.kubectl.apply(other)
    return lambda: world.kubectl.apply({**other, "spec": {**other["spec"], "path": "/other"}})


def keyed(world: World) -> Callable[[], object]:
    world.apply(world.kubectl, clientAuth={"type": "APIKey", "secretRef": {"name": "clients"}})
    return lambda: world.apply(world.kubectl)


def _recreate(kubectl: Kubectl, pod: dict[str, Any]) -> None:
    kubectl.run("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")
    kubectl.apply(pod)


def _planted(name: str, code: str) -> dict[str, Any]:
    pod = client(USER, name, code)
    pod["spec"]["restartPolicy"] = "Always"
    return pod


def proxied(world: World) -> Callable[[], object]:
    """A proxy that the injector cannot see, as it is in a ConfigMap."""
    metadata = {"name": "network"}
    network = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    world.kubectl.apply({**network, "data": {"HTTP_PROXY": "http://127.0.0.1:9"}})
    pod = _planted("proxied", CALLS)
    pod["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "network"}}]
    world.kubectl.apply(pod)

    def heal() -> None:
        data = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
        world.kubectl.apply({**network, "data": {**data, "no_proxy": "127.0.0.1"}})
        _recreate(world.kubectl, pod)

    return heal


def clash(world: World) -> Callable[[], object]:
    pod = _planted("clash", LISTENS)
    world.kubectl.apply(pod)

    def heal() -> None:
        pod["metadata"]["annotations"] = {"thruway.dev/port": "4100"}
        _recreate(world.kubectl, pod)

    return heal


def astray(world: World) -> Callable[[], object]:
    pod = _planted("astray", CALLS)
    env = {"name": "OPENAI_BASE_URL", "value": "http://127.0.0.1:4000/openai/v1"}
    pod["spec"]["containers"][0]["env"] = [env]
    world.kubectl.apply(pod)

    def heal() -> None:
        pod["spec"]["containers"][0]["env"] = []
        _recreate(world.kubectl, pod)

    return heal


def quota(world: World) -> Callable[[], object]:
    cluster = world.node.kubectl("doctored-quota")
    cluster.run("create", "namespace", "doctored-quota")
    cluster.run("label", "namespace", "doctored-quota", "thruway.dev/inject=enabled")
    cluster.run("create", "quota", "cpu", "--hard=limits.cpu=2")
    world.apply(cluster, path="/openai_passthrough", exposure="Namespace")
    pod = client(USER, "web", CALLS)
    pod["spec"].pop("restartPolicy")
    pod["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "200m"}}
    template: dict[str, Any] = {"metadata": {"labels": {"app": "web"}}, "spec": pod["spec"]}
    selector = {"matchLabels": {"app": "web"}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"selector": selector, "template": template},
    }
    cluster.apply(deployment)

    def heal() -> None:
        limits = ("thruway.dev/envoy-cpu-limit", "thruway.dev/extproc-cpu-limit")
        template["metadata"]["annotations"] = dict.fromkeys(limits, "500m")
        cluster.apply(deployment)
        cluster.run("rollout", "status", "deployment/web", "--timeout=55s")

    return heal


SERVICE = ("service", "thruway-operator")
FAULTS: dict[str, tuple[tuple[str, ...], Callable[[World], Callable[[], object]], str, str]] = {
    "nothing listens": (
        POD, spec(upstream={"url": "http://upstream.upstream.svc:9"}), "upstream",
        "nothing accepts connections at upstream.upstream.svc:9: check host and port",
    ),
    "no such host": (
        POD, spec(upstream={"url": "http://no-such.upstream.svc:8080"}), "upstream",
        "no-such.upstream.svc cannot be resolved: check its spelling in the route's upstream.url",
    ),
    "TLS to a plain port": (
        POD, spec(upstream={"url": UPSTREAM.replace("http:", "https:")}), "upstream",
        "the TLS handshake with upstream.upstream.svc:8080 fails: check the scheme",
    ),
    "wrong path at the upstream": (
        POD, spec(upstream={"url": f"{UPSTREAM}/nowhere"}), "upstream",
        "itself returns 404: compare the path in upstream.url",
    ),
    "timeout": (
        POD, spec(timeouts={"request": "1ms"}), "upstream",
        "does not respond within timeouts.request of the route: increase it",
    ),
    "no such forward proxy": (
        POD,
        spec(upstream={
            "url": UPSTREAM.replace("http:", "https:"),
            "proxy": {"url": "http://upstream.upstream.svc:9"},
        }),
        "upstream", "opens no tunnel to upstream.upstream.svc:8080: check upstream.proxy",
    ),
    "key replaced by a bad one": (
        POD, secret(OPENAI_API_KEY="sk-not-the-right-one"), "upstream",
        "rejects key OPENAI_API_KEY of Secret openai (route openai) with 401: put the right key",
    ),
    "key with Bearer": (
        POD, secret(OPENAI_API_KEY=f"Bearer {CANARY_KEY}"), "secret",
        "begins with Bearer, which Thruway adds itself: store the bare key",
    ),
    "no Secret": (POD, secret(), "route", "there is no Secret openai in namespace doctored"),
    "no such key": (POD, secret(OTHER="x"), "route", "(SecretKeyNotFound)"),
    "empty key": (POD, secret(OPENAI_API_KEY=" "), "route", "(SecretEmpty)"),
    "no route": (POD, no_route, "route", "there is no PassthroughRoute in namespace doctored"),
    "path moved": (
        POD, spec(path="/elsewhere"), "environment",
        "which no route has: delete and recreate pod web, or restore the route's path",
    ),
    "client without a key": (
        POD, keyed, "requests", "or remove clientAuth from the route",
    ),
    "method": (POD, spec(request={"methods": ["POST"]}), "requests", "method_not_allowed"),
    "conflict": (ALL, conflict, "route", "(Conflicted)"),
    "operator scaled to zero": (
        POD, scaled("operator"), "operator", "scale deployment/thruway-operator --replicas=2",
    ),
    "operator without rights": (
        POD, deleted("clusterrolebinding", "thruway-operator"), "operator",
        "upgrade the chart, which grants the operator its permissions",
    ),
    "operator's Service deleted": (
        POD, deleted(*SERVICE), "xds", "does not exist: upgrade the chart, which restores it",
    ),
    "webhook deleted": (
        POD, deleted("mutatingwebhookconfiguration", "thruway-injector"), "webhook",
        "there is no MutatingWebhookConfiguration of the injector",
    ),
    "webhook's Service deleted": (
        POD, deleted("service", "thruway-injector"), "webhook", "upgrade the chart, which restores",
    ),
    "gateway scaled to zero": (CLIENT, scaled("gateway"), "gateway", "has no pod"),
    "gateway's Service deleted": (
        CLIENT, deleted("service", "thruway-gateway"), "gateway",
        "the Service of the gateway does not exist: upgrade the chart",
    ),
    "gateway's upstream": (
        CLIENT, shared_spec(upstream={"url": "http://upstream.upstream.svc:9"}), "upstream",
        "nothing accepts connections at upstream.upstream.svc:9",
    ),
    "gateway's clients": (
        CLIENT, shared_spec(clientAuth={"type": "APIKey", "secretRef": {"name": "openai"}}),
        "requests", "rejects the latest requests with invalid_api_key",
    ),
    "application's forward proxy": (
        ("-n", SIDECARS, "proxied"), proxied, "environment",
        "has HTTP_PROXY, and NO_PROXY lacks 127.0.0.1, so its calls go to that proxy: add",
    ),
    "application's port": (
        ("-n", SIDECARS, "clash"), clash, "application",
        "its log says that its port is in use: the sidecar listens on 4000 and 4001: annotate",
    ),
    "application's base URL": (
        ("-n", SIDECARS, "astray"), astray, "environment",
        "points to the path /openai/v1, which no route has",
    ),
    "quota": (
        ("-n", "doctored-quota"), quota, "creation",
        "set the annotations thruway.dev/envoy-cpu-limit and thruway.dev/extproc-cpu-limit",
    ),
    "gateway's route moved": (
        CLIENT, shared_spec(path="/elsewhere"), "environment",
        "points to the path /doctored/v1, which no route of this namespace has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_after_good_calls_is_named_and_its_remedy_ends_it(world: World, name: str) -> None:
    where, plant, step, sentence = FAULTS[name]
    world.is_well(CLIENT if where == CLIENT else POD)
    heal = plant(world)
    try:
        world.finds(where, step, sentence)
    finally:
        heal()
    world.is_well(where, step)
