"""xDS as a cluster has it, in the test's own event loop: TLS, TokenReview, a group a namespace.

async with XdsPlane(control_plane) as xds:
    xds.server.publish(namespace_group("team"), fragments)
    async with xds.client(pod.token()) as proxy:
        await proxy.start(pod.node_id)
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from thruway_operator.controller.groups import group_of
from thruway_operator.envoy.fragments import assemble, render_fragments
from thruway_operator.kube import KubeClient, load_access
from thruway_operator.kube.tokens import TokenReviewer
from thruway_operator.sources.files.documents import parse_documents
from thruway_operator.sources.files.manifests import read_manifests
from thruway_operator.translate import translate
from thruway_operator.xds import XdsServer
from thruway_testing.plane.kubernetes.pods import create_pod
from thruway_testing.plane.xds_client import XdsClient
from thruway_testing.product.golden import resources_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thruway_operator.xds import Fragment, Snapshot
    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.product.manifests import Document

__all__ = ["SERVER_NAME", "XdsPlane", "rendered"]

SERVER_NAME = "thruway-operator"
_GROUP = "rbac.authorization.k8s.io"


class XdsPlane:
    """An async context manager. `review_every` and `fresh` are the server's and the reviewer's.

    The API server is asked with one right alone: to create TokenReviews. `pair`: certificate and
    key; by default of the control plane's authority.
    """

    def __init__(
        self,
        plane: ControlPlane,
        *,
        gateway: tuple[str, str] | None = None,
        review_every: float = 60.0,
        fresh: float = 5.0,
        make: Callable[[Sequence[Fragment]], Snapshot] | None = None,
        pair: tuple[Path, Path] | None = None,
    ) -> None:
        self._plane = plane
        self._gateway = gateway
        self._fresh = fresh
        self._pair = pair or plane.authority.issue("xds", SERVER_NAME, hosts=[SERVER_NAME])
        self._server = functools.partial(
            XdsServer,
            make or functools.partial(assemble, keep_browsers_out=False),
            group_of=lambda node: group_of(node.identity, self._gateway),
            review_every=review_every,
            linger=0.1,
        )
        self.authorities = plane.authority.certificate
        self.port = 0

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="thruway-xds-"))
            access = load_access({}, kubeconfig=str(self._login(Path(folder))))
            client = await stack.enter_async_context(KubeClient(access))
            reviewer = TokenReviewer(client, fresh=self._fresh)
            self.server = self._server(authenticate=reviewer.authenticate)
            await self.start()
            stack.push_async_callback(self.server.stop)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(self) -> None:
        """Serve, at the same port as before if there was one."""
        self.port = await self.server.start(f"127.0.0.1:{self.port}", tls=self._pair)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return "127.0.0.1", self.port

    def client(self, token: str | None) -> XdsClient:
        """Return a client that presents this token."""
        return XdsClient(
            f"127.0.0.1:{self.port}",
            authorities=self.authorities.read_bytes(),
            server_name=SERVER_NAME,
            token=token,
        )

    def _login(self, folder: Path) -> Path:
        api, name = self._plane.api, f"thruway-xds-{uuid.uuid4().hex[:8]}"
        pod = create_pod(api, name, "operator", "operator")
        rule = {
            "apiGroups": ["authentication.k8s.io"],
            "resources": ["tokenreviews"],
            "verbs": ["create"],
        }
        api.post(f"/apis/{_GROUP}/v1/clusterroles", {"metadata": {"name": name}, "rules": [rule]})
        subject = {"kind": "ServiceAccount", "name": "operator", "namespace": name}
        binding: dict[str, Any] = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": name},
            "subjects": [subject],
        }
        api.post(f"/apis/{_GROUP}/v1/clusterrolebindings", binding)
        token = folder / "token"
        token.write_text(pod.token("https://kubernetes.default.svc"))
        return self._plane.kubeconfig_for_token(token)


def rendered(*documents: Document) -> dict[str, Fragment]:
    """Return what routes (and Secrets) are rendered to."""
    parsed, broken = parse_documents(yaml.safe_dump_all(documents), "test.yaml")
    assert not broken, broken
    manifests = read_manifests(parsed)
    assert not manifests.problems, manifests.problems
    return dict(render_fragments(translate(resources_of(manifests)).config, ""))
