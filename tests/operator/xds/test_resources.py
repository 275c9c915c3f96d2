"""Resources: bytes on the wire, content-hash versions, and secrets that never show."""

from __future__ import annotations

import traceback

import hypothesis.strategies as st
import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given

from thruway_operator import xds
from thruway_operator.xds import CLUSTER, ROUTE, SECRET, Resource, snapshot_of
from thruway_operator.xds.protocol.refusal import refusal_text
from thruway_operator.xds.protocol.resources import encode_response, revoked
from thruway_testing.plane.fragments import fragment_of

KEY = b"sk-very-secret"


def test_exported_members() -> None:
    """What the package promises exists, and is documented."""
    for name in xds.__all__:
        assert getattr(xds, name) is not None
    assert xds.__doc__


@given(st.lists(st.tuples(st.text(min_size=1), st.binary())), st.lists(st.text(min_size=1)))
def test_a_response_is_what_protobuf_would_make(
    items: list[tuple[str, bytes]], removed: list[str]
) -> None:
    """The concatenated bytes parse to exactly the response that was meant."""
    resources = [Resource.of(ROUTE, name, body) for name, body in items]
    data = encode_response(ROUTE, "7", "3", resources, removed)
    response = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
    assert (response.type_url, response.nonce, response.system_version_info) == (ROUTE, "7", "3")
    assert list(response.removed_resources) == removed
    assert [(r.name, r.resource.value) for r in response.resources] == items
    assert [r.version for r in response.resources] == [r.version for r in resources]
    assert all(r.resource.type_url == ROUTE for r in response.resources)


@given(st.binary(), st.binary())
def test_versions_follow_content(one: bytes, other: bytes) -> None:
    """Equal content, equal version; other content, another version."""
    a, b = (Resource.of(CLUSTER, "c", body).version for body in (one, other))
    assert (a == b) == (one == other)


def test_a_secret_shows_nowhere() -> None:
    """Neither repr, str, format nor a traceback of an error about it hold a secret's bytes."""
    secret = Resource.of(SECRET, "name", KEY)
    fragment = fragment_of("id", (), (secret,), routes="opaque")
    snapshot = snapshot_of([secret])
    texts = [repr(x) for x in (secret, fragment, snapshot)] + [f"{secret} {fragment}"]
    with pytest.raises(TypeError) as caught:
        secret + fragment  # type: ignore[operator]
    texts += traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    assert not any(KEY.decode() in text for text in texts)


def test_a_revoked_secret_is_empty() -> None:
    """It is a valid secret of the same name without a value."""
    message = secret_pb2.Secret.FromString(revoked("k").body)
    assert message.name == "k"
    assert message.generic_secret.secret.inline_string == ""
    assert message.generic_secret.secret.HasField("inline_string")


class TestRefusalText:
    def test_withholds_what_may_quote_a_secret(self) -> None:
        assert "sk-1" not in refusal_text(SECRET, "bad value sk-1")
        harmless = "Failed to load trusted CA certificates from <inline>"
        assert refusal_text(SECRET, harmless) == harmless

    def test_leaves_dumps_out(self) -> None:
        dump = (
            'goo.gle/debugproto    \nname: "thruway"\nvirtual_hosts {\n  name: "other"\n}\n: Proto'
        )
        for mark in ("debugproto", "debugstr", "debugonly"):  # each start of Envoy takes one
            said = dump.replace("debugproto", mark) + " constraint validation failed (Route: x)"
            text = refusal_text(ROUTE, said)
            assert text == "Proto constraint validation failed (Route: x)"
        duration = "Invalid duration: Expected positive duration: goo.gle/debugproto\nseconds: -1\n"
        assert refusal_text(CLUSTER, duration) == "Invalid duration: Expected positive duration:"

    def test_is_bounded_and_never_empty(self) -> None:
        assert len(refusal_text(ROUTE, "x" * 5000)) == 1000
        assert refusal_text(ROUTE, "")
