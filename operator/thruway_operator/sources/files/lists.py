"""Lists of resources: `kind: List`, and typed ones such as `PassthroughRouteList`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["is_list", "items_of", "typed_item"]

Location = tuple[str | int, ...]

_SUFFIX: Final = "List"


def is_list(data: Any, kinds: Collection[str]) -> bool:  # noqa: ANN401 - any YAML
    """Tell whether it is a `List`, or a list of one of these kinds."""
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str):
        return False
    return kind == _SUFFIX or (kind.endswith(_SUFFIX) and kind.removesuffix(_SUFFIX) in kinds)


def items_of(
    data: Any,  # noqa: ANN401 - any YAML
    kinds: Collection[str],
    place: Location = (),
) -> Iterator[tuple[Location, Any]]:
    """Yield what is not a list, with its place in the document; lists may hold lists.

    A list whose `items` are not a list is yielded itself.
    """
    items = data.get("items") if isinstance(data, dict) else None
    if not is_list(data, kinds) or not (items is None or isinstance(items, list)):
        yield place, data
        return
    for index, item in enumerate(items or ()):
        yield from items_of(typed_item(data, item), kinds, (*place, "items", index))


def typed_item(whole: dict[str, Any], item: Any) -> Any:  # noqa: ANN401 - any YAML
    """Return an item with its kind, which the API server leaves out in typed lists.

    As kubectl infers it (apimachinery, `unstructuredJSONScheme.decodeToList`).
    """
    kind = str(whole["kind"]).removesuffix(_SUFFIX)
    if not kind or not isinstance(item, dict) or "kind" in item or "apiVersion" in item:
        return item
    version = {"apiVersion": whole["apiVersion"]} if "apiVersion" in whole else {}
    return {**version, "kind": kind, **item}
