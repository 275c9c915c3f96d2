"""`thruway completion`: the scripts work in a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from thruway_testing.product.command import thruway

BIN = str(Path(sys.executable).parent)


def completions(line: str) -> list[str]:
    """What bash offers for a command line at its end, after our script was read."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    words = line.split(" ")
    script = (
        'eval "$(thruway completion bash)"\n'
        f"COMP_WORDS=({' '.join(words)})\nCOMP_CWORD={len(words) - 1}\nCOMPREPLY=()\n"
        "$(complete -p thruway | sed 's/.*-F \\([^ ]*\\).*/\\1/') thruway\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    environment = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("thruway c", ["check", "completion"]),
        ("thruway tr", ["translate"]),
        ("thruway d", ["doctor"]),
        ("thruway doctor -o j", ["json"]),
        ("thruway check --f", ["--file"]),
        ("thruway check -o j", ["json"]),
        ("thruway translate --e", ["--envoy"]),
        ("thruway completion z", ["zsh"]),
    ],
)
def test_bash_completes(line: str, offered: list[str]) -> None:
    assert completions(line) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    result = thruway("completion", shell)
    assert result.exit_code == 0
    assert "_THRUWAY_COMPLETE" in result.output
