"""Reads routes and Secrets from files and folders, again whenever they change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from thruway_operator.sources.files.documents import SourceProblem, parse_documents
from thruway_operator.sources.files.lastgood import settled
from thruway_operator.sources.files.manifests import Manifests, read_manifests
from thruway_operator.sources.files.merging import Reading, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from thruway_operator.resources.secret import SecretValue
    from thruway_operator.translate import Resources, Translation

__all__ = ["STANDARD_INPUT", "FileSource", "PathError", "Reading", "SourceError", "read_texts"]

STANDARD_INPUT = Path("-")

_SUFFIXES = (".yaml", ".yml", ".json")
_LARGEST = 4 * 1024 * 1024  # bytes; the API server accepts 1.5 MiB

Signature = tuple[int, int, int]
State = dict[Path, Signature | None]


class SourceError(Exception):
    """A requested source cannot be read at all; the message is a complete sentence."""


class PathError(SourceError):
    """A path given by the user cannot be read."""


class FileSource:
    """Reads the given files, and the `*.yaml`, `*.yml` and `*.json` directly in given folders."""

    def __init__(
        self,
        paths: Sequence[Path],
        environment: Mapping[str, SecretValue] | None,
        *,
        standard_input: str | None = None,
        namespace: str = "default",
    ) -> None:
        """Check that the paths exist; `-` means `standard_input`, if that is given.

        `namespace` is where objects without a namespace belong.

        Raises:
            PathError: a path does not exist, or is neither a file nor a folder.
        """
        for path in paths:
            if path == STANDARD_INPUT and standard_input is not None:
                continue
            _check_path(path)
        self._paths = tuple(paths)
        self._standard_input = standard_input
        self._namespace = namespace
        self._environment = environment
        self._newest: dict[Path, Manifests] = {}
        """The newest state of each readable file."""
        self._good: dict[Path, Manifests] = {}
        self._broken: dict[Path, list[SourceProblem]] = {}
        self._read: State = {}

    def state(self) -> State:
        """Return a value that changes with the files: each file's size, time and inode number."""
        return {file: _signature(file) for file in self._files()}

    @property
    def last_read(self) -> State:
        """The `state` at the last `read`; a difference from the current one is a change."""
        return self._read

    def read(self, translate: Callable[[Resources], Translation] | None = None) -> Reading:
        """Read the files that changed since the last time; return the merged result.

        An unreadable file keeps its last good state. With `translate`, so does a file with a
        mistake that only translation finds; it is tried again each time.
        """
        state = self.state()
        for file, signature in state.items():
            if signature is None or self._read.get(file) != signature:
                self._read_file(file)
        for file in self._read.keys() - state.keys():
            for known in (self._newest, self._good, self._broken):
                known.pop(file, None)
        self._read = state
        return self._whole(list(state), translate)

    def _files(self) -> list[Path]:
        found: dict[Path, None] = {}
        for path in self._paths:
            if not path.is_dir():
                if path.exists() or path == STANDARD_INPUT:
                    found[path] = None
                continue
            found.update(dict.fromkeys(self._inside(path)))
        return list(found)

    def _inside(self, folder: Path) -> list[Path]:
        try:
            return sorted(item for item in folder.iterdir() if _is_manifest(item))
        except OSError:  # keep the known files for now, so that no route is lost
            return [file for file in self._read if file.parent == folder]

    def _read_file(self, file: Path) -> None:
        if file == STANDARD_INPUT and self._standard_input is not None:
            self._take(file, self._standard_input, "<stdin>")
            return
        try:
            if file.stat().st_size > _LARGEST:
                raise ValueError(f"is larger than {_LARGEST >> 20} MiB")
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return  # deleted meanwhile; the next check notices
        except OSError as error:
            self._break(file, SourceProblem(str(file), 0, f"cannot be read: {error.strerror}"))
            return
        except ValueError as error:
            why = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
            self._break(file, SourceProblem(str(file), 0, why))
            return
        self._take(file, text, str(file))

    def _take(self, file: Path, text: str, name: str) -> None:
        documents, problems = parse_documents(text, name)
        manifests = read_manifests(documents, self._namespace)
        problems += manifests.problems
        if problems:
            self._break(file, *problems)
            return
        self._broken.pop(file, None)
        self._newest[file] = manifests

    def _break(self, file: Path, *problems: SourceProblem) -> None:
        self._broken[file] = list(problems)
        self._newest.pop(file, None)

    def _whole(
        self, files: list[Path], translate: Callable[[Resources], Translation] | None
    ) -> Reading:
        states = {file: self._newest.get(file) or self._good.get(file) for file in files}
        newest = {file: state for file, state in states.items() if state is not None}
        if translate is None:
            reading, objections = merged(newest, self._environment)
            self._good = newest
            problems = [objection.problem for objection in objections]
        else:
            self._good, reading = settled(newest, self._good, self._environment, translate)
            problems = reading.problems
        broken = [problem for file in files for problem in self._broken.get(file, [])]
        reading = replace(reading, problems=broken + problems)
        return reading if reading.routes else replace(reading, barren=self._barren(newest))

    def _barren(self, states: Mapping[Path, Manifests]) -> list[SourceProblem]:
        """Return, for each path, why it contributes no route."""
        found = []
        for path in self._paths:
            files = [path] if path in states else [f for f in states if f.parent == path]
            if not files and path.is_dir():
                kinds = " or ".join(f"*{suffix}" for suffix in _SUFFIXES)
                text = f"contains no {kinds}: put routes into it, or name another folder"
                found.append(SourceProblem(str(path), 0, text))
            for file in files:
                name = "<stdin>" if file == STANDARD_INPUT else str(file)
                empty = states[file] == Manifests()
                what = "is empty" if empty else "contains no PassthroughRoute"
                found.append(SourceProblem(name, 0, f"{what}: add a route, or name another file"))
        return found


def read_texts(paths: Sequence[Path], standard_input: bytes = b"") -> dict[str, str]:
    """Return the texts of files and folders by name; `-` means the standard input.

    Raises:
        SourceError: one of them cannot be read.
    """
    found = {}
    for path in paths:
        if path == STANDARD_INPUT:
            found["<stdin>"] = _decoded(standard_input, "the standard input")
            continue
        _check_path(path)
        files = sorted(filter(_is_manifest, path.iterdir())) if path.is_dir() else [path]
        for file in files:
            try:
                found[str(file)] = _decoded(file.read_bytes(), str(file))
            except OSError as error:
                raise SourceError(f"{file} cannot be read: {error.strerror}") from None
    return found


def _decoded(content: bytes, name: str) -> str:
    if len(content) > _LARGEST:
        raise SourceError(f"{name} is larger than {_LARGEST >> 20} MiB: split it")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise SourceError(f"{name} is not UTF-8 text") from None


def _check_path(path: Path) -> None:
    try:
        there, usable = path.exists(), path.is_file() or path.is_dir()
    except OSError as error:  # the name is too long, or the folder may not be read
        shown = f"{str(path)[:200]}…" if len(str(path)) > 200 else str(path)
        raise PathError(f"{shown} cannot be read: {error.strerror}") from None
    if not there:
        raise PathError(f"{path} does not exist: check the path after -f")
    if not usable:
        raise PathError(f"{path} is neither a file nor a folder")


def _is_manifest(path: Path) -> bool:
    # Skip the hidden files of editors and Kubernetes.
    return path.suffix in _SUFFIXES and not path.name.startswith(".") and path.is_file()


def _signature(file: Path) -> Signature | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
