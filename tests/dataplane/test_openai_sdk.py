"""Everything that the OpenAI SDK does, through every base URL, with both of its clients."""

from __future__ import annotations

import base64
import hashlib
import uuid
from typing import TYPE_CHECKING

import pytest
from openai import NotFoundError

from thruway_operator.laptop.demo.shapes import embedding_of
from thruway_testing.product.sdk import ADDRESSES, CLIENT_KEY, KINDS, base_url, open_client
from thruway_testing.upstreams.openai_generation import (
    answer_to,
    picture_of,
    speech_of,
)
from thruway_testing.upstreams.openai_upstream import CANARY_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai import OpenAI

    from thruway_testing.product.sdk import Address
    from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

BINARY = bytes(range(256)) * 300 + b"\r\n--\r\n\x00\xff"
"""Every byte value, and what looks like the end of a multipart form."""


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=ADDRESSES)
def client(request: pytest.FixtureRequest, kind: str, thruway: Address) -> Iterator[OpenAI]:
    with open_client(base_url(request.param, thruway), kind) as client:
        yield client


# The SDK warns at every call that OpenAI has deprecated the Assistants API.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning")
def test_an_assistant_answers_in_a_thread(client: OpenAI) -> None:
    assistant = client.beta.assistants.create(model="gpt-5", name="Ada", instructions="Be brief.")
    thread = client.beta.threads.create()
    asked = client.beta.threads.messages.create(thread.id, role="user", content="What is 2 + 2?")
    started = client.beta.threads.runs.create(thread.id, assistant_id=assistant.id)
    assert started.status == "queued"

    finished = client.beta.threads.runs.retrieve(started.id, thread_id=thread.id)
    assert finished.status == "completed"
    messages = client.beta.threads.messages.list(thread.id)
    assert [message.role for message in messages] == ["assistant", "user"]
    assert messages.data[0].run_id == started.id
    assert messages.data[1].id == asked.id

    assert client.beta.assistants.delete(assistant.id).deleted


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning")
def test_pages_follow_one_another(client: OpenAI) -> None:
    thread = client.beta.threads.create()
    for text in ("one", "two", "three", "four", "five"):
        client.beta.threads.messages.create(thread.id, role="user", content=text)

    first = client.beta.threads.messages.list(thread.id, limit=2, order="asc")
    assert len(first.data) == 2
    assert first.has_next_page()
    texts = [message.content[0].text.value for message in first]  # type: ignore[union-attr]
    assert texts == ["one", "two", "three", "four", "five"]


def test_a_response_is_created_read_and_deleted(client: OpenAI) -> None:
    response = client.responses.create(
        model="gpt-5", input="Good morning", metadata={"from": "test"}
    )
    assert response.output_text == answer_to("Good morning")
    assert response.metadata == {"from": "test"}

    again = client.responses.retrieve(
        response.id, include=["reasoning.encrypted_content", "message.output_text.logprobs"]
    )
    assert again == response
    [item] = client.responses.input_items.list(response.id).data
    assert item.type == "message"
    client.responses.delete(response.id)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(response.id)


def test_repeated_query_parameters_arrive_as_the_sdk_wrote_them(
    client: OpenAI, openai_upstream: OpenAIUpstream, native_upstream: OpenAIUpstream
) -> None:
    response = client.responses.create(model="gpt-5", input="Hello")
    client.responses.retrieve(
        response.id, include=["reasoning.encrypted_content", "message.output_text.logprobs"]
    )
    path = f"/v1/responses/{response.id}?".encode()
    received = openai_upstream.requests + native_upstream.requests
    [query] = [request.query for request in received if request.raw_path.startswith(path)]
    assert query == (
        b"include%5B%5D=reasoning.encrypted_content&include%5B%5D=message.output_text.logprobs"
    )


