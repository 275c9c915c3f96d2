"""Golden cases: a new `NAME.in.yaml` in the folder is a new case.

THRUWAY_REWRITE_GOLDEN=1 writes the outputs anew. Each output also passes `envoy --mode validate`.
"""

import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from thruway_testing.product.golden import Case, read_case, validate

FOLDER = Path(__file__).with_name("golden")
NAMES = sorted(file.name.removesuffix(".in.yaml") for file in FOLDER.glob("*.in.yaml"))
REWRITE = os.environ.get("THRUWAY_REWRITE_GOLDEN") == "1"
SYSTEM_CA = (FOLDER / "ca.pem").read_text("ascii")


@cache
def case(name: str) -> Case:
    return read_case(FOLDER / f"{name}.in.yaml", SYSTEM_CA)


def test_there_are_cases_and_no_orphans() -> None:
    outputs = sorted(file.name.removesuffix(".out.yaml") for file in FOLDER.glob("*.out.yaml"))
    if REWRITE:
        outputs = [name for name in outputs if name in NAMES]
    assert len(NAMES) > 20
    assert set(outputs) <= set(NAMES), "an output without an input: delete it"


@pytest.mark.parametrize("name", NAMES)
def test_the_output_is_the_golden_one(name: str) -> None:
    file = FOLDER / f"{name}.out.yaml"
    text = case(name).expected()
    if REWRITE:
        file.write_text(text, "utf-8")
    assert file.is_file(), "a new case: look at what THRUWAY_REWRITE_GOLDEN=1 writes"
    assert text == file.read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_is_in_the_output(name: str) -> None:
    values = [secret.reveal().strip() for secret in case(name).secrets]
    text = case(name).expected() + repr(case(name).translation)
    assert [value for value in values if value and value in text] == []


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="thruway-") as name:
        yield Path(name)


@pytest.mark.slow  # a real Envoy
def test_envoy_accepts_all_outputs(folder: Path) -> None:
    """One run for all cases, because each takes a second; if it fails, the culprits are named."""
    if validate(map(case, NAMES), folder):
        complaints = {name: validate([case(name)], folder) for name in NAMES}
        assert {name: said for name, said in complaints.items() if said} == {}
        pytest.fail("Envoy accepts each case, but not all of them together")


def test_the_validation_can_fail(folder: Path) -> None:
    """What Envoy refuses is noticed: here a certificate that is none."""
    broken = read_case(FOLDER / "minimal.in.yaml", "no certificate")
    assert "CA" in validate([broken], folder)
