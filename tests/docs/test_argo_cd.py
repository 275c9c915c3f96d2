"""The health check for Argo CD in docs/operator.md, in a real Lua."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lupa
import pytest
import yaml

from thruway_operator.api.crd import crd
from thruway_operator.controller.status.conditions import Proxies, status_of
from thruway_operator.controller.status.observed import Observed
from thruway_operator.translate import Condition, Verdict
from thruway_operator.translate.verdict import NOT_LOOKED_UP

PAGE = Path(__file__).parents[2] / "docs" / "operator.md"
ACCEPTED = Condition("Accepted", True, "Accepted", "Fine.")
RESOLVED = Condition("ResolvedRefs", True, "ResolvedRefs", "Fine.")
MISSING = Condition("ResolvedRefs", False, "SecretNotFound", "Secret a does not exist.")
REFUSED = Condition("Accepted", False, "Conflicted", "Another route has the path.")


def health(generation: int, status: dict[str, Any] | None) -> tuple[str, str]:
    """Return the status and message that Argo CD shows for a route."""
    (text,) = re.findall(
        r"^```yaml\n(data:\n.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    ((key, script),) = yaml.safe_load(text)["data"].items()
    spec = crd()["spec"]
    kind = f"{spec['group']}_{spec['names']['kind']}"
    assert key == f"resource.customizations.health.{kind}"
    lua = lupa.LuaRuntime()
    obj = {"metadata": {"generation": generation}, **({} if status is None else {"status": status})}
    found = lua.execute(f"local obj = ...\n{script}", lua.table_from(obj, recursive=True))
    return found["status"], found["message"]


def status(
    proxies: Proxies, accepted: Condition = ACCEPTED, resolved: Condition = RESOLVED
) -> dict[str, Any]:
    verdict = Verdict("shop/a", 2, accepted, resolved)
    observed = Observed("uid", 2, 1, {}, verdict, "", "", "", {})
    return status_of(observed, proxies, {}, "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("found", "wanted", "words"),
    [
        (status(Proxies(1, 1)), "Healthy", "all connected proxies serve it"),
        (status(Proxies()), "Healthy", "No proxy serves it yet"),
        (status(Proxies(2, 1)), "Progressing", "1 of 2 proxies"),
        (status(Proxies(2, 1, rejected="no such filter")), "Degraded", "no such filter"),
        (status(Proxies(1, 1), resolved=MISSING), "Degraded", MISSING.message),
        (status(Proxies(), REFUSED, NOT_LOOKED_UP), "Degraded", REFUSED.message),
    ],
    ids=["served", "no-proxies", "pending", "rejected", "no-secret", "conflicted"],
)
def test_it_tells_what_ready_tells(found: dict[str, Any], wanted: str, words: str) -> None:
    state, message = health(2, found)

    assert state == wanted
    assert words in message


@pytest.mark.parametrize("found", [None, {}, status(Proxies(1, 1))], ids=["new", "empty", "old"])
def test_a_generation_that_was_not_observed_is_in_progress(found: dict[str, Any] | None) -> None:
    assert health(3, found)[0] == "Progressing"
