"""What becomes of a request: every byte that no rule names passes as it came."""

import string
from dataclasses import replace
from urllib.parse import parse_qsl, quote, unquote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from thruway_extproc.mask import mask_query
from thruway_extproc.rewrite import Mutation, RewriteError, join_path, rewrite
from thruway_extproc.rule import KEPT_ASIDE, KEY_SUBPROTOCOL, Rule

PLAIN = Rule(strip="/openai_passthrough", base="", version="/v1", authority="api.openai.com")
CANARY = "sk-canary-4Yq"

# What Envoy lets through in a path and in a query.
_PATH_BYTES = string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@%/|\"<>[]^`{}\\"
paths = st.text(_PATH_BYTES, max_size=30)
queries = st.text(_PATH_BYTES + "?", max_size=40)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)


def run(target: str, rule: Rule = PLAIN, *headers: tuple[str, str]) -> Mutation:
    received = [(":method", b"GET"), (":path", target.encode("latin-1"))]
    received += [(name, value.encode()) for name, value in headers]
    return rewrite(received, rule)


def path_of(mutation: Mutation) -> str:
    return dict(mutation.set)[":path"].decode("latin-1")


def headers_of(mutation: Mutation) -> list[tuple[str, str]]:
    return [(name, value.decode()) for name, value in mutation.set if not name.startswith(":")]


@pytest.mark.parametrize(
    ("client", "base", "version", "upstream"),
    [
        # The base path itself: with a slash, without a version.
        ("/openai_passthrough", "", "/v1", "/"),
        ("/openai_passthrough/", "", "/v1", "/"),
        ("/openai_passthrough?x=1", "", "/v1", "/?x=1"),
        ("/openai_passthrough/?x=1", "", "/v1", "/?x=1"),
        ("/openai_passthrough?", "", "/v1", "/?"),
        ("/openai_passthrough", "/proxy", "/v1", "/proxy/"),
        ("/openai_passthrough/", "/proxy/v1", "/v1", "/proxy/v1/"),
        # Both spellings reach the same endpoint.
        ("/openai_passthrough/v1/models", "", "/v1", "/v1/models"),
        ("/openai_passthrough/models", "", "/v1", "/v1/models"),
        ("/openai_passthrough/v1", "", "/v1", "/v1"),
        ("/openai_passthrough/v1/", "", "/v1", "/v1/"),
        ("/openai_passthrough/v1?x", "", "/v1", "/v1?x"),
        ("/openai_passthrough/models/", "", "/v1", "/v1/models/"),
        # Other versions count as versions.
        ("/openai_passthrough/v2/models", "", "/v1", "/v2/models"),
        ("/openai_passthrough/v1beta/models", "", "/v1", "/v1beta/models"),
        ("/openai_passthrough/v1beta2/models", "", "/v1", "/v1beta2/models"),
        ("/openai_passthrough/v1/models", "", "/v1beta", "/v1/models"),
        ("/openai_passthrough/models", "", "/v1beta", "/v1beta/models"),
        # And these are none.
        ("/openai_passthrough/V1/models", "", "/v1", "/v1/V1/models"),
        ("/openai_passthrough/v/models", "", "/v1", "/v1/v/models"),
        ("/openai_passthrough/version1/models", "", "/v1", "/v1/version1/models"),
        ("/openai_passthrough/v1-beta/models", "", "/v1", "/v1/v1-beta/models"),
        ("/openai_passthrough/v1;a=b/models", "", "/v1", "/v1/v1;a=b/models"),
        ("/openai_passthrough/%761/models", "", "/v1", "/v1/%761/models"),
        # No version to insert.
        ("/openai_passthrough/models", "", "", "/models"),
        ("/openai_passthrough/v1/models", "", "", "/v1/models"),
        ("/openai_passthrough", "", "", "/"),
        # Base paths; one that already ends in the version has it once.
        ("/openai_passthrough/models", "/proxy", "/v1", "/proxy/v1/models"),
        ("/openai_passthrough/v1/models", "/proxy", "/v1", "/proxy/v1/models"),
        ("/openai_passthrough/models", "/v1", "/v1", "/v1/models"),
        ("/openai_passthrough/v1/models", "/v1", "/v1", "/v1/models"),
        ("/openai_passthrough/models", "/proxy/v1", "/v1", "/proxy/v1/models"),
        ("/openai_passthrough/v1/models", "/proxy/v1", "/v1", "/proxy/v1/models"),
        ("/openai_passthrough/v1/models", "/proxy/v1", "", "/proxy/v1/models"),
        ("/openai_passthrough/models", "/proxy/v1", "", "/proxy/v1/models"),
        ("/openai_passthrough/models", "/proxyv1", "/v1", "/proxyv1/v1/models"),
        ("/openai_passthrough/v1", "/v1", "/v1", "/v1"),
        # Bytes that others normalise.
        ("/openai_passthrough/files/a%2Fb", "", "/v1", "/v1/files/a%2Fb"),
        ("/openai_passthrough/files/a%2fb%20", "", "/v1", "/v1/files/a%2fb%20"),
        ("/openai_passthrough//models", "", "/v1", "/v1//models"),
        ("/openai_passthrough//v1/models", "", "/v1", "/v1//v1/models"),
        ("/openai_passthrough//models", "/proxy/", "", "/proxy///models"),
        ("/openai_passthrough/v1//models//", "", "/v1", "/v1//models//"),
        ("/openai_passthrough/a;b=c/d", "", "/v1", "/v1/a;b=c/d"),
        ("/openai_passthrough/models?a=%2F&a=/&;&&=", "", "/v1", "/v1/models?a=%2F&a=/&;&&="),
        ("/openai_passthrough/m?include[]=a&include[]=b", "", "", "/m?include[]=a&include[]=b"),
        ("/openai_passthrough/m?q=/openai_passthrough?x", "", "", "/m?q=/openai_passthrough?x"),
        ("/openai_passthrough/openai_passthrough/x", "", "/v1", "/v1/openai_passthrough/x"),
    ],
)  # fmt: skip
def test_paths(client: str, base: str, version: str, upstream: str) -> None:
    assert path_of(run(client, replace(PLAIN, base=base, version=version))) == upstream


