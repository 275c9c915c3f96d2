"""A user's view: the wheel in an empty environment, far from the repository."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import httpx
import pytest

from thruway_testing.product.up import base_environment, thruway_up

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

pytestmark = pytest.mark.timeout(600)  # the packages may have to be downloaded


def build(source: Path, target: str, folder: Path) -> Path:
    """Build with the backend that pip would call; nothing is downloaded."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", folder],
        cwd=source,
        check=True,
    )
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the sdist, as pip builds one where there is no wheel to download."""
    source = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist) as archive:
        archive.extractall(source, filter="data")
    return build(source / f"thruway-{VERSION}", "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment that holds `thruway[local]` and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    lock = ROOT / "requirements.lock"
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--system-certs"),
            *("--python", python, "--only-binary", ":all:", "--constraint", lock),
            f"{wheel}[local]",
        ],
        check=True,
    )
    return folder / "venv" / "bin"


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    expected = {
        path.relative_to((ROOT / package).parent).as_posix()
        for package in packages["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files_of(wheel) == expected


def test_the_sdist_holds_nothing_of_the_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        folders = {name.split("/")[1] for name in archive.getnames()}
    assert not folders & {"tests", "bench", "tools", "docs", ".ci", ".github"}


@pytest.mark.parametrize(
    "command",
    [
        ("thruway",),
        ("python", "-I", "-m", "thruway_operator"),
    ],
)
def test_its_version(installed: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    ended = subprocess.run(
        [installed / command[0], *command[1:], "--version"],
        cwd=tmp_path,
        env=base_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == f"thruway {VERSION}\n"


def test_a_call_through_thruway_up(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key, the demonstration upstream answers."""
    monkeypatch.chdir(tmp_path)
    with thruway_up(command=[str(installed / "thruway")]) as up:
        assert "DEMONSTRATION" in up.text
        response = httpx.post(
            f"{up.url}/openai_passthrough/v1/chat/completions",
            json={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]},
            headers={"authorization": "Bearer unused"},
            trust_env=False,
        )
        assert response.status_code == 200
        assert response.json()["object"] == "chat.completion"
