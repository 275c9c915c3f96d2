"""The demonstration upstream is OpenAI to the official SDK."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest

from thruway_operator.laptop.demo.server import demo_upstream
from thruway_operator.laptop.demo.shapes import answer_text, last_user_text, words
from thruway_operator.laptop.up.console import snippets
from thruway_testing.wire.curl import path_with_curl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

HELLO = 'Say "hello", € 5'


@asynccontextmanager
async def sdk() -> AsyncIterator[openai.AsyncOpenAI]:
    async with demo_upstream(word_delay=0) as url:
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-anything", max_retries=0)
        yield client
        await client.close()


def with_sdk(use: Callable[[openai.AsyncOpenAI], Awaitable[None]]) -> None:
    async def run() -> None:
        async with sdk() as client:
            await use(client)

    asyncio.run(run())


def test_models() -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        models = [model.id async for model in client.models.list()]
        assert "gpt-4o-mini" in models
        assert (await client.models.retrieve(models[0])).object == "model"
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("gpt-77")
        assert caught.value.code == "model_not_found"

    with_sdk(use)


def test_chat() -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        answer = await client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": HELLO}]},
                {"role": "assistant", "content": "No."},
            ],
        )
        said = answer.choices[0].message.content
        assert said == answer_text(HELLO)
        for part in ("demonstration", "no key was found", HELLO, "OPENAI_API_KEY"):
            assert part in said
        assert answer.usage
        assert answer.usage.total_tokens == 4 + len(words(said))
        assert answer.choices[0].finish_reason == "stop"

    with_sdk(use)


def test_chat_streamed() -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": HELLO}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert len({chunk.id for chunk in chunks}) == 1
        assert chunks[0].choices[0].delta.role == "assistant"
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(pieces) == answer_text(HELLO)
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage
        assert chunks[-1].choices == []

        async with client.chat.completions.stream(
            model="m", messages=[{"role": "user", "content": HELLO}]
        ) as events:
            final = await events.get_final_completion()
        assert final.choices[0].message.content == answer_text(HELLO)
        assert final.usage is None

    with_sdk(use)


def test_responses() -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        answer = await client.responses.create(model="m", input=HELLO)
        assert answer.output_text == answer_text(HELLO)
        assert answer.status == "completed"
        assert answer.usage
        assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
        again = await client.responses.create(
            model="m", input=[{"role": "user", "content": [{"type": "input_text", "text": HELLO}]}]
        )
        assert again.output_text == answer_text(HELLO)
        assert again.id != answer.id

    with_sdk(use)


def test_responses_streamed() -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        events = [
            event
            async for event in await client.responses.create(model="m", input=HELLO, stream=True)
        ]
        kinds = [event.type for event in events]
        assert kinds[:4] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
        ]
        assert kinds[-4:] == [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert set(kinds[4:-4]) == {"response.output_text.delta"}
        numbers = [event.sequence_number for event in events]
        assert numbers == list(range(len(events)))
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert "".join(deltas) == answer_text(HELLO)
        # The SDK's own accumulation checks that ids and indexes belong together.
        async with client.responses.stream(model="m", input=HELLO) as stream:
            assert (await stream.get_final_response()).output_text == answer_text(HELLO)

    with_sdk(use)


def test_the_shapes_are_those_of_the_sdk_s_models() -> None:
    """The SDK parses leniently; here its models are applied strictly."""
    from openai.types import CreateEmbeddingResponse, Model
    from openai.types.chat import ChatCompletion, ChatCompletionChunk
    from openai.types.responses import Response, ResponseStreamEvent
    from pydantic import TypeAdapter

    from thruway_operator.laptop.demo import shapes

    reply = shapes.Reply("1", "m", "Hello there.", 3, 1_700_000_000)
    ChatCompletion.model_validate(shapes.chat_completion(reply))
    for chunk in shapes.chat_chunks(reply, include_usage=True):
        ChatCompletionChunk.model_validate(chunk)
    Response.model_validate(shapes.response(reply))
    event_type: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in shapes.response_events(reply):
        assert event_type.validate_python(event).type == event["type"]
    Model.model_validate(shapes.model_body("m"))
    CreateEmbeddingResponse.model_validate(shapes.embeddings("m", ["a"], as_base64=False))


def test_embeddings() -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        packed = await client.embeddings.create(model="m", input=["a", "b", "a"])
        plain = await client.embeddings.create(model="m", input="a", encoding_format="float")
        one, two, three = (item.embedding for item in packed.data)
        assert one == three != two
        assert one == pytest.approx(plain.data[0].embedding)
        tokens = await client.embeddings.create(model="m", input=[1, 2, 3])
        assert len(tokens.data) == 1

    with_sdk(use)


def test_anything_else_is_refused_in_openai_s_shape() -> None:
    async def use(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="knows only GET /v1/models") as missing:
            await client.files.list()
        assert missing.value.code == "unknown_url"
        with pytest.raises(openai.BadRequestError, match="'messages'") as bad:
            await client.chat.completions.create(model="m", messages=[])
        assert bad.value.param == "messages"

    with_sdk(use)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b'"x"'])
def test_bad_json_is_a_400(body: bytes) -> None:
    async def run() -> None:
        async with demo_upstream() as url, aiohttp.ClientSession() as session:
            async with session.post(f"{url}/v1/responses", data=body) as answer:
                assert answer.status == 400
                assert (await answer.json())["error"]["code"] == "invalid_json"
            async with session.delete(f"{url}/v1/chat/completions") as answer:
                assert answer.status == 404
                assert (await answer.json())["error"]["type"] == "invalid_request_error"

    asyncio.run(run())


def test_words_are_sent_as_they_come_and_a_stream_does_not_hold_up_the_end() -> None:
    async def run() -> None:
        # A minute between two words: only what is not held back can arrive.
        async with demo_upstream(word_delay=60) as url, aiohttp.ClientSession() as session:
            body = {"model": "m", "input": "x", "stream": True}
            answer = await session.post(f"{url}/v1/responses", json=body)
            first = await asyncio.wait_for(answer.content.readline(), 20)
            assert first == b"event: response.created\n"
            answer.close()

    async def within() -> None:
        await asyncio.wait_for(run(), 30)

    asyncio.run(within())


def test_the_last_user_message_is_found_whatever_else_there_is() -> None:
    assert last_user_text(None) == ""
    assert last_user_text([1, {"role": "user"}, {"content": None}, {"role": "tool"}]) == ""
    assert (
        last_user_text([{"role": "user", "content": "a"}, {"role": "system", "content": "b"}])
        == "a"
    )
    assert last_user_text([{"content": [{"text": "a"}, {"text": 1}, 2, {"text": "b"}]}]) == "a b"
    assert "".join(words(" two  words \n")) == " two  words \n"


@pytest.mark.slow  # imports SDKs
def test_the_snippets_work_as_printed(tmp_path: Path) -> None:
    environment = dict(os.environ, PATH=path_with_curl(os.environ["PATH"], tmp_path))

    async def output(*argv: str) -> str:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=pipe, stderr=pipe, env=environment
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, err
        return out.decode()

    async def run() -> None:
        async with demo_upstream(word_delay=0) as url:
            shown = snippets(f"{url}/v1")
            frames = (await output("sh", "-c", shown.curl)).split("\n\n")
            assert json.loads(frames[0].removeprefix("data: "))["object"] == "chat.completion.chunk"
            assert frames[-2] == "data: [DONE]"
            said = await output(sys.executable, "-c", shown.python)
            assert said == answer_text("Say hello.") + "\n"

    asyncio.run(run())
