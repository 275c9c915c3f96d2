"""OpenAI's SDK for Node, which has HTTP and multipart of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from thruway_testing.product.node_sdks import needs_node, run_script
from thruway_testing.product.sdk import ADDRESSES, base_url
from thruway_testing.upstreams.openai_generation import MODELS, answer_to

if TYPE_CHECKING:
    from thruway_testing.product.sdk import Address

pytestmark = needs_node


@pytest.mark.parametrize("address", ADDRESSES[:3])
def test_the_node_sdk_works(address: str, thruway: Address) -> None:
    assert run_script("walk.mjs", base_url(address, thruway)) == {
        "models": list(MODELS),
        "chat": answer_to("Grüße from Node 👋"),
        "streamedChat": {"text": answer_to("Grüße from Node 👋"), "severalPieces": True},
        "response": {"text": answer_to("Hello"), "input": "Hello"},
        "file": {"name": "node.bin", "size": 4096, "same": True},
        "error": {
            "kind": "NotFoundError",
            "status": 404,
            "code": "model_not_found",
            "upstream": "openai",
        },
    }
