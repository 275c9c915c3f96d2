"""Secrets change, go and come back while traffic runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography import x509

from thruway_testing.plane.cluster_user import CREDENTIAL, User, code_of, wait_answer
from thruway_testing.product.up import wait_until
from thruway_testing.upstreams.openai_upstream import OpenAIUpstream
from thruway_testing.upstreams.tls_front import TlsFront, server_context
from thruway_testing.wire.load import Load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.product.sidecar import Sidecar

OLD, NEW = "sk-canary-old-0123456789", "sk-canary-new-0123456789"


@pytest.fixture
def both() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream(accepted_keys={OLD, NEW}) as found:
        yield found


def keys_of(upstream: OpenAIUpstream, since: int = 0) -> set[str]:
    """Return the keys that requests brought, but for the first `since` ones."""
    found = (
        {name.lower(): value for name, value in request.headers}
        for request in upstream.requests[since:]
    )
    return {headers["authorization"].removeprefix("Bearer ") for headers in found}


def test_a_key_rotates_without_a_failed_request(
    control_plane: ControlPlane, namespace: str, sidecar: Sidecar, both: OpenAIUpstream
) -> None:
    user = User(control_plane.api, namespace)
    user.secret(OPENAI_API_KEY=OLD)
    user.apply("a", both.url, credential=CREDENTIAL)
    sidecar.wait_ready()
    wait_answer(f"{sidecar.url}/a/v1/models", 200)

    with Load([f"{sidecar.url}/a/v1/responses"], clients=4) as load:
        wait_until(lambda: load.done > 20, "traffic")
        user.secret(OPENAI_API_KEY=NEW)
        wait_until(lambda: both.requests_with("authorization", f"Bearer {NEW}"), "the new key")
        before = len(both.requests)
        seen = load.done
        wait_until(lambda: load.done > seen + 50, "more traffic")

    assert not load.failures
    assert keys_of(both, before + 20) == {NEW}


def test_without_its_secret_a_route_answers_clearly_and_nothing_goes_out_bare(
    control_plane: ControlPlane, namespace: str, sidecar: Sidecar, both: OpenAIUpstream
) -> None:
    user = User(control_plane.api, namespace)
    user.secret(OPENAI_API_KEY=OLD)
    user.apply("a", both.url, credential=CREDENTIAL)
    sidecar.wait_ready()
    url = f"{sidecar.url}/a/v1/models"
    own = {"Authorization": "Bearer sk-of-the-client"}
    wait_answer(url, 200, headers=own)

    user.delete_secret()
    refused = wait_answer(url, 503, headers=own)
    assert code_of(refused) == "credential_missing"
    user.wait_condition("a", "ResolvedRefs", "False", "SecretNotFound")

    user.secret(OPENAI_API_KEY=NEW)
    wait_answer(url, 200, headers=own)
    user.wait_condition("a", "ResolvedRefs", "True")
    assert keys_of(both) == {OLD, NEW}


def test_a_client_certificate_comes_from_a_secret_of_type_tls_and_rotates(
    control_plane: ControlPlane, namespace: str, sidecar: Sidecar, both: OpenAIUpstream
) -> None:
    authority = trustme.CA()
    user = User(control_plane.api, namespace)

    def certify() -> str:
        """Put a new certificate into the Secret; return its serial number."""
        issued = authority.issue_cert("client@shop.test")
        chain, key = issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()
        entries = {"tls.crt": chain.decode(), "tls.key": key.decode()}
        user.secret("client", "kubernetes.io/tls", **entries)
        return f"{x509.load_pem_x509_certificate(chain).serial_number:X}"

    user.secret("authority", **{"ca.crt": authority.cert_pem.bytes().decode()})
    user.secret(OPENAI_API_KEY=OLD)
    old = certify()
    with TlsFront(both.port, server_context(authority, "127.0.0.1", clients=authority)) as front:

        def shown() -> set[str]:
            return {str(shaken.client).lstrip("0") for shaken in front.handshakes}

        tls = {
            "caCertificateRef": {"kind": "Secret", "name": "authority"},
            "clientCertificateRef": {"name": "client"},
        }
        url = f"https://127.0.0.1:{front.port}"
        user.apply("a", url, credential=CREDENTIAL, upstream={"url": url, "tls": tls})
        sidecar.wait_ready()
        wait_answer(f"{sidecar.url}/a/v1/models", 200)
        assert shown() == {old}
        with Load([f"{sidecar.url}/a/v1/responses"], clients=4) as load:
            wait_until(lambda: load.done > 20, "traffic")
            new = certify()
            # Open connections live on; more clients make new ones.
            with Load([f"{sidecar.url}/a/v1/responses"], clients=32) as more:
                wait_until(lambda: new in shown(), "the new certificate")
        assert not load.failures + more.failures

        user.secret("client", "kubernetes.io/tls", **{"tls.crt": "none", "tls.key": "none"})
        refused = wait_answer(f"{sidecar.url}/a/v1/models", 503)
        assert code_of(refused) == "client_certificate_missing"
        user.wait_condition("a", "ResolvedRefs", "False", "ClientCertificateInvalid")
