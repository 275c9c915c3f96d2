"""OpenAI's Python SDK as the tests use it: through every address, with either of its clients.

A test is written once, against `OpenAI`. With the kind `async` the same test drives `AsyncOpenAI`,
behind a face that waits for each answer.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["ADDRESSES", "CLIENT_KEY", "KINDS", "Address", "base_url", "open_client"]

CLIENT_KEY = "sk-anything"
"""What services put where the SDK insists on a key."""

ADDRESSES = (
    "{url}/openai_passthrough/v1",
    "{url}/openai_passthrough",
    "{url}/openai",
    "http://0.0.0.0:{port}/openai_passthrough",
)
"""The base URLs that services configure, to be completed with `base_url`."""

KINDS = ("sync", "async")


class Address(Protocol):
    """Where Thruway, or an upstream, listens."""

    @property
    def url(self) -> str:
        """Scheme and authority."""

    @property
    def port(self) -> int:
        """The port in `url`."""


def base_url(address: str, thruway: Address) -> str:
    """Return the base URL for the SDK that an item of `ADDRESSES` stands for."""
    return address.format(url=thruway.url, port=thruway.port)


@contextmanager
def open_client(
    url: str, kind: str = "sync", *, api_key: str = CLIENT_KEY, timeout: float = 20.0
) -> Iterator[OpenAI]:
    """Open a client that never retries, and that no proxy of the environment gets in front of.

    `timeout` is in seconds, for every wait for the next byte.
    """
    if kind == "sync":
        with OpenAI(
            base_url=url,
            api_key=api_key,
            max_retries=0,
            timeout=timeout,
            http_client=DefaultHttpxClient(trust_env=False),
        ) as client:
            yield client
        return
    with asyncio.Runner() as runner:
        behind = AsyncOpenAI(
            base_url=url,
            api_key=api_key,
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAsyncHttpxClient(trust_env=False),
        )
        with cast("OpenAI", _Blocking(behind, runner)) as client:
            yield client


class _Blocking:
    """Anything of the asynchronous SDK, with the manners of its synchronous twin."""

    def __init__(self, behind: Any, runner: asyncio.Runner) -> None:
        self._behind = behind
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return self._face(getattr(self._behind, name))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._face(self._behind(*args, **kwargs))

    def __iter__(self) -> Iterator[Any]:
        items = aiter(self._behind)
        while True:
            try:
                yield self._wait(anext(items))
            except StopAsyncIteration:
                return

    def __enter__(self) -> Self:
        return cast("Self", self._face(self._behind.__aenter__()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wait(self._behind.__aexit__(kind, error, traceback))

    def _wait(self, awaitable: Any) -> Any:
        async def wait() -> Any:
            return await awaitable

        return self._runner.run(wait())

    def _face(self, value: Any) -> Any:
        if inspect.isawaitable(value):
            value = self._wait(value)
        return _Blocking(value, self._runner) if _acts(value) else value


def _acts(value: Any) -> bool:
    """Tell what does things later (methods, resources, streams, pages) from plain answers."""
    if hasattr(type(value), "__aiter__") or hasattr(type(value), "__aenter__"):
        return True
    if isinstance(value, BaseModel):
        return False
    return inspect.isroutine(value) or type(value).__module__.startswith("openai.")
