"""Secrets that Envoy reads from files which kubelet replaces under way.

A secret in the bootstrap itself never reloads (seen with 1.40), so a small file beside the
bootstrap, which SDS reads, names the file that holds it.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Final

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls_pb

__all__ = ["from_file", "secret_file", "watch"]

_TYPE: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def secret_file(name: str, secret: dict[str, object]) -> dict[str, str]:
    """Return name and text of the file that describes a secret; it holds paths alone."""
    resource = {"@type": _TYPE, "name": name, **secret}
    return {f"{name}.json": json.dumps({"resources": [resource]})}


def watch(path: str) -> dict[str, object]:
    """Return the field that makes Envoy read `path` again."""
    # kubelet swaps a link in the folder (`..data`); the file itself never changes.
    return {"watched_directory": {"path": str(PurePosixPath(path).parent)}}


def from_file(folder: str, name: str) -> tls_pb.SdsSecretConfig:
    """Refer to the secret whose `secret_file` lies in `folder`."""
    path = str(PurePosixPath(folder) / f"{name}.json")
    return tls_pb.SdsSecretConfig(
        name=name,
        sds_config=core.ConfigSource(
            path_config_source=core.PathConfigSource(path=path),
            resource_api_version=core.ApiVersion.V3,
        ),
    )
