"""The documentation site, built as `make docs` builds it."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [path.relative_to(ROOT) for path in sorted((ROOT / "docs").rglob("*.md"))]
SETTINGS = """
[project]
site_name = "T"
docs_dir = "pages"
site_dir = "site"
use_directory_urls = false
nav = ["README.md", "docs/a.md"]
"""


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / "docs.py"))


@pytest.fixture(scope="module")
def site(tool: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this repository, built in a copy of its pages."""
    copy = tmp_path_factory.mktemp("repository")
    for name in ("zensical.toml", *tool["gather"](ROOT)):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    tool["build"](copy)
    return copy / "site"


def test_every_page_is_there(site: Path) -> None:
    assert PAGES
    missing = [page for page in PAGES if not (site / page).with_suffix(".html").is_file()]
    assert missing == []


def test_the_search_finds_a_field_of_the_reference(site: Path) -> None:
    items = json.loads((site / "search.json").read_text("utf-8"))["items"]
    pages = {item["location"] for item in items if "credential" in json.dumps(item)}
    assert any(page.startswith("docs/reference.html") for page in pages)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """A page loads its scripts, styles, fonts and images from the site alone."""
    loads = re.compile(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"(?:https?:)?//[^>]*>")
    styles = re.compile(
        r"<link\b(?=[^>]*rel=\"(?:stylesheet|preconnect)\")[^>]*\"(?:https?:)?//[^>]*>"
    )
    found = [
        match[0]
        for page in site.rglob("*.html")
        for pattern in (loads, styles)
        for match in pattern.finditer(page.read_text("utf-8"))
    ]
    assert found == []


def test_links_to_examples_work(site: Path) -> None:
    html = (site / "docs" / "install.html").read_text("utf-8")
    assert 'href="../examples/gateway/client.yaml"' in html
    assert (site / "examples" / "gateway" / "client.yaml").is_file()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "zensical.toml").write_text(SETTINGS)
    (tmp_path / "README.md").write_text("# T\n\n[A](docs/a.md)\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text(
        "# A\n\n## Part\n\n[back](../README.md), [Part](#part)\n"
    )
    return tmp_path


def test_a_good_repository_builds(tool: dict[str, Any], small: Path) -> None:
    tool["build"](small)
    assert (small / "site" / "docs" / "a.html").is_file()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[x](gone.md)", r"docs/a\.md: the link to gone\.md does not point to a file"),
        (
            "[x](../../outside.md)",
            r"docs/a\.md: the link to \.\./\.\./outside\.md does not point to a file",
        ),
        ("[x]\n\n[x]: gone.md", r"docs/a\.md: the link to gone\.md does not point to a file"),
        ("[x](#nowhere)", r"anchor does not exist"),
    ],
)
def test_a_broken_link_is_refused(
    tool: dict[str, Any], small: Path, text: str, problem: str
) -> None:
    (small / "docs" / "a.md").write_text(f"# A\n\n{text}\n")
    with pytest.raises(Exception, match=problem) as caught:
        tool["build"](small)
    assert type(caught.value).__name__ == "DocsError"


def test_a_page_outside_the_navigation_is_refused(tool: dict[str, Any], small: Path) -> None:
    (small / "docs" / "b.md").write_text("# B\n")
    with pytest.raises(Exception, match=r"^docs/b\.md is not in zensical\.toml's nav: add it\.$"):
        tool["build"](small)


def test_what_looks_like_a_link_in_a_code_block_is_none(tool: dict[str, Any], small: Path) -> None:
    (small / "docs" / "a.md").write_text("# A\n\n```md\n[x](gone.md)\n```\n")
    tool["build"](small)
