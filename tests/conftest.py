"""`--quick`, for `make test-quick`: no slow tests, and few examples for each property."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest

QUICK_EXAMPLES = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="skip slow tests, try fewer examples")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: not part of `make test-quick`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--quick"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]
    for item in items:
        if isinstance(item, pytest.Function):
            _try_few_examples(item)


def _try_few_examples(item: pytest.Function) -> None:
    """Cap the examples of a property or a state machine, whatever its own settings say."""
    if hypothesis.is_hypothesis_test(item.obj):
        test: Any = getattr(item.obj, "__func__", item.obj)
        test._hypothesis_internal_use_settings = _few(
            getattr(test, "_hypothesis_internal_use_settings", None)
        )
    elif isinstance(own := getattr(item.cls, "settings", None), hypothesis.settings):
        item.cls.settings = _few(own)


def _few(own: hypothesis.settings | None) -> hypothesis.settings:
    parent = own or hypothesis.settings()
    return hypothesis.settings(parent, max_examples=min(parent.max_examples, QUICK_EXAMPLES))
