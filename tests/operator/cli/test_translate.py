"""`thruway translate` prints what would be served, and no secret."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import yaml

from thruway_testing.product.command import thruway

ROOT = Path(__file__).resolve().parents[3]
KEY = "sk-canary-translate-0123456789"
CLIENT = "client-key-canary-0123456789"

ROUTES = f"""\
apiVersion: v1
kind: Secret
metadata: {{name: openai}}
stringData: {{KEY: {KEY}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: clients}}
data: {{shop: {base64.b64encode(CLIENT.encode()).decode()}}}
---
apiVersion: thruway.dev/v1alpha1
kind: PassthroughRoute
metadata: {{name: shop}}
spec:
  path: /openai
  provider: openai
  credential: {{secretKeyRef: {{name: openai, key: KEY}}}}
  clientAuth: {{type: APIKey, secretRef: {{name: clients}}}}
  request: {{headers: {{set: [{{name: X-A, value: {KEY}}}]}}}}
  overrides:
  - path: /v1/responses
    upstream: {{url: "http://localhost:4100"}}
    credential: {{secretKeyRef: {{name: openai, key: KEY}}, header: X-Own}}
---
apiVersion: thruway.dev/v1alpha1
kind: PassthroughRoute
metadata: {{name: missing}}
spec:
  path: /missing
  provider: openai
  credential: {{secretKeyRef: {{name: missing, key: KEY_2}}}}
"""
VIEWS = ("", "--rules", "--ir", "--envoy")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "routes.yaml"
    file.write_text(ROUTES)
    return file


def run(file: Path, view: str) -> str:
    result = thruway("translate", "-f", str(file), *filter(None, [view]))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("view", VIEWS)
def test_no_secret_is_shown(view: str, file: Path) -> None:
    text = run(file, view)
    for secret in (KEY, CLIENT, base64.b64encode(KEY.encode()).decode(), json.dumps(KEY)):
        assert secret not in text
    assert "[redacted]" in text
    assert yaml.safe_load(text)


def test_the_summary(file: Path) -> None:
    view = yaml.safe_load(run(file, ""))
    missing, shop = view["routes"]
    assert (missing["route"], shop["route"]) == ("default/missing", "default/shop")
    assert missing["ways"][0]["answer"].startswith("503 credential_missing: ")
    assert shop["clients"] == ["shop"]
    override, main = shop["ways"]
    assert override["matches"] == ["/openai/v1/responses and below", "/openai/responses and below"]
    assert override["upstream"] == "http://localhost:4100"
    assert override["credential"] == "x-own: [redacted] (Secret openai, key KEY)"
    assert main["upstream"] == "https://api.openai.com"
    assert main["rule"]["version"] == "/v1"


def test_the_rules(file: Path) -> None:
    view = yaml.safe_load(run(file, "--rules"))
    assert list(view) == ["default/shop#/v1/responses", "default/shop"]
    assert view["default/shop"]["headers_set"] == [["x-a", "[redacted]"]]


def test_the_ir(file: Path) -> None:
    view = yaml.safe_load(run(file, "--ir"))
    assert view["secrets"] == {"default/openai/KEY": "[redacted]"}
    (client,) = view["routes"][1]["clients"]
    assert client == {"id": "shop", "key": "[redacted]"}


def test_what_envoy_gets(file: Path) -> None:
    view = yaml.safe_load(run(file, "--envoy"))
    assert list(view) == ["routeConfiguration", "clusters", "secrets"]
    assert all(
        text == "[redacted]" or text.endswith(("certificate", "certificates"))
        for text in view["secrets"].values()
    )
    assert {cluster["name"].split(":")[0] for cluster in view["clusters"]} == {
        "api.openai.com",
        "localhost",
    }


def test_a_refused_route_is_told_and_the_others_are_shown(file: Path) -> None:
    more = ROUTES.rpartition("---\n")[2].replace("name: missing}\nspec", "name: late}\nspec")
    file.write_text(f"{ROUTES}---\n{more}")
    result = thruway("translate", "-f", str(file))
    assert result.exit_code == 1
    assert "default/late" in yaml.safe_load(result.stdout)["refused"]
    assert result.stderr.startswith(f"thruway translate: {file}:")


def test_a_broken_file_is_told_and_nothing_is_shown(file: Path) -> None:
    file.write_text(ROUTES + "  nonsense: true\n")
    result = thruway("translate", "-f", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "spec.nonsense: is not a known field" in result.stderr


def test_without_files() -> None:
    view = yaml.safe_load(thruway("translate").output)
    assert [route["ways"][0]["upstream"] for route in view["routes"]] == [
        "http://demonstration.invalid"
    ] * 2
