"""`thruway check`: every finding has its place, its reason and its remedy."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import yaml

from thruway_operator import ir
from thruway_operator.diagnose.offline.loading import load
from thruway_operator.envoy.validation import culprits
from thruway_testing.product.command import thruway

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-canary-check-0123456789"

SECRET = f"""\
apiVersion: v1
kind: Secret
metadata: {{name: openai}}
stringData: {{KEY: {KEY}}}
---
"""
GOOD = """\
apiVersion: thruway.dev/v1alpha1
kind: PassthroughRoute
metadata: {name: good}
spec:
  path: /good
  provider: openai
  credential:
    secretKeyRef: {name: openai, key: KEY}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "routes.yaml"
    file.write_text(SECRET + GOOD)
    return file


def findings(file: Path, text: str, **environment: str) -> list[str]:
    """What is said of this text, without the name of the file."""
    file.write_text(text)
    result = thruway("check", "-f", str(file), environment=environment)
    assert KEY not in result.output
    *lines, summary = result.output.splitlines()
    assert result.exit_code == (1 if any(": error: " in line for line in lines) else 0), lines
    assert summary.endswith(("warning", "warnings"))
    return [line.removeprefix(f"{file}:") for line in lines]


def test_nothing_is_wrong(file: Path) -> None:
    result = thruway("check", "-f", str(file))
    assert (result.exit_code, result.output) == (0, "1 route, 0 errors, 0 warnings\n")


def test_the_example_is_as_it_should_be() -> None:
    result = thruway("check", "-f", "examples/routes.yaml", environment={"OPENAI_API_KEY": KEY})
    assert (result.exit_code, result.output) == (0, "2 routes, 0 errors, 0 warnings\n")


def test_standard_input_and_several_files(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "one.json").write_text(json.dumps(yaml.safe_load(GOOD.replace("good", "one"))))
    bad = GOOD.replace("good", "two").replace("provider: openai", "provider: closedai")
    result = thruway("check", "-f", str(file), "-f", str(folder), "-f", "-", stdin=bad)
    said = "must be one of openai, anthropic or gemini"
    assert result.output.splitlines() == [
        f"<stdin>:6: error: spec.provider: {said}",
        "2 routes, 1 error, 0 warnings",
    ]


def spec(more: str) -> str:
    return SECRET + GOOD + "".join(f"  {line}\n" for line in more.splitlines())


CREDENTIAL = "  credential:\n    secretKeyRef: {name: openai, key: KEY}\n"