@pytest.mark.parametrize(
    ("client", "base", "upstream"),
    [
        # Below these roots the API has no version.
        ("/r/upload/v1beta/files", "", "/upload/v1beta/files"),
        ("/r/upload", "", "/upload"),
        ("/r/upload/", "", "/upload/"),
        ("/r/upload?uploadType=x", "", "/upload?uploadType=x"),
        ("/r/$discovery/rest?version=v1beta", "", "/$discovery/rest?version=v1beta"),
        ("/r/upload/v1beta/files", "/proxy", "/proxy/upload/v1beta/files"),
        # And these are other segments.
        ("/r/uploads/x", "", "/v1beta/uploads/x"),
        ("/r/Upload/x", "", "/v1beta/Upload/x"),
        ("/r/%75pload/x", "", "/v1beta/%75pload/x"),
        ("/r/upload;a/x", "", "/v1beta/upload;a/x"),
        ("/r//upload/x", "", "/v1beta//upload/x"),
        ("/r/v1/upload/x", "", "/v1/upload/x"),
        ("/r/models/upload", "", "/v1beta/models/upload"),
        ("/r/models", "/v1beta", "/v1beta/models"),
    ],
)  # fmt: skip
def test_unversioned_roots(client: str, base: str, upstream: str) -> None:
    rule = Rule("/r", base, "/v1beta", "h.example", unversioned=("upload", "$discovery"))
    assert path_of(run(client, rule)) == upstream


@pytest.mark.parametrize(
    "target", ["/openai_passthroughX", "/openai_passthroughX/v1", "/other", "/", "*", ""]
)
def test_a_path_that_is_not_the_routes_is_refused(target: str) -> None:
    with pytest.raises(RewriteError, match="is not below"):
        run(target)


