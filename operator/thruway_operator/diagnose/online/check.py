"""`thruway check --cluster`: reports what would happen if the routes were applied; writes nothing.

The API server validates the routes in a dry run, with the caller's own permissions. The operator's
translation then runs over these routes and those in the cluster, to find conflicts.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from thruway_operator.diagnose.findings.finding import Finding
from thruway_operator.diagnose.offline.oddities import missing_of
from thruway_operator.kube import ApiError, KubeClient, KubeError
from thruway_operator.sources.kubernetes.hints import GROUP, PLURAL, VERSION
from thruway_operator.sources.kubernetes.objects import config_map_texts, read_route, secret_values
from thruway_operator.translate import Resources, Translator
from thruway_operator.translate.gateway import GatewayPolicy, check_exposure
from thruway_operator.translate.groups import groups_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from thruway_operator.api.route import PassthroughRoute
    from thruway_operator.diagnose.offline.loading import Input
    from thruway_operator.kube import Access
    from thruway_operator.resources.keys import ObjectKey

__all__ = ["ClusterError", "check_in_cluster"]

# Later than any creationTimestamp: a new route loses against an existing one.
_NOT_YET = "9999"


class ClusterError(Exception):
    """The cluster cannot be queried at all; the message is a sentence."""


def check_in_cluster(given: Input, access: Access) -> list[Finding]:
    """Return the objections of the API server and the operator to these routes.

    Raises:
        ClusterError: the API server cannot be reached, or has no CRD of ours.
    """
    return asyncio.run(_check(given, access))


async def _check(given: Input, access: Access) -> list[Finding]:
    async with KubeClient(access) as client:
        look = _Look(given, client)
        try:
            return await look.run()
        except ApiError as error:
            if error.status == 404:
                raise ClusterError(
                    f"the cluster does not know {PLURAL}.{GROUP}: install Thruway there first"
                ) from error
            raise ClusterError(f"the cluster cannot be queried: {error}") from error
        except KubeError as error:
            raise ClusterError(f"{error}: check the kubeconfig and the network") from error


class _Look:
    def __init__(self, given: Input, client: KubeClient) -> None:
        self._given = given
        self._client = client
        self._findings: list[Finding] = []

    async def run(self) -> list[Finding]:
        listed = await self._client.get(f"/apis/{GROUP}/{VERSION}/{PLURAL}")
        there = {
            (item["metadata"]["namespace"], item["metadata"]["name"]): read_route(item)
            for item in listed.get("items") or ()
        }
        for route in self._given.given.routes:
            await self._dry_run(route)
        routes = {key: found.route for key, found in there.items() if found.route is not None}
        for route in self._given.given.routes:
            key = (route.namespace, route.name)
            before = there.get(key)
            created = before.created if before else _NOT_YET
            routes[key] = route.model_copy(update={"created": created})
        await self._translate(routes, {route.id for route in self._given.given.routes})
        return self._findings

    async def _translate(
        self, routes: Mapping[ObjectKey, PassthroughRoute], own: Collection[str]
    ) -> None:
        resources = await self._resources(routes, own)
        # Only the operator knows which namespaces the gateway accepts.
        everywhere = frozenset(namespace for namespace, _ in routes)
        policy = GatewayPolicy(everywhere, allow_private=True)
        check = partial(check_exposure, gateway=policy)
        translation = Translator(groups_of).translate(resources, check)
        for route in resources.routes:
            if route.id not in own:
                continue
            accepted = translation.verdicts[route.id].accepted
            if accepted.reason == "Conflicted":  # other faults are found without the cluster
                self._add("error", route.id, "spec.path", accepted.message)
            for field, message in missing_of(route, resources):
                self._add("warning", route.id, field, message)

    async def _resources(
        self, routes: Mapping[ObjectKey, PassthroughRoute], own: Collection[str]
    ) -> Resources:
        secrets = dict(self._given.given.secrets)
        config_maps = dict(self._given.given.config_maps)
        for route in routes.values():
            if route.id not in own:
                continue
            for kind, key in route.objects:
                if key in (secrets if kind == "Secret" else config_maps):
                    continue
                found = await self._object(route.id, f"{kind.lower()}s", kind, key)
                if found is not None and kind == "Secret":
                    secrets[key] = secret_values(found)
                elif found is not None:
                    config_maps[key] = config_map_texts(found)
        return replace(Resources(tuple(routes.values())), secrets=secrets, config_maps=config_maps)

    async def _object(
        self, route: str, plural: str, kind: str, key: ObjectKey
    ) -> dict[str, Any] | None:
        namespace, name = key
        try:
            return await self._client.get(f"/api/v1/namespaces/{namespace}/{plural}/{name}")
        except ApiError as error:
            if error.status == 403:
                message = (
                    f"you may not read {kind} {name} in namespace {namespace}, so it could not be "
                    "checked; ask someone with that permission"
                )
                self._add("warning", route, "spec", message)
            elif error.status != 404:
                raise
        return None

    async def _dry_run(self, route: PassthroughRoute) -> None:
        namespace = route.namespace
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{route.name}"
        params = {
            "dryRun": "All",
            "fieldManager": "thruway-check",
            "fieldValidation": "Strict",
            "force": "true",
        }
        try:
            await self._client.request(
                "PATCH",
                path,
                params=params,
                body=self._written(route),
                content_type="application/apply-patch+yaml",
            )
        except ApiError as error:
            self._refused(route, namespace, error)

    def _refused(self, route: PassthroughRoute, namespace: str, error: ApiError) -> None:
        if error.status == 403:
            message = (
                f"you may not apply PassthroughRoutes in namespace {namespace}: ask for the role "
                "edit there"
            )
            self._add("error", route.id, "metadata.namespace", message)
            return
        if error.status == 404:
            message = f"namespace {namespace} does not exist: create it, or name another one"
            self._add("error", route.id, "metadata.namespace", message)
            return
        causes = error.details.get("causes") or ()
        for cause in causes:
            field = str(cause.get("field", "")).removeprefix("<nil>")
            # "Invalid value: …:" repeats the value, which may be a key in the wrong place.
            message = str(cause.get("message", "")).rpartition('": ')[2]
            message = message.removeprefix("Invalid value: ")
            self._add("error", route.id, field, f"is rejected by the API server: {message}")
        if not causes:
            self._add("error", route.id, "spec", f"is rejected by the API server: {error}")

    def _written(self, route: PassthroughRoute) -> dict[str, Any]:
        spec = route.spec.model_dump(by_alias=True, exclude_unset=True, mode="json")
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "PassthroughRoute",
            "metadata": {"name": route.name, "namespace": route.namespace},
            "spec": spec,
        }

    def _add(self, severity: Any, route: str, field: str, message: str) -> None:  # noqa: ANN401
        file, line = self._given.place(route, field)
        self._findings.append(Finding(severity, file, line, field, message, route))
