"""Envoy as it is configured for users, with an extproc of the test's choice: no `thruway up`.

    with ProxyBench([route("r", "/r", upstream.url)], extproc=[fake_socket]) as bench:
        httpx.get(f"{bench.url}/r/models")
        bench.wait_for_call(status=200)

The xDS server is the real one, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from envoy.extensions.resource_monitors.downstream_connections.v3 import (
    downstream_connections_pb2 as downstream_connections,
)

from thruway_operator.envoy.bootstrap import ProxyOptions, render_bootstrap
from thruway_operator.envoy.downstream import PLAIN, certificate_files
from thruway_operator.envoy.fragments import assemble, render_fragments
from thruway_operator.envoy.wire import any_of, serialized
from thruway_operator.sources.files.documents import parse_documents
from thruway_operator.sources.files.manifests import read_manifests
from thruway_operator.translate import translate
from thruway_operator.xds import XdsServer
from thruway_testing.plane.envoy import Envoy, wait_until
from thruway_testing.plane.programmed import wait_programmed
from thruway_testing.product.golden import resources_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envoy.config.bootstrap.v3 import bootstrap_pb2

    from thruway_operator.envoy.downstream import Downstream
    from thruway_operator.xds import Fragment, Snapshot
    from thruway_testing.product.manifests import Document

__all__ = ["ProxyBench"]

_GROUP = "bench"


class ProxyBench:
    """A context manager.

    `extproc`: the sockets of extproc; None starts a real worker, which is then `worker`. `assemble`
    makes what Envoy gets of what the routes are rendered to; the real one by default. `documents`
    None: nothing is published, as if the operator did not know yet;
    with `patience_ms` Envoy serves all the same after that time. `connection_limit`: how many
    connections Envoy takes at once.
    """

    def __init__(
        self,
        documents: Sequence[Document] | None,
        *,
        extproc: Sequence[str] | None = None,
        assemble: Callable[[Sequence[Fragment]], Snapshot] = assemble,
        system_ca: str = "",
        connection_limit: int | None = None,
        downstream: Downstream = PLAIN,
        patience_ms: int = 0,
    ) -> None:
        self._patience_ms = patience_ms
        self._reception = downstream
        self._documents = documents
        self._extproc = extproc
        self._system_ca = system_ca
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._xds = XdsServer(assemble, group_of=lambda _: _GROUP)
        self._connection_limit = connection_limit
        self._stack = contextlib.ExitStack()
        self.worker: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.port = 0

    def __enter__(self) -> Self:
        with self._stack as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="thruway-bench-"))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._thread.start()
        stack.callback(self._end_loop)
        sockets = self._extproc
        if sockets is None:
            sockets = [str(self.folder / "extproc.sock")]
            self._start_worker(stack, sockets[0])
        options = ProxyOptions(
            node_id="bench",
            addresses=(("127.0.0.1", 0),),
            admin_socket="replaced",
            xds_socket=str(self.folder / "xds.sock"),
            extproc_sockets=tuple(sockets),
            downstream=self._reception,
            patience_ms=self._patience_ms,
        )
        file = self.folder / "bootstrap.pb"
        bootstrap = render_bootstrap(options)
        if self._connection_limit is not None:
            _limit_connections(bootstrap, self._connection_limit)
        file.write_bytes(serialized(bootstrap))
        if self._reception.certificate:
            for name, text in certificate_files(self._reception.certificate).items():
                (Path(self._reception.certificate.folder) / name).write_text(text)
        self._wait(self._xds.start(f"unix:{options.xds_socket}"))
        stack.callback(lambda: self._wait(self._xds.stop()))
        args = ("--file-flush-interval-msec", "20", "--component-log-level", "misc:error")
        self.envoy = stack.enter_context(Envoy(file, log_level="warning", args=args))
        if self._documents is not None:
            self.publish(*self._documents)
            self.wait_ready()

    def _start_worker(self, stack: contextlib.ExitStack, socket: str) -> None:
        command = [sys.executable, "-m", "thruway_extproc", "--listen", f"unix:{socket}"]
        log = stack.enter_context((self.folder / "extproc.log").open("wb"))
        self.worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(self.worker.wait)
        stack.callback(self.worker.kill)
        wait_until(Path(socket).exists, "extproc listens", 20)

    def publish(self, *documents: Document) -> None:
        """Replace what is served; returns once Envoy holds it."""
        parsed, broken = parse_documents(yaml.safe_dump_all(documents), "bench.yaml")
        assert not broken, broken
        manifests = read_manifests(parsed)
        assert not manifests.problems, manifests.problems
        translation = translate(resources_of(manifests))
        refused = [v for v in translation.verdicts.values() if not v.accepted.status]
        assert not refused, refused
        fragments = render_fragments(translation.config, self._system_ca)
        self._loop.call_soon_threadsafe(self._xds.publish, _GROUP, fragments)
        self._wait(wait_programmed(self._xds, _GROUP, 20))

    def wait_ready(self) -> None:
        """Wait until Envoy serves."""
        self.envoy.wait_ready()
        self.port = self.envoy.address("thruway")[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def calls(self) -> list[dict[str, Any]]:
        """The lines of Envoy's access log so far."""
        lines = [line for line in self.envoy.log.splitlines() if line.startswith("{")]
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [line for line in found if "method" in line]

    def wait_for_call(self, since: int = 0, **fields: Any) -> dict[str, Any]:
        """Wait for a call with these fields, not among the first `since` ones; return it."""

        def there() -> list[dict[str, Any]]:
            return [c for c in self.calls()[since:] if fields.items() <= c.items()]

        wait_until(there, f"a call with {fields}")
        return there()[0]

    def _wait(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self._loop).result(30)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()


def _limit_connections(bootstrap: bootstrap_pb2.Bootstrap, connections: int) -> None:
    (monitor,) = bootstrap.overload_manager.resource_monitors
    limit = downstream_connections.DownstreamConnectionsConfig(
        max_active_downstream_connections=connections
    )
    monitor.typed_config.CopyFrom(any_of(limit))
