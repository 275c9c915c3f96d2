"""Documents to resources: what is read, what is left out, and what is wrong where."""

import base64
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from thruway_operator.sources.files.documents import parse_documents
from thruway_operator.sources.files.manifests import Manifests, read_manifests

CANARY = "sk-canary-4Yq"
ROUTE = """\
apiVersion: thruway.dev/v1alpha1
kind: PassthroughRoute
metadata:
  name: openai
spec:
  path: /openai_passthrough
  provider: openai
"""


def read(text: str) -> Manifests:
    documents, problems = parse_documents(text, "f.yaml")
    assert problems == []
    return read_manifests(documents)


def problem(text: str) -> str:
    """Return the one problem of a text."""
    manifests = read(text)
    (found,) = map(str, manifests.problems)
    assert CANARY not in found
    return found


def secret(**parts: Any) -> str:
    return yaml.safe_dump({"kind": "Secret", "metadata": {"name": "s"}, **parts})


def revealed(manifests: Manifests) -> dict[tuple[str, str], dict[str, str]]:
    return {
        key: {name: value.reveal() for name, value in entries.items()}
        for key, entries in manifests.secrets.items()
    }


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def test_a_route_a_secret_and_a_config_map() -> None:
    text = ROUTE + "---\n" + secret(stringData={"k": "v"}) + (
        "---\nkind: ConfigMap\nmetadata: {name: ca, namespace: team}\ndata: {ca.crt: PEM}\n"
    )  # fmt: skip
    manifests = read(text)
    assert (manifests.problems, manifests.warnings) == ([], [])
    (placed,) = manifests.routes
    route = placed.resource("00000007")
    assert (route.id, route.created, route.spec.path) == (
        "default/openai", "00000007", "/openai_passthrough",
    )  # fmt: skip
    assert revealed(manifests) == {("default", "s"): {"k": "v"}}
    assert manifests.config_maps == {("team", "ca"): {"ca.crt": "PEM"}}


def test_a_list_is_read_as_its_items() -> None:
    items = [yaml.safe_load(ROUTE), yaml.safe_load(secret(stringData={"k": "v"}))]
    manifests = read(yaml.safe_dump({"kind": "List", "apiVersion": "v1", "items": items}))
    assert (manifests.problems, manifests.warnings) == ([], [])
    assert len(manifests.routes) == len(manifests.secrets) == 1


@pytest.mark.parametrize("items", ["", "items:", "items: []"])
def test_an_empty_list_is_nothing(items: str) -> None:
    assert read(f"kind: List\n{items}") == Manifests()


@pytest.mark.parametrize("items", ["items: 5", "items: {a: b}", "items: text"])
def test_a_list_of_nothing_sensible_is_refused(items: str) -> None:
    assert problem(f"kind: List\n{items}").startswith("f.yaml:2: items of a List must be a list")


def test_a_list_in_a_list_is_read() -> None:
    inner = {"kind": "List", "items": [yaml.safe_load(ROUTE)]}
    manifests = read(yaml.safe_dump({"kind": "List", "items": [inner, inner | {"items": []}]}))
    assert (manifests.problems, manifests.warnings) == ([], [])
    (placed,) = manifests.routes
    assert placed.location == ("items", 0, "items", 0)


def test_a_list_in_a_list_has_its_own_lines() -> None:
    text = "kind: List\nitems:\n- kind: SecretList\n  items:\n  - metadata: {}\n"
    assert problem(text).startswith("f.yaml:5: metadata.name is required")
    text = "kind: List\nitems:\n- kind: ConfigMapList\n  items: 5\n"
    assert problem(text) == "f.yaml:4: items of a ConfigMapList must be a list"


@pytest.mark.parametrize("bare", [False, True], ids=["kinds", "no-kinds"])
def test_typed_lists_are_read(bare: bool) -> None:
    """The API server leaves kind and apiVersion out of the items of `kubectl get --raw`."""
    resources = {
        "PassthroughRoute": yaml.safe_load(ROUTE),
        "Secret": yaml.safe_load(secret(stringData={"k": "v"})),
        "ConfigMap": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},
    }
    lists = []
    for kind, item in resources.items():
        version = item.get("apiVersion", "v1")
        left_out = {"apiVersion", "kind"} if bare else set()
        items = [{key: value for key, value in item.items() if key not in left_out}]
        lists.append({"apiVersion": version, "kind": f"{kind}List", "items": items})
    manifests = read(yaml.safe_dump_all(lists))
    assert (manifests.problems, manifests.warnings) == ([], [])
    assert len(manifests.routes) == len(manifests.secrets) == len(manifests.config_maps) == 1


