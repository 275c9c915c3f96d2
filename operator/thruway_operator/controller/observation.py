"""Collects what the writer of statuses needs for each route; unchanged routes keep their object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thruway_operator.controller.status import Observed
from thruway_operator.translate.groups import groups_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.api.route import PassthroughRoute
    from thruway_operator.controller.options import OperatorOptions
    from thruway_operator.controller.serving import Serving
    from thruway_operator.resources.keys import ObjectKey
    from thruway_operator.sources.kubernetes.objects import RouteObject
    from thruway_operator.translate import Translation, Verdict

__all__ = ["Observation"]


class Observation:
    """Combines objects, verdicts and served fragments."""

    def __init__(self, options: OperatorOptions) -> None:
        self._sidecar_url = options.sidecar_url
        self._gateway_url = options.gateway.url if options.gateway else ""
        self._known: dict[str, Observed] = {}

    def of(
        self,
        objects: Mapping[ObjectKey, RouteObject],
        translation: Translation,
        serving: Serving,
    ) -> Mapping[str, Observed]:
        """Return the observation of each route, by `namespace/name`."""
        found = {}
        for (namespace, name), item in objects.items():
            id_ = f"{namespace}/{name}"
            verdict = translation.verdicts.get(id_)
            found[id_] = self._one(id_, item, verdict, _digests(item.route, verdict, serving))
        self._known = found
        return found

    def _one(
        self,
        id_: str,
        item: RouteObject,
        verdict: Verdict | None,
        digests: Mapping[str, str],
    ) -> Observed:
        before = self._known.get(id_)
        if (
            before is not None
            and before.resource_version == item.resource_version
            and before.verdict == verdict
            and before.digests == digests
        ):
            return before
        return Observed(
            uid=item.uid,
            generation=item.generation,
            resource_version=item.resource_version,
            status=item.status,
            verdict=verdict,
            problem=item.problem,
            url=self._url(item.route),
            upstream=_upstream(item.route),
            digests=digests,
        )

    def _url(self, route: PassthroughRoute | None) -> str:
        if route is None:
            return ""
        shared = route.spec.exposure == "Cluster" and self._gateway_url
        return (self._gateway_url if shared else self._sidecar_url) + route.spec.path


def _digests(
    route: PassthroughRoute | None, verdict: Verdict | None, serving: Serving
) -> Mapping[str, str]:
    if route is None or verdict is None or not verdict.accepted.status:
        return {}
    found = ((group, serving.digest(group, route.id)) for group in groups_of(route))
    return {group: digest for group, digest in found if digest}


def _upstream(route: PassthroughRoute | None) -> str:
    """Return the upstream's URL, which contains no user and password (translation refuses them)."""
    if route is None:
        return ""
    url = route.spec.upstream_url
    return "" if "@" in url else url