ODD = [
    pytest.param(
        SECRET.replace("openai", "other") + SECRET + GOOD,
        "3: warning: metadata.name: no route refers to Secret other; remove it, or refer to it",
        id="a Secret that no route uses",
    ),
    pytest.param(
        SECRET + GOOD.replace("provider: openai", "upstream: {url: 'http://api.example.com'}"),
        "11: warning: spec.upstream.url: is http:// to a public host, so the key crosses the "
        "network in clear text; use https://",
        id="a key in clear text",
    ),
    pytest.param(
        spec("retries: {attempts: 0, retryOn: [ConnectFailure]}"),
        "14: warning: spec.retries.retryOn: has no effect with attempts: 0; remove it, or set "
        "attempts",
        id="retryOn without attempts",
    ),
    pytest.param(
        GOOD.replace(CREDENTIAL, ""),
        "4: warning: spec.credential: is not set, so the client's own credential is forwarded; set "
        "secretKeyRef if Thruway should inject the key",
        id="no credential",
    ),
    pytest.param(
        spec("overrides:\n- path: /v1/files\n  upstream: {url: 'https://api.openai.com'}"),
        "16: warning: spec.overrides[0].upstream.url: is the route's own upstream, but without "
        "its credential, which overrides do not inherit; give the override one, or remove the "
        "override",
        id="an override that is the route's upstream without its key",
    ),
    pytest.param(
        GOOD.replace(CREDENTIAL, "  credential: &c {secretKeyRef: {name: openai, key: KEY}}\n")
        + "  overrides:\n  - path: /v1/files\n    upstream: {url: 'https://api.openai.com'}\n"
        + f"    credential: *c\n---\n{SECRET}",
        "10: warning: spec.overrides[0].upstream.url: is the route's own upstream, so the "
        "override changes nothing; remove it",
        id="an override that changes nothing",
    ),
    pytest.param(
        "kind: Deployment\n---\n" + SECRET + GOOD,
        "1: warning: kind: Deployment is ignored: only PassthroughRoute, Secret and ConfigMap "
        "are read",
        id="an unknown kind",
    ),
    pytest.param(
        spec("hostnames: [api.example.com]"),
        "14: warning: spec.hostnames: on a laptop, requests to localhost do not reach this "
        "route, only those with such a Host; remove hostnames to try it there",
        id="hostnames on a laptop",
    ),
    pytest.param(
        SECRET.replace(KEY, f'"{KEY}\\n"') + GOOD,
        "13: warning: spec.credential.secretKeyRef: key KEY of Secret openai has white space "
        "around its value, which is removed; store the bare key (with `echo -n`)",
        id="white space around a secret",
    ),
    pytest.param(
        spec("").replace("secretKeyRef", "header: X-Api-Key\n    secretKeyRef"),
        "13: warning: spec.credential.header: is not where openai expects the key, which is "
        "authorization; remove header, or set the upstream.url of the intended API",
        id="a header that the provider does not look at",
    ),
    pytest.param(
        spec("").replace("secretKeyRef", "prefix: 'Token '\n    secretKeyRef"),
        "13: warning: spec.credential.prefix: is not what openai expects before the key; "
        "remove prefix",
        id="a prefix that the provider does not expect",
    ),
    pytest.param(
        spec("request: {methods: [GET, POST, GET]}"),
        "14: warning: spec.request.methods[2]: is the same as [0]; remove one of them",
        id="a duplicate in a list",
    ),
    pytest.param(
        (SECRET + GOOD).replace("/good", "/openai/v1"),
        "10: warning: spec.path: contains a version, which belongs after the route's path; "
        "remove it: if clients append none, the upstream's versionPrefix is inserted",
        id="a version in the path",
    ),
    pytest.param(
        spec(f"request: {{headers: {{set: [{{name: X-A, value: {KEY}}}]}}}}"),
        "14: warning: spec.request.headers.set[0].value: looks like an API key, which everybody "
        "can read here; move it to a Secret, and use `credential`",
        id="a key in a rule",
    ),
    pytest.param(
        GOOD,
        "8: warning: spec.credential.secretKeyRef: there is no Secret openai in the files, and no "
        "environment variable KEY: add the Secret or set the variable; until then its requests "
        "get 503 credential_missing",
        id="a Secret that is not there",
    ),
]


@pytest.mark.parametrize(("text", "said"), ODD)
def test_legal_but_odd(text: str, said: str, file: Path) -> None:
    assert findings(file, text) == [said]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (f"Bearer {KEY}", "begins with `Bearer `, which is sent twice; store what follows"),
        (f"bearer  {KEY}", "begins with `Bearer `, which is sent twice; store what follows"),
        (f'"{KEY}"', "is wrapped in quotes, which are sent with it; store the bare key"),
        (f"'{KEY}'", "is wrapped in quotes, which are sent with it; store the bare key"),
        (f"OPENAI_API_KEY={KEY}", "begins with the name of a variable and =; store what follows"),
        (f"export MY_TOKEN={KEY}", "begins with the name of a variable and =; store what follows"),
        (f"Authorization: Bearer {KEY}", "begins with the name of a header; store the bare key"),
        (f"x-api-key: {KEY}", "begins with the name of a header; store the bare key"),
    ],
)
def test_a_value_with_more_than_the_key(value: str, said: str, file: Path) -> None:
    secret = SECRET.replace(KEY, json.dumps(value))
    place = "13: warning: spec.credential.secretKeyRef: "
    assert findings(file, secret + GOOD) == [f"{place}key KEY of Secret openai {said}"]
    (found,) = findings(file, GOOD, KEY=value)
    assert found.endswith(f"the environment variable KEY {said}")
    assert KEY not in found


