"""A namespace with an application and its sidecar, as the API server has it: all well, at first.

The objects can be created as they are; `healthy` are the facts that `thruway doctor` finds then.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import json
from typing import Any

from thruway_operator.api.crd import GROUP, VERSION, crd
from thruway_operator.controller.certificates.issuing import make_ca
from thruway_operator.diagnose.findings.facts import Answer, Facts, Inside
from thruway_operator.diagnose.findings.recentcalls import Call
from thruway_operator.sidecar.decide import (
    Images,
    Injected,
    Namespace,
    RouteFacts,
    Settings,
    inject,
)

__all__ = [
    "CA",
    "EARLIER",
    "GATEWAY_URL",
    "LATER",
    "METRICS",
    "NAMESPACE",
    "NOW",
    "OPERATORS",
    "ca_pem",
    "call",
    "client_pod",
    "config_map",
    "endpoint_slice",
    "gateway_pod",
    "gateway_service",
    "healthy",
    "inside",
    "lease",
    "listed",
    "namespace_object",
    "operator_pod",
    "owner",
    "ready",
    "refusal",
    "route_object",
    "running",
    "service",
    "sidecar_pod",
    "webhook",
    "with_gateway",
]

Object = dict[str, Any]

NOW = dt.datetime(2026, 6, 1, 12, 0, tzinfo=dt.UTC)
EARLIER, LATER = NOW - dt.timedelta(hours=1), NOW - dt.timedelta(minutes=59)
LABELLED, CREATED = "2026-05-01T10:00:00Z", "2026-05-01T11:00:00Z"
NAMESPACE, OPERATORS = "shop", "thruway-system"
IMAGE = "registry.invalid/thruway:1"


def ca_pem(now: dt.datetime = NOW, days: int = 365) -> str:
    """Return a new CA as PEM."""
    return make_ca(now, dt.timedelta(days=days)).certificate_pem()


CA = ca_pem()

METRICS = """\
# TYPE envoy_control_plane_connected_state gauge
envoy_control_plane_connected_state{} 1
envoy_cluster_manager_cds_update_rejected{} 0
envoy_http_rds_update_success{envoy_rds_route_config="thruway"} 1
envoy_cluster_update_failure{envoy_cluster_name="api_openai_com_443/0123456789ab"} 0
envoy_cluster_update_success{envoy_cluster_name="api_openai_com_443/0123456789ab"} 1
envoy_cluster_upstream_rq_total{envoy_cluster_name="api_openai_com_443/0123456789ab"} 3
"""


def meta(namespace: str, name: str, **more: Any) -> Object:
    """Return an object's metadata."""
    return {"name": name, "namespace": namespace, "uid": f"uid-of-{name}", **more}


def namespace_object(name: str = NAMESPACE, label: str | None = "enabled") -> Object:
    """Return a namespace that requests sidecars."""
    labels = {"kubernetes.io/metadata.name": name}
    fields: Object = {"f:metadata": {"f:labels": {"f:thruway.dev/inject": {}}}}
    managed = [{"manager": "kubectl-label", "time": LABELLED, "fieldsV1": fields}]
    if label is not None:
        labels["thruway.dev/inject"] = label
    return {"metadata": {"name": name, "labels": labels, "managedFields": managed}}


def operator_pod(
    namespace: str = OPERATORS, name: str = "thruway-operator-0", *args: str
) -> Object:
    """Return a pod of the operator; its status is `ready`."""
    labels = {"app.kubernetes.io/name": "thruway", "app.kubernetes.io/component": "operator"}
    container = {"name": "operator", "image": IMAGE, "args": list(args)}
    return {
        "metadata": meta(namespace, name, labels=labels),
        "spec": {"containers": [container]},
        "status": ready("operator"),
    }


def ready(*names: str) -> Object:
    """Return the status of a pod whose containers run."""
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [running(name) for name in names],
    }


def running(name: str) -> Object:
    """Return the status of a container that runs."""
    return {
        "name": name,
        "ready": True,
        "started": True,
        "restartCount": 0,
        "image": IMAGE,
        "imageID": "",
        "state": {"running": {"startedAt": "2026-05-01T11:00:05Z"}},
    }