def test_a_request_without_path_is_refused() -> None:
    with pytest.raises(RewriteError, match="has no path"):
        rewrite([(":method", b"GET")], PLAIN)


@given(paths, queries, st.sampled_from(["", "/proxy", "/proxy/v1", "/a%20b"]))
def test_what_is_not_rewritten_is_preserved(rest: str, query: str, base: str) -> None:
    """Upstream's path ends with the client's bytes, and its query is the client's to the byte."""
    rule = replace(PLAIN, base=base)
    upstream = path_of(run(f"/openai_passthrough/{rest}?{query}", rule))
    path, mark, sent = upstream.partition("?")
    assert mark + sent == "?" + query
    assert path.endswith("/" + rest)
    assert path.startswith(base.removesuffix("/v1") or "/")


@given(paths, st.sampled_from(["", "/proxy", "/proxy/v1"]), st.sampled_from(["", "/v1", "/v2"]))
def test_naming_the_version_or_not_is_the_same(rest: str, base: str, version: str) -> None:
    """A client that spells the version out reaches what a client that leaves it out reaches."""
    first = rest.partition("/")[0]
    assume(rest)
    assume(not (first.startswith("v") and first[1:2].isdigit()))
    named = join_path(f"{version}/{rest}", base, version)
    assert named == join_path(f"/{rest}", base, version)
    assert named.count(version or "/") >= 1


@given(paths, paths, st.sampled_from(["", "/v1"]))
def test_the_rule_alone_decides_the_authority(rest: str, query: str, base: str) -> None:
    """Whatever the client asks for, authority is the rule's and is set once."""
    target = f"/openai_passthrough/{rest}?{query}"
    mutation = run(target, replace(PLAIN, base=base), (":authority", "localhost:4000"))
    assert [value for name, value in mutation.set if name == ":authority"] == [b"api.openai.com"]


@pytest.mark.parametrize(
    ("query", "changes", "expected"),
    [
        # default: only where the client sends none, whatever its spelling.
        ("", {"query_default": (("a", "1"),)}, "?a=1"),
        ("?", {"query_default": (("a", "1"),)}, "?a=1"),
        ("?b=2", {"query_default": (("a", "1"),)}, "?b=2&a=1"),
        ("?a=2", {"query_default": (("a", "1"),)}, "?a=2"),
        ("?a", {"query_default": (("a", "1"),)}, "?a"),
        ("?a=", {"query_default": (("a", "1"),)}, "?a="),
        ("?%61=2", {"query_default": (("a", "1"),)}, "?%61=2"),
        ("?A=2", {"query_default": (("a", "1"),)}, "?A=2&a=1"),
        ("?api+version=2", {"query_default": (("api version", "1"),)}, "?api+version=2"),
        ("?api%20version=2", {"query_default": (("api version", "1"),)}, "?api%20version=2"),
        # set: replaces all of the client's.
        ("?a=1&b=2&a=3", {"query_set": (("a", "9"),)}, "?b=2&a=9"),
        ("?%61=1&b=2", {"query_set": (("a", "9"),)}, "?b=2&a=9"),
        ("", {"query_set": (("a", "9"),)}, "?a=9"),
        ("?b", {"query_set": (("x", "1"), ("y", "2"))}, "?b&x=1&y=2"),
        ("", {"query_set": (("a", "1"),), "query_default": (("a", "2"),)}, "?a=1"),
        # remove: every spelling and repetition.
        ("?key=s&a=1", {"query_remove": ("key",)}, "?a=1"),
        ("?a=1&key=s&key=t&key", {"query_remove": ("key",)}, "?a=1"),
        ("?%6bey=s&k%65y=t", {"query_remove": ("key",)}, ""),
        ("?%6Bey=s", {"query_remove": ("key",)}, ""),
        ("?keys=1&Key=2", {"query_remove": ("key",)}, "?keys=1&Key=2"),
        ("?include[]=a&include%5B%5D=b&x", {"query_remove": ("include[]",)}, "?x"),
        ("?caf%C3%A9=1&b", {"query_remove": ("café",)}, "?b"),
        # What no rule names keeps its bytes, its order and its repetitions.
        ("?i[]=a&i[]=b", {"query_default": (("x", "1"),)}, "?i[]=a&i[]=b&x=1"),
        ("?b=%2f&&a=+&b=%2F&=&;", {"query_remove": ("key",)}, "?b=%2f&&a=+&b=%2F&=&;"),
        ("?a=1&key=s&&b", {"query_remove": ("key",)}, "?a=1&&b"),
        ("?", {"query_remove": ("key",)}, "?"),
        ("", {"query_remove": ("key",)}, ""),
        ("?a=?key=1", {"query_remove": ("key",)}, "?a=?key=1"),
        # Values are encoded, so that they cannot become something else.
        ("", {"query_set": (("a&b", "c=d&e#é %/?"),)}, "?a%26b=c%3Dd%26e%23%C3%A9%20%25%2F%3F"),
    ],
)  # fmt: skip
def test_queries(query: str, changes: dict[str, tuple[()]], expected: str) -> None:
    rule = replace(PLAIN, **changes)  # type: ignore[arg-type]
    assert path_of(run("/openai_passthrough/models" + query, rule)) == "/v1/models" + expected


