"""`thruway up` as its user meets it: the start, the words, the end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import openai
import pytest

from thruway_testing.product.manifests import route, write
from thruway_testing.product.up import (
    ThruwayUp,
    base_environment,
    thruway_command,
    thruway_up,
    wait_until,
)
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream
from thruway_testing.wire.curl import path_with_curl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def run_up(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `thruway up` that is to end by itself."""
    return subprocess.run(
        [*thruway_command(), "up", *arguments],
        env=base_environment(**(environment or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def everything_of(up: ThruwayUp) -> list[int]:
    pids = [pid for kind in up.children().values() for pid in kind]
    assert len(pids) == 4, up.children()  # envoy, two workers, the reaper
    return pids


@pytest.fixture
def demonstration() -> Iterator[ThruwayUp]:
    with thruway_up() as up:
        yield up


def test_a_newcomer_without_a_key_sees_a_streamed_answer(demonstration: ThruwayUp) -> None:
    assert "DEMONSTRATION" in demonstration.text
    with openai.OpenAI(
        base_url=f"{demonstration.url}/openai_passthrough/v1", api_key="sk-anything"
    ) as client:
        stream = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        words = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    call = demonstration.wait_for_call(method="POST")
    assert (call["status"], call["code"]) == (200, None)  # the SDK leaves at [DONE]
    assert len(words) > 3
    assert "OPENAI_API_KEY" in "".join(words)


def test_the_snippets_work_as_printed(demonstration: ThruwayUp, tmp_path: Path) -> None:
    run_snippets(demonstration, tmp_path)


def test_the_snippets_work_with_client_keys(tmp_path: Path) -> None:
    keys = "tw-0123456789,tw-9876543210"
    with thruway_up(environment={"THRUWAY_API_KEY": keys}) as up:
        run_snippets(up, tmp_path, THRUWAY_API_KEY=keys)


def test_the_snippets_work_with_a_host_name(
    tmp_path: Path, openai_upstream: OpenAIUpstream
) -> None:
    spec = {"provider": "openai", "hostnames": ["ai.example"]}
    write(tmp_path / "routes.yaml", route("a", "/a", openai_upstream.url, **spec))
    with thruway_up("-f", str(tmp_path / "routes.yaml")) as up:
        run_snippets(up, tmp_path, said="Say hello.", OPENAI_API_KEY=CANARY_KEY)


def run_snippets(
    up: ThruwayUp, tmp_path: Path, said: str = "OPENAI_API_KEY", **environment: str
) -> None:
    curl, python = printed_snippets(up.text)
    answer = subprocess.run(
        ["sh", "-c", curl],
        env=base_environment(PATH=path_with_curl(os.environ["PATH"], tmp_path), **environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "data: [DONE]" in answer.stdout
    answer = subprocess.run(
        [sys.executable, "-c", python],
        env=base_environment(**environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert said in answer.stdout


def printed_snippets(text: str) -> tuple[str, str]:
    curl = re.search(r"^curl (?:.*\\\n)*.*$", text, re.MULTILINE)
    python = re.search(
        r"^(?:import os\n\n)?from openai import OpenAI\n(?:.*\n)*?print\(.*\)$", text, re.MULTILINE
    )
    assert curl is not None
    assert python is not None
    return curl[0], python[0]


def test_the_table_names_sources_and_never_values(openai_upstream: OpenAIUpstream) -> None:
    environment = {
        "OPENAI_API_KEY": CANARY_KEY,
        "THRUWAY_UPSTREAM_URL": openai_upstream.url,
        "THRUWAY_NATIVE_URL": "http://127.0.0.1:9",
    }
    with thruway_up(environment=environment) as up:
        lines = [line.split() for line in up.text.splitlines()]
        assert ["/openai_passthrough", openai_upstream.url, "OPENAI_API_KEY", "(environment)"] in (
            lines
        )
        assert ["/openai/v1/responses", "http://127.0.0.1:9", "the", "client's", "own"] in lines
        assert CANARY_KEY not in up.text


def test_it_serves_on_both_loopback_addresses(demonstration: ThruwayUp) -> None:
    for host in ("127.0.0.1", "[::1]", "localhost"):
        url = f"http://{host}:{demonstration.port}/openai_passthrough/v1/models"
        assert httpx.get(url, trust_env=False).status_code == 200


def test_without_a_key_but_with_an_upstream_the_clients_own_key_passes(
    openai_upstream: OpenAIUpstream,
) -> None:
    with thruway_up(environment={"THRUWAY_UPSTREAM_URL": openai_upstream.url}) as up:
        answer = httpx.get(
            f"{up.url}/openai_passthrough/v1/models",
            headers={"Authorization": f"Bearer {CANARY_KEY}"},
            trust_env=False,
        )
        assert answer.status_code == 200
        assert "the clients' own keys pass on" in up.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_process(number: signal.Signals) -> None:
    with thruway_up() as up:
        pids, folder = everything_of(up), up.run_folder
        assert up.finish(number) == 0
        wait_until(lambda: not any(map(is_alive, pids)), f"the end of {pids}")
        assert not folder.exists()
        assert "Traceback" not in up.text
        assert up.text.endswith("\nEnded.\n")


def test_a_signal_tells_how_many_calls_it_cut(openai_upstream: OpenAIUpstream) -> None:
    with (
        thruway_up(environment={"THRUWAY_UPSTREAM_URL": openai_upstream.url}) as up,
        httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {CANARY_KEY}"}) as client,
        client.stream("GET", f"{up.url}/openai_passthrough/forever/{uuid.uuid4().hex}") as answer,
    ):
        events = answer.iter_bytes()  # held: a generator that is thrown away closes the connection
        assert next(events)
        assert up.finish() == 0
        assert up.text.endswith("\nEnded; 1 call was cut.\n")


def test_nothing_stays_behind_after_kill_9() -> None:
    with thruway_up() as up:
        pids, folder = everything_of(up), up.run_folder
        up.process.kill()
        up.process.wait()
        wait_until(lambda: not any(map(is_alive, pids)), f"the end of {pids}")
        wait_until(lambda: not folder.exists(), f"{folder} to be removed")


def test_envoy_comes_back_after_kill_9_and_that_is_said(demonstration: ThruwayUp) -> None:
    url = f"{demonstration.url}/openai_passthrough/v1/models"
    (envoy,) = demonstration.children()["envoy"]
    os.kill(envoy, signal.SIGKILL)
    demonstration.wait_for(r"envoy ended \(killed by SIGKILL\)")
    demonstration.wait_for(r"envoy is back after \d+\.\d s")
    assert httpx.get(url, trust_env=False).status_code == 200
    assert demonstration.children()["envoy"] != [envoy]


def test_a_call_is_one_line_without_query_values(demonstration: ThruwayUp) -> None:
    httpx.get(
        f"{demonstration.url}/openai_passthrough/v1/models?after=sk-secret-value&sk-bare",
        headers={"X-Request-Id": "req-42", "Authorization": f"Bearer {CANARY_KEY}"},
        trust_env=False,
    )
    call = demonstration.wait_for_call(request_id="req-42")
    assert call["method"] == "GET"
    assert call["path"] == "/openai_passthrough/v1/models?after=…&…"
    assert call["route"] == "default/openai-passthrough"
    assert call["status"] == call["upstream_status"] == 200
    assert call["bytes_out"] > 0
    assert call["duration_ms"] >= 0
    assert "sk-" not in demonstration.output


def test_metrics_know_an_upstream_by_its_whole_name(demonstration: ThruwayUp) -> None:
    assert httpx.get(f"{demonstration.url}/openai_passthrough/v1/models").status_code == 200
    found = re.findall(
        r'^envoy_cluster_upstream_rq_total\{envoy_cluster_name="(.+)"\} 1$',
        demonstration.admin("/stats/prometheus"),
        re.MULTILINE,
    )
    assert any(re.fullmatch(r"127_0_0_1_[0-9]+/[0-9a-f]{32}", name) for name in found), found


def test_a_port_in_use_is_said_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_up("--port", str(port))
    assert ended.returncode == 1
    assert f"Port {port} of 127.0.0.1 is in use by another program" in ended.stderr
    assert "--port" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_port_of_thruway_itself_is_said_to_be_that(demonstration: ThruwayUp) -> None:
    ended = run_up("--port", str(demonstration.port))
    assert ended.returncode == 1
    pid = demonstration.process.pid
    assert (
        f"Thruway already runs on port {demonstration.port} of 127.0.0.1 (pid {pid}); end it, or"
        in (ended.stderr)
    )


def test_a_file_that_is_not_there_ends_with_2() -> None:
    ended = run_up("--port", "0", "-f", "nowhere.yaml")
    assert ended.returncode == 2  # as of `thruway check`
    assert "nowhere.yaml does not exist" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_no_route_at_all_is_said_of_each_path(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    ended = run_up("--port", "0", "-f", str(tmp_path / "empty.yaml"))
    assert ended.returncode == 1
    assert ended.stderr == (
        f"thruway up: {tmp_path}/empty.yaml: is empty: add a route, or name another file\n"
    )


BAD_STARTS = {
    "upstream without scheme": (
        [],
        {"OPENAI_API_KEY": CANARY_KEY, "THRUWAY_UPSTREAM_URL": "api.example.com"},
        "THRUWAY_UPSTREAM_URL must begin with http:// or https://",
    ),
    "native with a password": (
        [],
        {"THRUWAY_NATIVE_URL": f"http://user:{CANARY_KEY}@host"},
        "THRUWAY_NATIVE_URL must not contain a user and password",
    ),
    "no address of ours": (["--bind", "203.0.113.7"], {}, "is not an address of this machine"),
    "no address": (["--bind", "example"], {}, "is not an IP address"),
    "no such port": (["--port", "65536"], {}, "65536 is not a port"),
    "CA bundle": ([], {"SSL_CERT_FILE": "/nowhere.pem"}, "SSL_CERT_FILE names /nowhere.pem"),
}


@pytest.mark.parametrize("name", BAD_STARTS)
def test_what_cannot_start_says_why_in_one_sentence(name: str) -> None:
    arguments, environment, sentence = BAD_STARTS[name]
    ended = run_up("--port", "0", *arguments, environment=environment)
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert CANARY_KEY not in ended.stderr


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--port", "x"], ["--nonsense"]])
def test_arguments_that_are_not_understood_end_with_2(arguments: list[str]) -> None:
    ended = run_up(*arguments)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_two_can_run_side_by_side() -> None:
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(thruway_up()) for _ in range(2))
        for up in (first, second):
            url = f"{up.url}/openai_passthrough/v1/models"
            assert httpx.get(url, trust_env=False).status_code == 200


def test_what_would_fail_in_the_shell_is_said_at_the_start() -> None:
    """A proxy that would take the calls, and a key with more in it than the key."""
    key = "sk-canary-0123456789"
    environment = {"OPENAI_API_KEY": f'"{key}"', "HTTP_PROXY": "http://127.0.0.1:9"}
    with thruway_up(environment=environment) as up:
        up.wait_for(r"export NO_PROXY=\"127\.0\.0\.1,localhost,")
        up.wait_for(r"the environment variable OPENAI_API_KEY is wrapped in quotes")
        assert key not in up.text
