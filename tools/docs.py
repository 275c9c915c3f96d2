"""Builds the documentation site from README.md and docs/ into site/, and fails on a broken link.

The site mirrors the repository: the pages, and the files they link to, are copied into the same
folders below `.cache/docs/pages`, so that no link needs rewriting. The navigation must list every
page of docs/.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "zensical.toml"
SITE = "site"
STAGE = Path(".cache", "docs")  # where the generator runs: it owns the .cache beside its settings
FENCED = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)|^\[[^\]]+\]: +([^#\s]+)", re.MULTILINE)
ADDRESS = re.compile(r"[a-z]+:", re.IGNORECASE)


class DocsError(Exception):
    """The site cannot be built; the message has a sentence for each cause."""


def main() -> int:
    """Build the site and return the exit status."""
    try:
        build(ROOT)
    except DocsError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    sys.stdout.write(f"The site is in {SITE}/: read it with `python -m http.server -d {SITE}`.\n")
    return 0


def build(root: Path) -> None:
    """Build the site of the repository at `root`.

    Raises:
        DocsError: a link is broken, a page is not in the navigation, or the generator failed.
    """
    project = tomllib.loads((root / CONFIG).read_text("utf-8"))["project"]
    pages = gather(root)
    listed = set(_listed(project["nav"]))
    if missing := sorted(name for name in pages if name.startswith("docs/") and name not in listed):
        raise DocsError("\n".join(f"{name} is not in {CONFIG}'s nav: add it." for name in missing))
    stage = root / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    for name in sorted(pages):
        target = stage / project["docs_dir"] / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, target)
    shutil.copy(root / CONFIG, stage)
    _generate(stage)
    shutil.rmtree(root / SITE, ignore_errors=True)
    (stage / project["site_dir"]).rename(root / SITE)


def gather(root: Path) -> set[str]:
    """Return README.md, the pages of docs/, and all files to which they link, recursively.

    Raises:
        DocsError: a link points to a folder, outside the repository, or to a missing file.
    """
    waiting = [root / "README.md", *(root / "docs").rglob("*.md")]
    found: set[str] = set()
    problems = []
    while waiting:
        page = waiting.pop()
        name = page.relative_to(root).as_posix()
        if name in found:
            continue
        found.add(name)
        for link in _links(page) if page.suffix == ".md" else ():
            target = Path(os.path.normpath(page.parent / link))
            if target.is_relative_to(root) and target.is_file():
                waiting.append(target)
            else:
                problems.append(
                    f"{name}: the link to {link} does not point to a file of the repository."
                )
    if problems:
        raise DocsError("\n".join(sorted(problems)))
    return found


def _links(page: Path) -> Iterator[str]:
    """Yield the relative links of a page, without their anchors."""
    text = FENCED.sub("", page.read_text("utf-8"))
    for match in LINK.finditer(text):
        link = match[1] or match[2]
        if not ADDRESS.match(link):
            yield unquote(link)


def _listed(nav: list[Any] | dict[str, Any] | str) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
        return
    for entry in nav.values() if isinstance(nav, dict) else nav:
        yield from _listed(entry)


def _generate(stage: Path) -> None:
    command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", CONFIG]
    ended = subprocess.run(
        command,
        cwd=stage,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if ended.returncode != 0:
        findings, _, _ = ended.stdout.partition("Traceback")
        raise DocsError(findings.strip() or ended.stdout.strip())


if __name__ == "__main__":
    sys.exit(main())
