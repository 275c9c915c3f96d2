"""Each planted fault is the first that `thruway doctor` says, in a sentence with its remedy."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thruway_operator.diagnose.findings import conventions
from thruway_operator.diagnose.findings.application import says_port_in_use
from thruway_operator.diagnose.findings.creation import why_never_made
from thruway_operator.diagnose.findings.facts import ABSENT, Answer, Inside
from thruway_operator.diagnose.findings.metrics import read_metrics
from thruway_operator.diagnose.findings.pulling import check_pull_secrets
from thruway_operator.diagnose.findings.recentcalls import Call, read_calls
from thruway_operator.diagnose.findings.selectors import matches
from thruway_operator.diagnose.findings.shapes import shapes
from thruway_operator.diagnose.findings.walk import diagnose
from thruway_operator.diagnose.online import gather
from thruway_operator.kube.tokens import AUDIENCE
from thruway_operator.resources.secret import SecretValue
from thruway_testing.product import doctored as d
from thruway_testing.product.doctor_faults import (
    OTHER,
    TOO_MUCH,
    Fault,
    forbidden,
    metrics,
    pulled_with,
    refused,
    status,
    with_pod,
)
from thruway_testing.product.doctor_traffic import FAULTS, answered, called
from thruway_testing.product.markdown import table

DOCS = Path(__file__).parents[3] / "docs" / "doctor.md"
TITLE = "What it finds"
REWRITE = os.environ.get("THRUWAY_REWRITE_GOLDEN") == "1"
CANARY = "sk-canary-doctor-0123456789"


def test_all_is_well() -> None:
    for pod in ("", "web"):
        diagnosis = diagnose(d.healthy(pod=pod))

        assert [step.text() for step in diagnosis.steps if step.state != "ok"] == []
        assert diagnosis.summary() == "No problems found."
        names = list(dict.fromkeys(step.name for step in diagnosis.steps))
        assert names == [
            "api", "crd", "operator", "injection", "webhook", "creation", "certificate",
            "route", "secret", "sidecar", "containers", "xds", "upstream", "environment",
            "application", "requests",
        ]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_is_the_first_thing_said(fault: Fault) -> None:
    diagnosis = diagnose(d.healthy(**fault.changed()))

    *before, last = diagnosis.steps
    assert [step.text() for step in before if step.state == "failed"] == []
    assert (last.name, last.state) == (fault.step, "failed"), last.text()
    assert fault.message in last.message
    assert fault.remedy in last.remedy
    assert not diagnosis.healthy
    assert last.remedy not in last.message  # each is said once
    line = last.text()
    assert line.startswith("FAIL  ")
    assert line.isprintable()


def rows() -> list[list[str]]:
    found = []
    for fault in FAULTS:
        last = diagnose(d.healthy(**fault.changed())).steps[-1]
        found.append([f"`{last.name}`", escaped(last.message), escaped(last.remedy)])
    return found


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def test_every_fault_is_in_the_docs_as_it_is_said() -> None:
    """The table is what the planted faults print; THRUWAY_REWRITE_GOLDEN=1 writes it anew."""
    text = DOCS.read_text("utf-8")
    if REWRITE:
        lines = ["| step | what is wrong | what to do |", "|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in rows()]
        before, heading, after = text.partition(f"## {TITLE}\n")
        rest = after[after.index("\n## ") :]
        intro = after.partition("|")[0]
        DOCS.write_text(f"{before}{heading}{intro}{chr(10).join(lines)}\n{rest}", "utf-8")
        text = DOCS.read_text("utf-8")
    assert table(text, TITLE) == rows()


def test_conventions_are_those_of_the_operator() -> None:
    assert conventions.AUDIENCE == AUDIENCE


def test_faults_are_told_apart() -> None:
    said = [(fault.step, fault.message) for fault in FAULTS]
    assert len({fault.id for fault in FAULTS}) == len(FAULTS)
    assert len(set(said)) == len(said)


def lines_of(**changed: Any) -> list[str]:
    return [step.text() for step in diagnose(d.healthy(**changed)).steps]


@pytest.mark.parametrize(
    ("changed", "step", "right"),
    [
        ({"operators": forbidden("list pods in the whole cluster")}, "operator", "list pods"),
        ({"webhooks": forbidden("list webhooks")}, "webhook", "list webhooks"),
        ({"refusals": forbidden("list events")}, "creation", "list events"),
        ({"authority": forbidden("get configmaps")}, "certificate", "get configmaps"),
        ({"secrets": {"openai": forbidden("get secrets")}}, "secret", "get secrets"),
        ({"schema": forbidden("read the API's schema")}, "crd", "read the API's schema"),
        ({"inside": {"web": Inside(*[forbidden("get pods/proxy")] * 4)}}, "xds", "get pods/proxy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_may_not_be_seen_is_said_and_the_walk_goes_on(
    changed: dict[str, Any], step: str, right: str
) -> None:
    diagnosis = diagnose(d.healthy(**changed))

    assert diagnosis.healthy
    (blind, *_) = (item for item in diagnosis.steps if item.name == step)
    assert blind.state == "unchecked"
    assert f"you lack permission to {right}" in blind.message
    assert blind.text().startswith("-     ")
    assert f"you may not {right}" in diagnosis.steps[0].message
    assert diagnosis.steps[-1].name == "requests"
    assert diagnosis.summary().startswith("No problems found, but some steps were not checked")


JOB_DONE = {"conditions": [{"type": "Complete", "status": "True"}]}


@pytest.mark.parametrize(
    ("kind", "spec", "status"),
    [
        ("ReplicaSet", {"replicas": 2}, {"replicas": 2}),
        ("ReplicaSet", {"replicas": 0}, {}),
        ("StatefulSet", {}, {"replicas": 1}),
        ("DaemonSet", {}, {"desiredNumberScheduled": 2, "currentNumberScheduled": 2}),
        ("Job", {"completions": 2, "parallelism": 2}, {"active": 1, "succeeded": 1}),
        ("Job", {}, JOB_DONE),
        ("Job", {"suspend": True}, {}),
        ("CronJob", {}, {}),
    ],
)
def test_pods_that_were_refused_once_and_are_not_missing_now_are_no_fault(
    kind: str, spec: d.Object, status: d.Object
) -> None:
    assert diagnose(d.healthy(**refused(kind, "x", TOO_MUCH, spec, status)())).healthy


def test_the_newest_refusal_is_said_and_only_of_the_object_that_is_there() -> None:
    given = {"owners": {("Job", "x"): Answer(d.owner("x", {}, {}))}}
    old = d.refusal("Job", "x", "old", lastTimestamp="2026-05-01T10:00:00Z")
    new = d.refusal("Job", "x", "new", eventTime="2026-05-01T10:00:01.000000Z")
    other = d.refusal("Job", "x", "other", lastTimestamp="2026-05-01T11:00:00Z")
    other["involvedObject"]["uid"] = "of one that is gone"

    assert (
        "cannot create its pods: new" in lines_of(refusals=d.listed(new, old, other), **given)[-1]
    )
    assert diagnose(d.healthy(refusals=d.listed(other), **given)).healthy
    assert diagnose(d.healthy(refusals=d.listed(new), owners={("Job", "x"): ABSENT})).healthy


def test_whose_pods_were_refused_may_not_be_seen() -> None:
    right = {("ReplicaSet", "web-7f"): forbidden("get replicasets in namespace shop")}
    changed = {**refused("ReplicaSet", "web-7f", TOO_MUCH, {}, {})(), "owners": right}
    (line,) = (line for line in lines_of(**changed) if " creation " in line)
    assert line.startswith("-  ")
    assert "pods of ReplicaSet web-7f were refused, but you lack permission to get repli" in line


def test_a_pod_is_not_told_of_the_refusals_of_others() -> None:
    changed = refused("ReplicaSet", "web-7f", TOO_MUCH, {}, {})()
    assert diagnose(d.healthy(pod="web", **changed)).healthy
    owned = {"ownerReferences": [{"controller": True, "kind": "ReplicaSet", "name": "web-7f"}]}
    pod = with_pod(lambda pod: pod["metadata"].update(owned))()
    assert not diagnose(d.healthy(pod="web", **changed, **pod)).healthy


@pytest.mark.parametrize(
    ("pod", "said"),
    [("web", True), ("web-7f", True), ("web-7f-x", True), ("we", False), ("web-8", False)],
)
def test_a_pod_that_was_never_made(pod: str, said: bool) -> None:
    changed = refused("ReplicaSet", "web-7f", TOO_MUCH, {}, {})()
    why = why_never_made(d.healthy(pod=pod, pods=ABSENT, **changed))
    assert why.startswith("ReplicaSet web-7f cannot create its pods: Pod") is said


def unlike(name: str, path: str) -> d.Object:
    """A route that the operator refuses, and whose Secret does not exist."""
    spec = {"path": path, "credential": {"secretKeyRef": {"name": "gone", "key": "KEY"}}}
    return {**OTHER, "metadata": d.meta("shop", name, generation=1), "spec": spec}


@pytest.mark.parametrize("path", ["/openai", "/other"])
def test_a_pod_is_asked_about_with_the_routes_that_it_calls(path: str) -> None:
    """The others are mentioned, and no fault of it."""
    both = {
        "routes": d.listed(unlike("other", path), d.route_object()),
        "secrets": {"openai": Answer({"OPENAI_API_KEY": "good"}), "gone": ABSENT},
    }
    alone = diagnose(d.healthy(pod="web", **both))

    assert alone.healthy, alone.steps[-1].text()
    (step,) = (step for step in alone.steps if step.name == "route")
    assert step.message == (
        "PassthroughRoute openai is accepted, and its references exist; faulty, but not "
        "called by pod web: other"
    )
    assert not diagnose(d.healthy(**both)).healthy

    def annotate(pod: d.Object) -> None:
        pod["metadata"]["annotations"]["thruway.dev/route"] = "other"

    named = diagnose(d.healthy(pod="web", **both, **with_pod(annotate)()))
    assert "PassthroughRoute other has Accepted=False" in named.steps[-1].message


def test_a_pod_whose_base_url_cannot_be_seen_is_asked_about_with_all_routes() -> None:
    pod = with_pod(lambda pod: pod["spec"]["containers"][0].update(env=[]))()
    found = diagnose(d.healthy(pod="web", routes=d.listed(d.route_object(), OTHER), **pod))
    assert "PassthroughRoute other has Accepted=False" in found.steps[-1].message


def test_a_pod_that_calls_no_route_is_told_so_at_its_environment() -> None:
    elsewhere = [{"name": "OPENAI_BASE_URL", "value": "http://127.0.0.1:4000/x"}]
    pod = with_pod(lambda pod: pod["spec"]["containers"][0].update(env=elsewhere))()
    found = diagnose(d.healthy(pod="web", routes=d.listed(d.route_object(), OTHER), **pod))
    (route,) = (step for step in found.steps if step.name == "route")
    assert route.message == "not checked: pod web calls no route of namespace shop"
    assert found.steps[-1].name == "environment"


def test_pull_secrets_that_are_not_the_installations_may_be_missing() -> None:
    facts = d.healthy(**pulled_with("registry")())
    others = replace(facts, operators=d.listed(d.operator_pod()))
    assert diagnose(others).healthy


@pytest.mark.parametrize("operators", [d.listed(), Answer(lack="forbidden", why="list pods")])
def test_pull_secrets_that_may_not_be_seen_are_not_checked(operators: Answer) -> None:
    facts = d.healthy(**pulled_with("registry")())
    pod = facts.pods.items[0]
    hidden = Answer(lack="forbidden", why="get secrets")
    facts = replace(facts, operators=operators, pull_secrets={"registry": hidden})
    (step,) = check_pull_secrets(facts, pod)
    assert step.state == "unchecked"
    assert "Secret registry" in step.message
    assert "you lack permission to get secrets" in step.message
    there = replace(facts, pull_secrets={"registry": Answer({})})
    assert list(check_pull_secrets(there, pod)) == []


def test_a_value_with_white_space_is_named() -> None:
    (line,) = (x for x in lines_of(secrets={"openai": Answer({"OPENAI_API_KEY": "padded"})})
               if " secret " in x)  # fmt: skip
    assert line.startswith("ok ")
    assert "white space around its value, such as a trailing newline" in line


def test_values_become_shapes() -> None:
    values = {"a": "sk-x", "b": "sk-x\n", "c": " \n", "d": "sk\nx", "e": "\x00"}

    found = shapes({key: SecretValue(value) for key, value in values.items()})

    assert found == {"a": "good", "b": "padded", "c": "empty", "d": "broken", "e": "broken"}


def test_json_says_the_same() -> None:
    data = json.loads(json.dumps(diagnose(d.healthy(**FAULTS[3].changed())).data()))

    assert data["version"] == 1
    assert (data["namespace"], data["pod"], data["healthy"]) == ("shop", None, False)
    assert [step["state"] for step in data["steps"]] == ["ok", "failed"]
    assert set(data["steps"][0]) == {"step", "state", "message", "remedy"}
    assert data["steps"][0]["remedy"] is None


def test_no_key_and_no_control_character_is_repeated() -> None:
    """A key in the wrong place, and a terminal's escapes in an event."""
    entry = {"name": "OPENAI_BASE_URL", "value": f"http://x:{CANARY}@{CANARY}/v1"}
    told = lines_of(**with_pod(lambda pod: pod["spec"]["containers"][0].update(env=[entry]))())
    assert CANARY not in "".join(told)
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "\x1b[31mred\nline"}}
    pod = with_pod(lambda pod: status(pod, "thruway-envoy", state=waiting))()
    assert all(line.isprintable() for line in lines_of(**pod))


