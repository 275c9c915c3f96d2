"""Files change while traffic runs: what they say holds at once, and nothing in flight is cut."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import uuid
from typing import TYPE_CHECKING

import httpx
import pytest

from thruway_testing.product.manifests import route, secret, write
from thruway_testing.product.up import ThruwayUp, thruway_up, wait_until
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream
from thruway_testing.wire.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CREDENTIAL = {"secretKeyRef": {"name": "openai", "key": "KEY"}}


@pytest.fixture
def folder(tmp_path: Path, openai_upstream: OpenAIUpstream) -> Path:
    folder = tmp_path / "routes"
    folder.mkdir()
    write(folder / "secret.yaml", secret("openai", KEY=CANARY_KEY))
    write(folder / "a.yaml", route("a", "/a", openai_upstream.url, credential=CREDENTIAL))
    return folder


@pytest.fixture
def up(folder: Path) -> Iterator[ThruwayUp]:
    with thruway_up("-f", str(folder)) as up:
        yield up


def status(up: ThruwayUp, path: str) -> int:
    return httpx.get(f"{up.url}{path}", trust_env=False).status_code


def serving(folder: Path) -> int:
    """Count the workers whose socket takes connections."""
    count = 0
    for path in folder.glob("extproc-*.sock"):
        with socket.socket(socket.AF_UNIX) as client:
            count += client.connect_ex(str(path)) == 0
    return count


def test_a_new_file_a_changed_one_and_a_deleted_one_take_effect(
    up: ThruwayUp, folder: Path, openai_upstream: OpenAIUpstream
) -> None:
    assert status(up, "/b/models") == 404
    write(folder / "b.yaml", route("b", "/b", openai_upstream.url, credential=CREDENTIAL))
    wait_until(lambda: status(up, "/b/models") == 200, "the new route")
    up.wait_for(r"Reloaded: added default/b\.")
    write(folder / "b.yaml", route("b", "/moved", openai_upstream.url, credential=CREDENTIAL))
    wait_until(lambda: status(up, "/moved/models") == 200, "the changed route")
    assert status(up, "/b/models") == 404
    (folder / "b.yaml").unlink()
    wait_until(lambda: status(up, "/moved/models") == 404, "the route to go")
    up.wait_for(r"Reloaded: removed default/b\.")
    assert status(up, "/a/models") == 200


def test_a_broken_file_keeps_its_last_good_state_and_says_so(
    up: ThruwayUp, folder: Path, openai_upstream: OpenAIUpstream
) -> None:
    good = (folder / "a.yaml").read_text()
    (folder / "a.yaml").write_text("kind: PassthroughRoute\n  spec: [")
    up.wait_for(r"a\.yaml:2: is not valid YAML.* Its last good state is still served\.")
    write(folder / "c.yaml", route("c", "/c", openai_upstream.url, credential=CREDENTIAL))
    wait_until(lambda: status(up, "/c/models") == 200, "the other file's route")
    assert status(up, "/a/models") == 200
    wrong = good.replace("path: /a", "path: a")
    assert wrong != good
    (folder / "a.yaml").write_text(wrong)
    up.wait_for(r"a\.yaml:\d+: a: spec\.path: must be .* Its last good state")
    assert status(up, "/a/models") == 200
    assert not re.search(r"Reloaded\.", up.text)  # which nothing was
    (folder / "a.yaml").write_text(good)
    up.wait_for("Reloaded: all problems are fixed")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"upstream": {"url": "localhost:4110"}}, r"must begin with http:// or https://"),
        ({"overrides": [{"path": "/x", "upstream": {"url": "http://x"}}] * 2}, "the same path"),
        ({"upstream": {"url": "http://localhost:PORT"}}, "leads back to this proxy"),
    ],
)
def test_a_mistake_that_only_translation_sees_takes_no_route_down(
    up: ThruwayUp,
    folder: Path,
    openai_upstream: OpenAIUpstream,
    wrong: dict[str, object],
    said: str,
) -> None:
    good = {"upstream": {"url": openai_upstream.url}, "credential": CREDENTIAL}
    manifest = route("a", "/a", openai_upstream.url, credential=CREDENTIAL)
    manifest["spec"] = json.loads(
        json.dumps({"path": "/a", **good, **wrong}).replace("PORT", str(up.port))
    )
    write(folder / "a.yaml", manifest)
    up.wait_for(rf"error: \S+a\.yaml:\d+: route default/a: .*{said}.* Its last good state is still")
    assert status(up, "/a/models") == 200
    write(folder / "a.yaml", route("a", "/a", openai_upstream.url, credential=CREDENTIAL))
    up.wait_for(r"Reloaded: all problems are fixed\.")
    assert "removed" not in up.text


def test_a_conflict_is_said_and_the_first_stays(
    up: ThruwayUp, folder: Path, openai_upstream: OpenAIUpstream
) -> None:
    write(folder / "z.yaml", route("z", "/a/deeper", openai_upstream.url))
    up.wait_for(r"z\.yaml:\d+: route default/z: path collides with /a of the older route default/a")
    assert status(up, "/a/models") == 200


def test_a_missing_secret_is_said_refused_and_heals(up: ThruwayUp, folder: Path) -> None:
    kept = (folder / "secret.yaml").read_text()
    (folder / "secret.yaml").unlink()
    up.wait_for("there is no Secret openai in the files, and no environment variable KEY")
    wait_until(lambda: status(up, "/a/models") == 503, "the refusal")
    error = httpx.get(f"{up.url}/a/models", trust_env=False).json()["error"]
    assert error["code"] == "credential_missing"
    assert "Secret openai" in error["message"]
    (folder / "secret.yaml").write_text(kept)
    wait_until(lambda: status(up, "/a/models") == 200, "the healing")


def test_a_rotated_secret_is_used_at_once(
    up: ThruwayUp, folder: Path, openai_upstream: OpenAIUpstream
) -> None:
    new = f"sk-{uuid.uuid4().hex}"
    openai_upstream.accepted_keys = [CANARY_KEY, new]
    try:
        write(folder / "secret.yaml", secret("openai", KEY=new))

        def is_new() -> bool:
            mark = uuid.uuid4().hex
            httpx.get(f"{up.url}/a/models", headers={"X-Mark": mark}, trust_env=False)
            (request,) = openai_upstream.requests_with("X-Mark", mark)
            return request.values("Authorization") == [f"Bearer {new}"]

        wait_until(is_new, "the new key at the upstream")
        up.wait_for(r"Reloaded: credentials changed\.")
    finally:
        openai_upstream.accepted_keys = [CANARY_KEY]


def test_reloading_100_files_under_load_fails_nothing_and_cuts_nothing(
    up: ThruwayUp, folder: Path, openai_upstream: OpenAIUpstream
) -> None:
    streams = [f"{up.url}/a/forever/{uuid.uuid4().hex}" for _ in range(4)]
    with Load([f"{up.url}/a/responses"], streams) as load:
        wait_until(lambda: load.streaming == 4, "the streams")
        for number in range(100):
            name = f"r{number}"
            write(
                folder / f"{name}.yaml",
                route(name, f"/{name}", openai_upstream.url, credential=CREDENTIAL),
            )
        wait_until(lambda: status(up, "/r99/models") == 200, "the last of 100 routes")
        # Now all of them at once, and with another cluster: by another name of the same host.
        moved = openai_upstream.url.replace("127.0.0.1", "localhost")
        for name in ["a", *(f"r{number}" for number in range(100))]:
            header = {"headers": {"set": [{"name": "X-Generation", "value": "2"}]}}
            write(
                folder / f"{name}.yaml",
                route(name, f"/{name}", moved, credential=CREDENTIAL, response=header),
            )

        def moved_all() -> bool:
            return all(
                httpx.get(f"{up.url}/{name}/models", trust_env=False).headers.get("X-Generation")
                for name in ("a", "r0", "r99")
            )

        wait_until(moved_all, "the changed routes")
        seen = load.done
        wait_until(lambda: load.done > seen + 50, "more requests")
        for number in range(100):
            (folder / f"r{number}.yaml").unlink()
        wait_until(lambda: status(up, "/r99/models") == 404, "the routes to go")
        seen = load.done
        wait_until(lambda: load.done > seen + 50, "more requests")
    assert load.failures == []
    assert load.cut == []


def test_kill_9_of_an_extproc_worker_under_load_costs_no_request(up: ThruwayUp) -> None:
    with Load([f"{up.url}/a/responses"]) as load:
        for round_ in range(1, 7):
            seen = load.done
            wait_until(lambda seen=seen: load.done > seen + 100, "traffic")  # type: ignore[misc]
            workers = up.children()["extproc"]
            assert len(workers) == 2
            os.kill(workers[round_ % 2], signal.SIGKILL)
            up.wait_for(r"extproc-\d ended \(killed by SIGKILL\)", count=round_)
            wait_until(lambda: serving(up.run_folder) == 2, "two workers again")
        seen = load.done
        wait_until(lambda: load.done > seen + 100, "traffic")
    assert load.failures == []
