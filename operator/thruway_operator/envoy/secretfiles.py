"""Secrets that Envoy reads from files that kubelet replaces at run time.

A secret in the bootstrap itself never reloads (observed with 1.40), so a small file next to the
bootstrap, which SDS reads, names the secret's file.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Final

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

__all__ = ["from_file", "secret_file", "watch"]

_TYPE: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def secret_file(name: str, secret: dict[str, object]) -> dict[str, str]:
    """Return name and text of the file that describes a secret; it contains only paths."""
    resource = {"@type": _TYPE, "name": name, **secret}
    return {f"{name}.json": json.dumps({"resources": [resource]})}


def watch(path: str) -> dict[str, object]:
    """Return the field that makes Envoy read `path` again."""
    return {"watched_directory": {"path": _watched(path)}}


def from_file(folder: str, name: str, *, awaited: str = "") -> secret_pb2.SdsSecretConfig:
    """Refer to the secret whose `secret_file` lies in `folder`.

    `awaited` is the file that it names, which may be missing at first. Envoy then rejects the
    secret, and never looks at the folder again (observed with 1.40), so a change of the folder must
    lead it back to the description.
    """
    source: dict[str, object] = {"path": str(PurePosixPath(folder) / f"{name}.json")}
    if awaited:
        source |= watch(awaited)
    return secret_pb2.SdsSecretConfig(
        name=name,
        sds_config={"path_config_source": source, "resource_api_version": "V3"},
    )


def _watched(path: str) -> str:
    # kubelet swaps a link in the folder (`..data`); the file itself never changes. A path through
    # that link is there as soon as it is swapped, one beside it a moment later.
    parent = PurePosixPath(path).parent
    return str(parent.parent if parent.name == "..data" else parent)