def test_a_typed_list_of_another_version_is_refused() -> None:
    text = "apiVersion: v2\nkind: PassthroughRouteList\nitems:\n- metadata: {name: a}\n"
    assert problem(text).startswith("f.yaml:4: apiVersion of a PassthroughRoute must be thruway")


def test_problems_in_a_list_have_their_own_lines() -> None:
    route = "\n".join("  " + line for line in ROUTE.replace("/openai", "openai").splitlines())
    text = f"kind: List\nitems:\n-\n{route}\n- kind: Secret\n  data: {{}}\n"
    assert [found.line for found in read(text).problems] == [9, 11]


@pytest.mark.parametrize(
    ("data", "string_data", "expected"),
    [
        ({"k": encoded(b"v")}, None, {"k": "v"}),
        ({"k": encoded("ü 😀".encode())}, None, {"k": "ü 😀"}),
        ({"k": ""}, None, {"k": ""}),
        (None, {"k": "v"}, {"k": "v"}),
        ({"k": encoded(b"old"), "l": encoded(b"l")}, {"k": "new"}, {"k": "new", "l": "l"}),
        (None, None, {}),
        # As the command base64 and an editor write it.
        ({"k": base64.encodebytes(b"v" * 90).decode()}, None, {"k": "v" * 90}),
        ({"k": encoded(b"v") + "\r\n"}, None, {"k": "v"}),
    ],
)  # fmt: skip
def test_secret_data(data: Any, string_data: Any, expected: dict[str, str]) -> None:
    manifests = read(secret(data=data, stringData=string_data))
    assert manifests.problems == []
    assert revealed(manifests) == {("default", "s"): expected}


@pytest.mark.parametrize(
    "value", [CANARY, "a", "====", "dg", "dg==x", "é", encoded(b"\xff\xfe"), "dg = =", "d\u2028g=="]
)
def test_bad_base64_is_refused_where_it_stands(value: str) -> None:
    text = f"kind: Secret\nmetadata: {{name: s}}\ndata:\n  ok: dg==\n  bad: {value!r}\n"
    found = problem(text)
    assert found.startswith("f.yaml:5: data.bad is not base64-encoded text")
    assert value not in found.replace("data.bad", "").replace("base64", "") or len(value) == 1


@pytest.mark.parametrize("part", ["data", "stringData"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1], "must be a mapping"),
        (CANARY, "must be a mapping"),
        ({"k": 1}, ".k must be text; put it in quotes"),
        ({"k": None}, ".k must be text; put it in quotes"),
        ({"k": {"l": CANARY}}, ".k must be text; put it in quotes"),
        ({1: CANARY}, ".1 must be text; put it in quotes"),
    ],
)
def test_secret_data_of_the_wrong_type(part: str, value: Any, said: str) -> None:
    assert f"{part}{' ' if said[0] == 'm' else ''}{said}" in problem(secret(**{part: value}))


@pytest.mark.parametrize("value", [[1], {"k": 1}])
def test_config_map_data_of_the_wrong_type(value: Any) -> None:
    text = yaml.safe_dump({"kind": "ConfigMap", "metadata": {"name": "c"}, "data": value})
    assert "data" in problem(text)


