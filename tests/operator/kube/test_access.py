"""The way to the cluster that kubectl would take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from thruway_operator.kube import load_access

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("context", "server", "namespace"),
    [(None, "http://a", "here"), ("a", "http://a", "here"), ("b", "http://b", "default")],
)
def test_server_and_namespace_are_those_of_the_context(
    tmp_path: Path, context: str | None, server: str, namespace: str
) -> None:
    path = tmp_path / "config"
    contexts = {"a": {"cluster": "a", "user": "u", "namespace": "here"},
                "b": {"cluster": "b", "user": "u"}}  # fmt: skip
    config = {
        "clusters": [{"name": name, "cluster": {"server": f"http://{name}"}} for name in "ab"],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": name, "context": item} for name, item in contexts.items()],
        "current-context": "a",
    }
    path.write_text(json.dumps(config))

    access = load_access({}, kubeconfig=str(path), context=context)

    assert (access.server, access.namespace) == (server, namespace)
