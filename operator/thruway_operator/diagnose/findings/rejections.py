"""Checks whether Thruway rejects the requests of applications, by a proxy's latest calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from thruway_operator.diagnose.findings.baseurls import routes_concerned
from thruway_operator.diagnose.findings.conventions import name_of
from thruway_operator.diagnose.findings.recentcalls import STREAK
from thruway_operator.diagnose.findings.routes import spec_of
from thruway_operator.diagnose.findings.steps import failed, good, unchecked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from thruway_operator.diagnose.findings.facts import Facts
    from thruway_operator.diagnose.findings.proxies import Proxy
    from thruway_operator.diagnose.findings.recentcalls import Call
    from thruway_operator.diagnose.findings.states import Trouble
    from thruway_operator.diagnose.findings.steps import Step

__all__ = ["check_requests"]

_NAME: Final = "requests"


def check_requests(facts: Facts, proxy: Proxy) -> Iterator[Step]:
    """Yield whether the latest requests are accepted; at the gateway those of these routes."""
    answer = proxy.inside.calls
    if not answer.there:
        yield unchecked(_NAME, f"{proxy.subject}: {answer.reason}")
        return
    calls = _of_interest(facts, proxy, answer.value)
    if not calls:
        yield unchecked(_NAME, f"{proxy.subject} has received none in the last minute")
        return
    newest = calls[-STREAK:]
    if newest[-1].is_refused and len({call.code for call in newest}) == 1:
        what, remedy = _why(facts, newest[-1])
        message = f"{proxy.subject} rejects the latest requests with {newest[-1].code}"
        yield failed(_NAME, f"{message}: {what}", remedy)
        return
    refused = {call.code: None for call in calls if call.is_refused}
    some = f"; some of the last {len(calls)} were rejected: {', '.join(refused)}" if refused else ""
    yield good(_NAME, f"{proxy.subject} accepts the latest requests{some}")


def _of_interest(facts: Facts, proxy: Proxy, calls: Sequence[Call]) -> list[Call]:
    """Leave out calls that the client ended, and at the gateway those of other namespaces."""
    ours = {f"{facts.namespace}/{name_of(route)}" for route in routes_concerned(facts)}
    return [
        call for call in calls if not call.is_ended and (not proxy.is_gateway or call.route in ours)
    ]


def _why(facts: Facts, call: Call) -> Trouble:
    if call.code in {"missing_api_key", "invalid_api_key"}:
        route = call.route.partition("/")[2]
        secret = _clients(facts, route)
        has = "no key" if call.code == "missing_api_key" else "another key"
        return (
            f"route {route} requires a key of its clients (clientAuth), and the request has {has}",
            f"set the API key of the application (OPENAI_API_KEY) to one of the keys in Secret "
            f"{secret}, or remove clientAuth from the route",
        )
    if call.code == "route_not_found":
        return (
            f"no route has the path {call.path}",
            "correct the application's base URL, or the path of the route",
        )
    what = f"the path is {call.path}"
    return what, f"docs/errors.md says what {call.code} means and what to do"


def _clients(facts: Facts, name: str) -> str:
    for route in routes_concerned(facts):
        spec = spec_of(route)
        if name_of(route) == name and spec and spec.client_auth.secret_ref:
            return spec.client_auth.secret_ref.name
    return "of its clientAuth"
