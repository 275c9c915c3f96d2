"""Upstream URLs: read exactly, or refused without being repeated."""

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thruway_operator.translate.upstream import Address, read_url
from thruway_operator.translate.verdict import Refused

CANARY = "sk-canary-4Yq"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://api.openai.com", Address(True, "api.openai.com", 443, "", "api.openai.com")),
        ("https://h.example/", Address(True, "h.example", 443, "", "h.example")),
        ("HTTP://H.Example:80/A/", Address(False, "h.example", 80, "/A", "h.example")),
        ("http://h.example:443", Address(False, "h.example", 443, "", "h.example:443")),
        ("https://h.example:80", Address(True, "h.example", 80, "", "h.example:80")),
        ("http://h.example/a%2Fb", Address(False, "h.example", 80, "/a%2Fb", "h.example")),
        ("http://h.example./v1", Address(False, "h.example.", 80, "/v1", "h.example.")),
        ("http://my_svc:8000", Address(False, "my_svc", 8000, "", "my_svc:8000")),
        ("http://[2001:DB8::0:1]", Address(False, "2001:db8::1", 80, "", "[2001:db8::1]")),
        ("https://[::1]:8443/", Address(True, "::1", 8443, "", "[::1]:8443")),
        ("http://192.0.2.1:65535", Address(False, "192.0.2.1", 65535, "", "192.0.2.1:65535")),
    ],
)
def test_parts(url: str, address: Address) -> None:
    assert read_url(url, "f") == address


@pytest.mark.parametrize(
    ("url", "is_ip"), [("http://192.0.2.1", True), ("http://[::1]", True), ("http://h", False)]
)
def test_addresses_are_told_from_names(url: str, is_ip: bool) -> None:
    assert read_url(url, "f").is_ip is is_ip


schemes = st.sampled_from(["http", "https", "HTTPS", "ftp"])
hosts = st.text("aB0-_.%:[]@", max_size=10)
parts = st.text("aA0-._~%2Ee/?#@:;\\ \t\x7fé", max_size=12)


@given(st.builds("{}://{}{}".format, schemes, hosts, parts))
@example("http://[::1%25eth0]")
@example("http://a.example/%2e./b")
def test_what_is_read_is_what_is_dialled(url: str) -> None:
    """A URL made of what was read reads the same, and only clean hosts and paths are accepted."""
    try:
        address = read_url(url, "f")
    except Refused:
        return
    scheme = "https" if address.secure else "http"
    assert read_url(f"{scheme}://{address.authority}{address.base}", "f") == address
    assert 1 <= address.port <= 65535
    assert not address.base.endswith("/")
    assert not {".", "..", ""} & {*address.base.lower().replace("%2e", ".").split("/")[1:]}
    assert address.is_ip or all(address.host.removesuffix(".").split("."))


@given(st.text(max_size=20) | st.builds("http://{}".format, st.text(max_size=20)))
def test_anything_is_read_or_refused(url: str) -> None:
    """Whatever the text, there is an address or one sentence that begins with the field."""
    try:
        read_url(url, "spec.upstream.url")
    except Refused as refused:
        assert refused.reason == "Invalid"  # noqa: PT017
        assert refused.message.startswith("spec.upstream.url ")  # noqa: PT017


@given(st.text("/:@?#[]% .é\x00", max_size=4), st.text("/:@?#[]% .é\x00", max_size=4))
def test_a_refused_url_is_not_repeated(before: str, after: str) -> None:
    """What is said of a URL never holds a part of it: that may be a password."""
    try:
        read_url(f"http://{before}{CANARY}{after}\x7f", "f")
    except Refused as refused:
        assert CANARY not in refused.message  # noqa: PT017
        assert refused.__cause__ is None  # noqa: PT017
    else:
        pytest.fail("a control character was accepted")


@given(st.ip_addresses())
def test_any_ip_address_is_an_upstream(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Every address that Python knows is dialled as itself."""
    shown = f"[{address}]" if address.version == 6 else str(address)
    assert ipaddress.ip_address(read_url(f"http://{shown}:81", "f").host) == address
