"""The command `thruway-pod`, which the chart uses."""

from __future__ import annotations

import argparse
import asyncio
import http.client
import logging
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path

from thruway_pod.admin import Admin
from thruway_pod.drain import Limits, drain
from thruway_pod.health import ANYWHERE, serving
from thruway_pod.workers import Workers

__all__ = ["main"]

_LEVELS = ("debug", "info", "warning", "error")


def main(argv: list[str] | None = None) -> None:
    """Run one of the subcommands.

    Exit status: 0 on success, 1 on failure (one sentence says why), 2 for unusable arguments.
    """
    options = _parser().parse_args(argv)
    logging.basicConfig(
        level=getattr(options, "log_level", "info").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        sys.exit(options.run(options))
    except OSError as error:
        sys.exit(f"thruway-pod: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="thruway-pod", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run extproc's workers, health and metrics")
    serve.set_defaults(run=_serve)
    _folder(serve)
    serve.add_argument("--workers", type=_count, default=1, help="processes of extproc (1)")
    serve.add_argument(
        "--health-listen",
        type=_listen,
        default=(ANYWHERE, 4001),
        help="ADDRESS:PORT (:4001, all addresses: kubelet and Prometheus are outside the pod)",
    )
    serve.add_argument(
        "--metrics",
        choices=("anywhere", "pod"),
        default="anywhere",
        help="who may read /metrics: anyone who can connect (anywhere), or only this pod (pod)",
    )
    serve.add_argument("--log-level", choices=_LEVELS, default="info")
    drain_ = commands.add_parser("drain", help="make Envoy close its connections, and wait")
    drain_.set_defaults(run=_drain)
    _folder(drain_)
    given = Limits()
    for name, meaning in (
        ("at_least", "minimum duration in seconds"),
        ("quiet", "seconds without a new request before the drain ends"),
        ("at_most", "maximum duration in seconds, after which streams are cut"),
    ):
        default = getattr(given, name)
        option = f"--{name.replace('_', '-')}"
        drain_.add_argument(option, type=_seconds, default=default, help=f"{meaning} ({default:g})")
    drain_.add_argument(
        "--keep-ready",
        action="store_true",
        help="only wait: keep Envoy ready and its connections open",
    )
    probe = commands.add_parser("probe", help="check the health that `serve` reports, like kubelet")
    probe.set_defaults(run=_probe)
    probe.add_argument("what", nargs="+", choices=("healthz", "startz", "readyz", "livez"))
    probe.add_argument("--port", type=int, default=4001, help="its port (4001)")
    answers = commands.add_parser("answers", help="check that URLs return the expected status")
    answers.set_defaults(run=_answers)
    answers.add_argument("expected", nargs="+", metavar="STATUS=URL")
    return parser


def _folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("/run/thruway"),
        help="where the sockets of Envoy's admin interface and of extproc are (/run/thruway)",
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 64")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:  # also false for NaN
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return value


def _listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS:PORT")
    return host.strip("[]") or ANYWHERE, int(port)


def _serve(options: argparse.Namespace) -> int:
    folder: Path = options.folder
    if not folder.is_dir():
        raise OSError(
            f"the folder {folder} does not exist: create it, or pass another one with --folder"
        )
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    workers = Workers(options.folder, options.workers, options.log_level, grace=5.0)
    host, port = options.health_listen
    admin = Admin(options.folder / "admin.sock")
    private = options.metrics == "pod"
    with serving(host, port, admin, workers.problems, private_metrics=private) as port:
        logging.getLogger("thruway.pod").info("health and metrics on port %d", port)
        running = asyncio.create_task(workers.run())
        await stop.wait()
        running.cancel()
        await asyncio.wait([running])
    return 0


def _drain(options: argparse.Namespace) -> int:
    limits = Limits(options.at_least, options.quiet, options.at_most)
    drain(Admin(options.folder / "admin.sock"), limits, keep_ready=options.keep_ready)
    return 0


def _probe(options: argparse.Namespace) -> int:
    # For pods whose service mesh rejects connections without its certificate, kubelet's included.
    return 0 if all(_is_well(options.port, what) for what in options.what) else 1


def _is_well(port: int, what: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/{what}")
        response = connection.getresponse()
        sys.stdout.write(response.read().decode(errors="replace"))
    except http.client.HTTPException as error:
        raise OSError(f"no usable response on port {port}: {type(error).__name__}") from error
    finally:
        connection.close()
    return response.status == 200


def _answers(options: argparse.Namespace) -> int:
    failed = 0
    for item in options.expected:
        status, _, url = item.partition("=")
        found = _status(url)
        right = found == status
        failed += not right
        sys.stdout.write(f"{'ok  ' if right else 'FAIL'} {url} returned {found}\n")
    return 1 if failed else 0


def _status(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - the chart's URLs
            return str(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return str(error.code)
    except (OSError, ValueError) as error:
        return f"no response ({error})"
