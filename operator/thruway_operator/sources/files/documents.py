"""Parses YAML text into documents that remember their line numbers. It reads no files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from thruway_operator.api.problems import shown_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Document", "SourceProblem", "parse_documents"]

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """One problem in one place. `line` counts from 1; 0 means the whole file."""

    file: str
    line: int
    message: str
    field: str = ""
    """The place in the user's words, such as `spec.path`; the message may begin with it."""
    subject: str = ""
    """The resource's name, if the message begins with it."""

    @property
    def reason(self) -> str:
        """The message without subject and field."""
        text = self.message.removeprefix(f"{self.subject}: ")
        return text.removeprefix(f"{self.field}: ").removeprefix(f"{self.field} ")

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: plain data, and the line of each place in it."""

    file: str
    data: Any = field(repr=False)  # a Secret's values are plain text here
    lines: dict[Location, int] = field(repr=False, default_factory=dict)

    def line(self, location: Sequence[str | int]) -> int:
        """Return the line of a place, or of the nearest place around it that exists."""
        place = tuple(location)
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)

    def problem(
        self, location: Sequence[str | int], message: str, *, field: str = "", subject: str = ""
    ) -> SourceProblem:
        """Return a problem at a place of this document."""
        return SourceProblem(self.file, self.line(location), message, field, subject)


_MOST_NODES = 100_000
_ENDLESS = 1 << 62
_NAMED = re.compile(r"""\b(alias|anchor|tag|handle) (['"]).*\2""")


class _Loader(yaml.SafeLoader):
    """Safe, and keeps dates as the text that they were written as."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_documents(text: str, file: str) -> tuple[list[Document], list[SourceProblem]]:
    """Return the nonempty documents of YAML (or JSON) text, or its problems.

    Any problem yields no documents: half a file is worse than the last good one.
    """
    line, reason = 0, ""
    try:
        return _read(text, file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        # YAML reads a password that begins with `*`, `&` or `!` as an alias, an anchor or a tag.
        reason = _NAMED.sub(r"\1", error.problem or "it cannot be read")
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
    except RecursionError:
        reason = "it is nested too deeply"
    except (ValueError, LookupError, AttributeError, TypeError):
        reason = "a value does not match its tag, or is not a readable number"
    return [], [SourceProblem(file, line, f"is not valid YAML: {reason}")]


def _read(text: str, file: str) -> tuple[list[Document], list[SourceProblem]]:
    documents: list[Document] = []
    problems: list[SourceProblem] = []
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None, "check_node returned true"  # noqa: S101
            if _is_bomb(node):
                return [], [SourceProblem(file, 0, "becomes too large when its aliases expand")]
            lines: dict[Location, int] = {}
            problems += [
                SourceProblem(file, line, message) for line, message in _walk(node, (), lines)
            ]
            data = loader.construct_document(node)
            if data is not None:
                documents.append(Document(file, data, lines))
    finally:
        loader.dispose()
    return ([] if problems else documents), problems


def _is_bomb(node: yaml.Node) -> bool:
    # Aliases share a node; a walk over the document, or a merge (`<<`), visits it each time.
    sizes: dict[int, int] = {}
    expanded = _expanded(node, sizes)
    return expanded > _MOST_NODES and expanded > 10 * len(sizes)


def _expanded(node: yaml.Node, sizes: dict[int, int]) -> int:
    known = sizes.get(id(node))
    if known is not None:
        return known
    sizes[id(node)] = _ENDLESS  # a node that contains itself is infinite
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    size = 1 + sum(_expanded(part, sizes) for part in parts)
    sizes[id(node)] = size
    return size


def _walk(
    node: yaml.Node, place: Location, lines: dict[Location, int]
) -> Iterator[tuple[int, str]]:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _text(key)
            if not isinstance(key, yaml.ScalarNode):
                continue  # constructing the document rejects it
            inner = (*place, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                yield line, f"{shown_name(key.value)} appears twice in one mapping: keep one"
                continue
            lines[inner] = line
            yield from _walk(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*place, index), lines)
    else:
        yield from _text(node)


def _text(node: yaml.Node) -> Iterator[tuple[int, str]]:
    # JSON escapes a character beyond U+FFFF as a pair of surrogates, which PyYAML keeps as two.
    if not isinstance(node, yaml.ScalarNode) or node.value.isascii():
        return
    try:
        node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        yield node.start_mark.line + 1, "a lone surrogate is not text: write the whole character"
