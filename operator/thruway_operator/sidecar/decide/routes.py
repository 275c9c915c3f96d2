"""Chooses the routes for a pod's applications: one for each provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from thruway_operator.sidecar.decide.providers import OPENAI, PROVIDERS, Provider
from thruway_operator.translate.versions import route_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thruway_operator.api.route import PassthroughRoute

__all__ = ["Choice", "RouteFacts", "choose", "facts_of"]

_USUAL_VERSION: Final = "/v1"
_BY_NAME: Final = {provider.name: provider for provider in PROVIDERS}
_LOCAL: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """What the injector must know about a route."""

    name: str
    path: str
    version: str
    """What it inserts if a path names no version, such as `/v1`; "" for nothing."""
    provider: str
    created: str
    """Older routes come first; see `PassthroughRoute.created`."""
    hostnames: tuple[str, ...] = ()
    wants_key: bool = False
    """Whether it accepts only clients with a key of Thruway's."""

    @property
    def answers_locally(self) -> bool:
        """Whether it serves requests to the sidecar's address."""
        return not self.hostnames or _LOCAL in self.hostnames


@dataclass(frozen=True, slots=True)
class Choice:
    """The end of one provider's base URL, and warnings about it."""

    provider: Provider
    path: str
    warnings: tuple[str, ...] = ()
    wants_key: str = ""
    """The name of the route if it requires a key."""


def facts_of(route: PassthroughRoute) -> RouteFacts:
    """Return what the injector must know about it."""
    spec = route.spec
    return RouteFacts(
        name=route.name,
        path=spec.path,
        version=route_version(spec),
        provider=spec.provider or "",
        created=route.created,
        hostnames=tuple(spec.hostnames),
        wants_key=spec.client_auth.type == "APIKey",
    )


def choose(namespace: str, named: str, routes: Sequence[RouteFacts] | None) -> tuple[Choice, ...]:
    """Choose among the namespace's routes for each provider; for OpenAI even if there is none.

    A route that is named decides only for its own provider; without a provider, for OpenAI, because
    most APIs without a preset are like OpenAI's. None: the routes are unknown, because the cluster
    was not asked.
    """
    if routes is None:
        return (_assumed(namespace, named),)
    chosen = _named(namespace, named, routes) if named else None
    found = (
        chosen if chosen and chosen.provider is provider else _best(namespace, provider, routes)
        for provider in PROVIDERS
    )
    return tuple(choice for choice in found if choice is not None)


def _best(namespace: str, provider: Provider, routes: Sequence[RouteFacts]) -> Choice | None:
    here = _served([route for route in routes if route.answers_locally])
    fitting = [route for route in here if route.provider == provider.name]
    if not fitting:
        return _missing(namespace) if provider is OPENAI else None
    open_ = [route for route in fitting if not route.wants_key] or fitting
    usual = provider.usual_path
    chosen = min(open_, key=lambda route: (route.path != usual, route.created, route.name))
    if len(open_) == 1:
        return _choice(provider, chosen)
    return _choice(
        provider,
        chosen,
        f"namespace {namespace} has {len(open_)} PassthroughRoutes of provider {provider.name}: "
        f"{chosen.name} was chosen; name one with the annotation thruway.dev/route",
    )


def _missing(namespace: str) -> Choice:
    return Choice(
        OPENAI,
        f"{OPENAI.usual_path}{_USUAL_VERSION}",
        (
            f"namespace {namespace} has no PassthroughRoute of provider openai yet: "
            f"calls get 404 until one with path {OPENAI.usual_path} exists",
        ),
    )


def _served(routes: Sequence[RouteFacts]) -> list[RouteFacts]:
    """Leave out routes whose path an older one has, like the operator (`Conflicted`)."""
    oldest: dict[str, RouteFacts] = {}
    for route in sorted(routes, key=lambda route: (route.created, route.name)):
        oldest.setdefault(route.path, route)
    return list(oldest.values())


def _assumed(namespace: str, named: str) -> Choice:
    path = f"{OPENAI.usual_path}{_USUAL_VERSION}"
    missing = (
        f"PassthroughRoute {namespace}/{named[:80]} is not in the files"
        if named
        else f"the files contain no PassthroughRoute of namespace {namespace}"
    )
    warning = f"{missing}: {path} is assumed; if it has another path, add its file with -f"
    return Choice(OPENAI, path, (warning,))


def _named(namespace: str, named: str, routes: Sequence[RouteFacts]) -> Choice:
    found = next((route for route in routes if route.name == named), None)
    if found is None:
        return Choice(
            OPENAI,
            f"{OPENAI.usual_path}{_USUAL_VERSION}",
            (
                f"PassthroughRoute {namespace}/{named[:80]} does not exist yet: path "
                f"{OPENAI.usual_path} is assumed; create the route, then recreate the pod if its "
                "path is another",
            ),
        )
    provider = _BY_NAME.get(found.provider, OPENAI)
    if not found.answers_locally:
        return _choice(
            provider,
            found,
            f"PassthroughRoute {namespace}/{named} serves only its hostnames, not "
            f"{_LOCAL}: add that to its hostnames",
        )
    return _choice(provider, found)


def _choice(provider: Provider, route: RouteFacts, *warnings: str) -> Choice:
    path = f"{route.path}{route.version}" if provider.versioned else route.path
    return Choice(provider, path, warnings, route.name if route.wants_key else "")
