"""Which route the snippets at the start are for, so that they work as printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thruway_operator import ir
from thruway_operator.laptop.up.console import Snippets, snippets
from thruway_operator.sources.files.clients import API_KEY
from thruway_operator.sources.files.environment import KEY
from thruway_operator.translate.versions import route_version

if TYPE_CHECKING:
    from thruway_operator.api.route import PassthroughRoute
    from thruway_operator.sources.files.network import Setting
    from thruway_operator.translate import Resources, Translation

__all__ = ["examples"]


def examples(
    base: str,
    setting: Setting,
    resources: Resources,
    translation: Translation,
    demonstration: str | None,
) -> Snippets | None:
    """Return the snippets for the first route that OpenAI's SDK can call; None: there is none.

    `base` is Thruway's own URL without a path, `demonstration` that of the built-in upstream.
    """
    served = {route.id: route for route in translation.config.routes}
    for route in resources.routes:
        found = served.get(route.id)
        if found is None or not _callable(route, found):
            continue
        several = False
        if found.clients is not None:
            key = API_KEY
            several = route.spec.client_auth.type != "APIKey" and len(setting.keys) > 1
        elif route.spec.credential is None and demonstration is None:
            key = KEY  # the client's own goes to the upstream
        else:
            key = ""
        host = route.spec.hostnames[0].replace("*", "any") if route.spec.hostnames else ""
        url = base + route.spec.path + route_version(route.spec)
        return snippets(url, key=key, first=several, host=host)
    return None


def _callable(route: PassthroughRoute, served: ir.Route) -> bool:
    """Tell whether the snippets' endpoints are OpenAI's here, and nothing is missing for them."""
    spec = route.spec
    return (
        spec.provider == "openai"
        and not spec.overrides  # which may lead where nothing runs
        and (not spec.request.methods or "POST" in spec.request.methods)
        and isinstance(served.branches[-1].outcome, ir.Target)
    )
