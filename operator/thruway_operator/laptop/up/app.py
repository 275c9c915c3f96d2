"""`thruway up`: the xDS server here, Envoy and extproc's workers as children, one life for all."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thruway_operator.laptop.demo.server import demo_upstream
from thruway_operator.laptop.process.reaper import Reaper, ReaperError
from thruway_operator.laptop.process.supervisor import (
    Kind,
    ProcessError,
    ProcessEvent,
    RunFolderError,
    Supervisor,
    minimal_env,
    run_folder,
)
from thruway_operator.laptop.up.console import CallPrinter, Notice
from thruway_operator.laptop.up.examples import examples
from thruway_operator.laptop.up.feed import Feed
from thruway_operator.laptop.up.ports import ListenError, listen_addresses
from thruway_operator.laptop.up.proxy import (
    calls_under_way,
    envoy_command,
    extproc_command,
    until_ready,
    write_bootstrap,
)
from thruway_operator.laptop.up.table import startup_table
from thruway_operator.laptop.up.tunnels import TunnelTroubles, proxies_used
from thruway_operator.laptop.up.view import route_rows
from thruway_operator.sources.files.cabundle import CABundleError, system_ca_bundle
from thruway_operator.sources.files.clients import API_KEY, client_keys
from thruway_operator.sources.files.environment import (
    KEY,
    NATIVE_KEY,
    NATIVE_URL,
    environment_resources,
    needs_demonstration,
    secret_environment,
)
from thruway_operator.sources.files.network import Setting
from thruway_operator.sources.files.origins import allowed_origins
from thruway_operator.sources.files.proxyenv import bypass_hint, environment_proxies, proxy_warnings
from thruway_operator.sources.files.watch import FileSource, PathError, Reading, SourceError
from thruway_operator.text.colors import wants_color
from thruway_operator.text.safe import Redactor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from thruway_operator.envoy.bootstrap import ProxyOptions
    from thruway_operator.translate import Resources, Translation

__all__ = ["UpError", "UpOptions", "run"]

ENVOY = "envoy"


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of `thruway up`. No files: the routes of the environment."""

    files: tuple[Path, ...] = ()
    bind: tuple[str, ...] = ()
    port: int = 4000
    workers: int = 2
    log_level: str = "info"
    allow_origins: tuple[str, ...] = ()


class UpError(Exception):
    """It cannot start. `sentences` say why, one each."""

    def __init__(self, *sentences: str, code: int = 1) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences
        self.code = code
        """The exit code; 2 is for arguments that cannot be used, as of the other commands."""


async def run(options: UpOptions, environment: Mapping[str, str]) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP.

    Raises:
        UpError: it cannot start, or Envoy did not.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    try:
        await _Up(options, environment, stop).run()
    except PathError as error:
        raise UpError(str(error), code=2) from error
    except (
        SourceError,
        ListenError,
        CABundleError,
        ReaperError,
        ProcessError,
        RunFolderError,
    ) as error:
        raise UpError(str(error)) from error