def test_a_namespace_without_pods() -> None:
    diagnosis = diagnose(d.healthy(pods=d.listed(), inside={}))

    assert diagnosis.healthy
    assert [step.name for step in diagnosis.steps if step.state == "unchecked"] == ["sidecar"]


def test_a_namespace_that_uses_the_gateway_alone_is_told_to_label_nothing() -> None:
    shared = d.route_object(exposure="Cluster")
    diagnosis = diagnose(
        d.healthy(
            namespace_object=Answer(d.namespace_object(label=None)),
            pods=d.listed(),
            inside={},
            routes=d.listed(shared),
        )
    )

    (step,) = (step for step in diagnosis.steps if step.name == "injection")
    assert step.state == "unchecked"
    assert "shared gateway" in step.message


def test_pods_that_ended_are_left_out_unless_named() -> None:
    ended = with_pod(lambda pod: pod["status"].update(phase="Succeeded"))()

    assert [x for x in lines_of(**ended) if x.split()[1] == "containers"] == []
    (line,) = (x for x in lines_of(**ended, pod="web") if x.split()[1] == "containers")
    assert "pod web has ended" in line


def test_a_pod_that_asks_in_a_namespace_that_does_not() -> None:
    labels = {"thruway.dev/inject": "true"}
    pod = with_pod(lambda pod: pod["metadata"].update(labels=labels))()

    assert diagnose(
        d.healthy(namespace_object=Answer(d.namespace_object(label=None)), **pod)
    ).healthy


