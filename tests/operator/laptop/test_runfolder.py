"""The run's folder is private, short enough for sockets, and gone afterwards."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from thruway_operator.laptop.process import runfolder
from thruway_operator.laptop.process.runfolder import RunFolderError, run_folder, socket_path_limit


def test_it_is_private_and_removed_with_all_in_it() -> None:
    with run_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "a").mkdir()
        (folder / "a" / "file").write_text("x")
    assert not folder.exists()


def test_it_is_removed_when_the_run_fails() -> None:
    with pytest.raises(KeyError), run_folder() as folder:
        raise KeyError
    assert not folder.exists()


def test_a_long_tmpdir_gives_way_to_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with run_folder(longest_name=40) as folder, socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / ("s" * 40)))
        assert folder.parent == Path("/tmp")


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_the_longest_tmpdir_that_is_kept_just_fits(platform: str) -> None:
    limit = socket_path_limit(platform)
    for length in range(1, limit):
        temporary = "/" + "t" * length
        base = runfolder._base(temporary, 32, limit)
        path = f"{temporary}/thruway-12345678/{'s' * 32}"
        assert base == (temporary if len(path) <= limit else "/tmp")


def test_a_folder_in_use_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stranger = tmp_path / "thruway-elses"  # has no lock: not a run's folder
    stranger.mkdir()
    with run_folder(longest_name=1) as first, run_folder(longest_name=1) as second:
        monkeypatch.setattr("tempfile.tempdir", str(first.parent))
        runfolder._sweep(str(first.parent))
        assert first.exists()
        assert second.exists()
    assert stranger.exists()


def test_no_place_for_it_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/no-such")
    with pytest.raises(RunFolderError, match=r"^Cannot create a folder in /no-such: .*\.$"):
        os.fspath(run_folder().__enter__())
