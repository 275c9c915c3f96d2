"""The private folder of one run, for sockets and bootstraps; it is never left behind.

It is removed at the end of the `with`; by the reaper if this process is killed; and, if the reaper
is killed too, by the next run, which finds the folder's lock free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from thruway_operator.laptop.process.reaper import Reaper

__all__ = ["RunFolderError", "run_folder", "socket_path_limit"]

_PREFIX = "thruway-"
_LOCK = "lock"
_RANDOM = 8  # characters that tempfile appends to the prefix


class RunFolderError(Exception):
    """The run's private folder cannot be created."""


def socket_path_limit(platform: str = sys.platform) -> int:
    """Return the longest path of a Unix socket in bytes: sun_path without its NUL (unix(7))."""
    return 107 if platform.startswith("linux") else 103


def _base(temporary: str, longest_name: int, limit: int) -> str:
    """Return the parent of run folders: `temporary`, or /tmp if its socket paths are too long."""
    needed = len(os.fsencode(temporary)) + 1 + len(_PREFIX) + _RANDOM + 1 + longest_name
    return "/tmp" if needed > limit or "\n" in temporary else temporary  # noqa: S108 (mkdtemp is safe in it)


def _take_lock(folder: Path) -> int:
    """Lock the folder while this process lives; the lock file appears only once it is locked."""
    fresh = folder / (_LOCK + ".new")
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    fresh.rename(folder / _LOCK)
    return descriptor


def _abandoned(folder: Path) -> bool:
    """Whether we own this folder and its run is over, that is, its lock is free."""
    try:
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return False
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _sweep(base: str) -> None:
    with contextlib.suppress(OSError):
        for folder in Path(base).glob(_PREFIX + "*"):
            if _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def run_folder(reaper: Reaper | None = None, *, longest_name: int = 32) -> Iterator[Path]:
    """Yield a new folder (mode 0700) in which a name of `longest_name` bytes can be a Unix socket.

    It is created in $TMPDIR, or in /tmp if that path is too long, and removed at the end, or by
    `reaper` if this process cannot. Raises RunFolderError.
    """
    base = _base(tempfile.gettempdir(), longest_name, socket_path_limit())
    _sweep(base)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    except OSError as error:
        raise RunFolderError(f"Cannot create a folder in {base}: {error.strerror}.") from error
    if reaper is not None:
        reaper.remove_later(str(folder))
    lock = None
    try:
        lock = _take_lock(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if reaper is not None:
            reaper.keep(str(folder))
        if lock is not None:
            os.close(lock)
