from __future__ import annotations

import pytest

from thruway_operator.kube import Access, KubeClient


@pytest.fixture
def client() -> KubeClient:
    """One that nobody answers."""
    return KubeClient(Access("http://127.0.0.1:1", tls=False, authorization=lambda: ""))
