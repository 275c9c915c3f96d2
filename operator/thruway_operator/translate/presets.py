"""The presets of well-known providers. A preset never implies a Secret."""

from __future__ import annotations

from dataclasses import dataclass

from thruway_operator.ir import ErrorFormat

__all__ = ["NO_CREDENTIAL", "PRESETS", "Preset"]

NO_CREDENTIAL = "none (clients send Thruway's key)"
"""Where neither Thruway puts a credential in nor the client's passes on."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Upstream, version prefix and credential scheme of one provider."""

    url: str
    version: str
    header: str
    prefix: str
    key_parameter: str = ""
    """Query parameter in which clients may send a key; it is taken out with their other keys."""
    unversioned: tuple[str, ...] = ()
    """First segments of the API's paths that have no version in front."""
    error_format: ErrorFormat = ErrorFormat.OPENAI


PRESETS = {
    # https://platform.openai.com/docs/api-reference/authentication
    "openai": Preset("https://api.openai.com", "/v1", "authorization", "Bearer "),
    # https://docs.anthropic.com/en/api/overview; Claude Code also calls /api/…
    "anthropic": Preset(
        "https://api.anthropic.com",
        "/v1",
        "x-api-key",
        "",
        unversioned=("api",),
        error_format=ErrorFormat.ANTHROPIC,
    ),
    # https://ai.google.dev/gemini-api/docs/api-key
    "gemini": Preset(
        "https://generativelanguage.googleapis.com",
        "/v1beta",
        "x-goog-api-key",
        "",
        key_parameter="key",
        # Files (https://ai.google.dev/api/files), Live (https://ai.google.dev/api/live), and the
        # API's own description (https://developers.google.com/discovery).
        unversioned=("upload", "download", "ws", "$discovery"),
        error_format=ErrorFormat.GEMINI,
    ),
}

NO_PRESET = Preset("", "", "authorization", "Bearer ")