def test_restarts_that_are_over_are_told_but_no_fault() -> None:
    last = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    pod = with_pod(
        lambda pod: status(
            pod, "thruway-envoy", ready=True, started=True, restartCount=2, lastState=last
        )
    )()
    (line,) = (x for x in lines_of(**pod) if x.split()[1] == "containers")
    assert line.startswith("ok ")
    assert "restarted: thruway-envoy 2 times, last for OOMKilled" in line


def test_a_clock_that_is_wrong_is_no_fault() -> None:
    """The Lease looks old by our clock, but it is renewed before our eyes."""
    early, later = Answer(d.lease(d.EARLIER)), Answer(d.lease(d.LATER))
    diagnosis = diagnose(d.healthy(leases={d.OPERATORS: early}, leases_later={d.OPERATORS: later}))
    assert diagnosis.healthy


def test_a_new_authority_beside_the_old_one_is_no_fault() -> None:
    both = d.CA + d.ca_pem()
    facts = d.healthy(
        authority=Answer(d.config_map(ca=both)),
        published={d.OPERATORS: Answer(d.config_map(d.OPERATORS, both))},
    )
    assert diagnose(facts).healthy


def test_what_of_the_webhook_could_not_be_seen_is_said() -> None:
    key = (d.OPERATORS, "thruway-injector")
    changed = {"slices": {key: forbidden("list endpointslices")}, "published": {}}
    (line,) = (x for x in lines_of(**changed) if x.split()[1] == "webhook")
    assert line.endswith("thruway-injector trusts a CA, and its Service could not be checked")


