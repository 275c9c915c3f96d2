"""The proxy's own keys, for all routes without keys: `--api-key` or `THRUWAY_API_KEY`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from thruway_operator.api.route import ClientAuth
from thruway_operator.resources.secret import SecretValue
from thruway_operator.sources.files.watch import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thruway_operator.resources.model import Resources

__all__ = ["API_KEY", "client_keys", "with_client_keys"]

API_KEY = "THRUWAY_API_KEY"
_SECRET = "thruway-up"  # noqa: S105 - the name of a Secret that exists only here
_SHORTEST = 8


def client_keys(environment: Mapping[str, str]) -> list[SecretValue]:
    """Return the keys in the environment, which are separated by commas.

    Raises:
        SourceError: there are only commas, a key is too short, or no client could send it.
    """
    value = environment.get(API_KEY, "").strip()
    keys = [part.strip() for part in value.split(",")]
    keys = list(dict.fromkeys(key for key in keys if key))
    if value and not keys:  # without keys, everyone would have access
        raise SourceError(f"{API_KEY} contains only commas: add a key, or unset it.")
    for number, key in enumerate(keys, 1):
        if not key.isascii() or not key.isprintable() or " " in key or len(key) < _SHORTEST:
            raise SourceError(
                f"Key {number} of --api-key or {API_KEY} is not usable: a key has at least "
                f"{_SHORTEST} printable ASCII characters without spaces and commas."
            )
    return [SecretValue(key) for key in keys]


def with_client_keys(resources: Resources, keys: Sequence[SecretValue]) -> Resources:
    """Return the resources with these keys as `clientAuth` of each route that has none."""
    if not keys:
        return resources
    auth = ClientAuth.model_validate({"type": "APIKey", "secretRef": {"name": _SECRET}})
    routes = tuple(
        route
        if route.spec.client_auth.type == "APIKey"
        else route.model_copy(update={"spec": route.spec.model_copy(update={"client_auth": auth})})
        for route in resources.routes
    )
    names = ["api-key", *(f"api-key-{number}" for number in range(2, len(keys) + 1))]
    data = dict(zip(names, keys, strict=True))
    secrets = {(route.namespace, _SECRET): data for route in routes}
    return replace(resources, routes=routes, secrets={**resources.secrets, **secrets})
