"""The routes of a laptop without files: from `OPENAI_API_KEY` and a few THRUWAY_* variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thruway_operator.api.route import PassthroughRoute, PassthroughRouteSpec
from thruway_operator.resources.model import Resources
from thruway_operator.resources.secret import SecretValue
from thruway_operator.sources.files.watch import SourceError
from thruway_operator.translate.credentials import is_credential
from thruway_operator.translate.upstream import read_url
from thruway_operator.translate.verdict import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "KEY",
    "NATIVE_KEY",
    "NATIVE_URL",
    "UPSTREAM_URL",
    "environment_resources",
    "needs_demonstration",
    "secret_environment",
]

KEY = "OPENAI_API_KEY"
UPSTREAM_URL = "THRUWAY_UPSTREAM_URL"  # not OPENAI_BASE_URL, which directs clients to Thruway
NATIVE_URL = "THRUWAY_NATIVE_URL"
NATIVE_KEY = "THRUWAY_NATIVE_API_KEY"
_LONGEST = 1024  # characters, as of upstream.url


def secret_environment(environment: Mapping[str, str]) -> dict[str, SecretValue]:
    """Return the environment variables as possible credentials; empty ones count as unset."""
    return {name: SecretValue(value) for name, value in environment.items() if value.strip()}


def needs_demonstration(environment: Mapping[str, str]) -> bool:
    """Return whether neither a key nor an upstream is set."""
    return not any(environment.get(name, "").strip() for name in (KEY, UPSTREAM_URL))


def environment_resources(environment: Mapping[str, str], demonstration: str) -> Resources:
    """Return the routes `/openai_passthrough` and the legacy `/openai`.

    `demonstration` is the upstream's URL if neither a key nor an upstream is set.

    Raises:
        SourceError: a variable does not contain a usable URL or key.
    """
    has_key, has_native_key = (_is_set(environment, name) for name in (KEY, NATIVE_KEY))
    upstream, native = (_url(environment, name) for name in (UPSTREAM_URL, NATIVE_URL))
    spec: dict[str, Any] = {"provider": "openai"}
    if upstream or not has_key:
        spec["upstream"] = {"url": upstream or demonstration}
    if has_key:
        spec["credential"] = {"secretKeyRef": {"name": "openai", "key": KEY}}
    legacy = dict(spec)
    if native:
        override: dict[str, Any] = {"path": "/v1/responses", "upstream": {"url": native}}
        if has_native_key:
            override["credential"] = {"secretKeyRef": {"name": "native", "key": NATIVE_KEY}}
        legacy["overrides"] = [override]
    routes = (
        _route("openai-passthrough", {**spec, "path": "/openai_passthrough"}),
        _route("openai", {**legacy, "path": "/openai"}),
    )
    return Resources(routes=routes, environment=secret_environment(environment))


def _is_set(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name, "").strip()
    if not is_credential(SecretValue(value)):
        raise SourceError(
            f"The environment variable {name} looks like a placeholder, not a key, because it is "
            "not ASCII: set the real key, or unset it."
        )
    return bool(value)


def _url(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "").strip()
    if len(value) > _LONGEST:
        raise SourceError(
            f"The environment variable {name} may be at most {_LONGEST} characters long."
        )
    if value:
        try:
            read_url(value, f"The environment variable {name}")
        except Refused as refused:
            raise SourceError(f"{refused.message}.") from None
    return value


def _route(name: str, spec: Mapping[str, Any]) -> PassthroughRoute:
    return PassthroughRoute(name=name, spec=PassthroughRouteSpec.model_validate(spec))