def upstream_of(**changed: Any) -> str:
    (line,) = (x for x in lines_of(**changed) if x.split()[1] == "upstream")
    return line


@pytest.mark.parametrize("problems", [Answer([]), forbidden("get pods/proxy")])
def test_a_connection_that_cannot_be_seen_is_not_reported_as_good(problems: Answer) -> None:
    """Readiness outlives the connection; only the metrics show it (`injector.metrics: Pod`)."""
    hidden = Inside(problems, Answer(lack="failed", why="its metrics are hidden"))
    (line,) = (x for x in lines_of(inside={"web": hidden}) if x.split()[1] == "xds")
    assert line.startswith("-  ")
    assert (problems.reason if problems.lack else "its metrics are hidden") in line


def test_metrics_that_only_the_pod_may_read() -> None:
    assert "injector.metrics" in gather._metrics(403, "").reason
    assert "(503)" in gather._metrics(503, "").reason


@pytest.mark.parametrize("without", ["", "openai_com_443"], ids=["earlier calls", "never"])
def test_without_a_call_of_now_nothing_is_known(without: str) -> None:
    """Envoy's counters are for life: a success of an hour ago says nothing."""
    line = upstream_of(**metrics(without=without or "nothing")())
    assert line.startswith("-  ")
    assert line.endswith("not checked: no call has passed through pod web in the last minute")
    quiet = diagnose(d.healthy(**metrics(without="nothing")()))
    assert quiet.summary().startswith("No problems found, but some steps were not checked: 2")


