"""Bad flags and variables of `thruway up` are generated: a sentence, the right exit code, no key.

Each example is made to fail before any process is started, whatever is right about it: its port is
taken, or its file is not there.
"""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from thruway_operator.cli.main import main as root
from thruway_testing.product.command import thruway
from thruway_testing.product.up import base_environment, thruway_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

CANARY = "sk-canary-flags-0123456789abcdef"
LONG = "x" * 100_000
WEIRD = ["", " ", "\x1b[31m", "\u202e😀", "\udcff", "a\nb", "%s%n", "--", LONG, f"{CANARY}{LONG}"]
FLAGS = sorted(name for item in root.commands["up"].params for name in item.opts if len(name) > 3)
EXAMPLES = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

words = st.one_of(st.sampled_from(WEIRD), st.text(max_size=40)).filter(lambda s: "\x00" not in s)
not_numbers = words.filter(lambda text: not text.strip().lstrip("+-").replace("_", "").isdigit())


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held.getsockname()[1]


def said(result: Result, *names: str) -> str:
    """One short, printable sentence that names the thing and repeats no key; nothing on stdout."""
    assert result.exit_code in (1, 2), result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("thruway up: "), line
    assert "Traceback" not in line
    assert "canary" not in line
    assert line.isprintable()
    assert len(line) < 600
    assert any(name in line for name in names), line
    return line


def refused(code: int, *arguments: str, names: tuple[str, ...], **environment: str) -> str:
    result = thruway("up", *arguments, environment=environment)
    line = said(result, *names)
    assert result.exit_code == code, line
    return line


@EXAMPLES
@given(value=not_numbers)
def test_a_port_that_is_no_number(value: str) -> None:
    refused(2, f"--port={value}", names=("--port must be a whole number",))


@EXAMPLES
@given(value=st.one_of(st.integers(max_value=-1), st.integers(65536, 10**30)))
def test_a_port_out_of_range(value: int) -> None:
    refused(1, f"--port={value}", names=("is not a port; choose one from 1 to 65535",))


@EXAMPLES
@given(value=st.one_of(st.integers(max_value=0), st.integers(65, 10**30)).map(str) | not_numbers)
def test_workers_out_of_range(value: str, taken: int) -> None:
    refused(
        2, f"--workers={value}", f"--port={taken}",
        names=("--workers must be a whole number from 1 to 64",),
    )  # fmt: skip


@EXAMPLES
@given(value=words)
def test_a_log_level_that_there_is_not(value: str, taken: int) -> None:
    assume(value not in {"debug", "info", "warning", "error"})
    refused(2, f"--log-level={value}", f"--port={taken}", names=("--log-level must be one of",))


bad_origins = st.one_of(
    words.filter(lambda text: "://" not in text),
    st.sampled_from(
        ["*", "null", "https://a.example/", "https://a.example/b", "HTTPS://a.example", "//a",
         "https://*.example", f"https://{CANARY}@a.example", "https://a.example:443", "file://",
         "http://a,https://b", f"https://a.{LONG}"]
    ),
)  # fmt: skip
ORIGIN_TROUBLE = ("must be an origin as browsers send it", "names the scheme's default port")


@EXAMPLES
@given(value=bad_origins)
def test_an_origin_that_is_none(value: str, taken: int) -> None:
    line = refused(2, f"--allow-origin={value}", f"--port={taken}", names=ORIGIN_TROUBLE)
    assert "--allow-origin" in line


@EXAMPLES
@given(value=bad_origins.filter(lambda text: text.strip(" ,\t\n") and text.strip() == text))
def test_an_origin_in_the_environment_that_is_none(value: str) -> None:
    assume("," not in value)
    value = f"app://obsidian.md, {value}"
    line = refused(1, "--port=0", names=ORIGIN_TROUBLE, THRUWAY_ALLOW_ORIGIN=value)
    assert "Origin 2 of THRUWAY_ALLOW_ORIGIN" in line


addresses = st.one_of(
    words,
    st.ip_addresses(network="203.0.113.0/24").map(str),  # of no machine
    st.sampled_from(["localhost:4000", "256.0.0.1", "::g", "fe80::1%nowhere", "0.0.0.0/0", "[::1"]),
)


@EXAMPLES
@given(value=addresses)
def test_an_address_that_is_none(value: str, taken: int) -> None:
    assume(value.strip("[]") not in {"127.0.0.1", "::1", "0.0.0.0", "::"})
    line = refused(
        1, f"--bind={value}", f"--port={taken}", THRUWAY_API_KEY="tw-0123456789",
        names=("is not an IP address; give one", "is not an address of this machine",
               "cannot listen on", "Cannot listen on", "is in use by another program"),
    )  # fmt: skip
    if value != "localhost":
        assert "in use" not in line


paths = words.filter(lambda text: text not in {"", " ", "-", ".", ".."} and "/" not in text)


