"""The gRPC shell around `rewrite`: Envoy's `ExternalProcessor` service on a Unix socket.

Each request has one bidirectional stream, which carries only its headers. A response carries the
dynamic metadata `thruway: {processed: true}`. The guard behind ext_proc rejects every request
without it, so a stream that ends without a response is a rejection, not a leak.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as pb_grpc
from envoy.type.v3 import http_status_pb2
from google.protobuf.struct_pb2 import Struct

from thruway_extproc.rewrite import Mutation, RewriteError, rewrite
from thruway_extproc.rule import METADATA_KEY, RuleError, decode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

__all__ = ["Processor", "serve"]

log = logging.getLogger("thruway.extproc")

NAMESPACE = "thruway"
"""The namespace of the dynamic metadata that the guard and the access log read."""

_OVERWRITE = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_APPEND = base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_concurrent_streams", 100_000),  # the default of 100 would queue a burst of requests
    ("grpc.so_reuseport", 0),
    ("grpc.max_metadata_size", 32 * 1024),
]


class Processor:
    """Responds to each request's headers with the mutation that its route's rule asks for."""

    async def Process(  # noqa: N802 - the service's name for it
        self,
        request_iterator: AsyncIterator[Any],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[Any]:
        """Handle the stream of one HTTP request."""
        async for message in request_iterator:
            if message.HasField("request_headers"):
                yield self._answer(context.invocation_metadata() or (), message.request_headers)
            else:  # a processing mode that this version does not request
                log.error("Envoy sent an unexpected message: %s", message.WhichOneof("request"))
                yield _refusal("unexpected_message")

    def _answer(self, metadata: Any, received: Any) -> Any:  # noqa: ANN401 - untyped protobuf
        text = next((value for key, value in metadata if key == METADATA_KEY), None)
        if text is None:
            log.warning(
                "rejected a request: Envoy has no configuration yet, or its route has no rule"
            )
            return _refusal("rule_missing")
        if isinstance(text, bytes):
            text = text.decode("ascii", "replace")
        headers = [(header.key, header.raw_value) for header in received.headers.headers]
        try:
            return _accept(rewrite(headers, decode(text)))
        except RuleError as error:
            log.error("rejected a request: %s", error)
            return _refusal("rule_unreadable")
        except RewriteError as error:
            log.error("rejected a request: %s", error)
            return _refusal("rule_mismatch")


def _accept(mutation: Mutation) -> Any:  # noqa: ANN401 - untyped protobuf
    changes = pb.HeaderMutation(remove_headers=mutation.remove)
    for action, headers in ((_OVERWRITE, mutation.set), (_APPEND, mutation.add)):
        for name, value in headers:
            option = changes.set_headers.add(append_action=action)
            option.append.value = action == _APPEND  # the only field Envoy 1.40's ext_proc reads
            option.header.key = name
            option.header.raw_value = value
    response = pb.ProcessingResponse(
        request_headers=pb.HeadersResponse(response=pb.CommonResponse(header_mutation=changes))
    )
    outcome = Struct()
    outcome.update({"processed": True, "path": mutation.log_path})
    if mutation.client:
        outcome.update({"client": mutation.client})
    response.dynamic_metadata.fields[NAMESPACE].struct_value.CopyFrom(outcome)
    return response


def _refusal(details: str) -> Any:  # noqa: ANN401 - untyped protobuf
    # Envoy's local_reply_config turns these details into the message that the client reads.
    return pb.ProcessingResponse(
        immediate_response=pb.ImmediateResponse(
            status=http_status_pb2.HttpStatus(code=503), details=f"thruway_{details}"
        )
    )


async def serve(listen: str, *, stop: asyncio.Event, grace: float = 5.0) -> None:
    """Serve on a gRPC address such as `unix:/run/x/extproc.sock` until `stop` is set.

    Requests in flight get `grace` seconds to finish.

    Raises:
        OSError: the server cannot listen on the address.
    """
    server = grpc.aio.server(options=_OPTIONS)
    pb_grpc.add_ExternalProcessorServicer_to_server(Processor(), server)
    try:
        server.add_insecure_port(listen)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {listen}: {error}") from error
    await server.start()
    log.info("serving on %s", listen)
    await stop.wait()
    await server.stop(grace)
    log.info("stopped")
