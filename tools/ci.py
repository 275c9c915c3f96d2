"""Runs everything that CI runs, one `make` target after the other; `.ci/run` calls it after setup.

A failed test is rerun by itself, because a shared machine may stall for seconds. At most `RERUNS`
tests in the whole run may need that, and each is reported as FLAKY. The run also fails if a target
ran no test or left a process behind. The last line is pytest's closing line.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
RERUNS = 2
LAST_FAILED = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
CLOSING = re.compile(r"=+ (.*in [0-9.]+s.*) =+")
NOTHING_RAN = "no tests ran"
PASSED = re.compile(r"(?:^| )[1-9][0-9]* passed")
STOPS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
BROWSER_PACKAGES = ("chromium",)
NODE_PACKAGES = (
    *("runc", "nftables", "iproute2", "buildah", "debootstrap"),
    *("containernetworking-plugins", "openssl"),
)


@dataclass
class Report:
    """The results that the run prints at its end."""

    failures: list[str] = field(default_factory=list)
    flaky: list[str] = field(default_factory=list)
    closing: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the failures, the flaky tests and pytest's closing lines, in this order."""
        flaky = [f"FLAKY: {test}" for test in self.flaky]
        return [*self.failures, *flaky, *(f"==== {line} ====" for line in self.closing)]


@dataclass(frozen=True)
class Ended:
    """The result of a command."""

    status: int
    closing: str
    """The text of pytest's last closing line."""

    @property
    def passed(self) -> bool:
        """Whether at least one test passed."""
        return PASSED.search(self.closing) is not None


def main() -> int:
    """Run every target, print the report and return 1 if anything failed."""
    for number in STOPS:
        signal.signal(number, _stop)
    report = Report()
    _checks(report, "check")
    _tests(report, "test")
    for target, packages in (("test-browser", BROWSER_PACKAGES), ("test-node", NODE_PACKAGES)):
        if not _install(packages):
            report.failures.append(f"make {target}: apt-get failed")
        _tests(report, target)
    for line in report.lines():
        _say(line)
    return 1 if report.failures else 0


def _checks(report: Report, target: str) -> None:
    if _run("make", target).status != 0:
        report.failures.append(f"make {target}: failed")


def _tests(report: Report, target: str) -> None:
    """Run a target's tests, and rerun the failed ones if they are few."""
    # Without the cache of earlier runs, the failed tests are those of this run.
    ended = _run("make", target, "ARGS=--cache-clear")
    report.closing.append(ended.closing)
    if not ended.passed:
        report.failures.append(f"make {target}: no test has passed")
    if ended.status == 0:
        return
    failed = _last_failed()
    if not failed:
        report.failures.append(f"make {target}: failed, although no test did")
    elif len(report.flaky) + len(failed) > RERUNS:
        report.failures.append(
            f"make {target}: {len(failed)} failed; a run may rerun {RERUNS} tests at most"
        )
        report.failures += [f"FAILED: {test}" for test in failed]
    else:
        _rerun(report, target, failed)


def _rerun(report: Report, target: str, failed: list[str]) -> None:
    ended = _run(*("make", target, "WORKERS=0", "T=--last-failed --last-failed-no-failures=none"))
    report.closing.append(ended.closing)
    again = _last_failed()
    report.flaky += [test for test in failed if test not in again]
    if ended.status != 0 or not ended.passed:
        report.failures.append(f"make {target}: failed twice")
        report.failures += [f"FAILED: {test}" for test in again]


def _last_failed() -> list[str]:
    """Return the ids of the tests that failed last, which pytest keeps in its cache."""
    try:
        return sorted(json.loads(LAST_FAILED.read_text("utf-8")))
    except FileNotFoundError:
        return []


def _run(*command: str) -> Ended:
    """Run a command to its end and print what it prints; fail if it leaves a process behind."""
    contained = [sys.executable, str(ROOT / "tools" / "contain.py"), *command]
    closing = NOTHING_RAN
    with subprocess.Popen(
        contained,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        try:
            for line in process.stdout:
                _say(line.rstrip("\n"))
                if match := CLOSING.fullmatch(line.rstrip()):
                    closing = match[1]
            status = process.wait()
        except SystemExit:  # after a signal, the command must not outlive us
            process.terminate()
            raise
    return Ended(status, closing)


def _install(packages: tuple[str, ...]) -> bool:
    """Install the Debian packages that a target needs, if that is possible."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return True
    query = ("dpkg-query", "--show", *packages)
    if subprocess.run(query, capture_output=True, check=False).returncode == 0:
        return True
    _say(f"Installing {' '.join(packages)}.")
    install = (apt, "install", "-qq", "--no-install-recommends", *packages)
    return _quiet(apt, "update", "-qq") and _quiet(*install)


def _quiet(*command: str) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    ended = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    return ended.returncode == 0


def _stop(number: int, _frame: FrameType | None) -> None:
    for again in STOPS:  # the clean-up must not be cut short
        signal.signal(again, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
