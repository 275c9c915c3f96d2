"""The containers and volumes that are added to a pod, whole: nothing of the pod's is in them.

Where kubelet's probes go. Port 4001 of the pod, which `thruway-extproc` serves, speaks for both
containers, because Envoy's image may hold nothing but Envoy, and its admin interface is a Unix
socket. So `thruway-extproc` comes first and has started when its workers answer, `thruway-envoy`
has when `/startz` says so: native sidecars start one after another, each once the one before has
started, and the application after the last (Kubernetes: "Sidecar Containers").

In a mesh kubelet's HTTP does not get in where strict mTLS is asked for, so probes are commands in
`thruway-extproc`. Envoy's container cannot have any; it comes first there, without probes, and
`thruway-extproc`, started when Envoy is too, keeps the application waiting for both.

How they end. kubelet runs preStop hooks at once when a pod is told to end, beside the application's
own grace period, but stops native sidecars only after the application has ended, in reverse order
(KEP-753). So Envoy lives for as long as the application streams, and nobody has to hold it. The
hook waits for calls under way where the order is not kept (an older kubelet, a restart of
`thruway-extproc`), and leaves Envoy ready: failing its health check would end connections that the
application is still using, take the pod's readiness away, and outlive a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from thruway_operator.sidecar.decide.names import (
    BOOTSTRAP,
    CA_CONFIG_MAP,
    CA_VOLUME,
    ENVOY,
    EXTPROC,
    HEALTH_PORT,
    HEALTH_PORT_NAME,
    RUN_VOLUME,
    TOKEN_VOLUME,
)

if TYPE_CHECKING:
    from thruway_operator.sidecar.decide.options import Options
    from thruway_operator.sidecar.decide.settings import Settings

__all__ = ["containers", "volumes"]

_PATIENCE: Final = 25
"""Seconds until Envoy accepts connections without configuration; `/startz` waits for 30."""
_RUN: Final = {"name": RUN_VOLUME, "mountPath": "/run/thruway"}
_TOKEN: Final = {"name": TOKEN_VOLUME, "mountPath": "/run/secrets/thruway", "readOnly": True}
_CA: Final = {"name": CA_VOLUME, "mountPath": "/run/secrets/thruway-ca", "readOnly": True}

_Manifest = dict[str, Any]


def containers(
    options: Options, settings: Settings, user: int | None, *, mesh: bool
) -> list[_Manifest]:
    """Return the init containers, in order."""
    bootstrap = _bootstrap(options, settings, user)
    extproc, envoy = _extproc(options, settings, user), _envoy(options, user)
    if mesh:
        return [bootstrap, envoy, extproc | _commands_probes()]
    return [bootstrap, extproc | _extproc_probes(), envoy | _envoy_probes()]


def volumes() -> list[_Manifest]:
    """Return the volumes; only the containers above mount them."""
    token = {"audience": "thruway-xds", "expirationSeconds": 3600, "path": "token"}
    return [
        {"name": RUN_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}},
        # Optional: a pod starts without it, and Envoy reads it once it exists.
        {"name": CA_VOLUME, "configMap": {"name": CA_CONFIG_MAP, "optional": True}},
    ]


def _bootstrap(options: Options, settings: Settings, user: int | None) -> _Manifest:
    return {
        "name": BOOTSTRAP,
        "image": options.images.thruway,
        "imagePullPolicy": options.images.thruway_pull_policy,
        "command": ["thruway", "bootstrap"],
        "args": [
            f"--operator={settings.operator}",
            "--token=/run/secrets/thruway/token",
            # Through the link that kubelet swaps: the file is complete whenever the link exists.
            "--authorities=/run/secrets/thruway-ca/..data/ca.crt",
            f"--listen=127.0.0.1:{options.port}",
            f"--patience={_PATIENCE}",
        ],
        # A pod that is created from a template has no name yet when it is admitted.
        "env": [_field("POD_NAME", "metadata.name"), _field("POD_NAMESPACE", "metadata.namespace")],
        "resources": options.extproc.manifest(),
        "securityContext": _security(user),
        "volumeMounts": [_RUN],
    }


def _extproc(options: Options, settings: Settings, user: int | None) -> _Manifest:
    # Envoy logs problems at `warning`, extproc at `info`.
    level = "info" if options.log_level == "warning" else options.log_level
    drain = [
        "thruway-pod",
        "drain",
        "--keep-ready",
        "--at-least=0",
        "--quiet=0",
        f"--at-most={settings.drain}",
    ]
    return {
        "name": EXTPROC,
        "image": options.images.thruway,
        "imagePullPolicy": options.images.thruway_pull_policy,
        "restartPolicy": "Always",
        "command": ["thruway-pod", "serve"],
        "args": [
            f"--health-listen=:{HEALTH_PORT}",
            *(["--metrics=pod"] if settings.private_metrics else []),
            f"--log-level={level}",
        ],
        "ports": [{"name": HEALTH_PORT_NAME, "containerPort": HEALTH_PORT, "protocol": "TCP"}],
        "lifecycle": {"preStop": {"exec": {"command": drain}}},
        "resources": options.extproc.manifest(),
        "securityContext": _security(user),
        "volumeMounts": [_RUN],
    }


def _envoy(options: Options, user: int | None) -> _Manifest:
    return {
        "name": ENVOY,
        "image": options.images.envoy,
        "imagePullPolicy": options.images.envoy_pull_policy,
        "restartPolicy": "Always",
        "command": ["/usr/local/bin/envoy"],
        "args": [
            "--config-path",
            "/run/thruway/bootstrap.pb",
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "--log-level",
            options.log_level,
            # misc warns of every filter whose API is not declared stable; the others print headers.
            "--component-log-level",
            "misc:error,http:info,http2:info,router:info,ext_proc:info,filter:info,rbac:info,"
            "credential_injector:info",
            "--file-flush-interval-msec",
            "500",
        ],
        "resources": options.envoy.manifest(),
        "securityContext": _security(user),
        "volumeMounts": [_RUN, _TOKEN, _CA],
    }


def _extproc_probes() -> _Manifest:
    return {
        "startupProbe": _asked("healthz", periodSeconds=1, failureThreshold=60),
        "livenessProbe": _asked("healthz", timeoutSeconds=5),
    }


def _envoy_probes() -> _Manifest:
    return {
        "startupProbe": _asked("startz", periodSeconds=1, timeoutSeconds=3, failureThreshold=90),
        # Patient, because extproc responds, and may be restarting.
        "livenessProbe": _asked("livez", timeoutSeconds=5, failureThreshold=6),
        "readinessProbe": _asked("readyz", periodSeconds=5, timeoutSeconds=3),
    }


def _commands_probes() -> _Manifest:
    return {
        "startupProbe": _typed(
            "healthz", "startz", periodSeconds=2, timeoutSeconds=5, failureThreshold=60
        ),
        "livenessProbe": _typed("healthz", periodSeconds=20, timeoutSeconds=10),
        "readinessProbe": _typed("readyz", periodSeconds=10, timeoutSeconds=5),
    }


def _asked(path: str, **times: int) -> _Manifest:
    return {"httpGet": {"path": f"/{path}", "port": HEALTH_PORT, "scheme": "HTTP"}, **times}


def _typed(*what: str, **times: int) -> _Manifest:
    return {"exec": {"command": ["thruway-pod", "probe", *what]}, **times}


def _field(name: str, path: str) -> _Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _security(user: int | None) -> _Manifest:
    """Return what the restricted Pod Security Standard requires, whatever the pod's own context."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        **({} if user is None else {"runAsGroup": user}),
        "runAsNonRoot": True,
        **({} if user is None else {"runAsUser": user}),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
