"""Secrets that Envoy reads from files which kubelet replaces under way.

A secret in the bootstrap itself never reloads (seen with 1.40), so a small file beside the
bootstrap, which SDS reads, names the file that holds it.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Final

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

__all__ = ["from_file", "secret_file", "watch"]

_TYPE: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def secret_file(name: str, secret: dict[str, object]) -> dict[str, str]:
    """Return name and text of the file that describes a secret; it holds paths alone."""
    resource = {"@type": _TYPE, "name": name, **secret}
    return {f"{name}.json": json.dumps({"resources": [resource]})}


def watch(path: str) -> dict[str, object]:
    """Return the field that makes Envoy read `path` again."""
    return {"watched_directory": {"path": _watched(path)}}


def from_file(folder: str, name: str, *, awaited: str = "") -> secret_pb2.SdsSecretConfig:
    """Refer to the secret whose `secret_file` lies in `folder`.

    `awaited`: the file that it names, which may be missing at first. Envoy then refuses the secret
    and never looks at the folder again (seen with 1.40), so that the folder has to lead it back to
    the description.
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
