"""Reads YAML text into documents that remember their lines. No file is touched here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Document", "SourceProblem", "parse_documents"]

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """One thing wrong in one place. `line` counts from 1; 0 is the whole file."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: plain data, and the line of each place in it."""

    file: str
    data: Any
    lines: dict[Location, int] = field(repr=False, default_factory=dict)

    def line(self, location: Sequence[str | int]) -> int:
        """Return the line of a place, or of the nearest place around it that exists."""
        place = tuple(location)
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)

    def problem(self, location: Sequence[str | int], message: str) -> SourceProblem:
        """Return a problem at a place of this document."""
        return SourceProblem(self.file, self.line(location), message)


class _Loader(yaml.SafeLoader):
    """Safe, and keeps dates as the text that they were written as."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_documents(text: str, file: str) -> tuple[list[Document], list[SourceProblem]]:
    """Return the documents of YAML (or JSON) text that are not empty, or what is wrong with it.

    A problem anywhere yields no documents: half a file is worse than the last good one.
    """
    loader = _Loader(text)
    documents: list[Document] = []
    problems: list[SourceProblem] = []
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None, "check_node said that there is one"  # noqa: S101
            lines: dict[Location, int] = {}
            problems += [
                SourceProblem(file, line, message) for line, message in _walk(node, (), lines)
            ]
            data = loader.construct_document(node)
            if data is not None:
                documents.append(Document(file, data, lines))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        return [], [SourceProblem(file, line, f"is not valid YAML: {error.problem}")]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it is nested too deeply"
        return [], [SourceProblem(file, 0, f"is not valid YAML: {reason}")]
    finally:
        loader.dispose()
    return ([] if problems else documents), problems


def _walk(
    node: yaml.Node, place: Location, lines: dict[Location, int]
) -> Iterator[tuple[int, str]]:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                yield line, f"{key.value} stands twice in one mapping: keep one"
                continue
            lines[inner] = line
            yield from _walk(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*place, index), lines)