def test_without_the_log_two_readings_are_compared() -> None:
    assert upstream_of(**answered("200")()).endswith("pod web reaches api.openai.com:443")
    silent = upstream_of(**answered()())
    assert silent.startswith("-  ")
    assert "no call has ended within a few seconds" in silent
    assert "you lack permission to get pods/log in namespace shop" in silent


@pytest.mark.parametrize("codes", [("200",), ("200", "401"), ("404", "401"), ("400",)])
def test_responses_of_several_kinds_are_no_fault(codes: tuple[str, ...]) -> None:
    """Not every 401 is about the key, and a missing object was asked for."""
    assert diagnose(d.healthy(**answered(*codes)())).healthy


GOOD = d.call()


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ([GOOD], "1 call in the last 60 s, the last returned 200"),
        ([GOOD, d.call(status=401), GOOD], "3 calls in the last 60 s; 1 of them returned 401"),
        ([d.call(status=401), d.call(status=404)], "2 of them returned 401, 404"),
        ([d.call("upstream_reset"), d.call("upstream_reset"), GOOD], "2 of them returned upstre"),
        ([d.call(status=400)] * 3, "the last returned 400"),
        ([GOOD, *[d.call("client_closed", 200)] * 3], "1 call in the last 60 s"),
    ],
)
def test_calls_that_prove_that_the_upstream_is_reached(calls: list[Any], said: str) -> None:
    line = upstream_of(**called(*calls)())
    assert line.startswith("ok ")
    assert said in line


