"""HTTPS_PROXY, HTTP_PROXY and NO_PROXY, read as other programs read them."""

from __future__ import annotations

import subprocess

import pytest

from thruway_operator.resources.model import DefaultProxy
from thruway_operator.resources.secret import SecretValue
from thruway_operator.sources.files.proxyenv import (
    bypass_hint,
    environment_proxies,
    proxy_warnings,
)
from thruway_operator.sources.files.watch import SourceError


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("proxy.corp:3128", DefaultProxy("proxy.corp", 3128)),
        ("http://proxy.corp:3128/", DefaultProxy("proxy.corp", 3128)),
        (" HTTP://Proxy.Corp ", DefaultProxy("proxy.corp", 80)),
        ("https://proxy.corp", DefaultProxy("proxy.corp", 443, secure=True)),
        ("http://[::1]:3128", DefaultProxy("::1", 3128)),
        ("jo:pw@proxy.corp:1", DefaultProxy("proxy.corp", 1, login=SecretValue("jo:pw"))),
        ("http://jo:p%40@ss/x@h:1", DefaultProxy("h", 1, login=SecretValue("jo:p@@ss/x"))),
        ("http://jo@h:1", DefaultProxy("h", 1, login=SecretValue("jo:"))),
        ("", None),
        ("  ", None),
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_every_spelling_of_a_proxy(name: str, value: str, proxy: DefaultProxy | None) -> None:
    found = environment_proxies({name: value})
    assert (found.https, found.http) == (proxy, None)
    assert environment_proxies({name.replace("S_", "_").replace("s_", "_"): value}).http == proxy


def test_lower_case_goes_first_even_when_it_is_empty() -> None:
    assert environment_proxies({"HTTPS_PROXY": "a", "https_proxy": "b"}).https == DefaultProxy(
        "b", 80
    )
    assert environment_proxies({"HTTPS_PROXY": "a", "https_proxy": ""}).https is None
    assert environment_proxies({"NO_PROXY": "a", "no_proxy": ""}).direct == ()


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("socks5h://u:canary@h:1080", "names a SOCKS proxy"),
        ("ftp://u:canary@h", "must begin with http:// or https://"),
        ("http://u:canary@", "has no valid host name"),
        ("http://u:canary@h:0", "has no valid port"),
        ("http://u:canary@h:99999", "its port is not between"),
        ("http://u:canary@h:3128/x", "must not have a path"),
        ("http://u:canary@h?x", "must not contain a query"),
        ("http://u:canary@h h", "printable ASCII characters, without spaces"),
        ("http://u:canary%0a@h", "a login with characters not allowed in a header"),
        ("http://u:canary%ff@h", "a login with characters not allowed in a header"),
        (f"http://u:canary@{'h' * 1024}", "may be at most 1024 characters"),
    ],
)
def test_what_is_no_proxy_is_refused_without_repeating_it(value: str, why: str) -> None:
    with pytest.raises(SourceError) as caught:
        environment_proxies({"https_proxy": value})
    assert str(caught.value).startswith("The environment variable https_proxy ")
    assert str(caught.value).endswith(".")
    assert why in str(caught.value)
    assert "canary" not in str(caught.value)


def test_no_proxy_is_a_list_and_what_means_nothing_is_told() -> None:
    environment = {"NO_PROXY": "Corp.Test, .b.test *.c.test,10.0.0.0/8 , 10.*,<local>,[::1]:80,*"}
    assert environment_proxies(environment).direct == (
        *("corp.test", ".b.test", "*.c.test", "10.0.0.0/8", "[::1]:80", "*"),
    )
    first, second = proxy_warnings(environment)
    assert first == (
        "NO_PROXY contains 10.*, which is not a host name, address or network: it is ignored."
    )
    assert "<local>" in second


LOCAL = ("127.0.0.1", "localhost")
PROXY = "http://proxy.corp:3128"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HTTP_PROXY": ""},
        {"NO_PROXY": ".corp"},
        {"HTTP_PROXY": PROXY, "NO_PROXY": "localhost, 127.0.0.1"},
        {"https_proxy": PROXY, "no_proxy": "*"},
        {"ALL_PROXY": PROXY, "NO_PROXY": "LOCALHOST 127.0.0.1", "no_proxy": "127.0.0.1,localhost"},
    ],
)
def test_programs_that_call_directly_need_no_hint(environment: dict[str, str]) -> None:
    assert bypass_hint(environment, LOCAL) == ""


@pytest.mark.parametrize(
    "environment",
    [
        {"HTTP_PROXY": PROXY},
        {"http_proxy": PROXY, "NO_PROXY": ".corp"},
        {"ALL_PROXY": PROXY, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": ".corp"},
        {"HTTPS_PROXY": PROXY, "no_proxy": "localhost,*"},
    ],
)
def test_the_hint_for_a_shell_with_a_proxy_works(environment: dict[str, str]) -> None:
    hint = bypass_hint(environment, LOCAL)
    script = f'{hint}\nprintf \'%s\\n\' "$NO_PROXY" "$no_proxy"'
    shell = subprocess.run(
        ["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    upper, lower = shell.stdout.splitlines()
    assert upper == lower
    assert set(LOCAL) <= set(upper.split(","))
    own = environment.get("no_proxy") or environment.get("NO_PROXY", "")
    assert set(own.split(",")) <= {*upper.split(","), ""}
    assert bypass_hint({**environment, "NO_PROXY": upper, "no_proxy": lower}, LOCAL) == ""
