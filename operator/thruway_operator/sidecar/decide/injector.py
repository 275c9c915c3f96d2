"""Decides about one pod. Deterministic; a pod that already has its sidecar stays unchanged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.sidecar.decide.containers import containers, volumes
from thruway_operator.sidecar.decide.environment import told
from thruway_operator.sidecar.decide.names import (
    HEALTH_PORT,
    INJECTED,
    LABEL,
    MESH,
    OFF,
    ON,
    PREFIX,
)
from thruway_operator.sidecar.decide.options import read_options
from thruway_operator.sidecar.decide.pods import read_pod
from thruway_operator.sidecar.decide.routes import choose
from thruway_operator.sidecar.decide.settings import InjectorError
from thruway_operator.sidecar.decide.users import choose_user

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thruway_operator.sidecar.decide.options import Options
    from thruway_operator.sidecar.decide.pods import Pod
    from thruway_operator.sidecar.decide.routes import RouteFacts
    from thruway_operator.sidecar.decide.settings import Settings

__all__ = ["Injected", "Namespace", "Refused", "Skipped", "inject"]

_SYSTEM: Final = ("kube-system", "kube-public", "kube-node-lease")
_MIRROR: Final = "kubernetes.io/config.mirror"
_RESOLVES_NOTHING: Final = ("Default", "None")
"""Values of dnsPolicy with which the cluster's names cannot be resolved."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """The namespace in which a pod is created."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    users: range | None = None
    """The user IDs that its pods may have; None if any."""


@dataclass(frozen=True, slots=True)
class Injected:
    """The pod has a sidecar now."""

    pod: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """The pod gets no sidecar; `warnings` are for the user who requested one."""

    reason: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The pod is not acceptable; the sentence says what to change."""

    sentence: str


def inject(
    manifest: Mapping[str, Any],
    namespace: Namespace,
    settings: Settings,
    routes: Sequence[RouteFacts] | None = (),
    *,
    asked: bool = False,
) -> Injected | Skipped | Refused:
    """Return the pod with its sidecar, or why it gets none.

    `routes` are the namespace's; None: unknown. `asked`: the user wants a sidecar, whatever the
    namespace's label.
    """
    try:
        pod = read_pod(manifest, injected=_was_injected(manifest))
        skipped = _skipped(pod, namespace, settings, asked=asked)
        if skipped:
            return skipped
        options = read_options(pod.annotations, settings)
        _check_ports(pod, options)
        return _injected(pod, namespace, settings, options, routes)
    except InjectorError as error:
        return Refused(str(error))


def _was_injected(manifest: Mapping[str, Any]) -> bool:
    metadata = manifest.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    return isinstance(annotations, dict) and INJECTED in annotations


def _skipped(pod: Pod, namespace: Namespace, settings: Settings, *, asked: bool) -> Skipped | None:
    said = pod.labels.get(LABEL)
    wanted = asked or namespace.labels.get(LABEL) == "enabled"
    if said in OFF:
        return Skipped(f"its label {LABEL} says {said}")
    if said in ON:
        wanted = True
    if not wanted:
        return Skipped(f"neither it nor its namespace has label {LABEL}")
    if namespace.name in {*_SYSTEM, settings.namespace}:
        return Skipped(f"pods of namespace {namespace.name} get no sidecar")
    if _MIRROR in pod.annotations:
        return Skipped("it is a static pod, which only its file can change")
    if said is not None and said not in ON:
        raise InjectorError(f'label {LABEL} must be "true" or "false"')
    impossible = _impossible(pod)
    if impossible:
        return Skipped(impossible, (f"no sidecar was added: {impossible}",))
    return None


def _impossible(pod: Pod) -> str:
    if pod.spec.get("hostNetwork"):
        return "the pod has hostNetwork, so its sidecar would listen on the node itself"
    selected = (pod.spec.get("nodeSelector") or {}).get("kubernetes.io/os")
    if "windows" in {selected, (pod.spec.get("os") or {}).get("name")}:
        return "the pod is for Windows, which the sidecar does not support"
    return ""


def _check_ports(pod: Pod, options: Options) -> None:
    ours = {
        options.port: f"choose another port for the sidecar with the annotation {PREFIX}port",
        HEALTH_PORT: f'change the container\'s port, or use label {LABEL}: "false"',
    }
    for container in pod.all_containers:
        for port in container.get("ports") or ():
            number = port.get("containerPort")
            if number in ours and port.get("protocol", "TCP") == "TCP":
                raise InjectorError(
                    f"container {container.get('name')} uses port {number}, which the sidecar "
                    f"listens on: {ours[number]}"
                )


def _injected(
    pod: Pod,
    namespace: Namespace,
    settings: Settings,
    options: Options,
    routes: Sequence[RouteFacts] | None,
) -> Injected:
    meshed = "istio-injection", "istio.io/rev"
    mesh = pod.in_mesh or (
        not pod.leaves_mesh
        and any(namespace.labels.get(name) not in {None, "disabled"} for name in meshed)
    )
    user = options.user if options.chose_user else (
        choose_user(options.user, namespace.users, pod.users)
    )  # fmt: skip
    ours = containers(options, settings, user, mesh=mesh)
    before, after = _around(pod)
    warnings = [*options.warnings, *_warnings(pod, user)]
    mains = list(pod.containers)
    if options.tells:
        after, mains, more = _tell(namespace, options, routes, after, mains)
        warnings += more
    metadata = {
        **pod.metadata,
        "annotations": {**pod.annotations, INJECTED: settings.version},
    }
    spec = {
        **pod.spec,
        "initContainers": [*before, *ours, *after],
        "containers": mains,
        "volumes": [*pod.volumes, *volumes()],
        **_pull_secrets(pod, settings),
    }
    whole = {**pod.manifest, "metadata": metadata, "spec": spec}
    return Injected(whole, tuple(dict.fromkeys(warnings)))


def _pull_secrets(pod: Pod, settings: Settings) -> dict[str, Any]:
    # The pod already has those of its ServiceAccount: that admission plugin runs before webhooks.
    given = list(pod.spec.get("imagePullSecrets") or ())
    names = [item.get("name") for item in given]
    more = [{"name": name} for name in settings.pull_secrets if name not in names]
    return {"imagePullSecrets": [*given, *more]} if more else {}


def _around(pod: Pod) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the init containers before ours, which include a mesh's, and those after."""
    names = [item.get("name") for item in pod.inits]
    place = max((index + 1 for index, name in enumerate(names) if name in MESH), default=0)
    return list(pod.inits[:place]), list(pod.inits[place:])


