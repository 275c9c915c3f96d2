"""Checks the namespace's routes, their conditions, and the Secrets that they name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from thruway_operator.api.route import PassthroughRouteSpec
from thruway_operator.diagnose.findings.baseurls import routes_concerned
from thruway_operator.diagnose.findings.conventions import ROUTE, annotations_of, examined, name_of
from thruway_operator.diagnose.findings.steps import failed, good, unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.diagnose.findings.facts import Facts, Object
    from thruway_operator.diagnose.findings.states import Trouble
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["KeyRef", "check_routes", "check_secrets", "condition", "key_refs", "spec_of"]

KeyRef = tuple[str, str]
"""A Secret's name, and a key in it."""

_LOG: Final = "see the operator's log"
_REFUSED: Final = "undo the last change of the route; its last good version is still served"
_LATER: Final = "Pending"
"""The reason of Programmed whose cause is in the pods, which are checked later."""


def check_routes(facts: Facts) -> Iterator[Step]:
    """Yield for each route whether the operator accepts it."""
    routes = {name_of(item): item for item in facts.routes.items}
    if not routes:
        yield failed(
            "route",
            f"there is no PassthroughRoute in namespace {facts.namespace}",
            f"apply one: kubectl -n {facts.namespace} apply -f examples/sidecar/route.yaml",
        )
        return
    for pod in examined(facts):
        named = annotations_of(pod).get(ROUTE)
        if named and named not in routes:
            message = (
                f"annotation {ROUTE} of pod {name_of(pod)} names PassthroughRoute {named}, which "
                f"is not in namespace {facts.namespace}"
            )
            yield failed(
                "route",
                message,
                f"create it, or name an existing route: {', '.join(sorted(routes))}",
            )
            return
    steps = [_check(route) for route in routes_concerned(facts)]
    if not steps:
        yield unchecked("route", f"pod {facts.pod} calls no route of namespace {facts.namespace}")
        return
    *before, last = steps
    yield from before
    yield replace(last, message=f"{last.message}{_remark(facts)}") if last.state == "ok" else last


def _remark(facts: Facts) -> str:
    """Return other faults in the namespace, which do not affect the pod."""
    concerned = {name_of(route) for route in routes_concerned(facts)}
    others = [route for route in facts.routes.items if name_of(route) not in concerned]
    ill = [name_of(route) for route in others if _check(route).state != "ok"]
    return f"; faulty, but not called by pod {facts.pod}: {', '.join(ill)}" if ill else ""


def _check(route: Object) -> Step:
    name, status = name_of(route), route.get("status") or {}
    generation = route["metadata"].get("generation", 0)
    if not status.get("conditions"):
        message = f"no operator has processed PassthroughRoute {name} yet"
        return failed("route", message, f"if this persists, {_LOG}")
    for kind in ("Accepted", "ResolvedRefs", "Programmed"):
        found = condition(route, kind)
        reason = str(found.get("reason", "Unknown"))
        later = kind == "Programmed" and reason == _LATER
        if found.get("status") != "True" and not later:
            said, remedy = _split(reason, str(found.get("message", "")).rstrip(". "))
            message = f"PassthroughRoute {name} has {kind}={found.get('status')} ({reason}): {said}"
            return failed("route", message, remedy)
    if status.get("observedGeneration") != generation:
        message = f"the operator has not processed the latest change of PassthroughRoute {name} yet"
        return failed("route", message, f"if this persists, {_LOG}")
    return good("route", f"PassthroughRoute {name} is accepted, and its references exist")


def _split(reason: str, said: str) -> Trouble:
    """Return the problem and the remedy; most of the operator's messages contain both."""
    if reason == "Rejected":  # the message is Envoy's own
        return said, _REFUSED
    what, _, remedy = said.partition(": ")
    if remedy and " " in what:  # otherwise it is a field's name
        return what, remedy
    return said, "correct the field that it names"


def condition(route: Object, kind: str) -> dict[str, Any]:
    """Return a condition of a route; empty if it has none."""
    conditions = (route.get("status") or {}).get("conditions") or ()
    return next((item for item in conditions if item.get("type") == kind), {})


def key_refs(route: Object) -> list[KeyRef]:
    """Return the keys of Secrets whose values are credentials of a route."""
    spec = spec_of(route)
    refs = spec.references() if spec else []
    return list(
        dict.fromkeys((ref.name, ref.key) for ref in refs if ref.sends or ref.use == "login")
    )


def spec_of(route: Object) -> PassthroughRouteSpec | None:
    """Return a route's spec, or None if it is not valid, which its conditions report."""
    try:
        return PassthroughRouteSpec.model_validate(route.get("spec"))
    except ValidationError:
        return None


def check_secrets(facts: Facts) -> Iterator[Step]:
    """Yield for each key that a route names whether it exists, without its value."""
    seen: set[KeyRef] = set()
    for route in routes_concerned(facts):
        for ref in key_refs(route):
            if ref not in seen:
                seen.add(ref)
                yield _secret(facts, route, ref)


def _secret(facts: Facts, route: Object, ref: KeyRef) -> Step:
    secret, key = ref
    answer = facts.secrets.get(secret)
    if answer is None or not (answer.there or answer.absent):
        why = answer.reason if answer else "it was not requested"
        return unchecked("secret", f"{why}; the operator reports that it exists")
    name = f"Secret {secret} of route {name_of(route)}"
    create = f"kubectl -n {facts.namespace} create secret generic {secret} --from-literal={key}=…"
    if answer.absent:
        return failed("secret", f"{name} does not exist in namespace {facts.namespace}", create)
    shape = answer.value.get(key)
    where = f"key {key} of {name}"
    if shape is None:
        keys = ", ".join(sorted(answer.value)) or "none"
        return failed("secret", f"{where} does not exist; its keys: {keys}", "add it")
    if shape == "empty":
        return failed("secret", f"{where} is empty", "put the credential in it")
    if shape == "broken":
        message = f"{where} contains characters not allowed in a header, such as a line break"
        return failed("secret", message, "store the bare credential")
    if shape == "prefixed" and _is_prefixed(route, ref):
        message = f"{where} begins with Bearer, which Thruway adds itself"
        return failed("secret", message, "store the bare key in it")
    if shape == "padded":
        return good(
            "secret",
            f"{where} has white space around its value, such as a trailing newline, which is "
            "removed: store the bare key instead (with `echo -n`)",
        )
    return good("secret", f"{where} exists")


def _is_prefixed(route: Object, ref: KeyRef) -> bool:
    """Whether the value has to be a bare key: Thruway adds `Bearer ` where it belongs."""
    spec = spec_of(route)
    for item in spec.destinations() if spec else ():
        credential = item.credential
        if credential and (credential.secret_key_ref.name, credential.secret_key_ref.key) == ref:
            header = (credential.header or "authorization").lower()
            ours = header == "authorization" if credential.prefix is None else credential.prefix
            if ours:
                return True
    return False