@pytest.mark.parametrize("kind", ["Deployment", "HTTPRoute", "passthroughroute", "PodList"])
def test_other_kinds_are_left_out_with_a_warning(kind: str) -> None:
    manifests = read(f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: x}}\n---\n{ROUTE}")
    (warning,) = map(str, manifests.warnings)
    assert warning.startswith(f"f.yaml:2: {kind} is ignored: only PassthroughRoute, Secret and")
    assert (len(manifests.routes), manifests.problems) == (1, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b", "f.yaml:1: a document must be a mapping with apiVersion, kind and metadata"),
        ("text", "f.yaml:1: a document must be a mapping"),
        ("3", "f.yaml:1: a document must be a mapping"),
        ("a: 1", "f.yaml:1: kind is required: PassthroughRoute or Secret"),
        ("a: 1\nkind: 3", "f.yaml:2: kind is required"),
        ("a: 1\nkind:\n- Secret", "f.yaml:2: kind is required"),
        ("kind: Secret", "f.yaml:1: metadata with a name is required"),
        ("kind: Secret\nmetadata: x", "f.yaml:2: metadata with a name is required"),
        ("kind: Secret\nmetadata: {}", "f.yaml:2: metadata.name is required and must be text"),
        ("kind: Secret\nmetadata:\n  name: 3", "f.yaml:3: metadata.name is required and must be"),
        ("kind: Secret\nmetadata:\n  name: a\n  namespace: 3", "f.yaml:4: metadata.namespace must"),
        (ROUTE.replace("v1alpha1", "v2"), "f.yaml:1: apiVersion of a PassthroughRoute must be thr"),
        (ROUTE.partition("\n")[2], "f.yaml:1: apiVersion of a PassthroughRoute must be thruway.de"),
        (ROUTE + "sepc: {}", "f.yaml:8: sepc is not a known field: did you mean spec?"),
        (ROUTE + "1: 2\nsepc: 3", "f.yaml:8: 1 is not a known field: did you mean spec?"),
        (ROUTE.partition("spec")[0], "f.yaml:1: spec is required"),
        (ROUTE.partition("spec")[0] + "spec:", "f.yaml:5: openai: spec: must be a mapping of fiel"),
        (ROUTE.replace("path:", "paths:"), "f.yaml:5: openai: spec.path: is required"),
        (ROUTE.replace("/open", "open"), "f.yaml:6: openai: spec.path: must be one or more whole"),
        (ROUTE.replace("name: o", "name: O"), "f.yaml:4: Openai: metadata.name: is not a valid"),
        (ROUTE + f"  credential: {CANARY}", "f.yaml:8: openai: spec.credential: must be a mapping"),
        (ROUTE + "  1: x", "f.yaml:5: openai: spec[1]: has a key that is not text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    manifests = read(text)
    assert str(manifests.problems[0]).startswith(said)
    assert manifests.routes == []


def test_every_problem_of_a_route_is_told() -> None:
    text = ROUTE + "  hostnames: [A]\n  request:\n    methods:\n    - GET\n    - get\n"
    found = read(text).problems
    assert [item.line for item in found] == [8, 12]


def test_one_bad_route_does_not_hide_another() -> None:
    manifests = read(ROUTE.replace("/open", "open") + "---\n" + ROUTE)
    assert (len(manifests.problems), len(manifests.routes)) == (1, 1)


def test_status_of_a_route_from_a_cluster_is_ignored() -> None:
    manifests = read(ROUTE + "status: {conditions: []}\n")
    assert (len(manifests.routes), manifests.problems) == (1, [])


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
def test_the_same_object_twice(kind: str) -> None:
    one = f"kind: {kind}\nmetadata: {{name: s}}\n"
    manifests = read(f"{one}---\n{one}")
    assert [str(found) for found in manifests.problems] == [
        f"f.yaml:5: {kind} s appears twice: keep one"
    ]
    other = f"kind: {kind}\nmetadata: {{name: s, namespace: other}}\n"
    assert read(f"{one}---\n{other}").problems == []


def test_nothing_that_is_read_shows_a_secret() -> None:
    text = "---\n".join(
        [ROUTE, secret(stringData={"k": CANARY}, data={"d": encoded(CANARY.encode())})]
    )
    as_list = yaml.safe_dump({"kind": "List", "items": list(yaml.safe_load_all(text))})
    for manifests in (read(text), read(as_list)):
        shown = repr(manifests) + str(manifests) + "".join(map(repr, manifests.routes))
        assert "openai_passthrough" in shown
        assert CANARY not in shown
        assert encoded(CANARY.encode()) not in shown


scalars = st.none() | st.booleans() | st.integers() | st.text("ab/: ", max_size=5)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "metadata", "name", "namespace", "data", "items", "spec", "a"])
            | st.integers(0, 3),
            inner
            | st.sampled_from(["Secret", "List", "SecretList", "PassthroughRoute", "ConfigMap"]),
            max_size=4,
        )
    ),
    max_leaves=15,
)
objects = st.fixed_dictionaries(
    {"kind": st.sampled_from(["Secret", "List", "SecretList", "PassthroughRoute", "ConfigMap"])},
    optional={
        "apiVersion": st.just("thruway.dev/v1alpha1"),
        "metadata": st.just({"name": "x"}) | anything,
        "items": anything,
        "spec": anything,
        "data": anything,
        "stringData": anything,
        "more": anything,
    },
)


@given(objects | anything)
def test_anything_is_read_or_explained(value: Any) -> None:
    """Whatever an object holds, it becomes resources, warnings or problems, and no exception."""
    documents, _ = parse_documents(yaml.safe_dump(value), "f.yaml")
    manifests = read_manifests(documents)
    for found in [*manifests.problems, *manifests.warnings]:
        assert found.line >= 1
        assert "\n" not in found.message