def test_old_failures_count_no_longer() -> None:
    calls = [*[d.call("upstream_unreachable")] * 30, *[GOOD] * 18]
    assert upstream_of(**called(*calls)()).startswith("ok ")


@pytest.mark.parametrize("status", [401, 404, 503])
def test_an_error_status_of_one_call_may_be_about_that_call(status: int) -> None:
    calls = [GOOD, GOOD, d.call(status=status)]
    assert upstream_of(**called(*calls)()).startswith("ok ")
    only = [d.call(status=status)]
    assert upstream_of(**called(*only)()).startswith("FAIL ")


def test_calls_of_other_routes_are_no_fault_of_the_pod() -> None:
    others = [d.call("upstream_unreachable", route="shop/other")] * 3
    assert upstream_of(**called(GOOD, *others)()).startswith("ok ")


def test_failures_before_a_change_of_the_upstream_count_no_longer() -> None:
    old = d.call("upstream_certificate_invalid", settings="0a")
    assert upstream_of(**called(*[old] * 5, d.call(settings="0b"))()).startswith("ok ")
    moved = d.call("upstream_unreachable", upstream="old.openai.com:443")
    assert upstream_of(**called(GOOD, *[moved] * 5)()).startswith("ok ")


def test_an_overrides_calls_are_told_apart() -> None:
    eu = [{"path": "/eu", "upstream": {"url": "https://eu.openai.com"}}]
    routes = d.listed(d.route_object(overrides=eu))
    calls = [GOOD, GOOD, d.call("upstream_unreachable", upstream="eu.openai.com:443")]
    line = upstream_of(routes=routes, **called(*calls)())
    assert "the last call of route openai through pod web failed: nothing accepts" in line
    assert "eu.openai.com:443" in line


def test_calls_are_read_from_envoys_log() -> None:
    lines = [
        "[2026-06-01 12:00:00][info] starting",
        '{"event": "call", "route": "shop/openai#eu", "upstream": "[::1]:443/0a1b", "status": 200,'
        ' "code": "", "path": "/openai/v1?key=", "details": "via_upstream"}',
        '{"event": "call", "route": "-", "upstream": null, "status": 0, "code": "client_closed"}',
        '{"event": "other"}',
        "[1, 2]",
        '{"event": "call", "status": "x", "code": 7}',
    ]
    assert read_calls("\n".join(lines)) == [
        Call("shop/openai", "[::1]:443", "0a1b", 200, "", "/openai/v1?key=", "via_upstream"),
        Call(code="client_closed"),
        Call(),
    ]


def test_what_a_log_says_of_ports() -> None:
    for line in (
        "OSError: [Errno 98] Address already in use",
        "Error: listen EADDRINUSE: address already in use :::4000",
        "bind: address already in use",
        'Os { code: 98, kind: AddrInUse, message: "Address in use" }',
        "bind() to 0.0.0.0:4000 failed (98: Address in use)",
    ):
        assert says_port_in_use(f"starting\n{line}\n")
    assert not says_port_in_use("the addresses in user land")


def requests_of(*calls: Any) -> str:
    (line,) = (x for x in lines_of(**called(*calls)()) if x.split()[1] == "requests")
    return line