def _tell(
    namespace: Namespace,
    options: Options,
    routes: Sequence[RouteFacts] | None,
    inits: Sequence[dict[str, Any]],
    mains: Sequence[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Return init containers and containers with their variables, and warnings.

    Init containers before ours run without the proxy, so they get no variables.
    """
    choices = choose(namespace.name, options.route, routes)
    warnings: list[str] = []

    def all_of(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        found = []
        for item in items:
            if item.get("name") in MESH:
                found.append(item)
                continue
            changed, said = told(item, options.port, choices)
            warnings.extend(said)
            found.append(changed)
        return found

    return all_of(inits), all_of(mains), warnings


def _warnings(pod: Pod, user: int | None) -> list[str]:
    found = []
    if pod.waits_for_mesh:
        found.append(
            "the mesh's proxy starts after the sidecar, which waits 30 s for the operator: let "
            "the mesh use native sidecars, or exclude port 18000 from it"
        )
    if pod.spec.get("dnsPolicy") in _RESOLVES_NOTHING and not pod.spec.get("dnsConfig"):
        found.append(
            f"dnsPolicy {pod.spec['dnsPolicy']} does not resolve Services, so the sidecar does "
            "not find the operator: use ClusterFirst"
        )
    if pod.spec.get("shareProcessNamespace"):
        same = user is None or user in pod.users
        who = "as root or with the sidecar's user ID" if same else "as root"
        found.append(
            f"shareProcessNamespace lets a container that runs {who} read the sidecar's files, "
            "including the credential: remove it"
        )
    return found
