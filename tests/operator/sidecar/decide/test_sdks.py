"""The providers' SDKs find the sidecar by nothing but the variables that a container gets."""

from __future__ import annotations

import subprocess
import sys

import pytest

from thruway_operator.sidecar.decide import Injected
from thruway_testing.product.injection import read_injection

pytestmark = pytest.mark.slow  # importing the SDKs takes seconds

PROGRAM = """
import anthropic, openai
from google import genai

print(openai.OpenAI().base_url)
print(openai.AsyncOpenAI().base_url)
print(anthropic.Anthropic().base_url)
print(anthropic.AsyncAnthropic().base_url)
print(genai.Client()._api_client._http_options.base_url)
"""


BYPASS = """
import httpx, urllib.request

assert urllib.request.getproxies()
assert all(map(urllib.request.proxy_bypass, ("127.0.0.1", "localhost")))
transport = httpx.Client()._transport_for_url(httpx.URL("http://127.0.0.1:4000/v1"))
print(type(transport._pool).__name__)
"""


def run(case: str, container: str, program: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    found = read_injection(case).outcome()
    assert isinstance(found, Injected)
    items = {item["name"]: item for item in found.pod["spec"]["containers"]}
    env = items[container]["env"]
    environment = {entry["name"]: entry.get("value", "http://proxy.corp:3128") for entry in env}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_sdks_call_the_sidecar() -> None:
    found = run("providers", "app")
    assert found.stdout.split() == [
        "http://127.0.0.1:4000/openai/v1/",
        "http://127.0.0.1:4000/openai/v1/",
        "http://127.0.0.1:4000/claude/",
        "http://127.0.0.1:4000/claude/",
        "http://127.0.0.1:4000/gemini",
    ]
    assert "are set" not in found.stderr


def test_sdks_do_not_complain_of_two_keys() -> None:
    found = run("providers-own-variables", "keys-of-its-own")
    assert "http://127.0.0.1:4000/claude/" in found.stdout.split()
    assert "http://127.0.0.1:4000/gemini" in found.stdout.split()
    assert "are set" not in found.stderr
    assert "shadow" not in found.stderr.lower()


@pytest.mark.parametrize("container", ["upper", "lower", "https"])
def test_calls_to_the_sidecar_pass_by_a_proxy(container: str) -> None:
    found = run("proxies", container, BYPASS)
    assert found.stdout == "ConnectionPool\n"