@given(st.lists(st.tuples(words, words), max_size=6), words, words)
def test_a_set_parameter_stands_once(sent: list[tuple[str, str]], name: str, value: str) -> None:
    """After `set` the upstream reads the parameter once, with the rule's value, and all others."""
    assume(name not in ("", "\ufffd"))
    query = "&".join(f"{quote(key, safe='')}={quote(word, safe='')}" for key, word in sent)
    rule = replace(PLAIN, query_set=((name, value),))
    read = parse_qsl(path_of(run(f"/openai_passthrough?{query}", rule))[2:], keep_blank_values=True)
    assert [word for key, word in read if key == name] == [value]
    assert [pair for pair in read if pair[0] != name] == [p for p in sent if p[0] != name]


@given(queries, st.sampled_from(["key", "include[]", "a"]))
@example("?%6Bey=1&+=&key", "key")
def test_a_removed_parameter_is_gone_and_the_others_stay(query: str, name: str) -> None:
    """`remove` leaves every other parameter's bytes and order, and none that reads as the name."""
    rule = replace(PLAIN, query_remove=(name,))
    sent = path_of(run(f"/openai_passthrough?{query}", rule)).partition("?")[2]

    def reads_as_name(part: str) -> bool:
        return unquote(part.partition("=")[0].replace("+", " ")) == name

    assert sent == "&".join(part for part in query.split("&") if not reads_as_name(part))


def test_header_rules() -> None:
    rule = replace(
        PLAIN,
        headers_set=(("x-team", "größe"), ("x-percent", "100%")),
        headers_add=(("x-more", "1"), ("x-more", "2")),
        headers_remove=("cookie", "x-gone"),
    )
    mutation = run("/openai_passthrough", rule, ("cookie", "a=b"))
    assert headers_of(mutation) == [("x-team", "größe"), ("x-percent", "100%")]
    assert mutation.add == (("x-more", b"1"), ("x-more", b"2"))
    assert mutation.remove == ("cookie", "x-gone")


def test_a_plain_rule_touches_no_header() -> None:
    mutation = run("/openai_passthrough", PLAIN, ("user-agent", "x"), ("traceparent", "00-1"))
    assert headers_of(mutation) == []
    assert (mutation.add, mutation.remove) == ((), ())


FRAMING = (
    ("connection", "upgrade"), ("upgrade", "websocket"), ("host", "h"), ("te", "trailers"),
    ("content-length", "3"), ("content-type", "a/b"), ("content-encoding", "gzip"),
    ("transfer-encoding", "chunked"), ("trailer", "x"), ("expect", "100-continue"),
    ("sec-websocket-key", "k"), ("sec-websocket-version", "13"),
    ("sec-websocket-protocol", "realtime"), ("sec-websocket-extensions", "permessage-deflate"),
    (":scheme", "http"), (":authority", "localhost"),
)  # fmt: skip


