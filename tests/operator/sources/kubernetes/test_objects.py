"""Routes of a newer CRD, read by an older operator."""

from __future__ import annotations

from typing import Any

from thruway_operator.sources.kubernetes.objects import read_route


def item(generation: int = 1, uid: str = "u", **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "shop", "name": "a", "uid": uid, "generation": generation}
    return {"metadata": metadata, "spec": {"path": "/a", "provider": "openai", **spec}}


def test_a_default_that_a_newer_crd_adds_takes_no_route_away() -> None:
    before = read_route(item())
    after = read_route(item(later="yes"), before)

    assert (after.route, after.problem) == (before.route, "")
    assert read_route(item(later="yes"), after).route == before.route


def test_a_changed_spec_with_an_unknown_field_is_a_problem() -> None:
    before = read_route(item())

    for changed in (item(2, later="yes"), item(uid="another", later="yes")):
        after = read_route(changed, before)
        assert after.route is None
        assert "later" in after.problem


def test_a_default_that_this_operator_knows_counts() -> None:
    after = read_route(item(hostnames=["a.example"]), read_route(item()))

    assert after.route is not None
    assert list(after.route.spec.hostnames) == ["a.example"]
