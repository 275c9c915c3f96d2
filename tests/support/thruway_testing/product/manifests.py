"""Writes PassthroughRoute and Secret files as a user would."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["route", "secret", "write"]

Document = dict[str, Any]


def route(name: str, path: str, url: str, **spec: Any) -> Document:
    """A PassthroughRoute; `spec` adds or replaces fields in their YAML spelling."""
    body = {"path": path, "upstream": {"url": url, "versionPrefix": "/v1"}, **spec}
    return {
        "apiVersion": "thruway.dev/v1alpha1",
        "kind": "PassthroughRoute",
        "metadata": {"name": name},
        "spec": body,
    }


def secret(name: str, **entries: str) -> Document:
    """A Secret with these entries."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": entries,
    }


def write(file: Path, *documents: Document) -> None:
    """Replace a file by these documents, at once, as careful programs do."""
    text = yaml.safe_dump_all(documents, allow_unicode=True, sort_keys=False)
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, file)  # noqa: PTH105 - the same as Path.replace