def test_forward_only_keeps_what_is_listed_and_what_frames_the_message() -> None:
    rule = replace(PLAIN, headers_only=("user-agent", "accept"))
    sent = (*FRAMING, ("user-agent", "x"), ("accept", "*/*"), ("cookie", "c"), ("x-a", "1"))
    assert run("/openai_passthrough", rule, *sent).remove == ("cookie", "x-a")


def test_forward_only_leaves_envoys_own_headers_to_envoy() -> None:
    """Envoy refuses changes to `x-envoy-*` and would answer with an error instead."""
    rule = replace(PLAIN, headers_only=("accept",))
    assert run("/openai_passthrough", rule, ("x-envoy-external-address", "::1")).remove == ()


@given(st.lists(st.sampled_from(["a", "b", "c", "d", "e"])), st.sets(st.sampled_from("abc")))
def test_forward_only_is_a_whitelist(sent: list[str], listed: set[str]) -> None:
    """With forwardOnly, exactly the client's unlisted headers are removed, each once."""
    assume(listed)
    rule = replace(PLAIN, headers_only=tuple(listed))
    mutation = run("/openai_passthrough", rule, *((name, "1") for name in sent))
    assert sorted(mutation.remove) == sorted(set(sent) - listed)


def test_what_the_rule_sets_passes_forward_only() -> None:
    rule = replace(PLAIN, headers_only=("accept",), headers_set=(("x-a", "rule"),))
    mutation = run("/openai_passthrough", rule, ("x-a", "client"))
    assert headers_of(mutation) == [("x-a", "rule")]


KEY = f"{KEY_SUBPROTOCOL}{CANARY}"


@pytest.mark.parametrize(
    ("offers", "kept"),
    [
        ([f"realtime, {KEY}, openai-beta.realtime-v1"], "realtime, openai-beta.realtime-v1"),
        ([f"{KEY},realtime"], "realtime"),
        (["realtime", KEY], "realtime"),
        ([f"realtime,{KEY.upper()}"], "realtime"),
        ([f"realtime,, {KEY},"], "realtime"),
    ],
)
def test_the_key_is_taken_out_of_the_subprotocols(offers: list[str], kept: str) -> None:
    sent = [("sec-websocket-protocol", offer) for offer in offers]
    mutation = run("/openai_passthrough", replace(PLAIN, drop_credentials=True), *sent)
    assert headers_of(mutation) == [("sec-websocket-protocol", kept)]
    assert mutation.remove == ()


@pytest.mark.parametrize("offers", [[KEY], [KEY, KEY], [f"{KEY}, {KEY}"], [f"{KEY},"]])
def test_a_subprotocol_header_of_keys_alone_is_removed(offers: list[str]) -> None:
    sent = [("sec-websocket-protocol", offer) for offer in offers]
    mutation = run("/openai_passthrough", replace(PLAIN, drop_credentials=True), *sent)
    assert headers_of(mutation) == []
    assert mutation.remove == ("sec-websocket-protocol",)


@pytest.mark.parametrize("offer", ["realtime,  x", f"a,b.{KEY}", ""])
def test_subprotocols_without_a_key_keep_their_bytes(offer: str) -> None:
    sent = ("sec-websocket-protocol", offer)
    mutation = run("/openai_passthrough", replace(PLAIN, drop_credentials=True), sent)
    assert (headers_of(mutation), mutation.remove) == ([], ())


def test_the_subprotocol_key_passes_where_no_credential_is_injected() -> None:
    mutation = run("/openai_passthrough", PLAIN, ("sec-websocket-protocol", KEY))
    assert (headers_of(mutation), mutation.remove) == ([], ())


def test_removed_subprotocols_do_not_come_back() -> None:
    """Envoy removes first and sets then: what the rule removes may not be set again."""
    rule = replace(PLAIN, drop_credentials=True, headers_remove=("sec-websocket-protocol",))
    mutation = run("/openai_passthrough", rule, ("sec-websocket-protocol", f"realtime, {KEY}"))
    assert headers_of(mutation) == []
    assert mutation.remove == ("sec-websocket-protocol",)


