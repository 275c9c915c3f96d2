"""The variables by which an application finds its sidecar: those that OpenAI's SDKs read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from thruway_operator.sidecar.decide.names import BASE_URL, KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from thruway_operator.sidecar.decide.routes import Choice

__all__ = ["PLACEHOLDER", "told"]

PLACEHOLDER: Final = "thruway"
"""SDKs do not start without a key; the route's own takes its place."""


def told(
    container: Mapping[str, Any], url: str, choice: Choice
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the container with the variables that it does not set itself, and warnings.

    One that sets OPENAI_BASE_URL knows where it calls, and with which key: it keeps both.
    """
    given = list(container.get("env") or ())
    names = {item.get("name") for item in given}
    if BASE_URL in names:
        return dict(container), ()
    ours = {BASE_URL: url, KEY: PLACEHOLDER}
    added = [{"name": name, "value": value} for name, value in ours.items() if name not in names]
    warnings = []
    if container.get("envFrom"):
        # What a ConfigMap or Secret holds is not to be seen at admission, and may change before
        # the container starts; an entry in `env` goes before it (Kubernetes: "Define Environment
        # Variables for a Container"). Most hold nothing of ours but, perhaps, the real key that
        # the sidecar makes needless: so ours are set, and that is said.
        warnings.append(
            f"container {container.get('name')} uses envFrom: {BASE_URL} and {KEY} from there do "
            "not count; set them in env to keep them"
        )
    if choice.wants_key and KEY not in names:
        warnings.append(
            f"PassthroughRoute {choice.wants_key} lets in clients with a key of their own alone: "
            f"set {KEY} in container {container.get('name')}"
        )
    return {**container, "env": [*given, *added]}, tuple(warnings)