def test_a_rejected_request_among_others_is_a_remark() -> None:
    line = requests_of(d.call("route_not_found", 404, route=""), GOOD)
    assert line.startswith("ok ")
    assert line.endswith("some of the last 2 were rejected: route_not_found")
    assert requests_of(d.call("client_closed")).startswith("-  ")


def test_a_client_of_the_gateway() -> None:
    for pod in ("", "web"):
        diagnosis = diagnose(d.healthy(**d.with_gateway(pod=pod)))
        assert diagnosis.healthy, diagnosis.steps[-1].text()
        names = list(dict.fromkeys(step.name for step in diagnosis.steps))
        assert names == [
            "api", "crd", "operator", "injection", "creation", "route", "secret", "gateway", "xds",
            "upstream", "requests", "environment", "application",
        ]  # fmt: skip
        assert "label" not in "".join(step.text() for step in diagnosis.steps)


@pytest.mark.parametrize(
    "url",
    [
        "http://thruway-gateway.thruway-system:4000/openai/v1",
        "http://thruway-gateway.thruway-system.svc.cluster.local:4000/openai/v1",
        "http://thruway-gateway.thruway-system.svc.cluster.local.:4000/openai",
        "http://10.96.0.9:4000/openai/v1",
    ],
)
def test_names_of_the_gateway(url: str) -> None:
    pods = d.listed(d.client_pod(url))
    diagnosis = diagnose(d.healthy(**d.with_gateway(pod="web", pods=pods)))
    assert diagnosis.healthy
    assert "points to the gateway" in "".join(step.text() for step in diagnosis.steps)


def test_the_gateway_may_not_be_seen() -> None:
    hidden = forbidden("list pods in the whole cluster")
    changed = d.with_gateway(pod="web", gateways=hidden, gateway_services=hidden)
    diagnosis = diagnose(d.healthy(**changed))
    assert diagnosis.healthy
    (step,) = (step for step in diagnosis.steps if step.name == "gateway")
    assert step.state == "unchecked"
    assert "you lack permission to list pods in the whole cluster" in step.message


def test_a_pod_of_another_program_is_told_of_the_label() -> None:
    """Its base URL does not lead to the gateway, so it may want a sidecar."""
    pods = d.listed(d.client_pod("https://api.openai.com/v1"))
    last = diagnose(d.healthy(**d.with_gateway(pod="web", pods=pods))).steps[-1]
    assert (last.name, last.state) == ("injection", "failed")


@pytest.mark.parametrize(
    ("environment", "state"),
    [
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "127.0.0.1"}, "ok"),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": ".corp, 127.0.0.0/8"}, "ok"),
        ({"ALL_PROXY": "http://p", "no_proxy": "*"}, "ok"),
        ({"http_proxy": "http://p", "no_proxy": "localhost"}, "failed"),
        ({"http_proxy": "http://p", "no_proxy": "127.0.0.1", "NO_PROXY": "x"}, "failed"),
        ({"HTTPS_PROXY": "http://p"}, ""),
        ({"HTTP_PROXY": ""}, ""),
    ],
)
def test_forward_proxies(environment: dict[str, str], state: str) -> None:
    def add(pod: d.Object) -> None:
        env = pod["spec"]["containers"][0]["env"]
        env += [{"name": name, "value": value} for name, value in environment.items()]

    steps = diagnose(d.healthy(**with_pod(add)())).steps
    assert [x.state for x in steps if "PROXY" in x.message.upper()] == [state] * bool(state)


def from_elsewhere(pod: d.Object) -> None:
    pod["spec"]["containers"][0]["envFrom"] = [
        {"configMapRef": {"name": "network"}},
        {"secretRef": {"name": "more"}},
    ]


