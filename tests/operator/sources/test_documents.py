"""YAML text to documents: lines for every place, and one problem with file and line otherwise."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from thruway_operator.sources.files.documents import parse_documents

CANARY = "sk-canary-4Yq"


def data(text: str) -> list[Any]:
    documents, problems = parse_documents(text, "f.yaml")
    assert problems == []
    return [document.data for document in documents]


def problem(text: str) -> str:
    """Return the one thing that is said of text which yields nothing."""
    documents, problems = parse_documents(text, "f.yaml")
    assert documents == []
    (found,) = map(str, problems)
    assert "\n" not in found
    return found


def test_every_place_knows_its_line() -> None:
    text = "# one\na: 1\nb:\n  - c: 2\n    d: [3,\n        4]\n  - e\n---\nf:\n  {g: 1}\n"
    (first, second), problems = parse_documents(text, "f.yaml")
    assert problems == []
    assert first.data == {"a": 1, "b": [{"c": 2, "d": [3, 4]}, "e"]}
    assert [
        first.line(place)
        for place in [(), ("a",), ("b",), ("b", 0), ("b", 0, "d"), ("b", 0, "d", 1), ("b", 1)]
    ] == [2, 2, 3, 4, 5, 6, 7]
    assert (second.line(("f",)), second.line(("f", "g"))) == (9, 10)


def test_a_place_that_is_not_there_has_the_line_around_it() -> None:
    (document,), _ = parse_documents("a:\n  b: 1\n", "f.yaml")
    assert document.line(("a", "nope", 3, "x")) == 1
    assert document.line(("a", "b", "c")) == 2
    assert str(document.problem(("a", "b"), "is wrong")) == "f.yaml:2: is wrong"


def test_lines_of_what_an_alias_repeats_are_where_it_was_written() -> None:
    text = "a: &a\n  x: 1\nb:\n  <<: *a\n  y: 2\nc: *a\n"
    (document,), _ = parse_documents(text, "f.yaml")
    assert document.data == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1}}
    assert (document.line(("b", "x")), document.line(("b", "y"))) == (3, 5)
    assert document.line(("c", "x")) == 2


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n---\n", "null", "~\n---\n"])
def test_empty_documents_are_nothing(text: str) -> None:
    assert data(text) == []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2024-01-01", "2024-01-01"),
        ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
        ("2024-13-45", "2024-13-45"),
        ("5s", "5s"),
        ("1", 1),
        ("yes", True),
        ('"\\u00e9\\ud83d\\ude00"', "é😀"),
        ("'a: b'", "a: b"),
    ],
)
def test_scalars(written: str, read: object) -> None:
    assert data(f"a: {written}") == [{"a": read}]


def test_json_is_read_too() -> None:
    assert data('{"a": [1, "b"],\n "c": {"d": null}}') == [{"a": [1, "b"], "c": {"d": None}}]


def test_a_byte_order_mark_is_skipped() -> None:
    assert data("\ufeffa: 1") == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a appears twice in one mapping: keep one"),
        ("x:\n  - {b: 1,\n     b: 2}", "f.yaml:3: b appears twice in one mapping: keep one"),
        ("a: [1,\nb: 2", "f.yaml:2: is not valid YAML: expected ',' or ']', but got '<"),
        ("a:\n\t- b", "f.yaml:2: is not valid YAML: found character '\\t' that cannot start"),
        ("a: 'b", "f.yaml:1: is not valid YAML: found unexpected end of stream"),
        ("a: b: c", "f.yaml:1: is not valid YAML: mapping values are not allowed here"),
        ("a: 1\n b: 2", "f.yaml:2: is not valid YAML: "),
        ("a: \0", "f.yaml: is not valid YAML: unacceptable character #x0000"),
        ("? [a]\n: 1", "f.yaml:1: is not valid YAML: found unhashable key"),
        ("a: !!python/name:os.system", "f.yaml:1: is not valid YAML: could not determine"),
        ("a: !!bool maybe", "f.yaml: is not valid YAML: a value does not match its tag"),
        ("a: !!timestamp x", "f.yaml: is not valid YAML: a value does not match its tag"),
        ("a: !!int ''", "f.yaml: is not valid YAML: a value does not match its tag"),
        ("a: 0b_", "f.yaml: is not valid YAML: a value does not match its tag"),
        ("a: 1" + "0" * 5000, "f.yaml: is not valid YAML: a value does not match its tag"),
        ("[" * 5000, "f.yaml: is not valid YAML: it is nested too deeply"),
        ("{a: " * 5000, "f.yaml: is not valid YAML: it is nested too deeply"),
        ('a: 1\nb: "\\ud800x"', "f.yaml:2: a lone surrogate is not text"),
        ('a: 1\n"\\udc00": x', "f.yaml:2: a lone surrogate is not text"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    found = problem(text)
    assert found.startswith(said)


def test_one_bad_document_spoils_the_file() -> None:
    """Half a file is worse than the last good one."""
    assert problem("a: 1\n---\nb: [\n").startswith("f.yaml:")


def test_every_duplicate_is_told() -> None:
    _, problems = parse_documents("a: 1\na: 2\nb: {c: 1, c: 2}\n", "f")
    assert [found.line for found in problems] == [2, 3]


@pytest.mark.parametrize(
    "text",
    [
        f"a: *{CANARY}", f"a: !{CANARY} x", f"a: !'{CANARY} x", f"a: !{CANARY}!x y",
        f"a: &{CANARY} 1\nb: &{CANARY} 2\nc: *x", f"a: !!int {CANARY}", f"a: !!float {CANARY}",
        f"a: '{CANARY}", f'a: "\\q{CANARY}"', f"a: {{b: {CANARY}", f"a: @{CANARY}",
        f"a: %{CANARY}\nb", f"{CANARY}: [", f"{CANARY}\nb: 1", f"%{CANARY} a\n%{CANARY}",
        f"%TAG !{CANARY}! a\n%TAG !{CANARY}! b\n---\na: 1",
    ],
)  # fmt: skip
def test_values_are_not_repeated(text: str) -> None:
    """A key without quotes may read as an alias, a tag or half of a line."""
    assert CANARY not in problem(text)


def test_a_document_does_not_show_its_data() -> None:
    (document,), _ = parse_documents(f"kind: Secret\nstringData: {{k: {CANARY}}}", "f.yaml")
    assert CANARY not in repr(document) + str(document)


LISTS = "l0: &l0 [x]\n" + "\n".join(
    f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)
)
MERGES = "l0: &l0 {x: 1}\n" + "\n".join(
    f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 10)}]}}" for n in range(1, 12)
)
KEYS = LISTS + "\n? *l11\n: 1"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("bomb", [LISTS, MERGES, KEYS], ids=["lists", "merges", "keys"])
def test_alias_bombs_do_not_hang(bomb: str) -> None:
    assert problem(bomb) == "f.yaml: becomes too large when its aliases expand"


@pytest.mark.parametrize("text", ["&a [*a]", "&a {b: *a}", "a: &a\n  b: [{c: *a}]"])
def test_a_document_that_holds_itself_is_refused(text: str) -> None:
    assert problem(text) == "f.yaml: becomes too large when its aliases expand"


def test_many_honest_aliases_are_fine() -> None:
    shared = "a: &a {x: 1, y: 2}\nall:\n" + "- *a\n" * 500
    assert data(shared) == [{"a": {"x": 1, "y": 2}, "all": [{"x": 1, "y": 2}] * 500}]


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(values.filter(lambda value: value is not None), max_size=3))
def test_what_others_write_is_read(documents: list[Any]) -> None:
    """YAML as PyYAML writes it, and JSON, come back as the same data."""
    assert data(yaml.safe_dump_all(documents, explicit_start=True)) == documents
    for document in documents:
        assert data(json.dumps(document)) == [document]


@given(st.text(max_size=40) | st.text("a&*!:[]{}-?,#|>'\"%@`\n\t \\<~0123456789.", max_size=40))
def test_any_text_is_read_or_explained(text: str) -> None:
    """Whatever text a file holds, there are documents or problems, never both, and no exception."""
    documents, problems = parse_documents(text, "f.yaml")
    assert not (documents and problems)
    for found in problems:
        assert str(found).startswith("f.yaml")
        assert 0 <= found.line <= text.count("\n") + 2
