"""Each package's docstring names the import contracts that hold it to its word."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = sorted(
    path.parent.relative_to(ROOT)
    for folder in ("extproc", "operator")
    for path in (ROOT / folder).rglob("__init__.py")
)
CONTRACTS: dict[str, dict[str, Any]] = {
    contract["name"]: contract
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
}


def named(package: Path) -> list[str]:
    docstring = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text("utf-8")))
    _, _, tail = (docstring or "").rpartition("Contract")
    return re.findall(r'"([^"]+)"', tail.replace("\n", " "))


def subjects(contract: dict[str, Any]) -> list[str]:
    """Return the packages that a contract restricts."""
    layers = [
        f"{container}.{name.strip()}"
        for container in contract.get("containers", ())
        for layer in contract.get("layers", ())
        for name in layer.split("|")
    ]
    return [
        *contract.get("source_modules", ()),
        *contract.get("modules", ()),
        *contract.get("containers", ()),
        *layers,
    ]


def test_the_packages_are_found() -> None:
    assert len(PACKAGES) > 25


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_a_docstring_names_contracts_that_restrict_its_package(package: Path) -> None:
    names = named(package)
    assert names, "its docstring names no contract"
    module = ".".join(package.parts[1:])
    for name in names:
        assert name in CONTRACTS, f"there is no contract {name!r} in pyproject.toml"
        restricted = subjects(CONTRACTS[name])
        assert any(
            module == item or module.startswith(f"{item}.") or item.startswith(f"{module}.")
            for item in restricted
        ), f"contract {name!r} says nothing about {module}"


def test_every_contract_is_named_by_a_package_or_a_module() -> None:
    used = {name for package in PACKAGES for name in named(package)}
    rest = {
        "the IR knows neither Kubernetes nor Envoy",  # a module
        "only envoy and xds use Envoy's protobuf classes",  # all others
        "only diagnose asks the rewrite",  # all others
    }
    assert used | rest == set(CONTRACTS)
