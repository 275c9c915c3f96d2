"""The variables by which an application finds its sidecar: those that the providers' SDKs read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from thruway_operator.sidecar.decide.noproxy import without_proxy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from thruway_operator.sidecar.decide.routes import Choice

__all__ = ["PLACEHOLDER", "told"]

PLACEHOLDER: Final = "thruway"
"""SDKs do not start without a key; the route's key replaces it."""


def told(
    container: Mapping[str, Any], port: int, choices: Sequence[Choice]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the container with the variables that it does not set itself, and warnings.

    A container that sets a provider's base URL has its own destination and key, so it gets none of
    that provider's variables.
    """
    given = list(container.get("env") or ())
    names = {item["name"] for item in given if isinstance(item.get("name"), str)}
    added: dict[str, str] = {}
    warnings: list[str] = []
    for choice in choices:
        ours = _variables(choice, port, names)
        if ours:
            added |= ours
            warnings += choice.warnings
            warnings += _missing_key(container, choice, names)
    if added and container.get("envFrom"):
        # The content of a ConfigMap or Secret is unknown at admission, and may change before the
        # container starts; entries in `env` take precedence (Kubernetes: "Define Environment
        # Variables for a Container"). Most contain none of our variables, except perhaps the
        # real key, which the sidecar makes unnecessary. So set ours, and warn.
        warnings.append(
            f"container {container.get('name')} uses envFrom: {_listed(list(added))} from there "
            "are not used; set them in env to keep them"
        )
    env = [*given, *({"name": name, "value": value} for name, value in added.items())]
    whole = {**container, "env": env} if added else dict(container)
    whole, more = without_proxy(whole)
    return whole, (*warnings, *more)


def _variables(choice: Choice, port: int, names: Set[str]) -> dict[str, str]:
    provider = choice.provider
    if not names.isdisjoint((*provider.base_urls, *provider.elsewhere)):
        return {}
    found = dict.fromkeys(provider.base_urls, f"http://127.0.0.1:{port}{choice.path}")
    if names.isdisjoint(provider.keys):
        found[provider.keys[0]] = PLACEHOLDER
    return found


def _missing_key(container: Mapping[str, Any], choice: Choice, names: Set[str]) -> list[str]:
    key = choice.provider.keys[0]
    if not choice.wants_key or not names.isdisjoint(choice.provider.keys):
        return []
    return [
        f"PassthroughRoute {choice.wants_key} accepts only clients with a key of their own: "
        f"set {key} in container {container.get('name')}"
    ]


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
