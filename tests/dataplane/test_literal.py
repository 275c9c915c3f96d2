"""What a user writes into a rule passes literally, although Envoy %-formats such fields."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from thruway_testing.product.manifests import route, secret, write
from thruway_testing.product.up import ThruwayUp, thruway_up, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

KEY = "sk-literal-key"

_TRICKS = [
    "%",
    "100%",
    "%%",
    "%REQ(AUTHORIZATION)%",
    "%REQ(X-CLIENT)%",
    "%ENVIRONMENT(HOME)%",
    "%PROTOCOL%",
    "%DYNAMIC_METADATA(thruway:path)%",
    '"quoted" \\ {"json": 1}',
    "Grüße, 世界 👋",
    "a, b; c=d",
    "\\u0025",
]
_plain = st.characters(
    min_codepoint=0x20, exclude_categories=["Cc", "Cs"], exclude_characters="\x7f"
)
_text = st.one_of(
    st.sampled_from(_TRICKS),
    st.lists(st.one_of(st.sampled_from(_TRICKS), st.text(_plain, max_size=8)), max_size=3).map(
        "".join
    ),
)
values = _text.map(lambda text: text.strip(" ")).filter(
    lambda text: 0 < len(text.encode()) <= 200 and text[0] > " " and text[-1] > " "
)
# A prefix is part of a credential header: printable ASCII only.
prefixes = values.filter(lambda text: text.isascii()).map(lambda text: f"{text[:60]} ")


class Bench:
    """A running Thruway whose one file is rewritten for each example."""

    def __init__(self, up: ThruwayUp, file: Path, upstream: OpenAIUpstream) -> None:
        self.up, self.file, self.upstream = up, file, upstream
        self._numbers = itertools.count(1)

    def serve(self, texts: list[str], prefix: str) -> str:
        """Put the texts everywhere that rules take text; return the path once it is served."""
        path = f"/l{next(self._numbers)}"
        named = [{"name": f"X-L{index}", "value": text} for index, text in enumerate(texts)]
        spec = {
            "credential": {"secretKeyRef": {"name": "k", "key": "K"}, "prefix": prefix},
            "request": {
                "headers": {"set": named, "add": [{"name": "X-Added", "value": texts[0]}]},
                "query": {
                    "set": [{"name": f"q{i}", "value": text} for i, text in enumerate(texts)]
                },
            },
            "response": {"headers": {"set": named}},
        }
        write(self.file, secret("k", K=KEY), route("r", path, self.upstream.url, **spec))
        wait_until(lambda: self.get(f"{path}/models").status_code != 404, "the new route")
        return path

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.up.url + path, headers={"X-Client": "leak"}, trust_env=False)


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory, openai_upstream: OpenAIUpstream
) -> Iterator[Bench]:
    file = tmp_path_factory.mktemp("literal") / "routes.yaml"
    write(file, route("r", "/start", openai_upstream.url))
    with thruway_up("-f", str(file)) as up:
        yield Bench(up, file, openai_upstream)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(texts=_TRICKS, prefix="%REQ(X-CLIENT)% 100% ")
@given(texts=st.lists(values, min_size=1, max_size=8), prefix=prefixes)
def test_text_in_rules_arrives_as_it_was_written(
    bench: Bench, texts: list[str], prefix: str
) -> None:
    """For all texts in rules: the upstream and the client get exactly these bytes."""
    path = bench.serve(texts, prefix)
    answer = bench.get(f"{path}/models?mark={path[1:]}")
    request = bench.upstream.wait_for_request(f"mark={path[1:]}")
    for index, text in enumerate(texts):
        assert [latin.encode("latin-1") for latin in request.values(f"X-L{index}")] == [
            text.encode()
        ]
        assert dict(answer.headers.raw)[f"x-l{index}".encode()] == text.encode()
    assert request.values("X-Added") == [texts[0].encode().decode("latin-1")]
    assert request.values("Authorization") == [f"{prefix}{KEY}"]
    pairs = dict(part.split(b"=") for part in request.query.split(b"&") if part[:1] == b"q")
    assert {key: unquote_to_bytes(value).decode() for key, value in pairs.items()} == {
        f"q{index}".encode(): text for index, text in enumerate(texts)
    }
