"""TokenReview's answers, made up: what is believed of them, how often they are asked for."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import time
from typing import TYPE_CHECKING, Any, ParamSpec, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thruway_operator.kube import ApiError, KubeError, Unreachable
from thruway_operator.kube.claims import expiry
from thruway_operator.kube.tokens import TokenReviewer, bearer_token
from thruway_operator.xds import Identity, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")
AUDIENCE = "thruway-xds"


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def token(number: int = 0, **claims: Any) -> str:
    said = {"aud": [AUDIENCE], "exp": time.time() + 3600, "number": number} | claims
    return "header." + base64.urlsafe_b64encode(json.dumps(said).encode()).decode() + ".SIGNATURE"


def answer(**changes: Any) -> dict[str, Any]:
    extra = {
        "authentication.kubernetes.io/pod-name": ["web-0"],
        "authentication.kubernetes.io/pod-uid": ["1234"],
    }
    user = {"username": "system:serviceaccount:team:app", "extra": extra}
    return {"authenticated": True, "audiences": [AUDIENCE], "user": user} | changes


class ApiServer:
    """Stands in for a KubeClient."""

    def __init__(self, status: dict[str, Any] | None = None) -> None:
        self.status = answer() if status is None else status
        self.failure: KubeError | None = None
        self.bodies: list[Any] = []
        self.at_once = self.most_at_once = 0

    async def request(self, method: str, path: str, *, body: Any, within: float) -> dict[str, Any]:
        assert (method, path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
        assert within <= 5
        self.bodies.append(body)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        if self.failure is not None:
            raise self.failure
        return {"status": self.status}

    def reviewer(self, **options: Any) -> TokenReviewer:
        return TokenReviewer(cast("Any", self), **options)


class Context:
    """A gRPC context as far as its metadata go."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> Any:
        return self._metadata


@in_loop
async def test_an_identity() -> None:
    """It is TokenReview's, but for the expiry; the request asks for the audience."""
    server = ApiServer()
    expires = float(int(time.time()) + 100)
    found = await server.reviewer().review(token(exp=expires))
    assert found == Identity("team", "app", "web-0", "1234", expires)
    [body] = server.bodies
    assert body["spec"]["audiences"] == [AUDIENCE]


REFUSED: list[dict[str, Any]] = [
    {},
    answer(authenticated=False),
    answer(authenticated="true"),
    answer(audiences=[]),
    answer(audiences=None),
    answer(audiences=["https://kubernetes.default.svc"]),
    answer(user=None),
    answer(user={"username": "system:serviceaccount:team:app"}),
    answer(user=answer()["user"] | {"username": "admin"}),
    answer(user=answer()["user"] | {"username": "xsystem:serviceaccount:team:app"}),
    answer(user=answer()["user"] | {"username": "system:serviceaccount:team"}),
    answer(user=answer()["user"] | {"username": "system:serviceaccount::app"}),
    answer(user=answer()["user"] | {"extra": {"authentication.kubernetes.io/pod-name": ["web-0"]}}),
    answer(user=answer()["user"] | {"extra": {"authentication.kubernetes.io/pod-uid": ["1234"]}}),
    answer(
        user=answer()["user"]
        | {
            "extra": {
                "authentication.kubernetes.io/pod-name": ["a", "b"],
                "authentication.kubernetes.io/pod-uid": ["1"],
            }
        }
    ),
]


@pytest.mark.parametrize("status", REFUSED)
@in_loop
async def test_what_is_not_believed(status: dict[str, Any]) -> None:
    """Anything but a pod's ServiceAccount for our audience; the sentence holds nothing of it."""
    presented = token()
    with pytest.raises(PermissionError) as caught:
        await ApiServer(status).reviewer().review(presented)
    assert all(part not in str(caught.value) for part in presented.split("."))


