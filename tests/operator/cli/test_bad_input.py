"""Bad input is generated: each answer is one sentence with place and remedy, and repeats no key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thruway_testing.product.bad_input import (
    CANARY,
    HEAD,
    PLACES,
    WRONG_TYPES,
    Steps,
    changed,
    name_of,
    out_of_range,
    value_at,
)
from thruway_testing.product.command import thruway

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

pytestmark = pytest.mark.slow  # hundreds of inputs


@pytest.fixture(autouse=True)
def no_envoy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Envoy is asked elsewhere; here thousands of inputs are tried."""
    monkeypatch.setattr("thruway_operator.diagnose.offline.checking.culprits", lambda *_: {})


def is_said_well(result: Result) -> list[str]:
    """One line for each thing, none too long, no traceback, no key, no control character."""
    assert result.exit_code in (0, 1, 2)
    assert CANARY not in result.output
    assert CANARY[3:] not in result.output
    assert "Traceback" not in result.output
    lines = result.output.splitlines()
    assert all(line.isprintable() for line in lines), lines
    assert all(len(line) < 3000 for line in lines)
    if result.exit_code == 2:
        (line,) = result.stderr.splitlines()
        assert line.startswith("thruway")
    return lines


def document(place: Steps, change: Callable[[Any], Any]) -> str:
    """A route with everything in it, and one place of it changed."""
    route = {**HEAD, "metadata": {"name": "all"}, "spec": changed(place, change)}
    return str(yaml.safe_dump(route, sort_keys=False))


def checked(text: str) -> Result:
    return thruway("check", "-f", "-", stdin=text)


def line_of(text: str, place: Steps) -> set[int]:
    """Where a place, or what holds it, can stand: the lines that name one of its steps."""
    names = [step for step in place if isinstance(step, str)]
    return {
        number
        for number, line in enumerate(text.splitlines(), 1)
        if any(re.match(rf"[ -]*{name}:", line) for name in names) or line.strip().startswith("-")
    }


def test_every_field_is_in_the_document() -> None:
    """A field that is new in the model is tried as well."""
    assert [place for place, _ in PLACES if value_at(place) is None] == []
    errors = list(checked(document(("path",), str)).output.splitlines())
    assert [line for line in errors if ": error: " in line] == []


@pytest.mark.parametrize(("place", "schema"), PLACES, ids=[name_of(p) for p, _ in PLACES])
def test_every_field_of_the_wrong_type(place: Steps, schema: dict[str, Any]) -> None:
    for wrong in WRONG_TYPES[schema["type"]]:
        text = document(place, lambda _, wrong=wrong: wrong)  # type: ignore[misc]
        result = checked(text)
        errors = [line for line in is_said_well(result) if ": error: " in line]
        assert result.exit_code == 1, (wrong, result.output)
        said = [line for line in errors if f": error: {name_of(place)}" in line]
        assert said, (wrong, errors)
        found = re.match(r"<stdin>:(\d+): ", said[0])
        assert found
        assert int(found[1]) in line_of(text, place)


@pytest.mark.parametrize(("place", "schema"), PLACES, ids=[name_of(p) for p, _ in PLACES])
def test_every_field_out_of_range(place: Steps, schema: dict[str, Any]) -> None:
    """Too long, too large, not one of those listed; a key in its place."""
    for value in out_of_range(place, schema):
        result = checked(document(place, lambda _, value=value: value))  # type: ignore[misc]
        lines = is_said_well(result)
        assert result.exit_code == 1, (value, lines)
        assert any(f": error: {name_of(place)}" in line for line in lines), lines


@pytest.mark.parametrize(("place", "schema"), PLACES, ids=[name_of(p) for p, _ in PLACES])
def test_every_field_empty_or_a_key(place: Steps, schema: dict[str, Any]) -> None:
    """May be legal; what is said of it is said well, and a key is never repeated."""
    empty: dict[str, Any] = {"string": "", "integer": 0, "array": [], "object": {}}
    for value in (empty[schema["type"]], None, CANARY, [CANARY], {CANARY: CANARY}):
        is_said_well(checked(document(place, lambda _, value=value: value)))  # type: ignore[misc]


