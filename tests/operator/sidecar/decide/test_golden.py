"""Golden cases of the injector: a new `NAME.in.yaml` in the folder is a new case.

THRUWAY_REWRITE_GOLDEN=1 writes the outputs anew. tests/cluster puts the same pods through a real
API server and the real webhook.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from thruway_operator.sidecar.decide import Injected, inject
from thruway_testing.product.injection import FOLDER, NAMES, SETTINGS, read_injection

REWRITE = os.environ.get("THRUWAY_REWRITE_GOLDEN") == "1"


def test_there_are_cases_and_no_orphans() -> None:
    outputs = {file.name.removesuffix(".out.yaml") for file in FOLDER.glob("*.out.yaml")}
    if REWRITE:
        outputs &= set(NAMES)
    assert len(NAMES) > 25
    assert outputs <= set(NAMES), "an output without an input: delete it"


@pytest.mark.parametrize("name", NAMES)
def test_the_output_is_the_golden_one(name: str) -> None:
    file = FOLDER / f"{name}.out.yaml"
    text = read_injection(name).expected()
    if REWRITE:
        file.write_text(text, "utf-8")
    assert file.is_file(), "a new case: look at what THRUWAY_REWRITE_GOLDEN=1 writes"
    assert text == file.read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_second_pass_changes_nothing(name: str) -> None:
    case = read_injection(name)
    first = case.outcome()
    if isinstance(first, Injected):
        second = inject(first.pod, case.namespace, SETTINGS, case.routes)
        assert isinstance(second, Injected)
        assert second.pod == first.pod


def test_metrics_for_the_pod_alone() -> None:
    case = read_injection("minimal")
    settings = replace(SETTINGS, private_metrics=True)
    found = inject(case.pod, case.namespace, settings, case.routes)
    assert isinstance(found, Injected)
    args = [item["args"] for item in found.pod["spec"]["initContainers"]]
    assert [("--metrics=pod" in items) for items in args] == [False, True, False]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_fits_a_warning(name: str) -> None:
    """The API server cuts warnings off at 256 characters, all of them at 4 KiB."""
    found = read_injection(name).outcome()
    for text in getattr(found, "warnings", ()):
        assert len(text) <= 256


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ["registry", "mirror"]),
        (["own"], ["own", "registry", "mirror"]),
        (["registry"], ["registry", "mirror"]),
        (["mirror", "registry"], ["mirror", "registry"]),
    ],
)
def test_the_installations_pull_secrets_are_added(
    given: list[str] | None, expected: list[str]
) -> None:
    case = read_injection("minimal")
    settings = replace(SETTINGS, pull_secrets=("registry", "mirror"))
    own = {} if given is None else {"imagePullSecrets": [{"name": name} for name in given]}
    pod = {**case.pod, "spec": {**case.pod["spec"], **own}}
    first = inject(pod, case.namespace, settings, case.routes)
    assert isinstance(first, Injected)
    assert [item["name"] for item in first.pod["spec"]["imagePullSecrets"]] == expected
    assert inject(first.pod, case.namespace, settings, case.routes) == first