@pytest.mark.parametrize(
    ("presented", "why"),
    [
        ("", "not a ServiceAccount token"),
        ("a.b", "not a ServiceAccount token"),
        ("a.!.c", "not a ServiceAccount token"),
        ("a.W10.c", "not a ServiceAccount token"),  # []
        ("a." + "A" * 20_000 + ".c", "not a ServiceAccount token"),
        (token(aud="other"), "not for the audience 'thruway-xds'"),
        (token(aud=None), "not for the audience"),
        (token(exp=1), "has expired"),
        (token(exp=None), "no expiration"),
        (token(exp=True), "no expiration"),
    ],
    ids=range(10),  # what tokens say depends on the time
)
@in_loop
async def test_what_the_api_server_is_not_asked(presented: str, why: str) -> None:
    """A token that cannot be good costs no TokenReview."""
    server = ApiServer()
    with pytest.raises(PermissionError, match=why):
        await server.reviewer().review(presented)
    assert not server.bodies


@given(st.text(max_size=60) | st.tuples(st.text(), st.binary(max_size=40), st.text()))
def test_any_text_for_a_token(presented: Any) -> None:
    """No text makes it fail otherwise than by a refusal."""
    if isinstance(presented, tuple):
        payload = base64.urlsafe_b64encode(presented[1]).decode()
        presented = f"{presented[0]}.{payload}.{presented[2]}"
    with pytest.raises(PermissionError):
        expiry(presented, AUDIENCE, 0.0)


@in_loop
async def test_a_storm_of_proxies() -> None:
    """A few reviews at once, one for each token; and again when they are not fresh any more."""
    server = ApiServer()
    reviewer = server.reviewer(fresh=60.0)
    tokens = [token(number) for number in range(200)]
    await asyncio.gather(*(reviewer.review(t) for t in tokens for _ in range(5)))
    assert server.most_at_once <= 16
    assert len({body["spec"]["token"] for body in server.bodies}) == 200
    asked = len(server.bodies)
    await asyncio.gather(*(reviewer.review(t) for t in tokens))
    assert len(server.bodies) == asked
    assert not any(part in repr(vars(reviewer)) for t in tokens for part in t.split(".")[1:])
    stale = server.reviewer(fresh=0.0)
    await stale.review(tokens[0])
    await stale.review(tokens[0])
    assert len(server.bodies) == asked + 2


@in_loop
async def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten."""
    monkeypatch.setattr("thruway_operator.kube.tokens._CACHED", 10)
    reviewer = ApiServer().reviewer()
    for number in range(50):
        await reviewer.review(token(number))
    assert len(reviewer._known) == 10


@in_loop
async def test_a_refusal_is_not_remembered() -> None:
    """What is refused now may be good in a moment: a pod that the API server did not know yet."""
    server = ApiServer(answer(authenticated=False))
    reviewer = server.reviewer()
    with pytest.raises(PermissionError):
        await reviewer.review(token())
    server.status = answer()
    assert (await reviewer.review(token())).pod == "web-0"


@pytest.mark.parametrize("failure", [Unreachable("away"), ApiError(403, "Forbidden", "denied")])
@in_loop
async def test_no_answer(failure: KubeError, caplog: pytest.LogCaptureFixture) -> None:
    """One line in the log, a peer hears nothing of it, the API server has peace for a moment."""
    server = ApiServer()
    server.failure = failure
    reviewer = server.reviewer()
    context: Any = Context(("authorization", f"Bearer {token()}"))
    for _ in range(50):
        with pytest.raises(Unavailable, match="at the moment") as caught:
            await reviewer.authenticate(context)
        assert str(failure) not in str(caught.value)
    assert len(server.bodies) <= 2
    assert [r.getMessage() for r in caplog.records] == [
        f"tokens of proxies cannot be checked: {failure}"
    ]
    server.failure = None
    async with asyncio.timeout(10):
        while True:
            try:
                await reviewer.authenticate(context)
            except Unavailable:
                await asyncio.sleep(0.01)
            else:
                break
    with caplog.at_level("INFO"):
        assert (await reviewer.authenticate(context)).pod == "web-0"


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic abc")],
        [("authorization", "Bearer a"), ("authorization", "Bearer b")],
        [("x-authorization", "Bearer a")],
    ],
)
def test_metadata_without_a_token(metadata: list[tuple[str, str]]) -> None:
    """One bearer token, or none at all."""
    with pytest.raises(PermissionError, match="no token"):
        bearer_token(cast("Any", Context(*metadata)))


def test_metadata_with_a_token() -> None:
    """The scheme's case does not matter (RFC 9110, 11.1)."""
    assert bearer_token(cast("Any", Context(("authorization", "bearer abc ")))) == "abc"
