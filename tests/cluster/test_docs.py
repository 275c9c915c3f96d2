"""The commands of docs/operator.md, typed as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from thruway_testing.plane.cluster_user import CREDENTIAL, TOO_LARGE, User, wait_answer
from thruway_testing.product.up import base_environment
from thruway_testing.upstreams.openai_upstream import CANARY_KEY

if TYPE_CHECKING:
    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.plane.kubernetes.kubectl import Kubectl
    from thruway_testing.plane.operator_process import Replica
    from thruway_testing.product.sidecar import Sidecar
    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "operator.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_declare_a_route(
    control_plane: ControlPlane, namespace: str, sidecar: Sidecar, upstream: OpenAIUpstream,
    tmp_path: Path,
) -> None:  # fmt: skip
    commands, wait = BLOCKS
    config = json.loads(control_plane.admin_kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = namespace
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    file = tmp_path / "examples" / "sidecar" / "route.yaml"  # the real upstream is out of reach
    file.parent.mkdir(parents=True)
    file.write_text(
        f"""
        apiVersion: thruway.dev/v1alpha1
        kind: PassthroughRoute
        metadata: {{name: openai}}
        spec:
          path: /openai_passthrough
          provider: openai
          upstream: {{url: "{upstream.url}"}}
          credential: {{secretKeyRef: {{name: openai, key: OPENAI_API_KEY}}}}
        """
    )
    environment = base_environment(
        KUBECONFIG=str(tmp_path / "kubeconfig"),
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        HOME=str(tmp_path),
    )

    def typed(command: str, code: int = 0) -> str:
        done = subprocess.run(
            ["sh", "-c", command], env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout

    secret, apply, get, describe, status = (
        commands.replace("sk-…", CANARY_KEY).replace("-n shop", f"-n {namespace}").splitlines()
    )
    typed(secret)
    typed(re.sub(r"kubectl -n \S+ apply", "thruway check --cluster", apply))
    assert typed(apply) == "passthroughroute.thruway.dev/openai created\n"
    sidecar.wait_ready()
    wait_answer(f"{sidecar.url}/openai_passthrough/models", 200)
    User(control_plane.api, namespace).wait_programmed("openai")
    assert "condition met" in typed(wait.replace("-n shop", f"-n {namespace}"))
    assert "/openai_passthrough" in typed(get)
    assert "Programmed" in typed(describe)
    assert namespace in typed(status)


@pytest.mark.parametrize("condition", ["Ready", "Programmed", "Accepted"])
def test_nobody_waits_for_a_route_that_no_proxy_serves_yet(
    condition: str, control_plane: ControlPlane, namespace: str, operator: Replica, kubectl: Kubectl
) -> None:
    user = User(control_plane.api, namespace)
    user.apply("openai", "https://api.example.com")

    _, wait = BLOCKS
    command = wait.replace("=Ready", f"={condition}").replace("-n shop ", "").split()[1:]
    assert "condition met" in kubectl.run(*command).stdout
    ready = user.wait_condition("openai", "Ready", "True", "NoProxies")
    assert "No proxy serves it yet" in ready["message"]
    assert operator.is_ready()


def test_a_route_that_cannot_be_served_is_not_ready_and_says_why(
    control_plane: ControlPlane, namespace: str, operator: Replica
) -> None:
    user = User(control_plane.api, namespace)
    user.apply("conflicted", "https://api.example.com", path="/same")
    user.wait_condition("conflicted", "Ready", "True", "NoProxies")
    user.apply("large", "https://api.example.com", request=TOO_LARGE)
    user.apply("no-secret", "https://api.example.com", credential=CREDENTIAL)
    user.apply("same", "https://api.example.com")

    for name, reason in (
        ("large", "RuleTooLarge"),
        ("no-secret", "SecretNotFound"),
        ("same", "Conflicted"),
    ):
        ready = user.wait_condition(name, "Ready", "False", reason)
        kinds = ("Accepted", "ResolvedRefs", "Programmed")
        assert ready["message"] in [user.condition(name, kind).get("message") for kind in kinds]
    assert operator.is_ready()


def test_every_reason_of_a_condition_is_in_the_table() -> None:
    code = Path(__file__).parents[2] / "operator" / "thruway_operator"
    reasons = set()
    for file in (
        code / "controller" / "status" / "conditions.py",
        *(code / "translate").glob("*.py"),
    ):
        text = file.read_text(encoding="utf-8")
        reasons |= set(re.findall(r'Refused\(\s*"(\w+)"', text))
        reasons |= set(re.findall(r'Condition\(kind, (?:True|False|None), "(\w+)"', text))
    assert len(reasons) > 8
    assert sorted(reason for reason in reasons if f"`{reason}`" not in TEXT) == []


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(((?!https:)[^)#]+)\)", TEXT):
        assert (DOCS / target).exists(), target
