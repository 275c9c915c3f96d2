"""Checks, offline, that requirements.lock is whole and covers what pyproject.toml asks for.

Each requirement, of the build, the dependencies, the extras and the groups, must be met on every
platform and Python that we support; every entry must be pinned and hashed; no address may be named.
"""

import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

ELSEWHERE = {"go"}  # groups with a lock file of their own, which only tests install

PLATFORMS = (
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
)
PYTHONS = ("3.11", "3.12", "3.13")
ENVIRONMENTS = tuple(
    {
        **platform,
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for platform, python in product(PLATFORMS, PYTHONS)
)


@dataclass(frozen=True)
class Entry:
    """One pinned version of the lock, and where it applies."""

    version: str
    marker: Marker | None
    hashed: bool


def main() -> int:
    """Print each problem; return 1 if there are any."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    found = list(problems(project, (ROOT / "requirements.lock").read_text("utf-8")))
    for problem in found:
        sys.stdout.write(f"{problem}\n")
    if found:
        sys.stdout.write("Run `make lock` and commit what it changes.\n")
    return 1 if found else 0


def problems(project: Mapping[str, Any], lock: str) -> Iterator[str]:
    """Yield a sentence for each problem of the lock's text for a parsed pyproject.toml."""
    if "://" in lock or re.search(r"^\s*-(i|f|-index|-extra-index|-find)", lock, re.MULTILINE):
        yield "requirements.lock names an address or an index: remove it, so that any index works."
    entries: dict[str, list[Entry]] = defaultdict(list)
    for line in _logical_lines(lock):
        specification, _, hashes = line.partition(" --hash=")
        pin = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;*]+)\s*(?:;\s*(.+))?", specification)
        if pin is None:
            yield f"requirements.lock: not `name==version`: {specification}"
            continue
        name, version, marker = pin.groups()
        entry = Entry(version, Marker(marker) if marker else None, hashes.startswith("sha256:"))
        entries[canonicalize_name(name)].append(entry)
        if not entry.hashed:
            yield f"requirements.lock: {name} {version} has no sha256 hash."
    for origin, text in _requirements(project):
        yield from _unmet(origin, text, entries, canonicalize_name(project["project"]["name"]))


def _logical_lines(lock: str) -> Iterator[str]:
    for line in lock.replace("\\\n", " ").splitlines():
        if (text := " ".join(line.split())) and not text.startswith(("#", "-")):
            yield text


def _requirements(project: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each requirement."""
    tables: dict[str, list[Any]] = {
        "build-system": project["build-system"]["requires"],
        "dependencies": project["project"].get("dependencies", []),
    }
    for extra, texts in project["project"].get("optional-dependencies", {}).items():
        tables[f"extra {extra}"] = texts
    for group, texts in project.get("dependency-groups", {}).items():
        if group not in ELSEWHERE:
            tables[f"group {group}"] = texts
    for origin, texts in tables.items():
        for text in texts:
            if isinstance(text, str):  # else {include-group = ...}, whose texts come by themselves
                yield origin, text


def _unmet(
    origin: str, text: str, entries: Mapping[str, list[Entry]], itself: str
) -> Iterator[str]:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        yield f"pyproject.toml, {origin}: {text}: {error}"
        return
    name = canonicalize_name(requirement.name)
    if name == itself:  # the extra's own requirements are checked separately
        return
    for environment in ENVIRONMENTS:
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        versions = [
            entry.version
            for entry in entries.get(name, [])
            if entry.marker is None or entry.marker.evaluate(environment)
        ]
        if any(requirement.specifier.contains(version, prereleases=True) for version in versions):
            continue
        found = " and ".join(versions) or "nothing"
        where = f"{environment['sys_platform']}, Python {environment['python_version']}"
        yield f"{origin} asks for {text}; requirements.lock has {found} ({where})."
        return  # report one platform only


if __name__ == "__main__":
    sys.exit(main())
