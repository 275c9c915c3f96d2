"""A laptop without files: `OPENAI_API_KEY` and two variables make the routes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thruway_operator import ir
from thruway_operator.sources.files.environment import (
    KEY,
    NATIVE_KEY,
    NATIVE_URL,
    UPSTREAM_URL,
    environment_resources,
    secret_environment,
)
from thruway_operator.sources.files.watch import SourceError
from thruway_operator.translate import translate

CANARY = "sk-canary-4Yq"
DEMONSTRATION = "http://127.0.0.1:4999"


def served(environment: dict[str, str]) -> dict[str, list[tuple[str, str, str | None]]]:
    """Return, for each route: its branches as (name, authority, the Secret's key)."""
    translation = translate(environment_resources(environment, DEMONSTRATION))
    assert all(verdict.good for verdict in translation.verdicts.values())
    return {route.id: list(map(branch, route.branches)) for route in translation.config.routes}


def branch(found: ir.Branch) -> tuple[str, str, str | None]:
    assert isinstance(found.outcome, ir.Target)
    credential = found.outcome.endpoint.credential
    return found.name, found.outcome.rule.authority, credential.secret if credential else None


KEYED = "default/openai/OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("environment", "upstream", "key", "native"),
    [
        ({}, "127.0.0.1:4999", None, None),
        ({KEY: ""}, "127.0.0.1:4999", None, None),
        ({KEY: "  "}, "127.0.0.1:4999", None, None),
        ({KEY: "k"}, "api.openai.com", KEYED, None),
        ({UPSTREAM_URL: "http://h.example:8080/base"}, "h.example:8080", None, None),
        ({UPSTREAM_URL: ""}, "127.0.0.1:4999", None, None),
        ({KEY: "k", UPSTREAM_URL: "https://h.example"}, "h.example", KEYED, None),
        ({KEY: "k", UPSTREAM_URL: " https://h.example \n"}, "h.example", KEYED, None),
        ({NATIVE_URL: "http://n.example"}, "127.0.0.1:4999", None, "n.example"),
        ({KEY: "k", NATIVE_URL: "http://n.example:81"}, "api.openai.com", KEYED, "n.example:81"),
        ({KEY: "k", NATIVE_URL: " "}, "api.openai.com", KEYED, None),
        (
            {KEY: "k", UPSTREAM_URL: "https://h.example", NATIVE_URL: "http://n.example"},
            "h.example", KEYED, "n.example",
        ),
    ],
)  # fmt: skip
def test_combinations(
    environment: dict[str, str], upstream: str, key: str | None, native: str | None
) -> None:
    main = ("", upstream, key)
    # An override inherits no credential: the key goes to the upstream that it was made for.
    overrides = [("/v1/responses", native, None)] if native else []
    assert served(environment) == {
        "default/openai": [*overrides, main],
        "default/openai-passthrough": [main],
    }


def test_the_key_is_the_environments() -> None:
    resources = environment_resources({KEY: f" {CANARY}\n", "PATH": "/bin"}, DEMONSTRATION)
    assert translate(resources).config.secrets[KEYED].reveal() == CANARY
    assert CANARY not in repr(resources) + str(resources)


def test_empty_variables_count_as_unset() -> None:
    found = secret_environment({"A": "1", "B": "", "C": " \n"})
    assert {name: value.reveal() for name, value in found.items()} == {"A": "1"}


@pytest.mark.parametrize("name", [UPSTREAM_URL, NATIVE_URL])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("api.openai.com", "must begin with http:// or https://"),
        ("ftp://h.example", "must begin with http:// or https://"),
        (f"https://u:{CANARY}@h.example", "must not contain a user and password: use `credential`"),
        (f"https://h.example/?key={CANARY}", "must not contain a query: use `request.query`"),
        ("https://h.example/#x", "must not contain a fragment"),
        ("https://h.example:99999", "is not a URL, or its port"),
        ("https://", "has no valid host name"),
        ("http://h", None),
        ("http://a b", "may only contain printable ASCII characters, without spaces"),
        ("http://é.example", "may only contain printable ASCII characters, without spaces"),
        ("http://h.example/\udce9", "may only contain printable ASCII characters, without spaces"),
        ("http://h.example/" + "a" * 1100, "may be at most 1024 characters long"),
    ],
)
def test_bad_urls_are_one_sentence(name: str, url: str, said: str | None) -> None:
    if said is None:
        assert len(served({name: url})) == 2
        return
    with pytest.raises(SourceError) as caught:
        environment_resources({name: url}, DEMONSTRATION)
    sentence = str(caught.value)
    assert sentence.startswith(f"The environment variable {name} {said}")
    assert sentence.endswith(".")
    assert CANARY not in sentence


@given(st.text(st.characters(codec="utf-8"), max_size=30).map("http://".__add__) | st.text())
def test_any_url_is_used_or_explained(url: str) -> None:
    """Whatever the variable holds, there are two routes or one SourceError."""
    try:
        found = served({UPSTREAM_URL: url})
    except SourceError as error:
        assert str(error).startswith("The environment variable ")  # noqa: PT017
        return
    assert len(found) == 2


@pytest.mark.parametrize("name", [KEY, NATIVE_KEY])
def test_a_placeholder_is_no_key(name: str) -> None:
    environment = {KEY: CANARY, NATIVE_URL: "http://n.example", name: "sk-canary…"}
    with pytest.raises(SourceError) as raised:
        environment_resources(environment, DEMONSTRATION)
    assert str(raised.value) == (
        f"The environment variable {name} looks like a placeholder, not a key, because it is "
        "not ASCII: set the real key, or unset it."
    )
