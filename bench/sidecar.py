"""Measures the cost of a sidecar on a real node: memory, CPU without calls, delay of the start.

The same pod is created alternately with and without a sidecar, by its label. Memory (proportional
set size) and CPU are those of the sidecar's processes.

    make bench-sidecar        # needs root, like `make test-node`
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from thruway_testing.plane.envoy import wait_until  # noqa: E402
from thruway_testing.plane.kubernetes.binaries import find_programs  # noqa: E402
from thruway_testing.plane.node.images import ENVOY, THRUWAY, USER, Images  # noqa: E402
from thruway_testing.plane.node.needs import PROGRAMS, missing  # noqa: E402
from thruway_testing.plane.node.node import Node  # noqa: E402
from thruway_testing.plane.node.release import Release, client, route, upstream, values  # noqa: E402

if TYPE_CHECKING:
    from thruway_testing.plane.kubernetes.kubectl import Kubectl

ROUNDS = int(os.environ.get("THRUWAY_BENCH_ROUNDS", "5"))
IDLE = float(os.environ.get("THRUWAY_BENCH_SECONDS", "30"))
NAMESPACE = "bench"


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def started(kubectl: Kubectl, name: str, injected: bool) -> float:
    """Return the seconds from a pod's creation to the start of its application."""
    pod = client(USER, name, "import time; print('here', flush=True); time.sleep(3600)")
    pod["metadata"]["labels"] = {"thruway.dev/inject": "true" if injected else "false"}
    began = time.time()
    kubectl.apply(pod)

    def running() -> dict[str, Any] | None:
        states = kubectl.get_json("pod", name)["status"].get("containerStatuses") or [{}]
        found: dict[str, Any] | None = states[0].get("state", {}).get("running")
        return found

    wait_until(lambda: running() is not None, f"{name} runs", 120)
    wait_until(lambda: "here" in kubectl.run("logs", name, "-c", "app").stdout, "it speaks", 30)
    return time.time() - began


def usage(node: Node, kubectl: Kubectl, name: str) -> dict[str, tuple[float, float]]:
    """Return MiB in use and seconds of CPU so far, by container of the sidecar."""
    pod = kubectl.get_json("pod", name)
    found = {}
    for container in ("thruway-envoy", "thruway-extproc"):
        memory = cpu = 0.0
        for pid in node.processes(pod, container):
            shares = Path(f"/proc/{pid}/smaps_rollup").read_text()
            memory += int(re.findall(r"^Pss: +(\d+) kB", shares, re.MULTILINE)[0]) / 1024
            times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            cpu += sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
        found[container] = memory, cpu
    return found


def measure(node: Node) -> None:
    """Measure, and print a table."""
    kubectl = node.kubectl(NAMESPACE)
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(ROUNDS):
        for injected in (False, True):
            name = f"{'with' if injected else 'without'}-{number}"
            times[injected].append(started(kubectl, name, injected))
            last = number == ROUNDS - 1 and injected
            if not last:
                kubectl.run("delete", "pod", name, "--grace-period=1", "--wait=true")
    name = f"with-{ROUNDS - 1}"
    say(f"Measuring for {IDLE:g} s the cost without calls.")
    before = usage(node, kubectl, name)
    time.sleep(IDLE)
    after = usage(node, kubectl, name)
    say(f"\n{'container':18} {'memory':>9} {'CPU, idle':>10}")
    for container, (memory, cpu) in sorted(after.items()):
        share = 1000 * (cpu - before[container][1]) / IDLE
        say(f"{container:18} {memory:5.0f} MiB {share:6.1f} m")
    say(f"\n{'start of a pod':18} {'median':>9} {'min':>8} {'max':>8}")
    for injected, found in times.items():
        label = "with a sidecar" if injected else "without"
        figures = (statistics.median(found), min(found), max(found))
        say(f"{label:18} " + " ".join(f"{figure:6.1f} s" for figure in figures))
    medians = {key: statistics.median(found) for key, found in times.items()}
    say(f"delay_s={medians[True] - medians[False]:.1f}")


def main() -> None:
    """Start a node, install the chart, measure."""
    if lacks := missing():
        sys.exit("make bench-sidecar needs " + "; ".join(lacks))
    programs, images = find_programs(PROGRAMS, say), Images(say)
    images.thruway()
    images.envoy()
    images.user()
    images.pause()
    with Node(programs, images) as node:
        for image in (THRUWAY, ENVOY, USER):
            node.load(image)
        kubectl = node.kubectl()
        for namespace in ("thruway-system", "upstream", NAMESPACE):
            kubectl.run("create", "namespace", namespace)
        for item in upstream(USER):
            node.kubectl("upstream").apply(item)
        Release(node, programs["helm"]).upgrade(values())
        for item in route(exposure="Namespace", clientAuth={"type": "None"}):
            node.kubectl(NAMESPACE).apply(item)
        measure(node)


if __name__ == "__main__":
    main()
