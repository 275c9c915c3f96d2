"""Routes and Secrets from files and folders, read again when they change."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from thruway_operator.sources.documents import SourceProblem, parse_documents
from thruway_operator.sources.manifests import Manifests, Origin, Placed, read_manifests
from thruway_operator.translate.resources import ObjectKey, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thruway_operator.ir import SecretValue

__all__ = ["STANDARD_INPUT", "FileSource", "Reading", "SourceError", "read_texts"]

STANDARD_INPUT = Path("-")

_SUFFIXES = (".yaml", ".yml", ".json")
_LARGEST = 4 * 1024 * 1024  # bytes; the API server takes 1.5 MiB

Signature = tuple[int, int, int]
State = dict[Path, Signature | None]
T = TypeVar("T")


class SourceError(Exception):
    """A path that was asked for cannot be read at all; the text is a whole sentence."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the files say now, with the last good state of those that are broken."""

    resources: Resources
    problems: list[SourceProblem]
    warnings: list[SourceProblem]
    routes: dict[str, Placed] = field(repr=False)
    """Where each route was read, by its id."""
    origins: dict[tuple[str, ObjectKey], Origin] = field(repr=False, default_factory=dict)
    """Where each Secret and ConfigMap was read, by its kind and key."""


class FileSource:
    """Reads the files and the folders (their `*.yaml`, `*.yml` and `*.json`, not below) given."""

    def __init__(
        self,
        paths: Sequence[Path],
        environment: Mapping[str, SecretValue] | None,
        *,
        standard_input: str | None = None,
    ) -> None:
        """Check that the paths are there; `-` stands for `standard_input`, if that is given.

        Raises:
            SourceError: a path does not exist or is neither file nor folder.
        """
        for path in paths:
            if path == STANDARD_INPUT and standard_input is not None:
                continue
            _check_path(path)
        self._paths = tuple(paths)
        self._standard_input = standard_input
        self._environment = environment
        self._good: dict[Path, Manifests] = {}
        self._broken: dict[Path, list[SourceProblem]] = {}
        self._read: State = {}

    def state(self) -> State:
        """Return what tells whether anything changed: every file with its size, time and number."""
        return {file: _signature(file) for file in self._files()}

    def read(self) -> Reading:
        """Read what changed since the last time and return the whole."""
        state = self.state()
        for file, signature in state.items():
            if signature is None or self._read.get(file) != signature:
                self._read_file(file)
        for file in self._read.keys() - state.keys():
            self._good.pop(file, None)
            self._broken.pop(file, None)
        self._read = state
        return self._whole(list(state))

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
        except OSError:  # for now: what was there counts as there, so that no route is lost
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
            return  # deleted meanwhile; the next look notices
        except OSError as error:
            self._broken[file] = [SourceProblem(str(file), 0, f"cannot be read: {error.strerror}")]
            return
        except ValueError as error:
            why = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
            self._broken[file] = [SourceProblem(str(file), 0, why)]
            return
        self._take(file, text, str(file))

    def _take(self, file: Path, text: str, name: str) -> None:
        documents, problems = parse_documents(text, name)
        manifests = read_manifests(documents)
        problems += manifests.problems
        if problems:
            self._broken[file] = problems
            return
        self._broken.pop(file, None)
        self._good[file] = manifests

    def _whole(self, files: list[Path]) -> Reading:
        merged = Manifests()
        routes: dict[str, Placed] = {}
        problems = [problem for file in files for problem in self._broken.get(file, [])]
        for file in files:
            manifests = self._good.get(file, Manifests())
            merged.warnings += manifests.warnings
            merged.origins = manifests.origins | merged.origins
            for placed in manifests.routes:
                name = f"{placed.namespace}/{placed.name}"
                if name in routes:
                    problems.append(_twice("PassthroughRoute", name, placed, routes[name]))
                else:
                    routes[name] = placed
            problems += _merge("Secret", file, merged.secrets, manifests.secrets)
            problems += _merge("ConfigMap", file, merged.config_maps, manifests.config_maps)
        resources = Resources(
            routes=tuple(
                placed.resource(f"{index:08}") for index, placed in enumerate(routes.values())
            ),
            secrets=merged.secrets,
            config_maps=merged.config_maps,
            environment=self._environment,
        )
        return Reading(resources, problems, merged.warnings, routes, merged.origins)


def read_texts(paths: Sequence[Path], standard_input: bytes = b"") -> dict[str, str]:
    """Return the texts of files and folders by name; `-` stands for the standard input.

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
        raise SourceError(f"{name} is larger than {_LARGEST >> 20} MiB: give less at once")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise SourceError(f"{name} is not UTF-8 text") from None


def _check_path(path: Path) -> None:
    try:
        there, usable = path.exists(), path.is_file() or path.is_dir()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        shown = f"{str(path)[:200]}…" if len(str(path)) > 200 else str(path)
        raise SourceError(f"{shown} cannot be read: {error.strerror}") from None
    if not there:
        raise SourceError(f"{path} does not exist: check the path after -f")
    if not usable:
        raise SourceError(f"{path} is neither a file nor a folder")


def _is_manifest(path: Path) -> bool:
    # Editors' and Kubernetes' hidden files are not meant.
    return path.suffix in _SUFFIXES and not path.name.startswith(".") and path.is_file()


def _signature(file: Path) -> Signature | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _merge(
    kind: str, file: Path, found: dict[ObjectKey, T], new: Mapping[ObjectKey, T]
) -> list[SourceProblem]:
    twice = new.keys() & found.keys()
    found.update({key: value for key, value in new.items() if key not in twice})
    return [
        SourceProblem(str(file), 0, f"{kind} {name} is in another file too: keep one")
        for _, name in sorted(twice)
    ]


def _twice(kind: str, name: str, second: Placed, first: Placed) -> SourceProblem:
    return second.document.problem(
        (*second.location, "metadata", "name"),
        f"{kind} {name} is in {first.document.file} too: keep one",
        field="metadata.name",
    )
