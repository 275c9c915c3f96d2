"""What docs/sidecar.md says: its manifests are applied, its annotations are those that are read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from thruway_operator.sidecar.decide import Injected, Namespace, facts_of, inject
from thruway_operator.sidecar.decide.options import ANNOTATIONS, read_options
from thruway_operator.sources.files.documents import parse_documents
from thruway_operator.sources.files.manifests import read_manifests
from thruway_testing.plane.envoy import wait_until
from thruway_testing.plane.kubernetes.pods import ensure_namespace
from thruway_testing.product.injection import SETTINGS

if TYPE_CHECKING:
    from thruway_testing.plane.kubernetes.control_plane import ControlPlane

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "sidecar.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
DOCUMENTS = [item for block in BLOCKS for item in yaml.safe_load_all(block)]
STUBS = {
    "networking.istio.io/v1": ["ServiceEntry", "DestinationRule"],
    "security.istio.io/v1": ["PeerAuthentication"],
}
PLURALS = {
    "ServiceEntry": "serviceentries",
    "DestinationRule": "destinationrules",
    "PeerAuthentication": "peerauthentications",
    "PassthroughRoute": "passthroughroutes",
}


def _stub(version: str, kind: str) -> dict[str, Any]:
    """A definition of the mesh's that takes anything."""
    group, _, name = version.partition("/")
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURALS[kind]}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": PLURALS[kind], "singular": kind.lower()},
            "versions": [
                {
                    "name": name,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def test_its_manifests_can_be_applied(own_control_plane: ControlPlane) -> None:
    api = own_control_plane.api
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    route_definition = DOCS.parent / "charts" / "thruway" / "files" / "crds"
    for definition in (
        *(_stub(version, kind) for version, kinds in STUBS.items() for kind in kinds),
        *(yaml.safe_load(file.read_text()) for file in route_definition.glob("*.yaml")),
    ):
        api.apply(f"{definitions}/{definition['metadata']['name']}", definition)
    ensure_namespace(api, "thruway-system")
    kinds = []
    for document in DOCUMENTS:
        if "kind" not in document:
            continue
        kinds.append(document["kind"])
        namespace = document["metadata"].get("namespace", "default")
        plural = PLURALS[document["kind"]]
        path = (
            f"/apis/{document['apiVersion']}/namespaces/{namespace}/{plural}/"
            f"{document['metadata']['name']}"
        )

        def applied() -> bool:
            try:
                api.apply(path, document)  # noqa: B023
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 404:  # the definition is not served yet
                    raise
                return False
            return True

        wait_until(applied, "it is applied", 20)
    assert sorted(kinds) == sorted(PLURALS)


def test_its_route_is_what_applications_are_told_of() -> None:
    example = DOCS.parent / "examples" / "sidecar" / "route.yaml"
    assert yaml.safe_load(BLOCKS[0]) == yaml.safe_load(example.read_text())
    parsed, problems = parse_documents(BLOCKS[0], "sidecar.md")
    assert not problems
    (placed,) = read_manifests(parsed).routes
    pod = {"spec": {"containers": [{"name": "app"}]}}
    namespace = Namespace("shop", {"thruway.dev/inject": "enabled"})
    found = inject(pod, namespace, SETTINGS, [facts_of(placed.resource(""))])
    assert isinstance(found, Injected)
    assert found.warnings == ()
    for item in found.pod["spec"]["containers"][0]["env"]:
        assert item["name"] in TEXT
        assert item["value"] == "thruway" or f"OPENAI_BASE_URL={item['value']}" in TEXT


def test_its_annotations_pass_by_the_mesh() -> None:
    templates = [item["metadata"]["annotations"] for item in DOCUMENTS if "kind" not in item]
    (annotations,) = [item for item in templates if "istio" in str(item)]
    port = SETTINGS.operator.rpartition(":")[2]
    assert set(annotations.values()) == {port}


def test_its_other_annotations_are_the_injectors() -> None:
    templates = [item["metadata"]["annotations"] for item in DOCUMENTS if "kind" not in item]
    ours = [item for item in templates if "istio" not in str(item)]
    assert len(ours) == 2
    for found in ours:
        read_options(found, SETTINGS)
        assert found.keys() <= set(ANNOTATIONS)


def test_every_annotation_is_in_the_table() -> None:
    for name in ANNOTATIONS:
        short = name.removeprefix("thruway.dev/")
        part, _, rest = short.partition("-")
        shortened = f"`-{rest}`" in TEXT and f"`thruway.dev/{part}-" in TEXT
        assert f"`{name}`" in TEXT or shortened, name


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT):
        assert (DOCS / target).exists(), target
