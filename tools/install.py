"""Installs the packages of requirements.lock, and Thruway itself, into .venv.

`make` runs this before every target that needs .venv, so it prints nothing if there is nothing to
do. The stamp is removed first and written last. Without it, .venv is recreated, so a partial
installation from an interrupted run is never used.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "thruway-stamp.json"
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
CACHE = ROOT / ".cache"
LOG = CACHE / "setup.log"

# Settings that would make pip install elsewhere, or refuse Thruway, which is not in the lock.
FOREIGN_SETTINGS = ("PYTHONHOME", "PYTHONPATH", "PIP_PREFIX", "PIP_REQUIRE_HASHES", "PIP_TARGET")
NOT_LOCKED = {"pip", "setuptools", "thruway"}
LINES_OF_AN_ERROR = 15


class SetupError(Exception):
    """The setup failed; the message is a sentence for the user of `make`."""


def main() -> int:
    """Bring .venv up to date and return the exit status."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        wanted = _wanted()
        if _installed() == wanted:
            return 0
        with _only_one() as turn:
            if _installed() != wanted:  # another `make` may have just installed it
                _install(wanted, turn)
    except SetupError as error:
        _say(str(error), sys.stderr)
        return 1
    except OSError as error:
        _say(f"Cannot set up .venv: {error}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        _say("\nStopped; the next make starts over.", sys.stderr)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return 0


def _wanted() -> dict[str, str]:
    """Describe the .venv that belongs to this interpreter, folder, lock and project."""
    python = f"{sys.implementation.cache_tag}{sys.abiflags}"
    return {
        "python": f"{python} {sys.platform} {os.uname().machine}",
        "folder": str(ROOT),  # scripts in .venv name it, so a moved .venv does not work
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
        "project": hashlib.sha256(PROJECT.read_bytes()).hexdigest(),
    }


def _installed() -> dict[str, str]:
    """Describe the existing .venv; empty if it is missing, broken or partially installed."""
    if not (VENV / "bin" / "python").exists():  # follows the link: the interpreter may be gone
        return {}
    try:
        stamp = json.loads(STAMP.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _install(wanted: dict[str, str], turn: int) -> None:
    found = _installed()
    recreate = any(found.get(key) != wanted[key] for key in ("python", "folder"))
    LOG.write_text("", "utf-8")
    if recreate:
        _create(turn)
    else:
        STAMP.unlink()
    if recreate or found.get("lock") != wanted["lock"]:
        _install_locked(turn, recreated=recreate)
    else:
        _say("pyproject.toml has changed: installing Thruway into .venv again.")
    _pip(turn, "install", "--no-index", "--no-deps", "--no-build-isolation", "--editable", ".")
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(json.dumps(wanted, indent=2) + "\n", "utf-8")
    fresh.replace(STAMP)
    if recreate:
        _say("Installed.")


def _create(turn: int) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    if missing := [name for name in ("venv", "ensurepip") if not _is_there(name)]:
        minor = ".".join(map(str, sys.version_info[:2]))
        raise SetupError(
            f"Python {version} ({sys.executable}) lacks its {missing[0]} module: install "
            f"it (on Debian and Ubuntu: apt install python{minor}-venv) and run make again."
        )
    _say(f"Creating .venv with Python {version}.")
    if VENV.is_symlink() or VENV.is_file():
        VENV.unlink()
    if VENV.exists():
        shutil.rmtree(VENV)
    # If the interpreter is in a virtual environment, perhaps the deleted .venv, use its base.
    python = getattr(sys, "_base_executable", sys.executable)
    if _run(turn, [python, "-I", "-m", "venv", str(VENV)]) != 0:
        raise SetupError(f"{_end_of_log()}\nPython {version} could not create .venv (see above).")


def _is_there(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None  # an empty folder has no origin


def _install_locked(turn: int, *, recreated: bool) -> None:
    when = "about a minute, first run only" if recreated else "requirements.lock has changed"
    _say(f"Installing the packages of requirements.lock into .venv ({when}).")
    _pip(turn, "install", "--require-hashes", "--requirement", str(LOCK))
    if not recreated:
        _remove_leftovers(turn)


def _locked_names() -> list[str]:
    """Return the names in the lock, once for each version of a package."""
    names = re.findall(r"^([A-Za-z0-9._-]+)==", LOCK.read_text("utf-8"), re.MULTILINE)
    return [_normal(name) for name in names]


def _remove_leftovers(turn: int) -> None:
    """Uninstall packages that the lock no longer has, so that imports fail here like elsewhere."""
    folders = map(str, (VENV / "lib").glob("python*/site-packages"))
    packages = importlib.metadata.distributions(path=list(folders))
    installed = {_normal(package.name) for package in packages}
    if leftovers := sorted(installed - {*_locked_names()} - NOT_LOCKED):
        _pip(turn, "uninstall", "--yes", *leftovers)


def _normal(name: str) -> str:
    """Normalise a package's name as the packaging specification says."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(turn: int, *arguments: str) -> None:
    command = [str(VENV / "bin" / "python"), "-I", "-u", "-m", "pip"]
    command += ["--disable-pip-version-check", "--no-input", "--no-color", *arguments]
    if arguments[0] == "install":
        # Python compiles modules on import; compiling all of them now takes a quarter of the time.
        command += ["--no-compile", "--progress-bar=off", "--no-warn-script-location"]
    if _run(turn, command) != 0:
        raise SetupError(
            f"{_end_of_log()}\n"
            f"pip could not {arguments[0]} (the end of its output is above; all of it is in "
            f"{LOG.relative_to(ROOT)}). Fix the cause and run make again."
        )


def _run(turn: int, command: list[str]) -> int:
    """Run a command to its end, its output to the log, and return its status."""
    environment = {key: value for key, value in os.environ.items() if key not in FOREIGN_SETTINGS}
    environment["PIP_USER"] = "0"
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=[turn],  # our turn ends when the last of us has ended, however that happens
    )
    try:
        with process, LOG.open("a", encoding="utf-8") as log:
            assert process.stdout is not None  # noqa: S101 - for the type checker
            _follow(_tee(process.stdout, log))
    except BaseException:
        process.kill()
        raise
    return process.returncode


def _tee(lines: Iterable[str], log: IO[str]) -> Iterator[str]:
    for line in lines:
        log.write(line)
        log.flush()
        yield line


def _follow(lines: Iterable[str]) -> None:
    """Show pip's progress: on a terminal in one line, elsewhere every tenth package."""
    terminal = sys.stdout.isatty()
    total, done = len(_locked_names()), 0
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word == "Ignoring" or line.startswith("Requirement already"):
            total -= 1
        elif word == "Collecting":
            done += 1
            text = f"  {done} of {total}: {rest.split(' ')[0]}"
            if terminal:
                _show(text)
            elif done % 10 == 0:
                _say(text)
        elif line.startswith("Installing collected packages") and done:
            if terminal:
                _show("")
            _say("  All packages are downloaded; unpacking them.")


def _end_of_log() -> str:
    return "\n".join(LOG.read_text("utf-8").splitlines()[-LINES_OF_AN_ERROR:])


@contextlib.contextmanager
def _only_one() -> Iterator[int]:
    """Wait for our turn; yield the lock's descriptor, which child processes inherit."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "setup.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Another make is installing into .venv; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _say(text: str, stream: IO[str] = sys.stdout) -> None:
    stream.write(f"{text}\n")
    stream.flush()


def _show(text: str) -> None:
    """Replace the terminal's current line."""
    sys.stdout.write(f"\r\033[K{text}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