@pytest.mark.parametrize("place", [p for p, s in PLACES if s["type"] == "object"], ids=name_of)
def test_an_unknown_sibling(place: Steps) -> None:
    for name in ("nonsense", CANARY):
        text = document(place, lambda old, name=name: {**old, name: CANARY})  # type: ignore[misc]
        result = checked(text)
        said = [line for line in is_said_well(result) if "is not a known field" in line]
        assert (result.exit_code, len(said)) == (1, 1)
        assert name_of(place) in said[0]
        assert "check its spelling, or remove it" in said[0]


OTHERS = [
    {"kind": CANARY},
    {CANARY: 1},
    CANARY,
    [CANARY],
    {**HEAD, CANARY: CANARY, "metadata": {"name": "x"}, "spec": {}},
    {**HEAD, "metadata": {"name": CANARY}, "spec": {"path": "x"}},
    {**HEAD, "metadata": {"name": "x", "namespace": CANARY.upper()}, "spec": {"path": "/x"}},
    {**HEAD, "metadata": CANARY, "spec": CANARY},
    {**HEAD, "apiVersion": CANARY},
    {"kind": "Secret", "metadata": {"name": "x"}, "data": {"KEY": CANARY}},
    {"kind": "Secret", "metadata": {"name": "x"}, "data": {CANARY: CANARY}},
    {"kind": "Secret", "metadata": {"name": "x"}, "stringData": {CANARY: 1}},
    {"kind": "Secret", "metadata": {"name": CANARY}, "stringData": CANARY},
    {"kind": "Secret", "metadata": {"name": CANARY}, "stringData": {"KEY": CANARY}},
    {"kind": "ConfigMap", "metadata": {"name": CANARY}, "data": {CANARY: [CANARY]}},
    {"kind": "List", "items": [{"kind": CANARY}, CANARY]},
]


@pytest.mark.parametrize("number", range(len(OTHERS)))
@pytest.mark.parametrize("command", ["check", "translate", "explain"])
def test_other_documents(number: int, command: str) -> None:
    text = yaml.safe_dump(OTHERS[number])
    request = ["GET", "/x"] if command == "explain" else []
    is_said_well(thruway(command, *request, "-f", "-", stdin=text))
    is_said_well(thruway(command, *request, "-f", "-", stdin=text * 2))


