"""What a tag must satisfy to be released, and what its notes are."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = """\
# Changelog

## [Unreleased]

- Not yet.

## [1.2.0] - 2026-01-02

### Added

- This.

## [1.1.0] - 2025-01-02

- That.
"""


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / "release.py"))


@pytest.mark.parametrize(
    ("version", "expected"), [("1.2.0", "### Added\n\n- This.\n"), ("1.1.0", "- That.\n")]
)
def test_the_notes_are_the_versions_section(
    tool: dict[str, Any], version: str, expected: str
) -> None:
    assert tool["notes"](f"v{version}", version, CHANGELOG) == expected


@pytest.mark.parametrize(
    ("tag", "version", "problem"),
    [
        ("v1.2.1", "1.2.0", "The tag is v1.2.1, but pyproject.toml has version 1.2.0."),
        ("1.2.0", "1.2.0", "The tag is 1.2.0, but pyproject.toml has version 1.2.0."),
        ("v1.3.0", "1.3.0", "CHANGELOG.md has nothing under `## [1.3.0] - YYYY-MM-DD`"),
        ("v1x2.0", "1x2.0", "CHANGELOG.md has nothing under"),
    ],
)
def test_what_is_refused(tool: dict[str, Any], tag: str, version: str, problem: str) -> None:
    with pytest.raises(tool["ReleaseError"], match=re.escape(problem)):
        tool["notes"](tag, version, CHANGELOG)
