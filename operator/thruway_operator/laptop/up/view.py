"""What `thruway up` prints about routes: the table at the start, and the changes of a reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thruway_operator.api.presets import NO_CREDENTIAL
from thruway_operator.laptop.up.table import RouteRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.api.route import Credential, PassthroughRoute
    from thruway_operator.translate import Resources, Translation, Verdict

__all__ = ["changes", "complaints", "route_rows", "slips"]


def route_rows(
    resources: Resources, translation: Translation, demonstration: str | None
) -> list[RouteRow]:
    """Return the rows of the table: served routes only, in the order of the input.

    `demonstration` is the URL of the built-in upstream, if it is in use.
    """
    rows: list[RouteRow] = []
    private = {route.id for route in translation.config.routes if route.clients is not None}
    for route in resources.routes:
        if not translation.verdicts[route.id].accepted.status:
            continue
        for item in route.spec.destinations():
            credential = _credential(resources, route, item.credential, item.url, demonstration)
            if not (item.path or item.credential) and route.id in private:
                credential = NO_CREDENTIAL
            rows.append(RouteRow(f"{route.spec.path}{item.path}", item.url, credential))
    return rows


def _credential(
    resources: Resources,
    route: PassthroughRoute,
    credential: Credential | None,
    url: str,
    demonstration: str | None,
) -> str:
    if demonstration and url == demonstration:
        return "demonstration, no key"
    if credential is None:
        return "the client's own"
    ref = credential.secret_key_ref
    if ref.key in resources.secrets.get((route.namespace, ref.name), {}):
        return f"Secret {ref.name}, key {ref.key}"
    if ref.key in (resources.environment or {}):
        return f"{ref.key} (environment)"
    return f"missing: Secret {ref.name}, key {ref.key}"


def complaints(verdicts: Mapping[str, Verdict]) -> dict[str, str]:
    """Return a sentence for each route that is not served as its author intended, by its id."""
    return {
        name: "; ".join(condition.message for condition in verdict.complaints)
        for name, verdict in verdicts.items()
        if not verdict.good
    }


def slips(verdicts: Mapping[str, Verdict]) -> dict[str, str]:
    """Return one sentence for each served route whose Secrets hold more than the key."""
    return {
        name: "; ".join(verdict.slips)
        for name, verdict in verdicts.items()
        if verdict.good and verdict.slips
    }


def changes(before: Translation, after: Translation) -> str:
    """Return a short description of what a reload changed; empty if nothing did."""
    old = {route.id: route for route in before.config.routes}
    new = {route.id: route for route in after.config.routes}
    both = new.keys() & old.keys()
    parts = {
        "added": sorted(new.keys() - old.keys()),
        "changed": sorted(name for name in both if new[name] != old[name]),
        "removed": sorted(old.keys() - new.keys()),
    }
    said = [f"{verb} {_list(names)}" for verb, names in parts.items() if names]
    if not said and any(new[name].digest != old[name].digest for name in both):
        said = ["credentials changed"]
    return "; ".join(said)


def _list(names: list[str]) -> str:
    if len(names) <= 3:
        return ", ".join(names)
    return f"{len(names)} routes"
