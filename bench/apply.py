"""Measures how long a change of a PassthroughRoute takes, from `apply` to the first good request.

It uses a real API server, the operator with the chart's permissions, and a real Envoy with extproc.
A route is created, changed and deleted while a number of other routes exist, all in the namespace
of the proxy (the worst case: one RouteConfiguration holds them all). The time begins when the
request is sent to the API server and ends when a response from Envoy shows the change; kubectl adds
its own startup time.

    make bench-apply
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import httpx  # noqa: E402

from thruway_testing.plane.kubernetes.api import ROUTES  # noqa: E402
from thruway_testing.plane.kubernetes.binaries import find_binaries  # noqa: E402
from thruway_testing.plane.kubernetes.bulk import create_routes  # noqa: E402
from thruway_testing.plane.kubernetes.control_plane import ControlPlane  # noqa: E402
from thruway_testing.plane.kubernetes.pods import create_pod  # noqa: E402
from thruway_testing.plane.kubernetes.setup import install_crd  # noqa: E402
from thruway_testing.plane.operator_process import Installation  # noqa: E402
from thruway_testing.product.sidecar import Sidecar  # noqa: E402
from thruway_testing.upstreams.openai_upstream import OpenAIUpstream  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = [int(size) for size in os.environ.get("THRUWAY_BENCH_ROUTES", "0,100,1000,5000").split(",")]
SAMPLES = int(os.environ.get("THRUWAY_BENCH_SAMPLES", "40"))
NAMESPACE = "bench"
PATIENCE = 120.0  # seconds after which a change counts as lost
WIDTH = 50  # characters of the longest bar

Times = dict[str, list[float]]


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def until(holds: Callable[[], bool]) -> None:
    """Wait for a change; raise AssertionError if it does not take effect."""
    deadline = time.perf_counter() + PATIENCE
    while not holds():
        assert time.perf_counter() < deadline, "the change did not take effect"
        time.sleep(0.001)


class Changes:
    """Creates, changes and deletes a route, and measures each."""

    def __init__(self, plane: ControlPlane, car: Sidecar, upstream: str) -> None:
        self._api = plane.api
        self._client = httpx.Client(
            base_url=car.url, headers={"Authorization": "Bearer any"}, trust_env=False
        )
        self._upstream = upstream
        self._path = ROUTES.format(NAMESPACE)

    def sample(self, number: int) -> dict[str, float]:
        """Take one sample of each; milliseconds."""
        name = f"sample-{number}"
        created = self._timed(lambda: self._apply(name, "one"), lambda: self._header(name) == "one")
        changed = self._timed(lambda: self._apply(name, "two"), lambda: self._header(name) == "two")
        deleted = self._timed(
            lambda: self._api.delete(f"{self._path}/{name}"),
            lambda: self._header(name) is None,
        )
        return {"create": created, "change": changed, "delete": deleted}

    def _timed(self, act: Callable[[], Any], holds: Callable[[], bool]) -> float:
        started = time.perf_counter()
        act()
        until(holds)
        return (time.perf_counter() - started) * 1e3

    def _apply(self, name: str, value: str) -> None:
        headers = {"set": [{"name": "x-sample", "value": value}]}
        spec = {
            "path": f"/{name}",
            "upstream": {"url": self._upstream},
            "response": {"headers": headers},
        }
        body = {"apiVersion": "thruway.dev/v1alpha1", "kind": "PassthroughRoute", "spec": spec}
        self._api.apply(f"{self._path}/{name}", {**body, "metadata": {"name": name}})

    def _header(self, name: str) -> str | None:
        found = self._client.get(f"/{name}/models").headers.get("x-sample")
        return None if found is None else str(found)


def programmed(plane: ControlPlane) -> int:
    """Count the routes whose status reports that the proxy has them."""
    time.sleep(0.25)
    items = plane.api.get(ROUTES.format(NAMESPACE))["items"]
    conditions = (
        {item["type"]: item["reason"] for item in route.get("status", {}).get("conditions", ())}
        for route in items
    )
    return sum(found.get("Programmed") == "Programmed" for found in conditions)


def quantile(values: list[float], q: float) -> float:
    """Return the smallest value that a share `q` of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def report(results: dict[int, Times]) -> None:
    """Print the table, the plot and the last line."""
    say("")
    say(f"{'routes':>7}  {'change':<7} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for size, times in results.items():
        for what, values in times.items():
            figures = (quantile(values, q) for q in (0.5, 0.9, 0.99, 1.0))
            say(f"{size:>7}  {what:<7} " + " ".join(f"{figure:8.1f}" for figure in figures))
    say("")
    longest = max(max(values) for times in results.values() for values in times.values())
    say("p50 = and p99 - of all three kinds of change:")
    for size, times in results.items():
        values = [value for kind in times.values() for value in kind]
        half, most = quantile(values, 0.5), quantile(values, 0.99)
        bars = round(half / longest * WIDTH), round(most / longest * WIDTH)
        say(f"{size:>7}  {'=' * bars[0]}{'-' * max(0, bars[1] - bars[0])} {most:.0f} ms")
    size = 1000 if 1000 in results else max(results)
    everything = [value for kind in results[size].values() for value in kind]
    say(f"p99_ms_at_{size}={quantile(everything, 0.99):.0f}")


def main() -> None:
    """Run the benchmark."""
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(ControlPlane(find_binaries(say)))
        install_crd(plane)
        upstream = stack.enter_context(OpenAIUpstream())
        pod = create_pod(plane.api, NAMESPACE, "proxy")
        installation = stack.enter_context(Installation(plane))
        results: dict[int, Times] = {}
        there = 0
        for size in SIZES:
            say(f"With {size} routes: creating them.")
            create_routes(plane.api, NAMESPACE, range(there, size), upstream.url)
            there = size
            replica = installation.replica()
            started = time.perf_counter()
            replica.start().wait_ready()
            say(f"  the operator serves them {time.perf_counter() - started:.2f} s after its start")
            with Sidecar(pod, installation.authorities, [replica.address]) as car:
                car.wait_ready()
                say(f"  a proxy has them {time.perf_counter() - started:.2f} s after it")
                until(lambda there=there: programmed(plane) == there)  # type: ignore[misc]
                say(f"  their statuses say so {time.perf_counter() - started:.2f} s after it")
                changes = Changes(plane, car, upstream.url)
                samples = [changes.sample(number) for number in range(SAMPLES)]
            replica.stop()
            results[size] = {
                what: [sample[what] for sample in samples]
                for what in ("create", "change", "delete")
            }
            middle = statistics.median(results[size]["create"])
            say(f"  median of a new route: {middle:.0f} ms")
        report(results)


if __name__ == "__main__":
    main()
