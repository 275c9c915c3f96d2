"""The contract: what is written is read, and nothing in it can mean something to Envoy."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thruway_extproc.rule import (
    CREDENTIAL_HEADERS,
    MAX_BYTES,
    VERSION,
    Rule,
    RuleError,
    decode,
    encode,
)

PLAIN = Rule(strip="/openai_passthrough", base="", version="/v1", authority="api.openai.com")

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.lists(text, max_size=3).map(tuple)
pairs = st.lists(st.tuples(text, text), max_size=3).map(tuple)
rules = st.builds(
    Rule,
    strip=text,
    base=text,
    version=text,
    authority=text,
    drop_credentials=st.booleans(),
    headers_set=pairs,
    headers_add=pairs,
    headers_remove=names,
    headers_only=names,
    query_default=pairs,
    query_set=pairs,
    query_remove=names,
    unversioned=names,
)


@given(rules)
def test_what_is_encoded_is_decoded(rule: Rule) -> None:
    """Any rule survives the way to extproc unchanged."""
    assert decode(encode(rule)) == rule


@given(rules)
def test_an_encoded_rule_is_inert_for_envoy(rule: Rule) -> None:
    """An encoded rule is printable ASCII without `%`, so Envoy finds nothing to format in it."""
    encoded = encode(rule)
    assert "%" not in encoded
    assert encoded.isascii()
    assert encoded.isprintable()


@given(st.sampled_from([field.name for field in dataclasses.fields(Rule)]), st.data())
def test_every_field_tells_rules_apart(field: str, data: st.DataObject) -> None:
    """Two rules that differ in one field are written differently."""
    change: dict[str, Any] = {field: getattr(data.draw(rules), field)}
    other = dataclasses.replace(PLAIN, **change)
    assert (encode(other) == encode(PLAIN)) is (other == PLAIN)


def test_the_plain_rule_is_compact() -> None:
    assert (
        encode(PLAIN) == '{"v":1,"s":"/openai_passthrough","b":"","p":"/v1","a":"api.openai.com"}'
    )


def test_the_largest_rule_passes_and_one_byte_more_does_not() -> None:
    room = MAX_BYTES - len(encode(dataclasses.replace(PLAIN, headers_set=(("x", ""),))))
    largest = dataclasses.replace(PLAIN, headers_set=(("x", "a" * room),))
    assert len(encode(largest)) == MAX_BYTES
    with pytest.raises(RuleError, match=rf"is {MAX_BYTES + 1} bytes long, but at most {MAX_BYTES}"):
        encode(dataclasses.replace(PLAIN, headers_set=(("x", "a" * (room + 1)),)))


def test_the_limit_counts_what_is_sent() -> None:
    """One `%` or one non-ASCII letter takes six bytes."""
    with pytest.raises(RuleError):
        encode(dataclasses.replace(PLAIN, headers_set=(("x", "%" * (MAX_BYTES // 6)),)))


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("null", "is not a JSON object"),
        ("[1]", "is not a JSON object"),
        ("{}", "has schema version None"),
        ('{"v":2,"s":"/a","b":"","p":"","a":"h"}', "has schema version 2"),
        ('{"v":"1","s":"/a","b":"","p":"","a":"h"}', "has schema version '1'"),
        ('{"v":1,"s":"/a","b":"","p":""}', "lacks authority"),
        ('{"v":1}', "lacks strip, base, version, authority"),
        ('{"v":1,"s":"/a","b":"","p":"","a":"h","x":1}', "has unknown keys x"),
        ('{"v":1,"s":1,"b":"","p":"","a":"h"}', "strip has the wrong type"),
        ('{"v":1,"s":"/a","b":"","p":"","a":"h","dc":1}', "drop_credentials has the wrong type"),
        ('{"v":1,"s":"/a","b":"","p":"","a":"h","hs":{}}', "headers_set has the wrong type"),
        ('{"v":1,"s":"/a","b":"","p":"","a":"h","hs":["ab"]}', "headers_set has the wrong type"),
        ('{"v":1,"s":"/a","b":"","p":"","a":"h","ha":[["x"]]}', "headers_add has the wrong type"),
        ('{"v":1,"s":"/a","b":"","p":"","a":"h","qs":[["x",1]]}', "query_set has the wrong type"),
        ('{"v":1,"s":"/a","b":"","p":"","a":"h","hr":"ab"}', "headers_remove has the wrong type"),
        ('{"v":1,"s":"/a","b":"","p":"","a":"h","ho":[1]}', "headers_only has the wrong type"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_rule_is_refused(written: str, problem: str) -> None:
    with pytest.raises(RuleError, match=problem):
        decode(written)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | text,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["v", "s", "b", "p", "a", "hs", "qr"]), inner)
        ),
    )
)
def test_any_json_is_a_rule_or_a_rule_error(value: Any) -> None:
    """Whatever JSON arrives, it is either decoded or refused with RuleError."""
    try:
        rule = decode(json.dumps(value))
    except RuleError:
        return
    assert decode(encode(rule)) == rule


def test_a_rule_is_parsed_once() -> None:
    written = encode(dataclasses.replace(PLAIN, authority="parsed.once"))
    assert decode(written) is decode(written)


def test_the_version_is_the_first_thing_in_a_rule() -> None:
    assert encode(PLAIN).startswith(f'{{"v":{VERSION},')


def test_credential_headers_are_lower_case() -> None:
    """They are compared with Envoy's header names, which are."""
    assert [name.lower() for name in CREDENTIAL_HEADERS] == list(CREDENTIAL_HEADERS)
