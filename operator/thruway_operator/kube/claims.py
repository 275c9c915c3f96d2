"""Reads a ServiceAccount token's claims and the result of a TokenReview. Pure.

Sources: the TokenReview API and "Managing Service Accounts: schema for service account private
claims" in the Kubernetes documentation. A token's own claims can only lead to its rejection.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

from thruway_operator.resources.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["expiry", "identity_of"]

_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_USER: Final = "system:serviceaccount:"
_LONGEST: Final = 16_384  # a usual token has about 1,200 characters


def expiry(token: str, audience: str, now: float) -> float:
    """Return when a token expires according to its own claim, in seconds of Unix time.

    This saves requests to the API server for tokens that cannot be valid, and tells users what is
    wrong with them. `now` is our clock; the API server accepts a token for a minute longer.

    Raises:
        PermissionError: it is not a JWT, is not meant for the audience, or has expired.
    """
    claims = _claims(token)
    audiences = claims.get("aud")
    if audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise PermissionError(f"the token is not for the audience {audience!r}")
    expires = claims.get("exp")
    if not isinstance(expires, int | float) or isinstance(expires, bool):
        raise PermissionError("the token has no expiration time")
    if expires <= now:
        raise PermissionError("the token has expired")
    return float(expires)


def _claims(token: str) -> Mapping[str, Any]:
    try:
        if len(token) > _LONGEST:
            raise ValueError
        _, payload, _ = token.split(".")
        claims = json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4), b"-_", True))
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise PermissionError("the token is not a ServiceAccount token")
    return claims


def identity_of(review: Mapping[str, Any], audience: str, expires: float) -> Identity:
    """Return the identity that a TokenReview names.

    Raises:
        PermissionError: the token is not valid, or does not belong to a ServiceAccount in a pod.
    """
    status = review.get("status") or {}
    if status.get("authenticated") is not True:
        raise PermissionError(
            "the API server does not accept the token: it is forged or has expired, or its pod or "
            "ServiceAccount is gone"
        )
    if audience not in (status.get("audiences") or []):
        raise PermissionError(f"the API server did not check the audience {audience!r}")
    user = status.get("user") or {}
    namespace, _, account = str(user.get("username", "")).removeprefix(_USER).partition(":")
    if not (str(user.get("username", "")).startswith(_USER) and namespace and account):
        raise PermissionError("the token does not belong to a ServiceAccount")
    extra = user.get("extra") or {}
    pod, uid = (_only(extra.get(key)) for key in (_POD_NAME, _POD_UID))
    if not (pod and uid):
        raise PermissionError("the token is not bound to a pod: use a token of a projected volume")
    return Identity(namespace, account, pod, uid, expires)


def _only(values: object) -> str:
    return str(values[0]) if isinstance(values, list) and len(values) == 1 else ""