offered = st.lists(st.sampled_from(["realtime", "a.b", KEY, KEY.title(), "", " x "]), max_size=5)


@given(st.lists(offered.map(", ".join), max_size=3))
def test_no_key_survives_in_subprotocols(offers: list[str]) -> None:
    """Where a credential is injected, no offer that reaches the upstream holds a key."""
    sent = [("sec-websocket-protocol", offer) for offer in offers]
    mutation = run("/openai_passthrough", replace(PLAIN, drop_credentials=True), *sent)
    left = "".join(value for _, value in headers_of(mutation))
    if "sec-websocket-protocol" not in [*mutation.remove, *dict(mutation.set)]:
        left += "".join(offers)
    assert CANARY.lower() not in left.lower()


PROTO, REFERER = KEPT_ASIDE["x-forwarded-proto"], KEPT_ASIDE["referer"]


@pytest.mark.parametrize(
    ("sent", "changes", "overwritten", "removed"),
    [
        # Envoy's own word goes, the client's comes back.
        ((("x-forwarded-proto", "http"),), {}, [], ("x-forwarded-proto",)),
        ((("x-forwarded-proto", "a"), (PROTO, "b")), {}, [("x-forwarded-proto", "b")], ()),
        ((("x-forwarded-proto", "http"), (PROTO, "http")), {}, [], ()),
        (((REFERER, "/a"),), {}, [("referer", "/a")], ()),
        ((("referer", "http://a/"), (REFERER, "http://a/")), {}, [], ()),
        # What a rule says of them holds.
        (((REFERER, "/a"),), {"headers_remove": ("referer",)}, [], ("referer",)),
        (((REFERER, "/a"),), {"headers_only": ("accept",)}, [], (REFERER,)),
        (((REFERER, "/a"),), {"headers_only": ("referer",)}, [("referer", "/a")], (REFERER,)),
        (
            (("x-forwarded-proto", "http"),),
            {"headers_set": (("x-forwarded-proto", "wss"),)},
            [("x-forwarded-proto", "wss")],
            ("x-forwarded-proto",),
        ),
    ],
)  # fmt: skip
def test_what_envoy_writes_over_or_drops_is_put_back(
    sent: tuple[tuple[str, str], ...],
    changes: dict[str, tuple[()]],
    overwritten: list[tuple[str, str]],
    removed: tuple[str, ...],
) -> None:
    mutation = run("/openai_passthrough", replace(PLAIN, **changes), *sent)  # type: ignore[arg-type]
    assert headers_of(mutation) == overwritten
    assert mutation.remove == removed


@pytest.mark.parametrize(
    ("target", "logged"),
    [
        ("/a/b", "/a/b"),
        ("/a?", "/a?"),
        ("/a?x=1&y=2", "/a?x=…&y=…"),
        ("/a?x=1=2", "/a?x=…"),
        ("/a?x=", "/a?x=…"),
        ("/a?word", "/a?…"),
        ("/a?x=1&&word", "/a?x=…&&…"),
        ("/a?include[]=a&include[]=b", "/a?include[]=…&include[]=…"),
        ("/a?x=1;key=2", "/a?x=…"),
        ("/a?x=1?key=2", "/a?x=…"),
    ],
)
def test_mask_query(target: str, logged: str) -> None:
    assert mask_query(target) == logged


@given(queries, queries, st.sampled_from(["&", "&x=", "&=", ";x=", "?x="]))
def test_no_value_of_a_query_is_logged(before: str, after: str, start: str) -> None:
    """Whatever stands around it, a value of the query never reaches the log; the path does."""
    mutation = run(f"/openai_passthrough/models?{before}&x={start}{CANARY}&{after}")
    assert CANARY not in mutation.log_path
    assert mutation.log_path.startswith("/openai_passthrough/models?")