def sidecar_pod(
    namespace: str = NAMESPACE, name: str = "web", path: str = "/openai", home: str = OPERATORS
) -> Object:
    """Return an application's pod as the injector leaves it, and as kubelet runs it."""
    own = {
        "metadata": meta(namespace, name, creationTimestamp=CREATED),
        "spec": {"containers": [{"name": "app", "image": IMAGE}]},
    }
    route = RouteFacts("openai", path, "/v1", "openai", "")
    settings = Settings(
        version="0.1",
        namespace=home,
        operator=f"thruway-operator.{home}.svc:18000",
        images=Images(IMAGE, IMAGE),
    )
    found = inject(own, Namespace(namespace), settings, [route], asked=True)
    assert isinstance(found, Injected)
    status = ready("app")
    bootstrap = running("thruway-bootstrap")
    bootstrap["state"] = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    status["initContainerStatuses"] = [
        bootstrap, running("thruway-extproc"), running("thruway-envoy"),
    ]  # fmt: skip
    return {**found.pod, "status": status}


def webhook(
    name: str = "thruway-injector",
    home: str = OPERATORS,
    ca: str = CA,
    only: str | None = None,
    **more: Any,
) -> Object:
    """Return the injector's MutatingWebhookConfiguration; `only`: for that namespace alone."""
    chosen: Object = {"matchLabels": {"thruway.dev/inject": "enabled"}}
    if only:
        chosen["matchLabels"]["kubernetes.io/metadata.name"] = only
    hook = {
        "name": "namespace.inject.thruway.dev",
        "clientConfig": {
            "caBundle": base64.b64encode(ca.encode()).decode(),
            "service": {"namespace": home, "name": name, "port": 443, "path": "/inject"},
        },
        "namespaceSelector": chosen,
        "rules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["pods"],
        }],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }  # fmt: skip
    return {
        "metadata": {"name": name, "creationTimestamp": "2026-04-01T10:00:00Z"},
        "webhooks": [hook],
    }


def service(namespace: str = OPERATORS, name: str = "thruway-injector") -> Object:
    """Return the injector's Service."""
    ports = [{"port": 443, "targetPort": 9443}]
    return {"metadata": meta(namespace, name), "spec": {"ports": ports}}


def endpoint_slice(
    namespace: str = OPERATORS, name: str = "thruway-injector", *, is_ready: bool = True
) -> Object:
    """Return an EndpointSlice of that Service."""
    labels = {"kubernetes.io/service-name": name}
    return {
        "metadata": meta(namespace, f"{name}-abc", labels=labels),
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": is_ready}}],
        "ports": [{"port": 9443}],
    }


def config_map(namespace: str = NAMESPACE, ca: str = CA, name: str = "thruway-ca") -> Object:
    """Return a ConfigMap with the operator's CA."""
    return {"metadata": meta(namespace, name), "data": {"ca.crt": ca}}


def lease(renewed: dt.datetime = NOW, holder: str = "thruway-operator-0") -> Object:
    """Return the Lease of the replica that writes status."""
    spec = {"holderIdentity": holder, "renewTime": f"{renewed:%Y-%m-%dT%H:%M:%S.%fZ}"}
    return {"metadata": meta(OPERATORS, "thruway-operator"), "spec": spec}


def route_object(name: str = "openai", path: str = "/openai", **spec: Any) -> Object:
    """Return a route that every proxy serves."""
    conditions = [
        {"type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": 1}
        for kind in ("Ready", "Accepted", "ResolvedRefs", "Programmed")
    ]
    ref = {"name": "openai", "key": "OPENAI_API_KEY"}
    return {
        "metadata": meta(NAMESPACE, name, generation=1),
        "spec": {"path": path, "provider": "openai", "credential": {"secretKeyRef": ref}, **spec},
        "status": {
            "observedGeneration": 1,
            "conditions": conditions,
            "proxies": {"connected": 1, "programmed": 1},
        },
    }


def refusal(kind: str, name: str, message: str, **more: Any) -> Object:
    """Return an event on what could not create a pod."""
    involved = {"kind": kind, "name": name, "namespace": NAMESPACE, "uid": f"uid-of-{name}"}
    return {"involvedObject": involved, "reason": "FailedCreate", "message": message, **more}


def owner(name: str, spec: Object, status: Object) -> Object:
    """Return what makes pods: a ReplicaSet, a Job, …."""
    return {"metadata": meta(NAMESPACE, name), "spec": spec, "status": status}


def healthy(**changed: Any) -> Facts:
    """Return the facts of an installation in which all is well, but for what is given."""
    return Facts(**{**_healthy(), **changed})