@EXAMPLES
@given(value=paths)
def test_a_file_that_is_not_there(value: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    refused(
        2,  # as of `thruway check`
        "-f",
        f"./{value}",
        "--port=0",
        names=("does not exist: check the path after -f", "cannot be read"),
    )


@EXAMPLES
@given(name=st.sampled_from(FLAGS), place=st.integers(0, 20), letter=st.sampled_from("xyz-0É"))
def test_a_misspelt_flag(name: str, place: int, letter: str) -> None:
    misspelt = name[: 2 + place] + letter + name[2 + place :]
    assume(misspelt != name)
    line = refused(2, f"{misspelt}={CANARY}", names=("there is no such option",))
    assert "did you mean" in line or "check its spelling" in line


@pytest.mark.parametrize("flag", ["-f", *(name for name in FLAGS if name != "--api-key")])
def test_a_flag_without_its_value(flag: str) -> None:
    refused(2, flag, names=("needs a value",))


@EXAMPLES
@given(value=words)
def test_more_arguments_than_it_takes(value: str, taken: int) -> None:
    assume(not value.startswith("-"))
    refused(2, f"--port={taken}", value, names=("there are too many arguments",))


@EXAMPLES
@given(value=st.lists(words, min_size=1, max_size=3).map(",".join))
def test_client_keys_that_no_client_could_send(value: str, tmp_path: Path) -> None:
    keys = [key.strip() for key in value.split(",") if key.strip()]
    assume("\x00" not in value and len(value.encode(errors="surrogateescape")) < 120_000)
    good = all(len(k) >= 8 and k.isascii() and k.isprintable() and " " not in k for k in keys)
    line = refused(
        2 if good and (keys or "," not in value) else 1,
        "-f", str(tmp_path / "nothing"), "--port=0", THRUWAY_API_KEY=value,
        names=("THRUWAY_API_KEY is not usable", "contains only commas", "nothing"),
    )  # fmt: skip
    assert ("is not usable" in line) != good


@pytest.mark.parametrize("empty", ["", " ", ",", " , "])
def test_an_empty_client_key_does_not_open_the_door(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.execve")  # it ends before it would replace itself, which is pytest here
    nothing = str(tmp_path / "nothing")
    for others in ([], ["--api-key", "tw-0123456789"]):
        refused(1, "-f", nothing, *others, "--api-key", empty, names=("--api-key is empty, so",))
    line = refused(
        1 if "," in empty else 2, "-f", nothing, names=("THRUWAY_API_KEY", nothing),
        THRUWAY_API_KEY=empty,
    )  # fmt: skip
    assert ("contains only commas" in line) == ("," in empty)


bad_urls = st.one_of(
    words.filter(lambda text: text.strip() and "://" not in text),
    st.sampled_from(
        ["ftp://a.example", "http://", "http://u:p@a.example", f"https://{CANARY}@a.example",
         "https://a.example?x=1", "https://a.example#x", "https://a.example:99999", "http://a b",
         "http://[::1", "http://a.example/../b", f"https://a.example/{LONG}", "http://999.1.1.1"]
    ),
)  # fmt: skip


@EXAMPLES
@given(name=st.sampled_from(["THRUWAY_UPSTREAM_URL", "THRUWAY_NATIVE_URL"]), value=bad_urls)
def test_an_upstream_in_the_environment_that_is_none(name: str, value: str) -> None:
    refused(1, "--port=0", names=(name,), OPENAI_API_KEY=CANARY, **{name: value})


@EXAMPLES
@given(name=st.sampled_from(["HTTPS_PROXY", "HTTP_PROXY", "https_proxy"]), value=bad_urls)
def test_a_forward_proxy_in_the_environment_that_is_none(
    name: str, value: str, tmp_path: Path
) -> None:
    result = thruway("up", "-f", str(tmp_path / "nothing"), "--port=0", environment={name: value})
    line = said(result, name, "nothing")  # `host:port` without a scheme is a proxy, as for curl
    assert result.exit_code == (1 if name in line else 2)


@EXAMPLES
@given(value=words.filter(lambda text: text != ""))
def test_a_ca_bundle_that_is_none(value: str, taken: int) -> None:
    line = refused(1, f"--port={taken}", SSL_CERT_FILE=value, names=("SSL_CERT_FILE names",))
    assert "correct it, or unset it" in line


@pytest.mark.slow  # starts the command
@pytest.mark.parametrize(
    "arguments",
    [
        ["--api-key", ""],
        ["--api-key", "short"],
        ["--api-key", f"{CANARY} with blanks"],
        [f"--api-key={CANARY}é"],
        ["--api-key"],
        ["--api-key", f"{CANARY}{LONG}", "--port", "no"],
        ["--port", "no", "--api-key", CANARY],
        ["--api-kye", CANARY],
    ],
)
def test_the_real_command_repeats_no_key(arguments: list[str], tmp_path: Path) -> None:
    """In a process of its own: with --api-key it replaces itself."""
    done = subprocess.run(
        [*thruway_command(), "up", "-f", str(tmp_path / "nothing"), "--port=0", *arguments],
        env=base_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode in (1, 2)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("thruway up: ")
    assert "canary" not in line
    assert len(line) < 600