def test_a_client_key_with_more_than_the_key(file: Path) -> None:
    clients = {"kind": "Secret", "metadata": {"name": "c"}, "stringData": {"a": f'"{KEY}"'}}
    text = spec("clientAuth: {type: APIKey, secretRef: {name: c}}") + f"---\n{json.dumps(clients)}"
    (found,) = findings(file, text)
    assert "entry a of Secret c is wrapped in quotes" in found
    assert KEY not in found


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (f"Bearer {KEY}", "prefix: ''"),
        ("QUJD_KEY=", ""),
        ("S0VZ==", ""),
        ("bearer-of-news", ""),
        ('"', ""),
    ],
)
def test_a_value_that_may_be_meant_so(value: str, options: str, file: Path) -> None:
    text = SECRET.replace(KEY, json.dumps(value)) + GOOD
    text = text.replace("secretKeyRef", f"{options}\n    secretKeyRef") if options else text
    assert not [found for found in findings(file, text) if "begins" in found or "wrapped" in found]


def test_the_environment_holds_what_no_secret_does(file: Path) -> None:
    assert findings(file, GOOD, KEY=KEY) == []
    (said,) = findings(file, GOOD, KEY=f" {KEY}")
    assert "the environment variable KEY has white space around its value" in said


def test_the_environment_in_place_of_a_secret_that_is_misspelt(file: Path) -> None:
    _, said = findings(file, SECRET.replace("openai", "openia") + GOOD, KEY=KEY)
    assert said == (
        "13: warning: spec.credential.secretKeyRef: there is no Secret openai in the files, so the "
        "environment variable KEY is used; correct the name if you mean a Secret in the files"
    )
    (said,) = findings(file, SECRET.replace("KEY:", "KYE:") + GOOD, KEY=KEY)
    assert "Secret openai has no key KEY, so the environment variable KEY is used; " in said


WRONG = [
    pytest.param("a: [", "1: error: is not valid YAML: ", id="no YAML"),
    pytest.param(
        GOOD.replace("path: /good", "path: good"), "5: error: spec.path: must be", id="a pattern"
    ),
    pytest.param(
        GOOD.replace("provider: openai", "providr: openai"),
        "6: error: spec.providr: is not a known field: check its spelling, or remove it",
        id="an unknown field",
    ),
    pytest.param(
        SECRET + GOOD.replace("provider: openai", "upstream: {url: 'ftp://x.example'}"),
        "11: error: spec.upstream.url: must begin with http:// or https://",
        id="what translation refuses",
    ),
    pytest.param(
        SECRET + GOOD + "---\n" + GOOD.replace("name: good", "name: late"),
        "19: error: spec.path: path collides with /good of the older route default/good, which "
        "keeps the path: use another path, or other hostnames",
        id="a conflict",
    ),
    pytest.param(
        SECRET + GOOD.replace("provider: openai", "upstream: {url: 'http://localhost:4000/x'}"),
        "11: error: spec.upstream.url: leads back to this proxy, so requests would "
        "loop forever: give the URL of the API",
        id="a loop",
    ),
    pytest.param("{}", "1: error: kind: ", id="no kind"),
    pytest.param(
        "kind: List\nitems:\n- " + GOOD.replace("\n", "\n  ").replace("/good", "good"),
        "7: error: spec.path: must be",
        id="in a List",
    ),
]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("timeouts: {request: 30}", "spec.timeouts.request: must be a duration such as 5s, 1m30s"),
        ("timeouts: {idle: '30'}", "spec.timeouts.idle: must be a duration such as 5s, 1m30s"),
        ("overrides: [{path: responses, upstream: {url: 'http://x'}}]",
         "spec.overrides[0].path: must be one or more whole segments such as /v1/responses"),
        ("overrides: [{path: /v1/x, upstream: {url: 'http://x'}, credential: sk-canary-012}]",
         "spec.overrides[0].credential: must be a mapping of fields such as secretKeyRef: {"),
        ("request: {headers: {set: {A: b}}}",
         "spec.request.headers.set: must be a list such as [{name, value}]"),
        ("request: {headers: {set: [A]}}",
         "spec.request.headers.set[0]: must be a mapping of fields such as {name, value}"),
        ("request: {headers: {add: [{name: a b, value: c}]}}",
         "spec.request.headers.add[0].name: is not a valid header name: use letters"),
        ("request: {headers: {remove: [a b]}}",
         "spec.request.headers.remove[0]: is not a valid header name: use letters"),
        ("request: {query: {set: [{name: \"a\\tb\", value: c}]}}",
         "spec.request.query.set[0].name: is not a valid parameter name: it must not contain"),
        ("clientAuth: {type: APIKey, secretRef: {name: Some Name}}",
         "spec.clientAuth.secretRef.name: is not a valid name: use lower-case letters"),
    ],
)  # fmt: skip
def test_a_remedy_has_the_form_of_its_place(more: str, said: str, file: Path) -> None:
    (found,) = [line for line in findings(file, spec(more)) if ": error: " in line]
    assert found.startswith(f"14: error: {said}")


