"""An override takes exactly the requests whose upstream path, after versioning, it names."""

from hypothesis import example, given
from hypothesis import strategies as st

from thruway_extproc.rewrite import join_path
from thruway_operator.api.route import Override
from thruway_operator.ir import Match
from thruway_operator.translate.overrides import client_matches
from thruway_operator.translate.verdict import Refused

ROUTE = "/openai"
UNVERSIONED = ("upload",)
segments = st.sampled_from(["v1", "v2", "v1beta", "responses", "a", "v1x.y", "V1", "upload"])
override_paths = st.lists(segments, min_size=1, max_size=3).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
rests = st.lists(segments | st.just(""), max_size=4).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
versions = st.sampled_from(["", "/v1", "/v1beta"])


def takes(match: Match, path: str) -> bool:
    """Whether Envoy's `path` or `path_separated_prefix` matches."""
    return path == match.path or (not match.exact and path.startswith(match.path + "/"))


def names(override: Override, upstream: str) -> bool:
    if override.match == "Exact":
        return upstream == override.path
    return f"{upstream}/".startswith(f"{override.path}/")


@given(override_paths, st.sampled_from(["Prefix", "Exact"]), versions, rests)
@example("/v1/responses", "Prefix", "/v1", "/responses")
@example("/v1/v1/a", "Prefix", "/v1", "/v1/a")
@example("/v1", "Exact", "/v1", "/v1")
@example("/v1", "Prefix", "/v1", "/models")
@example("/responses", "Prefix", "/v1", "/responses")
@example("/v1/upload", "Prefix", "/v1", "/upload")
@example("/upload/a", "Prefix", "/v1", "/upload/a")
def test_an_override_takes_what_it_names(path: str, match: str, version: str, rest: str) -> None:
    """A client path is taken if and only if the upstream path that it becomes is the override's.

    What is refused would take no path at all, or all that are not of another version.
    """
    override = Override.model_validate(
        {"path": path, "match": match, "upstream": {"url": "http://h.example"}}
    )
    upstream = join_path(rest, "", version, UNVERSIONED)
    try:
        matches = client_matches(ROUTE, version, override, "spec.overrides[0]", UNVERSIONED)
    except Refused as refused:
        if "would match every endpoint" in refused.message:
            assert (path, match) == (version, "Prefix")
        else:
            assert not names(override, upstream)
        return
    taken = any(takes(found, ROUTE + rest) for found in matches)
    assert taken is names(override, upstream)
