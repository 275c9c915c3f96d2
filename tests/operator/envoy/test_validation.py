"""What `thruway check` hands to Envoy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thruway_operator.api.route import PassthroughRoute
from thruway_operator.envoy import validation
from thruway_operator.resources.secret import SecretValue
from thruway_operator.sources.files.cabundle import system_ca_bundle
from thruway_operator.translate import Resources, translate

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CANARY = "sk-canary-5Tz"


def test_no_secret_is_written_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the credential nor the keys of clients, of which Envoy refuses two alike."""
    auth = {"type": "APIKey", "secretRef": {"name": "clients"}}
    credential = {"secretKeyRef": {"name": "keys", "key": "real"}}
    route = PassthroughRoute.model_validate(
        {
            "namespace": "default",
            "name": "a",
            "spec": {
                "path": "/a",
                "provider": "openai",
                "clientAuth": auth,
                "credential": credential,
            },
        }
    )
    secrets = {
        ("default", "clients"): {
            "one": SecretValue(f"{CANARY}-1"),
            "two": SecretValue(f"{CANARY}-2"),
        },
        ("default", "keys"): {"real": SecretValue(CANARY)},
    }
    config = translate(Resources((route,), secrets)).config
    assert config.routes[0].clients
    written: list[bytes] = []

    def look(bootstrap: bytes, folder: Path) -> str:
        written.append(bootstrap)
        return refusal(bootstrap, folder)

    refusal = validation.envoy_refusal
    monkeypatch.setattr(validation, "envoy_refusal", look)

    assert validation.culprits(config, system_ca_bundle({})) == {}
    assert written
    assert all(CANARY.encode() not in bootstrap for bootstrap in written)
