"""Who is reached directly, and which proxy leads to the others."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from thruway_operator import ir
from thruway_operator.api.route import PassthroughRoute, PassthroughRouteSpec
from thruway_operator.envoy.clusters import tunnels
from thruway_operator.resources.model import DefaultProxy, ForwardProxies
from thruway_operator.resources.secret import SecretValue
from thruway_operator.translate import Resources, Translation, translate
from thruway_operator.translate.forwardproxy import is_direct, is_direct_entry
from thruway_operator.translate.upstream import read_url

DEFAULTS = ForwardProxies(
    https=DefaultProxy("secure.corp", 3128, login=SecretValue("jo:pw")),
    http=DefaultProxy("plain.corp", 3128),
    direct=("inside.test",),
)


@pytest.mark.parametrize(
    ("entry", "direct", "proxied"),
    [
        ("corp.test", ["corp.test", "a.corp.test", "A.B.Corp.test."], ["xcorp.test", "test"]),
        (".corp.test", ["corp.test", "a.corp.test"], ["xcorp.test"]),
        ("*.corp.test", ["a.corp.test"], ["xcorp.test"]),
        ("corp.test.", ["corp.test"], ["other.test"]),
        ("corp.test:8443", ["corp.test:8443"], ["corp.test", "corp.test:443"]),
        ("*", ["corp.test", "192.0.2.1", "[2001:db8::1]"], []),
        ("*:8443", ["corp.test:8443"], ["corp.test"]),
        ("192.0.2.1", ["192.0.2.1"], ["192.0.2.10", "a192.0.2.1.test"]),
        ("192.0.2.1:443", ["192.0.2.1"], ["192.0.2.1:444"]),
        ("192.0.2.0/24", ["192.0.2.1", "192.0.2.255"], ["192.0.3.1", "[2001:db8::1]", "h.test"]),
        ("2001:db8::/32", ["[2001:db8::1]"], ["[2001:db9::1]", "192.0.2.1"]),
        ("2001:db8::1", ["[2001:db8:0::1]"], ["[2001:db8::2]"]),
        ("[2001:db8::1]:443", ["[2001:db8::1]"], ["[2001:db8::1]:444"]),
        ("1", [], ["corp.test"]),
    ],
)
def test_entries_of_no_proxy(entry: str, direct: list[str], proxied: list[str]) -> None:
    assert is_direct_entry(entry)
    found = {
        host: is_direct(read_url(f"https://{host}", "url"), (entry,)) for host in direct + proxied
    }
    assert found == dict.fromkeys(direct, True) | dict.fromkeys(proxied, False)


@pytest.mark.parametrize("entry", ["10.*", "<local>", "10.0.0.0/99", "a b", "", ":80", "http://h"])
def test_entries_that_mean_nothing(entry: str) -> None:
    assert not is_direct_entry(entry)


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.1.2.3", "[::1]", "localhost."])
def test_this_machine_is_reached_directly_by_default(host: str) -> None:
    assert is_direct(read_url(f"http://{host}:4100", "url"), ())


def translated(upstream: dict[str, Any], **more: Any) -> Translation:
    spec = PassthroughRouteSpec.model_validate({"path": "/a", "upstream": upstream})
    route = PassthroughRoute(name="a", spec=spec)
    return translate(Resources(routes=(route,), **more))


def endpoint_of(translation: Translation) -> ir.Endpoint:
    [route] = translation.config.routes
    outcome = route.branches[-1].outcome
    assert isinstance(outcome, ir.Target)
    return outcome.endpoint


def proxy_of(translation: Translation) -> ir.ForwardProxy | None:
    return endpoint_of(translation).proxy


def message_of(translation: Translation) -> str:
    [verdict] = translation.verdicts.values()
    return verdict.accepted.message


def test_defaults_are_by_scheme_and_give_way_to_the_routes_own() -> None:
    https = translated({"url": "https://h.test"}, proxies=DEFAULTS)
    login = "proxy:default/https"
    assert proxy_of(https) == ir.ForwardProxy("secure.corp", 3128, False, login)
    assert https.config.secrets[login].reveal() == base64.b64encode(b"jo:pw").decode()
    plain = translated({"url": "http://h.test"}, proxies=DEFAULTS)
    assert proxy_of(plain) == ir.ForwardProxy("plain.corp", 3128)
    assert plain.config.secrets == {}
    assert proxy_of(translated({"url": "https://a.inside.test"}, proxies=DEFAULTS)) is None
    none = {"url": "https://h.test", "proxy": {"url": ""}}
    assert proxy_of(translated(none, proxies=DEFAULTS)) is None
    own = {"url": "https://a.inside.test", "proxy": {"url": "https://own.corp"}}
    assert proxy_of(translated(own, proxies=DEFAULTS)) == ir.ForwardProxy("own.corp", 443, True)


def test_a_proxy_that_is_thruway_itself_is_refused() -> None:
    own = frozenset({("here.test", 4000)})
    asked = {"url": "https://h.test", "proxy": {"url": "http://here.test.:4000"}}
    assert "spec.upstream.proxy.url leads back" in message_of(translated(asked, own_addresses=own))
    defaults = ForwardProxies(https=DefaultProxy("here.test", 4000))
    loop = translated({"url": "https://h.test"}, proxies=defaults, own_addresses=own)
    assert "unset HTTPS_PROXY" in message_of(loop)


def test_plain_http1_takes_the_absolute_form_and_everything_else_the_tunnel() -> None:
    def way(url: str, protocol: str = "Auto") -> tuple[bool, bool]:
        upstream = {"url": url, "protocol": protocol, "proxy": {"url": "http://p.corp:1"}}
        endpoint = endpoint_of(translated(upstream))
        return tunnels(endpoint), tunnels(endpoint, upgrades=True)

    assert way("https://h.test") == (True, True)
    assert way("http://h.test") == (False, True)
    assert way("http://h.test", "HTTP1") == (False, True)
    assert way("http://h.test", "HTTP2") == (True, True)
    assert not tunnels(endpoint_of(translated({"url": "https://h.test"})))