def test_findings_of_one_line_are_in_order(file: Path) -> None:
    found = findings(
        file, spec("request: {headers: {set: [{name: a b, value: c}, {name: d e, value: f}]}}")
    )
    assert [re.findall(r"set\[\d\]", line)[0] for line in found] == ["set[0]", "set[1]"]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_wrong(text: str, said: str, file: Path) -> None:
    found = [line for line in findings(file, text) if ": error: " in line]
    assert [line[: len(said)] for line in found] == [said], found


def test_no_route_at_all(file: Path, tmp_path: Path) -> None:
    file.write_text(SECRET)
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x.txt").write_text(GOOD)
    given = (str(file), str(tmp_path / "empty.yaml"), str(tmp_path / "folder"))
    result = thruway("check", *(word for path in given for word in ("-f", path)))
    errors = [line for line in result.output.splitlines() if ": error: " in line]
    assert sorted(errors) == [
        f"{given[1]}: error: is empty: add a route, or name another file",
        f"{given[2]}: error: contains no *.yaml or *.yml or *.json: put routes into it, or name "
        "another folder",
        f"{given[0]}: error: contains no PassthroughRoute: add a route, or name another file",
    ]
    assert result.exit_code == 1


def test_without_files_the_environment_is_checked() -> None:
    result = thruway("check")
    assert result.output == (
        "environment: warning: OPENAI_API_KEY is not set, so `thruway up` serves made-up "
        "responses; set it\n2 routes, 0 errors, 1 warning\n"
    )
    assert thruway("check", environment={"OPENAI_API_KEY": KEY}).output == (
        "2 routes, 0 errors, 0 warnings\n"
    )


def test_json_has_a_stable_shape(file: Path) -> None:
    file.write_text(GOOD.replace("path: /good", "path: good"))
    result = thruway("check", "-f", str(file), "-o", "json")
    (finding,) = json.loads(result.output)["findings"]
    assert json.loads(result.output) == {
        "version": 1,
        "routes": 0,
        "errors": 1,
        "warnings": 0,
        "findings": [finding],
    }
    assert finding.pop("message").startswith("must be one or more whole segments")
    assert finding == {
        "severity": "error",
        "file": str(file),
        "line": 5,
        "route": None,
        "field": "spec.path",
    }


def test_colours_on_a_terminal_alone(file: Path) -> None:
    assert "\x1b" not in thruway("check", "-f", str(file)).output


@pytest.mark.slow  # a real Envoy
def test_envoys_refusal_names_the_route(file: Path) -> None:
    """What the model lets through and Envoy does not is found, route by route."""
    names = ["a", "b", "c", "d", "e"]
    file.write_text(SECRET + "---\n".join(GOOD.replace("good", name) for name in names))
    given = load([file], {"PATH": ""})
    config = given.translation.config
    assert culprits(config, given.system_ca) == {}
    routes = [broken(route) if route.id == "default/d" else route for route in config.routes]
    found = culprits(replace(config, routes=tuple(routes)), given.system_ca)
    assert list(found) == ["default/d"]
    assert "value must be less than or equal to 65535" in found["default/d"]
    assert KEY not in str(found)


def broken(route: ir.Route) -> ir.Route:
    """The same route with a port that there is not."""
    (branch,) = route.branches
    assert isinstance(branch.outcome, ir.Target)
    outcome = replace(branch.outcome, endpoint=replace(branch.outcome.endpoint, port=70_000))
    return replace(route, branches=(replace(branch, outcome=outcome),))


def test_what_envoy_refuses_is_a_finding(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"default/good": "no such thing"}
    monkeypatch.setattr("thruway_operator.diagnose.offline.checking.culprits", lambda *_: said)
    result = thruway("check", "-f", str(file))
    assert result.output.splitlines()[0] == (
        f"{file}:9: error: spec: is rejected by Envoy: no such thing; "
        "change or remove what it names"
    )
    assert result.exit_code == 1
