"""Declare a route, and the proxy serves it; the status says what became of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from thruway_testing.plane.cluster_user import CREDENTIAL, TOO_LARGE, User, code_of, wait_answer
from thruway_testing.product.up import wait_until
from thruway_testing.upstreams.openai_upstream import CANARY_KEY

if TYPE_CHECKING:
    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.plane.kubernetes.kubectl import Kubectl
    from thruway_testing.plane.operator_process import Replica
    from thruway_testing.product.sidecar import Sidecar
    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream


@pytest.fixture
def user(control_plane: ControlPlane, namespace: str) -> User:
    return User(control_plane.api, namespace)


def test_what_the_user_does(
    kubectl: Kubectl, user: User, sidecar: Sidecar, upstream: OpenAIUpstream
) -> None:
    kubectl.run(
        "create", "secret", "generic", "openai", f"--from-literal=OPENAI_API_KEY={CANARY_KEY}"
    )
    kubectl.apply(
        f"""
        apiVersion: thruway.dev/v1alpha1
        kind: PassthroughRoute
        metadata: {{name: openai}}
        spec:
          path: /openai_passthrough
          provider: openai
          upstream: {{url: {upstream.url}}}
          credential: {{secretKeyRef: {{name: openai, key: OPENAI_API_KEY}}}}
        """
    )
    sidecar.wait_ready()

    assert wait_answer(f"{sidecar.url}/openai_passthrough/models", 200).json()["data"]
    user.wait_programmed("openai")
    header, row = kubectl.run("get", "ptr").stdout.splitlines()
    wanted = ["NAME", "PATH", "UPSTREAM", "READY", "REASON", "PROXIES", "AGE"]
    assert header.split() == wanted
    assert row.split()[:-1] == [
        "openai", "/openai_passthrough", upstream.url, "True", "Ready", "1",
    ]  # fmt: skip
    status = user.get("openai")["status"]
    assert status["url"] == "http://127.0.0.1:4000/openai_passthrough"
    assert status["proxies"] == {"connected": 1, "programmed": 1}
    told = kubectl.run("describe", "passthroughroute", "openai").stdout
    assert "All connected proxies serve it." in told

    kubectl.run("delete", "passthroughroute", "openai")
    assert (
        code_of(wait_answer(f"{sidecar.url}/openai_passthrough/models", 404)) == "route_not_found"
    )


def test_a_change_takes_effect_and_the_status_follows_its_generation(
    user: User, sidecar: Sidecar, upstream: OpenAIUpstream
) -> None:
    user.apply("a", upstream.url)
    sidecar.wait_ready()
    user.wait_programmed("a")
    before = user.get("a")

    user.apply("a", upstream.url, path="/b")

    wait_answer(f"{sidecar.url}/b/models", lambda a: a.headers.get("x-upstream") == "openai")
    user.wait_programmed("a")
    after = user.get("a")
    assert after["status"]["observedGeneration"] == before["status"]["observedGeneration"] + 1
    assert httpx.get(f"{sidecar.url}/a/models", trust_env=False).status_code == 404


def test_what_only_translation_sees_becomes_a_condition_and_an_event(
    user: User, kubectl: Kubectl, operator: Replica
) -> None:
    assert operator.is_ready()
    user.secret("present", OTHER="x")
    user.apply("no-secret", "https://api.example.com", credential=CREDENTIAL)
    there = {"secretKeyRef": {"name": "present", "key": "NOPE"}}
    user.apply("no-key", "https://api.example.com", credential=there)
    user.apply("large", "https://api.example.com", request=TOO_LARGE)
    keys = {"type": "APIKey", "secretRef": {"name": "present"}}
    user.apply("cluster", "https://api.example.com", exposure="Cluster", clientAuth=keys)

    missing = user.wait_condition("no-secret", "ResolvedRefs", "False", "SecretNotFound")
    assert "openai" in missing["message"]
    no_key = user.wait_condition("no-key", "ResolvedRefs", "False")
    assert "NOPE" in no_key["message"]
    user.wait_condition("large", "Accepted", "False", "RuleTooLarge")
    user.wait_condition("cluster", "Accepted", "False", "NotAllowed")
    event = re.compile(r"^ +Warning +RuleTooLarge ", re.MULTILINE)
    wait_until(
        lambda: event.search(kubectl.run("describe", "ptr", "large").stdout), "an event of it"
    )

    user.secret("openai", OPENAI_API_KEY="sk-x")
    user.wait_condition("no-secret", "ResolvedRefs", "True")


def test_nothing_is_written_but_status_and_a_resync_writes_nothing(
    user: User, sidecar: Sidecar, upstream: OpenAIUpstream, operator: Replica
) -> None:
    user.apply("a", upstream.url)
    sidecar.wait_ready()
    user.wait_programmed("a")
    before = user.get("a")

    operator.stop()
    operator.start().wait_ready()
    wait_until(lambda: operator.log.count("connected to group") >= 2, "the proxy is back")
    user.apply("b", upstream.url)
    user.wait_programmed("b")  # whatever was to be written of the other has been by now

    after = user.get("a")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert "finalizers" not in after["metadata"]
    assert "annotations" not in after["metadata"]
    managers = {(m["manager"], m.get("subresource")) for m in after["metadata"]["managedFields"]}
    assert managers == {("tests", None), ("thruway-operator", "status")}


def test_no_key_is_in_the_log_the_status_an_event_or_the_process(
    user: User, sidecar: Sidecar, upstream: OpenAIUpstream, operator: Replica, namespace: str
) -> None:
    user.secret(OPENAI_API_KEY=CANARY_KEY)
    user.apply("a", upstream.url, credential=CREDENTIAL)
    sidecar.wait_ready()
    user.wait_programmed("a")
    user.secret(OPENAI_API_KEY=f"{CANARY_KEY}\n{CANARY_KEY}")
    user.wait_condition("a", "ResolvedRefs", "False", "SecretInvalid")

    def proc(name: str) -> str:
        return Path(f"/proc/{operator.pid}/{name}").read_bytes().decode(errors="replace")

    events = user.api.get(f"/api/v1/namespaces/{namespace}/events")
    shown = [operator.log, json.dumps(user.get("a")), json.dumps(events), proc("cmdline"),
             proc("environ"), sidecar.envoy.get("/config_dump?include_eds")]  # fmt: skip
    assert not [text for text in shown if CANARY_KEY in text]