def inside(*calls: Call, metrics: str = METRICS) -> Inside:
    """Return what a proxy says of itself; if no calls are given, three that succeeded."""
    return Inside(Answer([]), Answer(metrics), calls=Answer([*calls] or [call()] * 3))


def call(code: str = "", status: int = 0, **more: Any) -> Call:
    """Return a call of the route, by default one that succeeded."""
    status = status or (502 if code.startswith("upstream") else 200)
    found = {"route": f"{NAMESPACE}/openai", "upstream": "api.openai.com:443", **more}
    return Call(status=status, code=code, path="/openai/v1/models", **found)


def gateway_pod(name: str = "thruway-gateway-0") -> Object:
    """Return a pod of the shared gateway."""
    labels = {"app.kubernetes.io/name": "thruway", "app.kubernetes.io/component": "gateway"}
    parts = [{"name": "envoy", "image": IMAGE}, {"name": "extproc", "image": IMAGE}]
    return {
        "metadata": meta(OPERATORS, name, labels=labels),
        "spec": {"containers": parts},
        "status": ready("envoy", "extproc"),
    }


def gateway_service(name: str = "thruway-gateway") -> Object:
    """Return the Service of the shared gateway."""
    spec = {"ports": [{"port": 4000}], "clusterIPs": ["10.96.0.9"]}
    return {"metadata": meta(OPERATORS, name), "spec": spec}


GATEWAY_URL = f"http://thruway-gateway.{OPERATORS}.svc:4000"


def client_pod(url: str = f"{GATEWAY_URL}/openai/v1", **environment: str) -> Object:
    """Return the pod of an application that calls the gateway."""
    variables = {"OPENAI_BASE_URL": url, **environment}
    env = [{"name": name, "value": value} for name, value in variables.items()]
    return {
        "metadata": meta(NAMESPACE, "web", creationTimestamp=CREATED),
        "spec": {"containers": [{"name": "app", "image": IMAGE, "env": env}]},
        "status": ready("app"),
    }


def with_gateway(**changed: Any) -> dict[str, Any]:
    """Return the changes of a namespace whose application calls the gateway."""
    key = (OPERATORS, "thruway-gateway")
    shared = route_object(exposure="Cluster")
    shared["status"]["url"] = f"{GATEWAY_URL}/openai"
    return {
        "namespace_object": Answer(namespace_object(label=None)),
        "pods": listed(client_pod()),
        "routes": listed(shared),
        "inside": {},
        "gateways": listed(gateway_pod()),
        "gateway_services": listed(gateway_service()),
        "services": {key: Answer(gateway_service())},
        "slices": {key: listed(endpoint_slice(name="thruway-gateway"))},
        "inside_gateways": {(OPERATORS, "thruway-gateway-0"): inside()},
        **changed,
    }


def listed(*items: Object) -> Answer:
    """Return the answer to a list."""
    return Answer({"items": list(items)})


@functools.cache
def _schema() -> str:
    return json.dumps(crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"])


def _healthy() -> dict[str, Any]:
    key = (OPERATORS, "thruway-injector")
    schema = json.loads(_schema())
    kinds = [{"group": GROUP, "version": VERSION, "kind": "PassthroughRoute"}]
    document = {
        "components": {"schemas": {"x": {**schema, "x-kubernetes-group-version-kind": kinds}}}
    }
    return {
        "server": "https://kubernetes.invalid",
        "namespace": NAMESPACE,
        "pod": "",
        "now": NOW,
        "version": Answer({"gitVersion": "v1.37.0"}),
        "namespace_object": Answer(namespace_object()),
        "group": Answer({"versions": [{"version": VERSION}]}),
        "schema": Answer(document),
        "operators": listed(operator_pod()),
        "leases": {OPERATORS: Answer(lease())},
        "published": {OPERATORS: Answer(config_map(OPERATORS))},
        "webhooks": listed(webhook()),
        "services": {key: Answer(service())},
        "slices": {key: listed(endpoint_slice())},
        "authority": Answer(config_map()),
        "routes": listed(route_object()),
        "secrets": {"openai": Answer({"OPENAI_API_KEY": "good"})},
        "pods": listed(sidecar_pod()),
        "mounts": listed(),
        "refusals": listed(),
        "operator_problems": {(OPERATORS, "thruway-operator-0"): Answer([])},
        "gateways": listed(),
        "gateway_services": listed(),
        "inside": {"web": inside()},
    }