@pytest.mark.parametrize(
    "text",
    [
        f"*{CANARY}",
        f"&{CANARY} [",
        f"!{CANARY} x",
        f"a: {CANARY}\na: {CANARY}",
        f"{CANARY}: 1\n{CANARY}: 2",
        f"'{CANARY}",
        f'"\\q{CANARY}"',
        f"%{CANARY}\n--- x",
        f"{{{CANARY}",
        f"? [{CANARY}]\n: x",
        "\x00",
        "a: \t- b",
        b"\xff\xfe" * 3,
        b"\x80" + CANARY.encode(),
        "- " * 5000,
        "",
        "---\n---\n",
    ],
    ids=range(17),
)
def test_what_is_no_document(text: str | bytes) -> None:
    is_said_well(thruway("check", "-f", "-", stdin=text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_text("#" * (5 << 20))
    (tmp_path / "binary.yaml").write_bytes(b"\xff")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name in ("large.yaml", "binary.yaml"):
        result = thruway("check", "-f", str(tmp_path / name))
        assert (result.exit_code, len(is_said_well(result))) == (1, 2)
    for path in (
        tmp_path / "none",
        tmp_path / "loop.yaml",
        tmp_path / CANARY,
        "x" * 5000,
        "\udcff",
    ):
        for command in (["check"], ["translate"], ["explain", "GET", "/"]):
            result = thruway(*command, "-f", str(path))
            assert (result.exit_code, len(is_said_well(result))) == (2, 1), result.output
    assert thruway("check", "-f", "-", stdin=b"#" * (5 << 20)).exit_code == 2


@pytest.mark.parametrize(
    "environment",
    [
        {"THRUWAY_UPSTREAM_URL": CANARY},
        {"THRUWAY_NATIVE_URL": f"http://u:{CANARY}@x"},
        {"THRUWAY_API_KEY": "short"},
        {"THRUWAY_API_KEY": f"{CANARY} {CANARY}"},
        {"SSL_CERT_FILE": f"/{CANARY}"},
        {"OPENAI_API_KEY": "\n"},
        {"OPENAI_API_KEY": f"{CANARY}\n{CANARY}"},
        {"HTTPS_PROXY": CANARY},
        {"HTTPS_PROXY": f"http://u:{CANARY}@proxy:1"},
    ],
    ids=range(9),
)
@pytest.mark.parametrize("command", ["check", "translate", "explain"])
def test_bad_environments(environment: dict[str, str], command: str) -> None:
    request = ["GET", "/x"] if command == "explain" else []
    is_said_well(thruway(command, *request, environment=environment))


OPTIONS = {
    "check": ("-f", "--file", "--port", "-o", "--output"),
    "translate": ("-f", "--port", "--rules", "--ir", "--envoy"),
    "explain": ("-f", "--port", "-H", "--header", "-o", "GET", "/openai/x"),
    "completion": ("bash", "zsh"),
}
VALUES = st.one_of(
    st.sampled_from(
        [
            "",
            "-",
            "--",
            "-1",
            "0",
            "65536",
            "4000",
            "json",
            "text",
            "1e3",
            " ",
            "é",
            "\n",
            "x" * 9999,
        ]
    ),
    st.just(CANARY),
    st.just(f"--{CANARY}"),
    st.just(f"-{CANARY}"),
    st.just(f"--port={CANARY}"),
    st.just(f"--output={CANARY}"),
    st.just(f"--rules={CANARY}"),
    st.just(f"http://u:{CANARY}@x/"),
    st.just(f"/x?key={CANARY}#{CANARY}"),
    st.just(f"Authorization: Bearer {CANARY}"),
    st.text(st.characters(exclude_characters="\x00"), max_size=20),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    command=st.sampled_from([*OPTIONS, CANARY, "chekc", ""]),
    data=st.data(),
)
def test_whatever_arguments(command: str, data: st.DataObject) -> None:
    """No arguments make a traceback, nor are values repeated in what is said of them."""
    known = st.sampled_from(OPTIONS.get(command, ("-h",)))
    arguments = data.draw(st.lists(st.one_of(known, VALUES), max_size=6))
    result = thruway(command, *arguments, stdin="")
    assert result.exit_code in (0, 1, 2)
    assert CANARY not in result.output
    if result.exit_code == 2:
        (line,) = result.stderr.splitlines()
        assert line.isprintable()
        assert len(line) < 2200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--port", CANARY], "thruway up: --port must be a whole number"),
        (["up", "--workers", "0"], "thruway up: --workers must be a whole number from 1 to 64"),
        (["up", "--workers", CANARY], "thruway up: --workers must be a whole number from 1 to 64"),
        (["up", "--log-level", CANARY], "thruway up: --log-level must be one of debug, info, "),
        (["up", f"--{CANARY}"], "thruway up: there is no such option: check its spelling"),
        (["up", CANARY], "thruway up: there are too many arguments"),
        (["up", "--files"], "thruway up: there is no such option: did you mean --file?"),
        (["check", "-o", CANARY], "thruway check: --output must be one of text, json"),
        (["check", "--port", "0"], "thruway check: --port must be a whole number from 1 to 65535"),
        (["translate", "--ir", "--rules"], "thruway translate: --rules, --ir and --envoy cannot"),
        (["translate", f"--ir={CANARY}"], "--ir takes no value"),
        (["explain"], "thruway explain: METHOD is missing: give it"),
        (["explain", "GET"], "thruway explain: URL is missing: give it"),
        (["explain", CANARY, "/"], "thruway explain: METHOD is not one that Thruway forwards"),
        (["explain", "GET", "/", "-H"], "-H needs a value"),
        (["explain", "GET", CANARY], "thruway explain: URL must begin with"),
        (["completion"], "thruway completion: SHELL is missing: give one of bash, zsh, fish"),
        (["completion", CANARY], "thruway completion: SHELL must be one of bash, zsh, fish"),
        ([CANARY], "thruway: there is no such command: give one of"),
    ],
)
def test_wrong_arguments(arguments: list[str], said: str) -> None:
    result = thruway(*arguments)
    assert result.exit_code == 2
    (line,) = is_said_well(result)
    assert said in line
    assert line.endswith("--help)")
