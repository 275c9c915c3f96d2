"""Reads pod manifests, which may be invalid: people pass them to `thruway inject`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thruway_operator.sidecar.decide.names import MESH, OFF, OUR_CONTAINERS, OUR_VOLUMES
from thruway_operator.sidecar.decide.settings import InjectorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Pod", "read_pod"]

_Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod without what was injected before."""

    manifest: Mapping[str, Any]
    metadata: Mapping[str, Any]
    spec: Mapping[str, Any]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    inits: Sequence[_Manifest]
    containers: Sequence[_Manifest]
    volumes: Sequence[_Manifest]

    @property
    def all_containers(self) -> Iterator[_Manifest]:
        """Including init containers."""
        yield from self.inits
        yield from self.containers

    @property
    def in_mesh(self) -> bool:
        """Whether a mesh has injected its proxy, or will."""
        if any(item.get("name") in MESH for item in self.all_containers):
            return True
        istio, linkerd = "sidecar.istio.io/inject", "linkerd.io/inject"
        asked = self.labels.get(istio) or self.annotations.get(istio)
        said = (self.annotations.get(linkerd), self.labels.get(linkerd))
        return asked == "true" or any(word in {"enabled", "ingress"} for word in said)

    @property
    def leaves_mesh(self) -> bool:
        """Whether the pod opts out of Istio."""
        istio = "sidecar.istio.io/inject"
        return (self.labels.get(istio) or self.annotations.get(istio)) in OFF

    @property
    def waits_for_mesh(self) -> bool:
        """Whether the mesh's proxy starts only after all init containers, and blocks them."""
        names = {item.get("name") for item in self.containers}
        inits = {item.get("name") for item in self.inits}
        return bool(
            ("istio-proxy" in names and "istio-init" in inits)
            or ("linkerd-proxy" in names and "linkerd-init" in inits)
        )

    @property
    def users(self) -> list[object]:
        """The user IDs of its containers, as far as the manifest shows."""
        contexts = [self.spec, *self.all_containers]
        return [(item.get("securityContext") or {}).get("runAsUser") for item in contexts]


def read_pod(manifest: object, *, injected: bool) -> Pod:
    """Return the pod; with `injected`, remove what an earlier run added.

    Raises:
        InjectorError: it is not a valid pod.
    """
    whole = _mapping(manifest, "the pod")
    metadata = _mapping(whole.get("metadata") or {}, "metadata")
    spec = _mapping(whole.get("spec"), "spec")
    containers = _mappings(spec, "containers")
    if not containers:
        raise InjectorError("spec.containers is empty: a pod has at least one container")
    inits, volumes = _mappings(spec, "initContainers"), _mappings(spec, "volumes")
    _mappings(spec, "imagePullSecrets")
    if injected:
        inits = [item for item in inits if item.get("name") not in OUR_CONTAINERS]
        volumes = [item for item in volumes if item.get("name") not in OUR_VOLUMES]
    pod = Pod(
        manifest=whole,
        metadata=metadata,
        spec=spec,
        labels=_texts(metadata, "labels"),
        annotations=_texts(metadata, "annotations"),
        inits=inits,
        containers=containers,
        volumes=volumes,
    )
    _check_names(pod)
    return pod


def _check_names(pod: Pod) -> None:
    for container in pod.all_containers:
        name = container.get("name")
        if not isinstance(name, str):
            raise InjectorError("a container has no name: give it one")
        if name in OUR_CONTAINERS:
            raise InjectorError(
                f"container {name} has the same name as one of the sidecar's: rename it"
            )
        for kind in ("env", "envFrom", "ports", "volumeMounts"):
            _mappings(container, kind)
        _mapping(container.get("securityContext") or {}, "securityContext")
        for mount in container.get("volumeMounts") or ():
            if mount.get("name") in OUR_VOLUMES:
                raise InjectorError(
                    f"container {name} mounts {mount['name']}, which belongs to the sidecar: "
                    "remove that mount"
                )
    for kind in ("securityContext", "nodeSelector", "os"):
        _mapping(pod.spec.get(kind) or {}, f"spec.{kind}")
    for volume in pod.volumes:
        if volume.get("name") in OUR_VOLUMES:
            raise InjectorError(
                f"volume {volume['name']} has the same name as one of the sidecar's: rename it"
            )


def _mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InjectorError(f"{what} must be a mapping")
    return value


def _mappings(parent: Mapping[str, Any], name: str) -> list[_Manifest]:
    value = parent.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InjectorError(f"{name} must be a list of mappings")
    return value


def _texts(metadata: Mapping[str, Any], name: str) -> dict[str, str]:
    value = _mapping(metadata.get(name) or {}, f"metadata.{name}")
    for key, text in value.items():
        if not isinstance(text, str):
            raise InjectorError(f"the value of {key} in metadata.{name} must be text: quote it")
    return value
