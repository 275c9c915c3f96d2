"""extproc as Envoy meets it: the command itself, spoken to by gRPC over its Unix socket."""

import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc as pb_grpc

from thruway_extproc.rule import METADATA_KEY, Rule, encode
from thruway_testing.product.up import wait_until

RULE = Rule(strip="/openai_passthrough", base="", version="/v1", authority="api.openai.com")
CANARY = "sk-canary-4Yq"
PATIENCE = 20.0  # seconds; far more than anything here takes


class Extproc:
    """A running `thruway-extproc` and a channel to it."""

    def __init__(self, path: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "thruway_extproc", "--listen", f"unix:{path}", *arguments]
        self.path = path
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.channel = grpc.insecure_channel(f"unix:{path}")
        self.stub: Any = pb_grpc.ExternalProcessorStub(self.channel)

    def wait(self) -> None:
        """Wait until it serves."""
        grpc.channel_ready_future(self.channel).result(PATIENCE)

    def accepts(self) -> bool:
        """Whether it accepts new connections."""
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.path))
            except OSError:
                return False
        return True

    def answers(
        self, *messages: Any, rule: str | None = None, metadata: tuple[tuple[str, str], ...] = ()
    ) -> list[Any]:
        if rule is not None:
            metadata = ((METADATA_KEY, rule), *metadata)
        return list(self.stub.Process(iter(messages), metadata=metadata, timeout=PATIENCE))

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Return the exit status and all that was written to stderr."""
        self.process.send_signal(number)
        _, log = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, log


@contextmanager
def running(path: Path, *arguments: str) -> Iterator[Extproc]:
    extproc = Extproc(path, *arguments)
    try:
        extproc.wait()
        yield extproc
    finally:
        extproc.channel.close()
        extproc.process.kill()
        extproc.process.communicate()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a Unix socket's path may have 107 bytes only."""
    with tempfile.TemporaryDirectory(prefix="thruway-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def extproc() -> Iterator[Extproc]:
    with (
        tempfile.TemporaryDirectory(prefix="thruway-") as name,
        running(Path(name) / "s") as extproc,
    ):
        yield extproc


def request_headers(path: str, *headers: tuple[str, str]) -> Any:
    message = pb.ProcessingRequest()
    for name, value in ((":method", "GET"), (":path", path), *headers):
        message.request_headers.headers.headers.add(key=name, raw_value=value.encode("latin-1"))
    return message


def refusal(answers: list[Any]) -> tuple[int, str]:
    (answer,) = answers
    assert answer.WhichOneof("response") == "immediate_response"
    # The guard lets nothing pass without it, so a refusal must not carry it.
    assert not answer.HasField("dynamic_metadata")
    return answer.immediate_response.status.code, answer.immediate_response.details


def test_an_answer_holds_the_mutation_and_the_guards_mark(extproc: Extproc) -> None:
    rule = replace(
        RULE, headers_set=(("x-a", "größe 100%"),), headers_add=(("x-b", "2"),),
        headers_remove=("cookie",),
    )  # fmt: skip
    (answer,) = extproc.answers(
        request_headers(f"/openai_passthrough/models?q={CANARY}"), rule=encode(rule)
    )
    response = answer.request_headers.response
    options = response.header_mutation.set_headers
    overwrite = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    append = base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
    assert [(o.header.key, o.header.raw_value, o.append_action) for o in options] == [
        (":path", f"/v1/models?q={CANARY}".encode(), overwrite),
        (":authority", b"api.openai.com", overwrite),
        ("x-a", "größe 100%".encode(), overwrite),
        ("x-b", b"2", append),
    ]
    assert list(response.header_mutation.remove_headers) == ["cookie"]
    marks = answer.dynamic_metadata.fields["thruway"].struct_value.fields
    assert marks["processed"].bool_value is True
    assert marks["path"].string_value == "/openai_passthrough/models?q=…"
    assert response.status == pb.CommonResponse.CONTINUE


def test_bytes_that_are_not_utf8_pass(extproc: Extproc) -> None:
    path = "/openai_passthrough/a\xff%FF?\xe9=\xe9"
    (answer,) = extproc.answers(request_headers(path, ("x-raw", "\xff")), rule=encode(RULE))
    options = answer.request_headers.response.header_mutation.set_headers
    assert options[0].header.raw_value == b"/v1/a\xff%FF?\xe9=\xe9"


def test_one_process_serves_many_rules(extproc: Extproc) -> None:
    for number in range(20):
        rule = replace(RULE, strip=f"/r{number}", authority=f"h{number}")
        (answer,) = extproc.answers(request_headers(f"/r{number}/x"), rule=encode(rule))
        options = answer.request_headers.response.header_mutation.set_headers
        assert options[1].header.raw_value == f"h{number}".encode()


def test_a_request_without_rule_is_refused(extproc: Extproc) -> None:
    found = extproc.answers(request_headers("/openai_passthrough/v1"))
    assert refusal(found) == (503, "thruway_rule_missing")


def test_a_client_cannot_bring_a_rule(extproc: Extproc) -> None:
    """A rule among the HTTP headers is a header like any other."""
    found = extproc.answers(request_headers("/openai_passthrough", (METADATA_KEY, encode(RULE))))
    assert refusal(found) == (503, "thruway_rule_missing")


@pytest.mark.parametrize(
    "written", ["", "{", "null", '{"v":2}', encode(RULE)[:-1], "[" * 3000, "x" * 4096]
)
def test_an_unreadable_rule_is_refused(extproc: Extproc, written: str) -> None:
    found = extproc.answers(request_headers("/openai_passthrough/v1"), rule=written)
    assert refusal(found) == (503, "thruway_rule_unreadable")


@pytest.mark.parametrize("path", ["/openai_passthroughX/v1", "/", ""])
def test_a_path_outside_of_the_rule_is_refused(extproc: Extproc, path: str) -> None:
    found = extproc.answers(request_headers(path), rule=encode(RULE))
    assert refusal(found) == (503, "thruway_rule_mismatch")


def test_a_message_that_nobody_asked_for_is_refused(extproc: Extproc) -> None:
    body = pb.ProcessingRequest(request_body=pb.HttpBody(body=b"x"))
    assert refusal(extproc.answers(body, rule=encode(RULE))) == (503, "thruway_unexpected_message")


def test_an_empty_stream_is_no_answer(extproc: Extproc) -> None:
    """Envoy's guard turns it into a refusal."""
    assert extproc.answers(rule=encode(RULE)) == []


def test_nothing_that_a_client_sends_is_logged(folder: Path) -> None:
    with running(folder / "s", "--log-level", "debug") as extproc:
        for path in (f"/openai_passthrough?key={CANARY}", f"/other/{CANARY}?{CANARY}"):
            extproc.answers(request_headers(path, ("x-key", CANARY)), rule=encode(RULE))
        extproc.answers(request_headers(f"/{CANARY}"), rule=f'"{CANARY}"')
        extproc.answers(request_headers(f"/{CANARY}"))
        status, log = extproc.stop()
    assert status == 0
    assert "rejected a request" in log
    assert CANARY not in log


def pending(extproc: Extproc) -> tuple[SimpleQueue[Any], Any]:
    """Return the input and the call of a stream that extproc has begun to handle."""
    messages: SimpleQueue[Any] = SimpleQueue()
    call = extproc.stub.Process(
        iter(messages.get, None), metadata=((METADATA_KEY, encode(RULE)),), timeout=PATIENCE
    )
    messages.put(request_headers("/openai_passthrough/first"))
    assert next(call).HasField("request_headers")
    return messages, call


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_requests_under_way_end(folder: Path, number: int) -> None:
    with running(folder / "s", "--grace", "15") as extproc:
        messages, call = pending(extproc)
        extproc.process.send_signal(number)
        wait_until(lambda: not extproc.accepts(), "the end of the listener")
        messages.put(request_headers("/openai_passthrough/second"))
        assert next(call).HasField("request_headers")
        messages.put(None)
        assert list(call) == []
        _, log = extproc.process.communicate(timeout=10)  # before the grace is over
    assert (extproc.process.returncode, (folder / "s").exists()) == (0, False)
    assert log.rstrip().endswith("stopped")


def test_a_stop_does_not_wait_longer_than_the_grace(folder: Path) -> None:
    with running(folder / "s", "--grace", "0.1") as extproc:
        messages, call = pending(extproc)
        status, log = extproc.stop()
        with pytest.raises(grpc.RpcError):
            next(call)
        messages.put(None)
    assert (status, "Traceback" in log) == (0, False)


def test_a_stale_socket_is_replaced(folder: Path) -> None:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    assert stat.S_ISSOCK(path.stat().st_mode)
    with running(path) as extproc:
        assert extproc.stop()[0] == 0
    assert not path.exists()


def failed(*arguments: str) -> tuple[int, str]:
    """Run the command, which ends by itself; return the exit status and what it says."""
    command = [sys.executable, "-m", "thruway_extproc", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_not_touched(folder: Path, kind: str) -> None:
    path = folder / "s"
    if kind == "folder":
        path.mkdir()
    else:
        kept = path if kind == "file" else folder / "kept"
        kept.write_text("precious")
        if kind == "link":
            path.symlink_to(kept)
    status, said = failed("--listen", f"unix:{path}")
    sentence = f"thruway-extproc: {path} exists and is not a socket: choose another path\n"
    assert (status, said) == (1, sentence)
    assert path.is_dir() if kind == "folder" else path.read_text() == "precious"


def test_a_missing_folder_is_named(folder: Path) -> None:
    status, said = failed("--listen", f"unix:{folder}/none/s")
    sentence = f"the folder of {folder}/none/s does not exist: create it first"
    assert (status, said) == (1, f"thruway-extproc: {sentence}\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "the following arguments are required: --listen"),
        (["--listen", "localhost:9000"], "'localhost:9000' is not a Unix socket: write unix:PATH"),
        (["--listen", "unix:"], "'unix:' is not a Unix socket: write unix:PATH"),
        (["--listen", "unix:" + "a" * 104], "is too long: a socket path has up to 103 bytes"),
        (["--listen", "unix:a%20b"], "'unix:a%20b' contains %, which gRPC treats as an escape"),
        (["--listen", "unix:s", "--grace", "soon"], "'soon' is not a number of seconds from 0"),
        (
            ["--listen", "unix:s", "--grace", "nan"],
            "'nan' is not a number of seconds from 0 to 3600",
        ),
        (["--listen", "unix:s", "--grace", "-1"], "'-1' is not a number of seconds from 0 to 3600"),
        (["--listen", "unix:s", "--log-level", "loud"], "invalid choice: 'loud'"),
        (["--listen", "unix:s", "--nope"], "unrecognized arguments: --nope"),
    ],
)
def test_bad_arguments(arguments: list[str], problem: str) -> None:
    status, said = failed(*arguments)
    usage, error = said.split("thruway-extproc: error: ")
    assert status == 2
    assert usage.startswith("usage: thruway-extproc ")
    assert problem in error
    assert re.fullmatch(r"[^\n]+\n", error)
