"""Everything goes wrong at random while traffic runs; only what the failure table allows is seen.

A few seconds in `make test`, five minutes in `make soak` (`THRUWAY_SOAK_SECONDS`). The seed is
printed, and `THRUWAY_SOAK_SEED` repeats it.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from thruway_testing.plane.bulk import bulk_upstream
from thruway_testing.product.manifests import route, secret, write
from thruway_testing.product.up import ThruwayUp, thruway_up, wait_until
from thruway_testing.upstreams.openai_upstream import CANARY_KEY, OpenAIUpstream
from thruway_testing.wire.load import Load

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = float(os.environ.get("THRUWAY_SOAK_SECONDS", "10"))
SEED = int(os.environ.get("THRUWAY_SOAK_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
ALLOWED = {"upstream_unreachable", "upstream_reset"}
"""What a client may see of an upstream that is killed (docs/errors.md)."""

CREDENTIAL = {"secretKeyRef": {"name": "openai", "key": "KEY"}}
AUTH = {"type": "APIKey", "secretRef": {"name": "clients"}}
CLIENT = "vk-soak-client-1"


class Soak:
    """A running Thruway, two upstreams, and what can be done to them."""

    def __init__(self, folder: Path, steady: OpenAIUpstream, stack: contextlib.ExitStack) -> None:
        self.chance = random.Random(SEED)
        self.folder, self.steady, self._stack = folder, steady, stack
        self._flaky = contextlib.ExitStack()
        self.flaky_url = self._flaky.enter_context(bulk_upstream())
        stack.callback(self._flaky.close)
        self.change_routes()
        self.rotate_key()
        self.up = stack.enter_context(thruway_up("-f", str(folder)))

    def change_routes(self) -> None:
        generation = [{"name": "X-Generation", "value": uuid.uuid4().hex}]
        rules = {"headers": {"set": generation}}
        host = self.chance.choice(["127.0.0.1", "localhost"])
        steady = self.steady.url.replace("127.0.0.1", host)
        write(
            self.folder / "steady.yaml",
            route("steady", "/steady", steady, credential=CREDENTIAL, response=rules),
            route(
                "private",
                "/private",
                steady,
                credential=CREDENTIAL,
                clientAuth=AUTH,
                response=rules,
            ),
        )
        write(self.folder / "flaky.yaml", route("flaky", "/flaky", self.flaky_url, response=rules))

    def add_or_drop_a_file(self) -> None:
        file = self.folder / f"extra-{self.chance.randrange(20)}.yaml"
        if file.exists():
            file.unlink()
        else:
            write(file, route(file.stem, f"/{file.stem}", self.steady.url))

    def break_a_file(self) -> None:
        (self.folder / "broken.yaml").write_text("kind: [")

    def mend_the_file(self) -> None:
        (self.folder / "broken.yaml").unlink(missing_ok=True)

    def rotate_key(self) -> None:
        new = f"sk-soak-{uuid.uuid4().hex}"
        # The upstream takes all keys that may still be on their way to it.
        self.steady.accepted_keys = [*(self.steady.accepted_keys or ()), new][-50:]
        write(
            self.folder / "secrets.yaml",
            secret("openai", KEY=new),
            secret("clients", soak=CLIENT, other=f"vk-{uuid.uuid4().hex}"),
        )

    def kill_a_worker(self) -> None:
        sockets = len(list(self.up.run_folder.glob("extproc-*.sock")))
        workers = self.up.children()["extproc"]
        if len(workers) == 2 == sockets:
            os.kill(self.chance.choice(workers), signal.SIGKILL)

    def restart_the_flaky_upstream(self) -> None:
        port = int(self.flaky_url.rpartition(":")[2])
        self._flaky.close()
        self._flaky.enter_context(bulk_upstream(port))

    def deeds(self) -> list[Callable[[], None]]:
        return [
            self.change_routes,
            self.add_or_drop_a_file,
            self.break_a_file,
            self.mend_the_file,
            self.rotate_key,
            self.kill_a_worker,
            self.restart_the_flaky_upstream,
        ]


def descriptors(up: ThruwayUp) -> dict[str, int]:
    pids = {"up": [up.process.pid], **up.children()}
    return {
        kind: sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids[kind])
        for kind in ("up", "envoy", "reaper")
    }


def memory(up: ThruwayUp) -> dict[str, int]:
    pids = {"up": up.process.pid, "envoy": up.children()["envoy"][0]}
    found = {}
    for kind, pid in pids.items():
        text = Path(f"/proc/{pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert match is not None
        found[kind] = int(match[1]) * 1024
    return found


@pytest.mark.timeout(int(SECONDS) + 180)
def test_whatever_happens_only_what_the_table_allows_is_seen(tmp_path: Path) -> None:
    print(f"THRUWAY_SOAK_SEED={SEED}")  # noqa: T201 - shown when the test fails
    with contextlib.ExitStack() as stack:
        steady = stack.enter_context(OpenAIUpstream(accepted_keys=[CANARY_KEY]))
        soak = Soak(tmp_path, steady, stack)
        base = soak.up.url
        private = {"Authorization": f"Bearer {CLIENT}"}
        streams = [f"{base}/steady/forever/{uuid.uuid4().hex}" for _ in range(5)]
        surely = Load([f"{base}/steady/responses"], streams, clients=3)
        known = Load([f"{base}/private/responses"], clients=2, headers=private)
        perhaps = Load([f"{base}/flaky/up"], clients=2)
        with surely, known, perhaps:
            wait_until(lambda: surely.streaming == 5 and surely.done > 100, "traffic")
            deeds = soak.deeds()
            for deed in deeds:  # each once, so that what is allocated once has been
                deed()
            soak.restart_the_flaky_upstream()
            time.sleep(1)
            started = (descriptors(soak.up), memory(soak.up))
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                soak.chance.choice(deeds)()
                time.sleep(soak.chance.random())
            seen = surely.done
            wait_until(lambda: surely.done > seen + 50, "traffic in the end")
        assert surely.failures == []
        assert surely.cut == []
        assert known.failures == []
        assert [failure for failure in perhaps.failures if not _allowed(failure)] == []
        assert httpx.get(f"{base}/steady/models", trust_env=False).status_code == 200
        ended = (descriptors(soak.up), memory(soak.up))
        for kind, count in ended[0].items():
            assert count < started[0][kind] + 64, (started, ended)
        for kind, size in ended[1].items():
            assert size < started[1][kind] + (64 << 20), (started, ended)
        assert "Traceback" not in soak.up.text


def _allowed(failure: str) -> bool:
    return any(f'"code":"{code}"' in failure for code in ALLOWED)
