"""`.ci/run`, in a copy of the repository whose tests are small and flaky at will."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

MAKEFILE = """
setup:
	@true
check:
	@echo checked
test:
	@.venv/bin/python -m pytest $(T) $(ARGS) quick
test-browser:
	@.venv/bin/python -m pytest $(T) $(ARGS) browser
test-node:
	@.venv/bin/python -m pytest $(T) $(ARGS) node
"""

GOOD = "def test_good(): pass\n"
BAD = "def test_bad(): assert False\n"
FLAKY = """
import pathlib, pytest
@pytest.mark.parametrize("name", {names})
def test_flaky(name):
    marker = pathlib.Path(__file__).with_suffix("." + name.replace(" ", "_"))
    again = marker.exists()
    marker.touch()
    assert again
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for file in (".ci/run", "tools/ci.py", "tools/contain.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    for folder in ("quick", "browser", "node"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"test_good_{folder}.py").write_text(GOOD)
    # Every package is installed already, as far as the run can tell.
    (tmp_path / "bin").mkdir()
    query = tmp_path / "bin" / "dpkg-query"
    query.write_text("#!/bin/sh\n")
    query.chmod(0o755)
    return tmp_path


def environment(repository: Path) -> dict[str, str]:
    mine = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "PY"))}
    return {
        **mine,
        "PATH": f"{repository / 'bin'}{os.pathsep}{mine['PATH']}",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # they take longer to import than these tests
    }


def run(repository: Path) -> tuple[int, list[str]]:
    ended = subprocess.run(
        [str(repository / ".ci" / "run")],
        env=environment(repository),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout.splitlines()


def closing_lines(lines: list[str]) -> list[str]:
    """The lines that end the report, without their times."""
    found = []
    for line in reversed(lines):
        match = re.fullmatch(r"==== (.*) in [\d.]+s ====", line)
        if match is None:
            break
        found.append(match[1])
    return found[::-1]


def flaky(lines: list[str]) -> list[str]:
    return [line.removeprefix("FLAKY: ") for line in lines if line.startswith("FLAKY: ")]


def test_a_good_run_ends_with_pytests_closing_lines(repository: Path) -> None:
    status, lines = run(repository)
    assert status == 0
    assert "checked" in lines
    assert closing_lines(lines) == ["1 passed", "1 passed", "1 passed"]
    assert flaky(lines) == []


def test_two_flaky_tests_are_rerun_and_reported(repository: Path) -> None:
    (repository / "quick" / "test_shaky.py").write_text(FLAKY.format(names=["a b"]))
    (repository / "node" / "test_shaky.py").write_text(FLAKY.format(names=["c"]))
    status, lines = run(repository)
    assert status == 0
    tests = ["quick/test_shaky.py::test_flaky[a b]", "node/test_shaky.py::test_flaky[c]"]
    assert flaky(lines) == tests
    closing = closing_lines(lines)
    assert len(closing) == 5
    assert lines[-7:-5] == [f"FLAKY: {test}" for test in tests]


def test_a_third_flaky_test_fails_the_run(repository: Path) -> None:
    (repository / "quick" / "test_shaky.py").write_text(FLAKY.format(names=["a", "b"]))
    (repository / "node" / "test_shaky.py").write_text(FLAKY.format(names=["c"]))
    status, lines = run(repository)
    assert status == 1
    assert len(flaky(lines)) == 2
    assert "make test-node: 1 failed; a run may rerun 2 tests at most" in lines
    assert "FAILED: node/test_shaky.py::test_flaky[c]" in lines


def test_many_failures_are_not_rerun(repository: Path) -> None:
    (repository / "quick" / "test_shaky.py").write_text(FLAKY.format(names=["a", "b", "c"]))
    status, lines = run(repository)
    assert status == 1
    assert flaky(lines) == []
    assert "make test: 3 failed; a run may rerun 2 tests at most" in lines
    assert closing_lines(lines) == ["3 failed, 1 passed", "1 passed", "1 passed"]


def test_a_test_that_fails_twice_fails_the_run(repository: Path) -> None:
    (repository / "quick" / "test_bad.py").write_text(BAD)
    (repository / "quick" / "test_shaky.py").write_text(FLAKY.format(names=["a"]))
    status, lines = run(repository)
    assert status == 1
    assert "make test: failed twice" in lines
    assert "FAILED: quick/test_bad.py::test_bad" in lines
    assert flaky(lines) == ["quick/test_shaky.py::test_flaky[a]"]


def test_failures_of_an_earlier_run_are_forgotten(repository: Path) -> None:
    bad = repository / "quick" / "test_bad.py"
    bad.write_text(BAD)
    assert run(repository)[0] == 1
    bad.write_text(GOOD)
    status, lines = run(repository)
    assert status == 0
    assert closing_lines(lines) == ["2 passed", "1 passed", "1 passed"]


@pytest.mark.parametrize("kind", ["browser", "node"])
def test_a_target_that_runs_no_test_fails_the_run(repository: Path, kind: str) -> None:
    (repository / kind / f"test_good_{kind}.py").unlink()
    status, lines = run(repository)
    assert status == 1
    assert f"make test-{kind}: no test has passed" in lines
    assert f"make test-{kind}: failed, although no test did" in lines


def test_failed_checks_fail_the_run_after_the_tests(repository: Path) -> None:
    (repository / "Makefile").write_text(MAKEFILE.replace("@echo checked", "@false"))
    status, lines = run(repository)
    assert status == 1
    assert "make check: failed" in lines
    assert closing_lines(lines) == ["1 passed", "1 passed", "1 passed"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells us of orphans")
def test_a_process_left_behind_fails_the_run(repository: Path) -> None:
    leave = "import subprocess\ndef test_leave():\n    subprocess.Popen(['sleep', '60'])\n"
    (repository / "quick" / "test_leave.py").write_text(
        leave + "import gc, pytest\npytestmark = pytest.mark.filterwarnings('ignore')\n"
    )
    status, lines = run(repository)
    assert status == 1
    assert any(line.endswith("left a process behind: sleep") for line in lines)
    assert "make test: failed, although no test did" in lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_what_runs(repository: Path, number: signal.Signals) -> None:
    started = repository / "started"
    os.mkfifo(started)
    (repository / "quick" / "test_slow.py").write_text(
        f"import os, pathlib, time\ndef test_slow():\n"
        f"    pathlib.Path({str(started)!r}).write_text(str(os.getpid()))\n    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [str(repository / ".ci" / "run")],
        env=environment(repository),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    pytest_pid = int(started.read_text())  # waits until the test runs
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    assert not Path(f"/proc/{pytest_pid}").exists()