class _Up:
    """One run."""

    def __init__(
        self, options: UpOptions, environment: Mapping[str, str], stop: asyncio.Event
    ) -> None:
        self._options = options
        self._environment = environment
        self._stop = stop
        self._redactor = Redactor()
        self._notice = Notice(sys.stderr, color=wants_color(sys.stderr), redactor=self._redactor)
        terminal = sys.stdout.isatty()
        self._calls = CallPrinter(
            sys.stdout,
            color=wants_color(sys.stdout),
            json=not terminal,
            redactor=self._redactor,
        )
        self._troubles = TunnelTroubles(self._notice.warn)
        self._failed = asyncio.Event()
        self._ready = False
        self._down_since: float | None = None
        self._admin_socket = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        system_ca = system_ca_bundle(self._environment)
        addresses = listen_addresses(self._options.bind, self._options.port)
        setting = Setting(
            tuple(addresses),
            tuple(client_keys(self._environment)),
            environment_proxies(self._environment),
            (*self._options.allow_origins, *allowed_origins(self._environment)),
        )
        if setting.keys and self._environment.get(NATIVE_URL) and not self._options.files:
            _require_native_key(self._environment)
        async with contextlib.AsyncExitStack() as stack:
            resources, source, demonstration = await self._resources(stack)
            reaper = stack.enter_context(Reaper())
            folder = stack.enter_context(run_folder(reaper))
            feed = Feed(setting, system_ca, self._notice, self._redactor)
            xds = feed.xds
            translation = self._first(feed, resources, source)
            bootstrap, proxy = write_bootstrap(folder, addresses, self._options.workers)
            self._admin_socket = proxy.admin_socket
            await xds.start(f"unix:{proxy.xds_socket}")
            stack.push_async_callback(xds.stop)
            supervisor = await stack.enter_async_context(
                Supervisor(reaper, on_event=self._on_process)
            )
            await self._start(supervisor, bootstrap, proxy)
            if not await self._come_up(supervisor):
                return
            self._greet(setting, resources, translation, demonstration)
            async with self._following(feed, source):
                await self._stop.wait()
            cut = await calls_under_way(self._admin_socket)
            await supervisor.stop({ENVOY: 2.0})
        calls = "1 call was" if cut == 1 else f"{cut} calls were"
        self._notice.info(f"Ended; {calls} cut." if cut else "Ended.")

    async def _resources(
        self, stack: contextlib.AsyncExitStack
    ) -> tuple[Resources, tuple[FileSource, Reading] | None, str | None]:
        if self._options.files:
            source = FileSource(self._options.files, secret_environment(self._environment))
            reading = source.read()
            return reading.resources, (source, reading), None
        demonstration = None
        if needs_demonstration(self._environment):
            demonstration = await stack.enter_async_context(demo_upstream())
        resources = environment_resources(self._environment, demonstration or "")
        return resources, None, demonstration

    def _first(
        self, feed: Feed, resources: Resources, source: tuple[FileSource, Reading] | None
    ) -> Translation:
        """Publish for the first time. What is wrong in what was just typed is worth an end."""
        reading = source[1] if source else None
        if reading and reading.problems:
            raise UpError(*(str(problem) for problem in reading.problems))
        translation = feed.translate(resources)
        feed.publish(translation)
        wrong = feed.said(reading, translation)
        refused = [item for item in translation.verdicts.values() if not item.accepted.status]
        if refused:
            raise UpError(*wrong)
        for sentence in wrong:
            self._notice.warn(sentence)
        for warning in reading.warnings if reading else []:
            self._notice.warn(str(warning))
        if reading and reading.barren:
            raise UpError(*map(str, reading.barren))
        return translation

    async def _start(self, supervisor: Supervisor, bootstrap: Path, proxy: ProxyOptions) -> None:
        environment = minimal_env(self._environment)
        level = self._options.log_level
        for number, socket in enumerate(proxy.extproc_sockets):
            name = f"extproc-{number}"
            await supervisor.start(
                name,
                extproc_command(socket, level),
                env=environment,
                on_stderr_line=lambda line, name=name: self._log(name, line),  # type: ignore[misc]
            )
        await supervisor.start(
            ENVOY,
            envoy_command(bootstrap, level),
            env=environment,
            on_stdout_line=self._on_output,
            on_stderr_line=lambda line: self._log(ENVOY, line),
        )

    async def _come_up(self, supervisor: Supervisor) -> bool:
        """Wait until Envoy serves; False if it was told to stop before."""

        def alive() -> bool:
            return not self._failed.is_set() and not self._stop.is_set()

        self._ready = await until_ready(self._admin_socket, alive)
        if self._failed.is_set():
            await supervisor.stop({ENVOY: 0.1})
            raise UpError("Envoy did not start; its last words are above.")
        return self._ready

    def _greet(
        self,
        setting: Setting,
        resources: Resources,
        translation: Translation,
        demonstration: str | None,
    ) -> None:
        port = setting.addresses[0][1]
        hosts = [host for host, _ in setting.addresses]
        loopback = set(hosts) <= {"127.0.0.1", "::1"}
        shown = "localhost" if loopback else hosts[0] if ":" not in hosts[0] else f"[{hosts[0]}]"
        base = f"http://{shown}:{port}"
        rows = route_rows(resources, translation, demonstration)
        shown_for = examples(base, setting, resources, translation, demonstration)
        write = sys.stderr.write
        write(startup_table(rows, color=wants_color(sys.stderr)) + "\n\n")
        local = ("127.0.0.1", "localhost") if loopback else (shown,)
        hint = bypass_hint(self._environment, local)
        if shown_for and hint:
            write(f"{hint}\n\n")
        if shown_for:
            write(f"{shown_for.curl}\n\n{shown_for.python}\n\n")
        if demonstration:
            self._notice.warn(
                f"{KEY} is not set: this is a DEMONSTRATION with made-up answers. Set {KEY} and "
                "start again to reach OpenAI."
            )
        elif not self._options.files and not self._environment.get(KEY) and not setting.keys:
            self._notice.warn(f"{KEY} is not set: the clients' own keys pass on to the upstream.")
        for sentence in proxy_warnings(self._environment):
            self._notice.warn(sentence)
        for proxy, upstreams in proxies_used(translation).items():
            self._notice.info(f"Through the proxy {proxy}: {', '.join(upstreams)}.")
        self._notice.info(f"Thruway is ready on {base} (Ctrl-C ends it).")

    @contextlib.asynccontextmanager
    async def _following(
        self, feed: Feed, source: tuple[FileSource, Reading] | None
    ) -> AsyncIterator[None]:
        if source is None:
            yield
            return
        task = asyncio.create_task(feed.follow(source[0]), name="follow files")
        task.add_done_callback(lambda _: self._stop.set())  # it never ends by itself
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _on_output(self, line: bytes) -> None:
        if self._troubles(line):
            return
        self._calls(line)

    def _log(self, name: str, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if text and not self._stop.is_set():  # at the end they only tell of the end
            self._notice.info(f"{name}: {text}")

    def _on_process(self, event: ProcessEvent) -> None:
        if event.expected or self._stop.is_set():
            return
        if event.kind is Kind.EXITED:
            self._exited(event)
        elif event.kind is Kind.STARTED and self._ready and event.name == ENVOY:
            task = asyncio.get_running_loop().create_task(self._tell_when_back())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _exited(self, event: ProcessEvent) -> None:
        if event.name == ENVOY:
            self._down_since = self._down_since or time.monotonic()
            if not self._ready:
                self._failed.set()
                return
        self._notice.warn(f"{event.name} ended ({event.status}); starting it again.")

    async def _tell_when_back(self) -> None:
        since = self._down_since
        if since is None or not await until_ready(self._admin_socket, lambda: True):
            return
        if self._down_since is not None:
            self._down_since = None
            self._notice.info(f"envoy is back after {time.monotonic() - since:.1f} s.")


def _require_native_key(environment: Mapping[str, str]) -> None:
    if not environment.get(NATIVE_KEY):
        raise UpError(
            f"with {API_KEY} or --api-key the clients' keys are Thruway's and pass nowhere, so "
            f"{NATIVE_URL} needs a key of its own: set {NATIVE_KEY}"
        )
