"""The workflows, the issue forms and the other files that a code host or git reads."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from thruway_testing.plane.kubernetes.binaries import find_programs

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def load(path: Path) -> dict[str, Any]:
    loaded = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


@pytest.mark.timeout(600)  # the first time, actionlint is built
def test_actionlint_finds_nothing() -> None:
    actionlint = find_programs(["actionlint"], print)["actionlint"]
    # Programs that happen to be installed must not decide.
    command = [str(actionlint), "-shellcheck=", "-pyflakes=", "-no-color", *map(str, WORKFLOWS)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout == ""
    assert ended.returncode == 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_permissions_are_minimal(path: Path) -> None:
    """By default a workflow reads the repository at most; what a job writes, the job names."""
    workflow = load(path)
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for job in workflow["jobs"].values():
        assert workflow["permissions"] or "permissions" in job


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_checkout_keeps_no_token(path: Path) -> None:
    for step in steps(load(path)):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned(path: Path) -> None:
    for step in steps(load(path)):
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@(v\d+|release/v\d+|[0-9a-f]{40})", step["uses"])


def test_ci_calls_make_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    called = {
        name
        for step in steps(load(ROOT / ".github" / "workflows" / "ci.yaml"))
        for name in re.findall(r"\bmake ([a-z-]+)$", step.get("run", ""))
    }
    assert {"check", "coverage", "docs", "test", "test-browser", "test-node"} <= called
    assert called <= targets


def test_the_node_job_installs_what_ci_run_installs() -> None:
    packages = runpy.run_path(str(ROOT / "tools" / "ci.py"))["NODE_PACKAGES"]
    (install,) = (
        step["run"]
        for step in load(ROOT / ".github" / "workflows" / "ci.yaml")["jobs"]["node"]["steps"]
        if "apt-get install" in step.get("run", "")
    )
    assert tuple(shlex.split(install)[-len(packages) :]) == packages


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_is_complete(path: Path) -> None:
    form = load(path)
    if path.name == "config.yml":
        assert form == {"blank_issues_enabled": False}
        return
    assert {"name", "description", "body"} <= form.keys()
    for field in form["body"]:
        attributes = field["attributes"]
        assert ("value" if field["type"] == "markdown" else "label") in attributes
        assert (field["type"] == "dropdown") == ("options" in attributes)


def test_the_hooks_of_pre_commit_download_nothing() -> None:
    config = load(ROOT / ".pre-commit-config.yaml")
    (local,) = config["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/python ")
