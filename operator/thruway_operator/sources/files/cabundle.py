"""Finds the machine's CA bundle, which Envoy gets by SDS to verify upstreams."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import certifi

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CABundleError", "extra_ca_bundle", "system_ca_bundle"]

# Debian and Ubuntu; Fedora and RHEL; Alpine, macOS and the BSDs.
_PLACES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


class CABundleError(Exception):
    """The requested CA bundle is unusable; the message is a complete sentence."""


def system_ca_bundle(environment: Mapping[str, str]) -> str:
    """Return the CA bundle as PEM: from `SSL_CERT_FILE`, the system, or certifi.

    Raises:
        CABundleError: `SSL_CERT_FILE` does not name a readable PEM file.
    """
    asked = environment.get("SSL_CERT_FILE")
    if asked:
        return _asked(Path(asked))
    for place in (ssl.get_default_verify_paths().cafile, *_PLACES):
        if place and (found := _read(Path(place))):
            return found
    return Path(certifi.where()).read_text(encoding="utf-8")


def extra_ca_bundle(path: Path | None) -> str:
    """Return the CA bundle in a file as PEM; "" for none.

    Raises:
        CABundleError: it is not a readable PEM file.
    """
    if path is None:
        return ""
    found = _read(path)
    if found is None:
        raise CABundleError(
            f"{path} is not a readable PEM file of certificates: correct it, or omit "
            "--extra-authorities"
        )
    return found


def _asked(path: Path) -> str:
    found = _read(path)
    if found is None:
        raise CABundleError(
            f"SSL_CERT_FILE names {path}, which is not a readable PEM file of certificates: "
            "correct it, or unset it to use the system's"
        )
    return found


def _read(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text if "-----BEGIN CERTIFICATE-----" in text else None
