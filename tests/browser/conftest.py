"""The browser tests need Debian's Chromium."""

from __future__ import annotations

import pytest

from thruway_testing.product.chromium import PACKAGE, find_chromium


def pytest_collection_finish(session: pytest.Session) -> None:
    """End the run before the first test if there is no browser."""
    if session.config.option.collectonly or not session.items or find_chromium():
        return
    pytest.exit(
        f"the browser tests need Chromium: apt-get install --no-install-recommends {PACKAGE}",
        returncode=1,
    )