@pytest.mark.parametrize(
    ("config_map", "secret", "state"),
    [
        (Answer({"data": {"HTTP_PROXY": "http://p"}}), Answer([]), "failed"),
        (Answer({"data": {"HTTP_PROXY": "http://p"}}), Answer(["NO_PROXY"]), "unchecked"),
        (Answer({"data": {"OTHER": "1"}}), Answer(["http_proxy"]), "failed"),
        (Answer({"data": {}}), ABSENT, ""),
        (Answer({}), forbidden("get secrets"), "unchecked"),
    ],
)
def test_a_forward_proxy_from_elsewhere(config_map: Answer, secret: Answer, state: str) -> None:
    given = {"config_maps": {"network": config_map}, "env_secrets": {"more": secret}}
    steps = diagnose(d.healthy(**with_pod(from_elsewhere)(), **given)).steps
    assert [x.state for x in steps if "PROXY" in x.message.upper()] == [state] * bool(state)


def test_a_refused_key_is_named_with_all_that_lead_there() -> None:
    """Routes to one address share a cluster, so that Envoy cannot tell whose key it was."""
    routes = d.listed(d.route_object(), d.route_object("more", "/more", credential=None))
    last = diagnose(d.healthy(routes=routes, **answered("401")())).steps[-1]

    assert last.message.endswith(
        "rejects key OPENAI_API_KEY of Secret openai (route openai), or the client's own key "
        "(route more has no credential) with 401"
    )
    assert "the Secret; " in last.remedy


def test_env_left_alone_or_from_elsewhere() -> None:
    def alone(pod: d.Object) -> None:
        pod["metadata"]["annotations"]["thruway.dev/env"] = "false"
        pod["spec"]["containers"][0]["env"] = []

    def elsewhere(pod: d.Object) -> None:
        ref = {"configMapKeyRef": {"name": "x", "key": "y"}}
        pod["spec"]["containers"][0]["env"] = [{"name": "OPENAI_BASE_URL", "valueFrom": ref}]

    for change in (alone, elsewhere):
        lines = lines_of(**with_pod(change)())
        (line,) = (line for line in lines if line.split()[1] == "environment")
        assert line.startswith("-  ")


def test_metrics_of_clusters_with_and_without_dots() -> None:
    lines = [
        'envoy_cluster_update_failure{envoy_cluster_name="no-host_invalid_443/3b60f9013751"} 1',
        'envoy_cluster_ssl_fail_verify_error{envoy_cluster_name="localhost_1/270e07d6fd33"} 2',
        'envoy_cluster_upstream_rq{envoy_response_code="401",envoy_cluster_name="thruway-xds"} 2',
        'envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="thruway-xds"} 3',
        'envoy_cluster_upstream_cx_total{envoy_cluster_name="thruway-xds"} 1',
        "envoy_server_live{} 1",
        "# TYPE nothing",
        "nonsense",
    ]
    found = read_metrics("\n".join(lines))

    assert found.clusters == {
        "no_host_invalid_443_3b60f9013751": {"update_failure": 1},
        "localhost_1_270e07d6fd33": {"ssl_fail_verify_error": 2},
        "thruway_xds": {"upstream_cx_total": 1, "upstream_rq_401": 2, "upstream_rq_200": 3},
    }
    assert found.values == {"server_live": 1}


@pytest.mark.parametrize(
    ("selector", "taken"),
    [
        (None, True),
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
        (
            {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]},
            False,
        ),
    ],
)
def test_selectors(selector: Any, taken: bool) -> None:
    assert matches(selector, {"a": "1"}) is taken


def test_a_replica_of_the_operator_that_fails_beside_others_is_mentioned() -> None:
    ill = d.operator_pod(d.OPERATORS, "thruway-operator-1")
    ill["status"]["conditions"][0]["status"] = "False"
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    ill["status"]["containerStatuses"][0] |= {"ready": False, "state": waiting}
    lines = lines_of(operators=d.listed(d.operator_pod(), ill))
    (line,) = (line for line in lines if line.split()[1] == "operator")
    assert line.startswith("ok ")
    assert "1 of 2 pods are ready" in line
    assert "thruway-operator-1: container operator keeps exiting" in line
