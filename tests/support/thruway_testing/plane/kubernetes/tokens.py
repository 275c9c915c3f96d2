"""Tokens that no API server would issue: expired, short-lived, forged."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["claims_of", "forged", "lasting", "unsigned"]


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token says."""
    found: dict[str, Any] = json.loads(_decoded(token.split(".")[1]))
    return found


def lasting(token: str, seconds: float, key: Path) -> str:
    """Return the token as if it had been issued to expire so many seconds from now.

    `key` is the API server's own (`authority.service_account_key`).
    """
    now = time.time()
    times = {"iat": int(now - 700), "nbf": int(now - 700), "exp": int(now + seconds)}
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    return _signed(token, private, times)


def forged(token: str) -> str:
    """Return the same claims, signed by somebody else."""
    return _signed(token, rsa.generate_private_key(public_exponent=65537, key_size=2048), {})


def unsigned(token: str) -> str:
    """Return the same claims under the algorithm `none` (RFC 8725, 2.1)."""
    return f"{_encoded(json.dumps({'alg': 'none'}).encode())}.{token.split('.')[1]}."


def _signed(token: str, key: rsa.RSAPrivateKey, changes: dict[str, Any]) -> str:
    header = token.split(".", maxsplit=1)[0]
    payload = _encoded(json.dumps(claims_of(token) | changes).encode())
    signature = key.sign(f"{header}.{payload}".encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{header}.{payload}.{_encoded(signature)}"


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
