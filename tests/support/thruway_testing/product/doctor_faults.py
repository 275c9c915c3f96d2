"""Faults to plant in a healthy namespace, and what `thruway doctor` says of each."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thruway_operator.diagnose.findings.facts import ABSENT, Answer, Inside
from thruway_testing.product import doctored as d

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FAULTS",
    "OTHER",
    "TOO_MUCH",
    "Fault",
    "forbidden",
    "metrics",
    "pulled_with",
    "refused",
    "status",
    "with_pod",
]

LISTED = d.listed
KEY = (d.OPERATORS, "thruway-injector")
XDS = (d.OPERATORS, "thruway-operator")


@dataclass(frozen=True)
class Fault:
    """A fault, the step that finds it, and what is said of it."""

    id: str
    changed: Callable[[], dict[str, Any]]
    step: str
    message: str
    remedy: str


def with_pod(change: Callable[[d.Object], object], **more: Any) -> Callable[[], dict[str, Any]]:
    def changed() -> dict[str, Any]:
        pod = d.sidecar_pod()
        change(pod)
        return {"pods": LISTED(pod), **more}

    return changed


def bare(**metadata: Any) -> Callable[[], dict[str, Any]]:
    """A pod without a sidecar."""

    def changed() -> dict[str, Any]:
        pod = d.sidecar_pod()
        pod["spec"]["initContainers"] = []
        pod["metadata"] |= metadata
        return {"pods": LISTED(pod), "inside": {}}

    return changed


def annotated(item: d.Object) -> d.Object:
    """Write what has to be a label as an annotation."""
    item["metadata"]["annotations"] = {"thruway.dev/inject": "enabled"}
    return item


def init(pod: d.Object, name: str) -> d.Object:
    return next(item for item in pod["spec"]["initContainers"] if item["name"] == name)


def status(pod: d.Object, name: str, **state: Any) -> None:
    """Put a container of the sidecar into a state."""
    of = pod["status"]["initContainerStatuses"]
    (found,) = (item for item in of if item["name"] == name)
    found |= {"ready": False, "started": False, **state}


def waiting(name: str, reason: str, **more: Any) -> Callable[[], dict[str, Any]]:
    state = {"waiting": {"reason": reason, "message": "no such object."}}
    return with_pod(lambda pod: status(pod, name, state=state, restartCount=3, **more))


def route_with(kind: str, reason: str, message: str, value: str = "False") -> d.Object:
    route = d.route_object()
    for item in route["status"]["conditions"]:
        if item["type"] == kind:
            item |= {"status": value, "reason": reason, "message": message}
    return route


def unprogrammed(value: str, reason: str, connected: int) -> d.Object:
    route = route_with("Programmed", reason, "", value)
    route["status"]["proxies"] = {"connected": connected, "programmed": min(connected, 1)}
    return route


def metrics(*lines: str, without: str = "") -> Callable[[], dict[str, Any]]:
    kept = [line for line in d.METRICS.splitlines() if not without or without not in line]
    text = "\n".join([*kept, *lines]) + "\n"
    return lambda: {"inside": {"web": Inside(Answer([]), Answer(text), calls=Answer([]))}}


def pulled_with(name: str) -> Callable[[], dict[str, Any]]:
    """The injector has added a Secret that the namespace lacks."""
    operator = d.operator_pod(d.OPERATORS, "thruway-operator-0", f"--inject-pull-secret={name}")

    def changed() -> dict[str, Any]:
        made = with_pod(lambda pod: pod["spec"].update(imagePullSecrets=[{"name": name}]))()
        return {**made, "operators": d.listed(operator), "pull_secrets": {name: ABSENT}}

    return changed


def xds(stat: str) -> Callable[[], dict[str, Any]]:
    lines = (
        "envoy_control_plane_connected_state{} 0",
        f'envoy_cluster_{stat}{{envoy_cluster_name="thruway-xds"}} 2',
    )
    return metrics(*lines, without="connected_state")


def older_crd() -> dict[str, Any]:
    facts = d.healthy()
    del facts.schema.value["components"]["schemas"]["x"]["properties"]["spec"]["properties"][
        "overrides"
    ]
    return {"schema": facts.schema}


def of_operator(state: d.Object) -> Callable[[], dict[str, Any]]:
    def changed() -> dict[str, Any]:
        pod = d.operator_pod()
        pod["status"]["conditions"][0]["status"] = "False"
        pod["status"]["containerStatuses"][0] |= {"state": state, "ready": False}
        return {"operators": LISTED(pod)}

    return changed


def reported(problem: str) -> Callable[[], dict[str, Any]]:
    """A pod of the operator reports a problem."""
    pod = (d.OPERATORS, "thruway-operator-0")
    return lambda: {"operator_problems": {pod: Answer([problem])}}


def refused(
    kind: str, name: str, message: str, spec: d.Object, status: d.Object
) -> Callable[[], dict[str, Any]]:
    """Pods of that object are refused."""
    events = LISTED(d.refusal(kind, name, message))
    owners = {(kind, name): Answer(d.owner(name, spec, status))}
    return lambda: {"refusals": events, "owners": owners}


def forbidden(right: str) -> Answer:
    return Answer(lack="forbidden", why=right)


OLD = d.NOW - dt.timedelta(minutes=5)
ANOTHER = d.ca_pem()
EXPIRED = d.ca_pem(d.NOW - dt.timedelta(days=400), 300)
OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
EXITED = {"terminated": {"reason": "Error", "exitCode": 1}}
PULL = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
MOUNT = {
    "involvedObject": {"kind": "Pod", "name": "web", "uid": "uid-of-web"},
    "message": 'MountVolume.SetUp failed for volume "thruway-ca": configmap "thruway-ca" not found',
}
TOO_MUCH = (
    'Error creating: Pod "web-7f-x" is invalid: spec.initContainers[2].resources.requests: Invalid '
    'value: "2Gi": must be less than or equal to memory limit of 512Mi'
)
OTHER = {
    **route_with(
        "Accepted",
        "Conflicted",
        "path collides with /openai of the older route shop/openai: use another path",
    ),
    "metadata": d.meta("shop", "other", generation=1),
}
SCALED = {"metadata": d.meta(d.OPERATORS, "thruway-operator"), "spec": {"replicas": 0}}

REJECTIONS = (
    (
        "unspecified",
        "failed quota: cpu: must specify limits.cpu for: thruway-bootstrap,thruway-envoy",
        "set the annotations thruway.dev/envoy-cpu-limit and thruway.dev/extproc-cpu-limit in",
    ),
    (
        "own-unspecified",
        "failed quota: cpu: must specify limits.cpu for: app",
        "set it for the containers that it names",
    ),
    (
        "quota",
        "exceeded quota: cpu, requested: limits.memory=1Gi, used: limits.memory=1Gi",
        "for its sidecar with the annotations thruway.dev/envoy-memory-limit and thruway",
    ),
    (
        "range",
        "maximum memory usage per Container is 128Mi, but limit is 256Mi",
        "for its sidecar with the annotations thruway.dev/envoy-memory-limit",
    ),
    (
        "all-unspecified",
        "failed quota: all: must specify limits.cpu for: app,thruway-envoy; "
        "memory for: thruway-envoy",
        "set the annotations thruway.dev/envoy-cpu-limit, thruway.dev/extproc-cpu-limit, "
        "thruway.dev/envoy-memory-request and thruway.dev/extproc-memory-request in the pod's "
        "template, or the chart's values injector.envoy.resources and injector.extproc.resources; "
        "set it also for the other containers it names",
    ),
    (
        "quota-of-requests",
        "exceeded quota: small, requested: cpu=1,limits.memory=1Gi,pods=1, used: cpu=9, "
        "limited: cpu=9",
        "thruway.dev/envoy-cpu-request, thruway.dev/extproc-cpu-request, "
        "thruway.dev/envoy-memory-limit and thruway.dev/extproc-memory-limit",
    ),
    (
        "quota-of-pods",
        "exceeded quota: few, requested: pods=1, used: pods=4, limited: pods=4",
        "raise the ResourceQuota, or request less in the pod's template",
    ),
    (
        "minimum",
        "[minimum cpu usage per Container is 100m, but request is 20m, minimum memory usage per "
        "Container is 1Gi, but limit is 512Mi]",
        "for its sidecar with the annotations thruway.dev/envoy-cpu-request, "
        "thruway.dev/extproc-cpu-request, thruway.dev/envoy-memory-limit and",
    ),
    (
        "no-limit",
        "maximum cpu usage per Container is 2.  No limit is specified",
        "for its sidecar with the annotations thruway.dev/envoy-cpu-limit and thruway.dev/extproc-",
    ),
    (
        "ratio",
        "cpu max limit to request ratio per Container is 2, but provided ratio is 5.000000",
        "for its sidecar with the annotations thruway.dev/envoy-cpu-limit and thruway.dev/extproc-",
    ),
    (
        "openshift",
        'unable to validate against any security context constraint: [provider "anyuid": '
        "Forbidden: not usable by user or serviceaccount, provider restricted-v2: "
        ".initContainers[0].runAsUser: Invalid value: 65533: must be in the ranges: [1000660000, "
        "1000669999]]",
        "set the annotation thruway.dev/run-as-user of the pod's template, or the chart's value "
        "injector.runAsUser, to assigned",
    ),
    (
        "own-openshift",
        "unable to validate against any security context constraint: provider restricted-v2: "
        ".containers[0].runAsUser: Invalid value: 0: must be in the ranges: [1000660000, "
        "1000669999]",
        "correct the field that it names in the pod",
    ),
    (
        "policy-on-users",
        "ValidatingAdmissionPolicy 'ids' denied request: runAsUser must be in the "
        "namespace's range",
        "in the pod's template or its namespace; for its sidecar, set the annotation "
        "thruway.dev/run-as-user of the pod's template, or the chart's value injector.runAsUser, "
        "to assigned",
    ),
    (
        "policy",
        "ValidatingAdmissionPolicy 'ids' denied request: thruway-envoy must not run as 65533",
        "the sidecar's containers are rejected: allow them there",
    ),
    (
        "own-policy",
        "ValidatingAdmissionPolicy 'ids' denied request: app lacks an owner",
        "do what the webhook or policy asks for",
    ),
    (
        "field",
        'Pod "web-7f-x" is invalid: spec.containers[0].image: Required value',
        "correct the field that it names in the pod",
    ),
)

FAULTS = [
    Fault(
        "api-away",
        lambda: {
            "version": Answer(lack="failed", why="the API server at x cannot be reached: refused")
        },
        "api",
        "the API server at x cannot be reached",
        "check the kubeconfig and the network",
    ),
    Fault(
        "api-login",
        lambda: {
            "version": Answer(lack="failed", why="the API server does not accept the login (401)")
        },
        "api",
        "does not accept the login",
        "log in again",
    ),
    Fault(
        "api-rights",
        lambda: {"pods": forbidden("list pods in namespace shop")},
        "api",
        "you lack permission to list pods in namespace shop",
        "ask for the ClusterRole view in namespace shop",
    ),
    Fault(
        "crd-missing",
        lambda: {"group": ABSENT, "routes": ABSENT},
        "crd",
        "the cluster does not know passthroughroutes.thruway.dev",
        "install the chart",
    ),
    Fault(
        "crd-version",
        lambda: {"group": Answer({"versions": [{"version": "v1"}]}), "routes": ABSENT},
        "crd",
        "serves passthroughroutes.thruway.dev as v1, not as v1alpha1",
        "use the version of thruway",
    ),
    Fault("crd-older", older_crd, "crd", "it does not know spec.overrides", "upgrade the chart"),
    Fault(
        "operator-missing",
        lambda: {"operators": LISTED()},
        "operator",
        "no operator runs in this cluster",
        "install the chart",
    ),
    Fault(
        "operator-scaled",
        lambda: {"operators": LISTED(), "deployments": LISTED(SCALED)},
        "operator",
        "has 0 replicas",
        "kubectl -n thruway-system scale deployment/thruway-operator --replicas=2",
    ),
    Fault(
        "operator-not-ready",
        of_operator(PULL),
        "operator",
        "no pod of the operator in namespace thruway-system is ready",
        "check the chart's values image",
    ),
    Fault(
        "operator-watches",
        lambda: {"operators": LISTED(d.operator_pod(d.OPERATORS, "o", "--watch-namespace=a"))},
        "operator",
        "watches only a, not shop",
        "add shop to the chart's value watchNamespaces",
    ),
    Fault(
        "operator-rights",
        reported("cannot list passthroughroutes: the API server lacks permission for it"),
        "operator",
        "pod thruway-operator-0 of the operator in namespace thruway-system reports: cannot list",
        "upgrade the chart, which grants the operator its permissions",
    ),
    Fault(
        "operator-problem",
        reported("the certificate is not readable"),
        "operator",
        "reports: the certificate is not readable",
        "see its log: kubectl -n thruway-system logs thruway-operator-0",
    ),
    Fault(
        "lease-none",
        lambda: {"leases": {d.OPERATORS: ABSENT}},
        "operator",
        "no operator holds Lease thruway-operator",
        "see the operator's log",
    ),
    Fault(
        "lease-old",
        lambda: {"leases": {d.OPERATORS: Answer(d.lease(OLD))}},
        "operator",
        "Lease thruway-operator in namespace thruway-system is not renewed",
        "see the operator's log",
    ),
    Fault(
        "label-missing",
        lambda: {"namespace_object": Answer(d.namespace_object(label=None)), **bare()()},
        "injection",
        "neither namespace shop nor any pod in it requests",
        "kubectl label namespace shop thruway.dev/inject=enabled",
    ),
    Fault(
        "label-misspelt",
        lambda: {"namespace_object": Answer(d.namespace_object(label="yes"))},
        "injection",
        "label thruway.dev/inject of namespace shop has the unknown value yes",
        "kubectl label --overwrite namespace shop",
    ),
    Fault(
        "pod-label-misspelt",
        with_pod(lambda pod: pod["metadata"].update(labels={"thruway.dev/inject": "on"})),
        "injection",
        "label thruway.dev/inject of pod web has the unknown value on",
        'set it to "true" or "false"',
    ),
    Fault(
        "label-as-annotation",
        lambda: {"namespace_object": Answer(annotated(d.namespace_object(label=None)))},
        "injection",
        "thruway.dev/inject is an annotation of namespace shop",
        "kubectl label namespace shop thruway.dev/inject=enabled",
    ),
    Fault(
        "pod-label-as-annotation",
        with_pod(annotated),
        "injection",
        "thruway.dev/inject is an annotation of pod web",
        "move it to metadata.labels",
    ),
    Fault(
        "pod-label-missing",
        lambda: {
            "pod": "web",
            "namespace_object": Answer(d.namespace_object(label=None)),
            **bare()(),
        },
        "injection",
        "neither namespace shop nor pod web requests",
        "kubectl label namespace shop",
    ),
    Fault(
        "opted-out",
        lambda: {"pod": "web", **bare(labels={"thruway.dev/inject": "false"})()},
        "injection",
        "pod web has the label thruway.dev/inject=false",
        "remove the label, and delete and recreate pod web",
    ),
    Fault(
        "host-network",
        lambda: {
            "pod": "web",
            **with_pod(lambda pod: pod["spec"].update(initContainers=[], hostNetwork=True))(),
        },
        "injection",
        "pod web uses hostNetwork",
        "call the shared gateway",
    ),
    Fault(
        "system-namespace",
        lambda: {"namespace": "kube-system"},
        "injection",
        "pods in the system namespace kube-system",
        "run the application in its own namespace",
    ),
    Fault(
        "own-namespace",
        lambda: {"operators": LISTED(d.operator_pod(d.NAMESPACE)), "leases": {}},
        "injection",
        "pods in the operator's own namespace shop",
        "in its own namespace",
    ),
    Fault(
        "webhook-missing",
        lambda: {"webhooks": LISTED()},
        "webhook",
        "there is no MutatingWebhookConfiguration of the injector",
        "injector.enabled=true",
    ),
    Fault(
        "webhook-without-ca",
        lambda: {"webhooks": LISTED(d.webhook(ca=""))},
        "webhook",
        "caBundle of MutatingWebhookConfiguration thruway-injector is empty",
        "see its log",
    ),
    Fault(
        "webhook-bad-ca",
        lambda: {"webhooks": LISTED(d.webhook(ca="x"))},
        "webhook",
        "caBundle of MutatingWebhookConfiguration thruway-injector contains no readable",
        "see its log",
    ),
    Fault(
        "webhook-other-ca",
        lambda: {"webhooks": LISTED(d.webhook(ca=ANOTHER))},
        "webhook",
        "is not the operator's current CA",
        "see its log",
    ),
    Fault(
        "webhook-service",
        lambda: {"services": {KEY: ABSENT}},
        "webhook",
        "Service thruway-injector in namespace thruway-system does not exist",
        "upgrade the chart",
    ),
    Fault(
        "webhook-endpoints",
        lambda: {"slices": {KEY: LISTED(d.endpoint_slice(is_ready=False))}},
        "webhook",
        "has no ready endpoint",
        "kubectl -n thruway-system get pods",
    ),
    Fault(
        "pods-refused",
        refused("ReplicaSet", "web-7f", TOO_MUCH, {"replicas": 2}, {"replicas": 1}),
        "creation",
        'ReplicaSet web-7f cannot create its pods: Pod "web-7f-x" is invalid: spec.initCont',
        "correct the annotations thruway.dev/*-request in the pod's template",
    ),
    *[
        Fault(
            f"rejected-{name}",
            refused("ReplicaSet", "web-7f", f"Error creating: {message}", {}, {}),
            "creation",
            message,
            remedy,
        )
        for name, message, remedy in REJECTIONS
    ],
    Fault(
        "pods-over-quota",
        refused("StatefulSet", "db", "create Pod db-0 failed: exceeded quota: small", {}, {}),
        "creation",
        "StatefulSet db cannot create its pods: create Pod db-0 failed: exceeded quota: small",
        "raise the ResourceQuota",
    ),
    Fault(
        "pods-denied",
        refused(
            "Job",
            "once",
            'Error creating: admission webhook "x.inject.thruway.dev" denied the request: no.',
            {"completions": 1},
            {},
        ),
        "creation",
        'Job once cannot create its pods: admission webhook "x.inject.thruway.dev" denied',
        "do what the webhook or policy asks for",
    ),
    Fault(
        "pods-webhook",
        refused(
            "DaemonSet",
            "each",
            'Error creating: failed calling webhook "x": no endpoints available',
            {},
            {"desiredNumberScheduled": 3},
        ),
        "creation",
        'DaemonSet each cannot create its pods: failed calling webhook "x"',
        "find out why the webhook that it names does not respond",
    ),
    Fault(
        "pods-account",
        refused(
            "ReplicaSet",
            "web-7f",
            "Error creating: error looking up service account shop/app: not found",
            {},
            {},
        ),
        "creation",
        "error looking up service account shop/app",
        "create the ServiceAccount",
    ),
    Fault(
        "pods-security",
        refused(
            "ReplicaSet", "web-7f", 'Error creating: violates PodSecurity "restricted"', {}, {}
        ),
        "creation",
        'violates PodSecurity "restricted"',
        "Pod Security Standard",
    ),
    Fault(
        "ca-missing",
        lambda: {"authority": ABSENT},
        "certificate",
        "ConfigMap thruway-ca in namespace shop does not exist",
        "see its log",
    ),
    Fault(
        "ca-unreadable",
        lambda: {"authority": Answer(d.config_map(ca="x"))},
        "certificate",
        "contains no readable certificate",
        "kubectl -n shop delete configmap thruway-ca",
    ),
    Fault(
        "ca-expired",
        lambda: {"authority": Answer(d.config_map(ca=EXPIRED))},
        "certificate",
        "expired on ",
        "kubectl -n shop delete configmap thruway-ca",
    ),
    Fault(
        "ca-other",
        lambda: {"authority": Answer(d.config_map(ca=ANOTHER))},
        "certificate",
        "is not the operator's current CA",
        "kubectl -n shop delete configmap thruway-ca",
    ),
    Fault(
        "route-missing",
        lambda: {"routes": LISTED()},
        "route",
        "there is no PassthroughRoute in namespace shop",
        "apply one: kubectl -n shop apply -f examples/sidecar/route.yaml",
    ),
    Fault(
        "route-not-named",
        with_pod(lambda pod: pod["metadata"]["annotations"].update({"thruway.dev/route": "gone"})),
        "route",
        "names PassthroughRoute gone, which is not in namespace shop",
        "create it, or name an existing route: openai",
    ),
    Fault(
        "route-unseen",
        lambda: {"routes": LISTED({**d.route_object(), "status": {}})},
        "route",
        "no operator has processed PassthroughRoute openai yet",
        "see the operator's log",
    ),
    Fault(
        "route-conflict",
        lambda: {
            "routes": LISTED(
                route_with(
                    "Accepted",
                    "Conflicted",
                    "path collides with /openai of the older route shop/x, which keeps the path: "
                    "use another path, or other hostnames",
                )
            )
        },
        "route",
        "(Conflicted): path collides with /openai of the older route shop/x, which keeps the path",
        "use another path, or other hostnames",
    ),
    Fault(
        "route-conflict-and-old-pod",
        lambda: {
            "routes": LISTED(d.route_object(), OTHER),
            **bare(creationTimestamp="2026-04-30T10:00:00Z")(),
        },
        "route",
        "PassthroughRoute other has Accepted=False (Conflicted): path collides",
        "use another path",
    ),
    Fault(
        "route-invalid",
        lambda: {"routes": LISTED(route_with("Accepted", "Invalid", "spec.path: has no /"))},
        "route",
        "PassthroughRoute openai has Accepted=False (Invalid): spec.path: has no /",
        "correct the field that it names",
    ),
    Fault(
        "route-secret",
        lambda: {
            "routes": LISTED(
                route_with(
                    "ResolvedRefs",
                    "SecretNotFound",
                    "there is no Secret openai in namespace shop: create it",
                )
            )
        },
        "route",
        "(SecretNotFound): there is no Secret openai in namespace shop",
        "create it",
    ),
    Fault(
        "route-rejected",
        lambda: {"routes": LISTED(route_with("Programmed", "Rejected", "Envoy rejects it: x"))},
        "route",
        "PassthroughRoute openai has Programmed=False (Rejected): Envoy rejects it: x",
        "undo the last change",
    ),
    Fault(
        "route-behind",
        lambda: {
            "routes": LISTED(
                {**d.route_object(), "metadata": d.meta("shop", "openai", generation=2)}
            )
        },
        "route",
        "has not processed the latest change of PassthroughRoute openai",
        "see the operator's log",
    ),
    Fault(
        "secret-missing",
        lambda: {"secrets": {"openai": ABSENT}},
        "secret",
        "Secret openai of route openai does not exist in namespace shop",
        "kubectl -n shop create secret generic openai --from-literal=OPENAI_API_KEY=…",
    ),
    Fault(
        "secret-key",
        lambda: {"secrets": {"openai": Answer({"KEY": "good"})}},
        "secret",
        "key OPENAI_API_KEY of Secret openai of route openai does not exist; its keys: KEY",
        "add it",
    ),
    Fault(
        "secret-empty",
        lambda: {"secrets": {"openai": Answer({"OPENAI_API_KEY": "empty"})}},
        "secret",
        "key OPENAI_API_KEY of Secret openai of route openai is empty",
        "put the credential in it",
    ),
    Fault(
        "secret-broken",
        lambda: {"secrets": {"openai": Answer({"OPENAI_API_KEY": "broken"})}},
        "secret",
        "contains characters not allowed in a header",
        "store the bare credential",
    ),
    Fault(
        "secret-prefixed",
        lambda: {"secrets": {"openai": Answer({"OPENAI_API_KEY": "prefixed"})}},
        "secret",
        "key OPENAI_API_KEY of Secret openai of route openai begins with Bearer",
        "store the bare key in it",
    ),
    Fault(
        "older-than-label",
        bare(creationTimestamp="2026-04-30T10:00:00Z"),
        "sidecar",
        "pod web has no sidecar, because it predates its namespace's label",
        "restart it: delete and recreate pod web",
    ),
    Fault(
        "older-than-webhook",
        lambda: {
            "namespace_object": Answer(
                {"metadata": {"name": "shop", "labels": {"thruway.dev/inject": "enabled"}}}
            ),
            **bare(creationTimestamp="2026-03-01T10:00:00Z")(),
        },
        "sidecar",
        "because it predates the injector's webhook",
        "restart it",
    ),
    Fault(
        "not-selected",
        lambda: {"webhooks": LISTED(d.webhook(only="other")), **bare()()},
        "sidecar",
        "because no webhook of thruway-injector selects it",
        "upgrade the chart",
    ),
    Fault(
        "webhook-ignored",
        lambda: {"webhooks": LISTED(d.webhook(failurePolicy="Ignore")), **bare()()},
        "sidecar",
        "the injector did not respond when it was created",
        "restart it",
    ),
    Fault(
        "not-injected",
        bare(
            ownerReferences=[{"controller": True, "kind": "ReplicaSet", "name": "web-7f"}],
            labels={"pod-template-hash": "7f"},
        ),
        "sidecar",
        "pod web has no sidecar, although its labels request",
        "kubectl -n shop rollout restart deployment/web",
    ),
    Fault(
        "pull-secret-missing",
        pulled_with("registry"),
        "containers",
        "Secret registry, which imagePullSecrets of pod web names, is not in namespace shop",
        "kubectl -n shop create secret docker-registry registry",
    ),
    Fault(
        "half-a-sidecar",
        with_pod(lambda pod: pod["spec"]["initContainers"].pop()),
        "containers",
        "pod web has a part of a sidecar, but no container thruway-envoy",
        "check which other webhooks change pods",
    ),
    Fault(
        "token-missing",
        with_pod(lambda pod: pod["spec"]["volumes"].pop(1)),
        "containers",
        "volume thruway-token of pod web does not exist",
        "check which other webhooks change pods",
    ),
    Fault(
        "token-audience",
        with_pod(
            lambda pod: pod["spec"]["volumes"][1]["projected"]["sources"][0][
                "serviceAccountToken"
            ].update(audience="x")
        ),
        "containers",
        "has no token with audience thruway-xds",
        "check which other webhooks change pods",
    ),
    Fault(
        "token-not-mounted",
        with_pod(lambda pod: init(pod, "thruway-envoy").update(volumeMounts=[])),
        "containers",
        "volume thruway-token of pod web is not mounted into thruway-envoy",
        "check which other webhooks change pods",
    ),
    Fault(
        "unschedulable",
        with_pod(
            lambda pod: pod["status"].update(
                conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]
            )
        ),
        "containers",
        "pod web: it cannot be scheduled: 0/1 nodes",
        "free resources on a node",
    ),
    Fault(
        "image",
        waiting("thruway-envoy", "ImagePullBackOff"),
        "containers",
        "of container thruway-envoy cannot be pulled (ImagePullBackOff)",
        "imagePullSecret",
    ),
    Fault(
        "create",
        waiting("thruway-extproc", "CreateContainerConfigError"),
        "containers",
        "container thruway-extproc cannot be created (CreateContainerConfigError)",
        "kubectl -n shop describe pod web",
    ),
    Fault(
        "crash",
        waiting("thruway-extproc", "CrashLoopBackOff", lastState=EXITED),
        "containers",
        "container thruway-extproc keeps exiting (exit code 1, 3 restarts)",
        "kubectl -n shop logs web -c thruway-extproc --previous",
    ),
    Fault(
        "oom",
        waiting("thruway-envoy", "CrashLoopBackOff", lastState=OOM),
        "containers",
        "container thruway-envoy exceeded its memory limit (OOMKilled, 3 restarts)",
        "thruway.dev/envoy-memory-limit",
    ),
    Fault(
        "mount",
        lambda: {**waiting("thruway-bootstrap", "PodInitializing")(), "mounts": LISTED(MOUNT)},
        "containers",
        "pod web waits for a volume: MountVolume.SetUp failed",
        "create the object that it names",
    ),
    Fault(
        "not-running",
        waiting("thruway-extproc", "PodInitializing"),
        "containers",
        "container thruway-extproc of pod web is not running yet",
        "kubectl -n shop describe pod web",
    ),
    Fault(
        "startup",
        with_pod(lambda pod: status(pod, "thruway-envoy")),
        "containers",
        "its startup probe has not passed yet",
        "kubectl -n shop logs web -c thruway-envoy",
    ),
    Fault(
        "xds-dns", xds("update_failure"), "xds", "the operator's name does not resolve", "check DNS"
    ),
    Fault(
        "xds-service",
        lambda: {"services": {XDS: ABSENT}},
        "xds",
        "by which Envoy reaches the operator, does not exist",
        "upgrade the chart, which restores it",
    ),
    Fault(
        "xds-endpoints",
        lambda: {
            "slices": {
                KEY: LISTED(d.endpoint_slice()),
                XDS: LISTED(d.endpoint_slice(name="thruway-operator", is_ready=False)),
            },
        },
        "xds",
        "by which Envoy reaches the operator, has no ready endpoint",
        "see why the operator's pods are not ready",
    ),
    Fault(
        "xds-tls",
        xds("ssl_fail_verify_error"),
        "xds",
        "it does not trust the operator's certificate",
        "compare ConfigMap thruway-ca",
    ),
    Fault(
        "xds-connect",
        xds("upstream_cx_connect_fail"),
        "xds",
        "no connection to the operator's port 18000",
        "NetworkPolicy",
    ),
    Fault(
        "xds-refused",
        xds("upstream_rq_total"),
        "xds",
        "Envoy of pod web is not connected to the operator: the stream keeps ending",
        "kubectl -n shop logs web -c thruway-envoy",
    ),
    Fault(
        "xds-nack",
        metrics("envoy_http_rds_update_rejected{} 1", without="update_success"),
        "xds",
        "Envoy of pod web rejects the operator's configuration",
        "kubectl -n shop logs web -c thruway-envoy",
    ),
    Fault(
        "unconfigured",
        lambda: {"inside": {"web": Inside(Answer(["Envoy returned 503 PRE_INITIALIZING"]))}},
        "xds",
        "Envoy of pod web has no configuration yet",
        "kubectl -n shop logs web -c thruway-envoy",
    ),
    Fault(
        "extproc-away",
        lambda: {"inside": {"web": Inside(Answer(["extproc-0.sock does not accept connections"]))}},
        "xds",
        "pod web is not ready: extproc-0.sock does not accept connections",
        "kubectl -n shop logs web -c thruway-extproc",
    ),
    Fault(
        "no-proxies",
        lambda: {"routes": LISTED(unprogrammed("True", "NoProxies", 0))},
        "xds",
        "pod web runs, but no proxy of route openai is connected",
        "see Envoy's log for the operator's responses",
    ),
    Fault(
        "pending",
        lambda: {"routes": LISTED(unprogrammed("False", "Pending", 2))},
        "xds",
        "1 of 2 proxies hold the current version of route openai",
        "wait a few seconds",
    ),
]
