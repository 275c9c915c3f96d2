"""The presets of well-known providers. A preset never implies a Secret."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NO_CREDENTIAL", "NO_PRESET", "PRESETS", "Preset"]

NO_CREDENTIAL = "none (clients send Thruway's key)"
"""Shown where Thruway injects no credential and the client's own does not pass on either."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Upstream, version prefix and credential scheme of one provider."""

    url: str
    version: str
    header: str
    prefix: str
    key_parameter: str = ""
    """Query parameter in which clients may send a key; it is removed with their other keys."""
    unversioned: tuple[str, ...] = ()
    """First segments of the API's paths that no version precedes."""
    error_format: str = "openai"
    """The provider whose JSON format errors use."""


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
        error_format="anthropic",
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
        error_format="gemini",
    ),
}

NO_PRESET = Preset("", "", "authorization", "Bearer ")
