"""More faults to plant: those that calls show, and those of the application and the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thruway_operator.diagnose.findings.facts import Answer, Inside
from thruway_testing.product import doctor_faults
from thruway_testing.product import doctored as d
from thruway_testing.product.doctor_faults import Fault, forbidden, metrics, with_pod

if TYPE_CHECKING:
    from collections.abc import Callable

    from thruway_operator.diagnose.findings.recentcalls import Call

__all__ = ["FAULTS", "after_good_calls", "answered", "called"]

LISTED = d.listed


def called(*calls: Call) -> Callable[[], dict[str, Any]]:
    """The latest calls are these."""
    return lambda: {"inside": {"web": d.inside(*calls)}}


def after_good_calls(code: str = "", status: int = 0, **more: Any) -> Callable[[], dict[str, Any]]:
    """Calls succeeded, and now they fail."""
    return called(*[d.call()] * 9, *[d.call(code, status, **more)] * 3)


def upstream(stat: str) -> Callable[[], dict[str, Any]]:
    lines = (f'envoy_cluster_{stat}{{envoy_cluster_name="api_openai_com_443/0123456789ab"}} 2',)
    return metrics(*lines, without="openai_com_443")


def answered(*codes: str) -> Callable[[], dict[str, Any]]:
    """The log cannot be read; between two readings of the counters these statuses appeared."""

    def reading(more: int) -> Answer:
        counts = {"200": 2} | {code: more + 2 * (code == "200") for code in codes}
        cluster = 'envoy_cluster_name="api_openai_com_443/0123456789ab"'
        lines = [
            f'envoy_cluster_upstream_rq{{envoy_response_code="{code}",{cluster}}} {count}'
            for code, count in counts.items()
        ]
        return Answer(d.METRICS + "\n".join(lines) + "\n")

    hidden = forbidden("get pods/log in namespace shop")
    return lambda: {"inside": {"web": Inside(Answer([]), reading(0), reading(2), hidden)}}


def keyless() -> d.Object:
    """A route on which the client's own key passes."""
    route = d.route_object()
    del route["spec"]["credential"]
    return route


def env(value: str) -> Callable[[], dict[str, Any]]:
    entry = {"name": "OPENAI_BASE_URL", "value": value}
    return with_pod(lambda pod: pod["spec"]["containers"][0].update(env=[entry]))


def of_app(**state: Any) -> Callable[[d.Object], object]:
    """The application's container is in a state."""
    return lambda pod: pod["status"]["containerStatuses"][0].update(state)


def in_use() -> dict[str, Any]:
    exits = of_app(
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": {"exitCode": 1}},
        restartCount=2,
    )
    return {**with_pod(exits)(), "crashes": {("web", "app"): Answer(value=True)}}


def guarded() -> dict[str, Any]:
    route = d.route_object(clientAuth={"type": "APIKey", "secretRef": {"name": "clients"}})
    return {"routes": LISTED(route), **called(d.call("invalid_api_key", 401))()}


def behind_a_proxy(pod: d.Object) -> None:
    env = pod["spec"]["containers"][0]["env"]
    env.append({"name": "HTTP_PROXY", "value": "http://proxy.corp:3128"})


def gateway(**changed: Any) -> Callable[[], dict[str, Any]]:
    return lambda: d.with_gateway(**changed)


def ill_gateway() -> dict[str, Any]:
    pod = d.gateway_pod()
    pod["status"]["conditions"][0]["status"] = "False"
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    pod["status"]["containerStatuses"][0] |= {"state": waiting, "ready": False}
    return d.with_gateway(gateways=LISTED(pod))


def at_gateway(*calls: Call) -> Callable[[], dict[str, Any]]:
    return gateway(inside_gateways={(d.OPERATORS, "thruway-gateway-0"): d.inside(*calls)})


SANS = "upstream_reset_before_response_started{TLS_error:CERTIFICATE_VERIFY_FAILED:SAN_matcher}"