def test_a_response_streams_typed_events(client: OpenAI) -> None:
    stream = client.responses.create(model="gpt-5", input="Tell me a story", stream=True)
    events = list(stream)
    assert [event.type for event in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == answer_to("Tell me a story")
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == answer_to("Tell me a story")
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_a_background_response_is_cancelled(client: OpenAI) -> None:
    response = client.responses.create(model="gpt-5", input="Take your time", background=True)
    assert response.status == "queued"
    assert client.responses.cancel(response.id).status == "cancelled"


def test_a_chat_completion(client: OpenAI) -> None:
    text = "Grüße, 世界 👋 \u2028"
    completion = client.chat.completions.create(
        model="gpt-5", messages=[{"role": "user", "content": text}]
    )
    assert completion.choices[0].message.content == answer_to(text)
    assert completion.usage is not None
    assert completion.usage.total_tokens > 0


def test_a_chat_completion_streams(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="gpt-5",
        messages=[{"role": "user", "content": "one two three"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == answer_to("one two three")
    assert chunks[-1].usage is not None


def test_a_plain_completion(client: OpenAI) -> None:
    completion = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once upon")
    assert completion.choices[0].text == answer_to("Once upon")


def test_embeddings(client: OpenAI) -> None:
    answer = client.embeddings.create(model="text-embedding-3-small", input=["red", "blue"])
    assert [entry.embedding for entry in answer.data] == [embedding_of("red"), embedding_of("blue")]


def test_models_are_listed(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert "gpt-5" in names
    assert client.models.retrieve("gpt-5").id == "gpt-5"


def test_a_moderation(client: OpenAI) -> None:
    answer = client.moderations.create(input="I will kill this process")
    assert answer.results[0].flagged


def test_a_file_comes_back_byte_for_byte(client: OpenAI) -> None:
    name = f"{uuid.uuid4().hex}.bin"
    file = client.files.create(file=(name, BINARY), purpose="assistants")
    assert (file.filename, file.bytes) == (name, len(BINARY))
    assert file.id in [listed.id for listed in client.files.list(limit=5).data]
    assert client.files.content(file.id).content == BINARY
    assert client.files.delete(file.id).deleted


def test_an_upload_in_parts_becomes_one_file(client: OpenAI) -> None:
    half = len(BINARY) // 2
    upload = client.uploads.create(
        bytes=len(BINARY), filename="big.bin", mime_type="text/jsonl", purpose="batch"
    )
    parts = [
        client.uploads.parts.create(upload.id, data=data) for data in (BINARY[:half], BINARY[half:])
    ]
    done = client.uploads.complete(upload.id, part_ids=[part.id for part in parts])
    assert done.status == "completed"
    assert done.file is not None
    assert client.files.content(done.file.id).content == BINARY


def test_a_vector_store(client: OpenAI) -> None:
    file = client.files.create(file=("notes.txt", b"notes"), purpose="assistants")
    store = client.vector_stores.create(name="Notes", file_ids=[file.id])
    assert store.usage_bytes == len(b"notes")
    assert client.vector_stores.retrieve(store.id) == store
    assert store.id in [listed.id for listed in client.vector_stores.list(limit=5).data]
    assert client.vector_stores.delete(store.id).deleted


def test_a_batch(client: OpenAI) -> None:
    file = client.files.create(file=("batch.jsonl", b"{}\n"), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/responses", completion_window="24h"
    )
    assert client.batches.retrieve(batch.id) == batch
    assert client.batches.cancel(batch.id).status == "cancelling"


def test_a_transcription(client: OpenAI) -> None:
    heard = client.audio.transcriptions.create(model="whisper-1", file=("talk.mp3", BINARY))
    assert heard.text == f"talk.mp3: {hashlib.sha256(BINARY).hexdigest()}"


def test_speech_streams_binary(client: OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="Read this"
    ) as response:
        pieces = list(response.iter_bytes())
    assert len(pieces) > 1
    assert b"".join(pieces) == speech_of("Read this")


def test_an_image_is_made(client: OpenAI) -> None:
    [image] = client.images.generate(model="gpt-image-1", prompt="A quiet road").data or []
    assert base64.b64decode(image.b64_json or "") == picture_of("A quiet road")


def test_an_image_is_edited(client: OpenAI) -> None:
    picture = ("road.png", picture_of("A road"), "image/png")
    edited = client.images.edit(model="gpt-image-1", image=picture, prompt="Quieter")
    [image] = edited.data or []
    assert base64.b64decode(image.b64_json or "") == picture_of("A road")


def test_the_upstream_sees_the_real_key_and_nothing_of_the_clients(
    client: OpenAI, kind: str, openai_upstream: OpenAIUpstream
) -> None:
    tag = uuid.uuid4().hex
    client.models.list(extra_headers={"X-Test-Tag": tag, "OpenAI-Organization": "org-1"})

    [request] = openai_upstream.requests_with("X-Test-Tag", tag)
    assert request.raw_path == b"/v1/models"
    assert request.values("Authorization") == [f"Bearer {CANARY_KEY}"]
    assert request.values("OpenAI-Organization") == ["org-1"]
    assert CLIENT_KEY not in str(request.headers)
    # These tests do what they say: one pass is really made with the asynchronous client.
    assert request.values("X-Stainless-Async") == ["false" if kind == "sync" else "async:asyncio"]


def test_the_client_never_sees_the_real_key(client: OpenAI) -> None:
    answer = client.models.with_raw_response.list()
    assert answer.headers["x-upstream"] == "openai"
    assert CANARY_KEY not in str(answer.headers.multi_items())
    assert CANARY_KEY not in answer.text