FAULTS = [
    *doctor_faults.FAULTS,
    Fault(
        "upstream-dns",
        upstream("update_failure"),
        "upstream",
        "pod web: api.openai.com cannot be resolved",
        "check its spelling",
    ),
    Fault(
        "upstream-name",
        upstream("ssl_fail_verify_san"),
        "upstream",
        "the certificate of api.openai.com:443 has another name",
        "upstream.tls.serverName",
    ),
    Fault(
        "upstream-ca",
        upstream("ssl_fail_verify_error"),
        "upstream",
        "the certificate of api.openai.com:443 is not signed by a trusted CA",
        "upstream.tls.caCertificateRef",
    ),
    Fault(
        "upstream-tls",
        upstream("ssl_connection_error"),
        "upstream",
        "the TLS handshake with api.openai.com:443 fails",
        "check the scheme and the port",
    ),
    Fault(
        "upstream-connect",
        upstream("upstream_cx_connect_fail"),
        "upstream",
        "nothing accepts connections at api.openai.com:443",
        "upstream.proxy",
    ),
    Fault(
        "calls-unresolved",
        called(*[d.call()] * 17, *[d.call("upstream_unresolved")] * 3),
        "upstream",
        "3 of the last 20 calls of route openai through pod web failed: api.openai.com cannot be",
        "check its spelling",
    ),
    *[
        Fault(
            f"calls-{code}{len(more)}", after_good_calls(code, **more), "upstream", message, remedy
        )
        for code, message, remedy, more in (
            ("upstream_unreachable", "nothing accepts connections at", "upstream.proxy", {}),
            ("upstream_connect_timeout", "is established in time", "NetworkPolicy", {}),
            ("upstream_certificate_invalid", "a trusted CA, or has expired", "extraCA", {}),
            (
                "upstream_certificate_invalid",
                "has another name",
                "upstream.tls.serverName",
                {"details": SANS},
            ),
            ("upstream_tls_failed", "the TLS handshake with", "check the scheme", {}),
            ("forward_proxy_failed", "opens no tunnel to", "the chart's value egressProxy", {}),
            ("upstream_reset", "before it responds", "see the upstream's own log", {}),
            ("upstream_closed_early", "while it gets the request", "the upstream's own log", {}),
            ("upstream_cut_off", "within its responses", "the upstream's own log", {}),
            ("upstream_invalid_response", "does not respond by HTTP", "the intended API", {}),
            ("upstream_refused_upgrade", "does not accept WebSocket", "serves WebSocket", {}),
            ("upstream_timeout", "timeouts.request", "increase it", {}),
            ("idle_timeout", "timeouts.idle", "increase it", {}),
            (
                "processor_unavailable",
                "Thruway's error is processor_unavailable",
                "docs/errors.md",
                {"status": 503},
            ),
        )
    ],
    *[
        Fault(f"calls-{status}", after_good_calls(status=status), "upstream", message, remedy)
        for status, message, remedy in (
            (
                401,
                "3 of the last 12 calls of route openai through pod web failed: api.openai.com:443 "
                "rejects key OPENAI_API_KEY of Secret openai (route openai) with 401",
                "put the right key into the Secret",
            ),
            (403, "itself returns 403", "check which project"),
            (404, "itself returns 404", "compare the path"),
            (429, "itself returns 429", "rate limit"),
            (503, "itself returns 503", "see the upstream's status page"),
        )
    ],
    Fault(
        "calls-own-key",
        lambda: {"routes": LISTED(keyless()), **after_good_calls(status=401)()},
        "upstream",
        "rejects the client's own key (route openai has no credential) with 401",
        "give the client a key that the upstream accepts, or the route a credential",
    ),
    Fault(
        "counted-401",
        answered("401"),
        "upstream",
        "pod web: every call fails: api.openai.com:443 rejects key OPENAI_API_KEY of Secret openai",
        "put the right key into the Secret",
    ),
    Fault(
        "env-past",
        env("https://api.openai.com/v1"),
        "environment",
        "OPENAI_BASE_URL of container app of pod web points to api.openai.com, not to the sidecar",
        "http://127.0.0.1:4000/openai/v1",
    ),
    Fault(
        "env-port",
        env("http://127.0.0.1:4001/openai/v1"),
        "environment",
        "points to port 4001, but the sidecar listens on 4000",
        "http://127.0.0.1:4000/openai/v1",
    ),
    Fault(
        "env-path",
        env("http://localhost:4000/v1"),
        "environment",
        "points to the path /v1, which no route has",
        "http://127.0.0.1:4000/openai/v1",
    ),
    Fault(
        "env-path-moved",
        env("http://127.0.0.1:4000/old/v1"),
        "environment",
        "points to the path /old/v1, which no route has",
        "delete and recreate pod web, or restore the route's path; if the pod's template "
        "itself sets it, remove it there first",
    ),
    Fault(
        "env-path-own",
        with_pod(
            lambda pod: (
                pod["metadata"]["annotations"].pop("thruway.dev/injected"),
                pod["spec"]["containers"][0]["env"][0].update(value="http://127.0.0.1:4000/old"),
            )
        ),
        "environment",
        "points to the path /old, which no route has",
        "remove it from the pod's template, or set it to http://127.0.0.1:4000/openai/v1",
    ),
    Fault(
        "env-tls",
        env("https://127.0.0.1:4000/openai/v1"),
        "environment",
        "begins with https://",
        "http://127.0.0.1:4000/openai/v1",
    ),
    Fault(
        "env-bad", env("openai"), "environment", "is not a URL", "http://127.0.0.1:4000/openai/v1"
    ),
    Fault(
        "env-none",
        with_pod(lambda pod: pod["spec"]["containers"][0].update(env=[])),
        "environment",
        "no container of pod web has OPENAI_BASE_URL",
        "delete and recreate pod web",
    ),
    Fault(
        "annotation-misspelt",
        with_pod(lambda pod: pod["metadata"]["annotations"].update({"thruway.dev/prot": "4500"})),
        "environment",
        "annotation thruway.dev/prot of pod web is not known and has no effect",
        "correct it in the pod's template",
    ),
    Fault(
        "forward-proxy",
        with_pod(behind_a_proxy),
        "environment",
        "container app of pod web has HTTP_PROXY, and NO_PROXY lacks 127.0.0.1",
        "add 127.0.0.1 to NO_PROXY and no_proxy where HTTP_PROXY is set",
    ),
    Fault(
        "application-port",
        in_use,
        "application",
        "container app of pod web keeps exiting, and its log says that its port is in use: the "
        "sidecar listens on 4000 and 4001",
        "annotate the pod's template with thruway.dev/port",
    ),
    Fault(
        "application-exits",
        with_pod(
            of_app(
                state={"waiting": {"reason": "CrashLoopBackOff"}},
                lastState={"terminated": {"exitCode": 3}},
                restartCount=4,
            )
        ),
        "application",
        "container app keeps exiting (exit code 3, 4 restarts)",
        "kubectl -n shop logs web -c app --previous",
    ),
    Fault(
        "client-key",
        guarded,
        "requests",
        "pod web rejects the latest requests with invalid_api_key: route openai requires a key",
        "to one of the keys in Secret clients, or remove clientAuth from the route",
    ),
    Fault(
        "client-path",
        called(d.call("route_not_found", 404, route="", upstream="")),
        "requests",
        "no route has the path /openai/v1/models",
        "correct the application's base URL",
    ),
    Fault(
        "client-method",
        called(d.call("method_not_allowed", 405, upstream="")),
        "requests",
        "pod web rejects the latest requests with method_not_allowed",
        "docs/errors.md",
    ),
    Fault(
        "gateway-none",
        gateway(gateways=LISTED(), gateway_services=LISTED(), pod="web"),
        "gateway",
        "there is no gateway in this cluster",
        "gateway.enabled=true",
    ),
    Fault(
        "gateway-service",
        gateway(gateway_services=LISTED()),
        "gateway",
        "the Service of the gateway does not exist",
        "upgrade the chart, which restores it",
    ),
    Fault(
        "gateway-scaled",
        gateway(gateways=LISTED()),
        "gateway",
        "the gateway in namespace thruway-system has no pod",
        "see why its Deployment has none",
    ),
    Fault(
        "gateway-ill",
        ill_gateway,
        "gateway",
        "no pod of the gateway in namespace thruway-system is ready; thruway-gateway-0: the image",
        "check the chart's values image",
    ),
    Fault(
        "gateway-selector",
        gateway(
            slices={
                (d.OPERATORS, "thruway-gateway"): LISTED(
                    d.endpoint_slice(name="thruway-gateway", is_ready=False)
                )
            }
        ),
        "gateway",
        "Service thruway-gateway in namespace thruway-system has no ready endpoint",
        "compare its selector",
    ),
    Fault(
        "gateway-upstream",
        at_gateway(*[d.call()] * 5, *[d.call("upstream_unreachable")] * 3),
        "upstream",
        "3 of the last 8 calls of route openai through gateway pod thruway-gateway-0 failed",
        "upstream.proxy",
    ),
    Fault(
        "gateway-client",
        at_gateway(d.call("missing_api_key", 401), d.call("missing_api_key", 401, route="a/b")),
        "requests",
        "gateway pod thruway-gateway-0 rejects the latest requests with missing_api_key: route ope",
        "set the API key of the application",
    ),
    Fault(
        "gateway-path",
        gateway(pods=LISTED(d.client_pod(f"{d.GATEWAY_URL}/opanai/v1"))),
        "environment",
        "points to the path /opanai/v1, which no route of this namespace has",
        f"to {d.GATEWAY_URL}/openai/v1",
    ),
    Fault(
        "gateway-port",
        gateway(pods=LISTED(d.client_pod(f"{d.GATEWAY_URL[:-5]}/openai/v1"))),
        "environment",
        "points to port 80, but the gateway listens on 4000",
        f"to {d.GATEWAY_URL}/openai/v1",
    ),
    Fault(
        "gateway-proxy",
        gateway(pods=LISTED(d.client_pod(http_proxy="http://proxy.corp:3128"))),
        "environment",
        "has http_proxy, and NO_PROXY lacks thruway-gateway.thruway-system.svc",
        "add thruway-gateway.thruway-system.svc to NO_PROXY",
    ),
]
