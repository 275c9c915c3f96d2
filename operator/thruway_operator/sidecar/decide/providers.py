"""Which variables the SDKs of each provider read (openai 3, anthropic 2, google-genai 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["BASE_URLS", "OPENAI", "PROVIDERS", "Provider"]


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider's variables."""

    name: str
    """As in a route's `provider`."""
    base_urls: tuple[str, ...]
    """All of them are set, to the same value."""
    keys: tuple[str, ...]
    """SDKs start with any of them; the first gets a placeholder if a container sets none."""
    versioned: bool = False
    """Whether the base URL ends with the version, such as `/v1`: other SDKs add it themselves."""
    elsewhere: tuple[str, ...] = ()
    """More variables that show that a container has its own destination."""

    @property
    def usual_path(self) -> str:
        """The preferred path if there are several routes."""
        return f"/{self.name}_passthrough"


OPENAI: Final = Provider(
    "openai",
    # LangChain reads OPENAI_API_BASE first, LlamaIndex reads only that.
    base_urls=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    keys=("OPENAI_API_KEY",),
    versioned=True,
)
PROVIDERS: Final = (
    OPENAI,
    Provider(
        "anthropic",
        base_urls=("ANTHROPIC_BASE_URL",),
        # The SDK warns if both are set, and uses the first.
        keys=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
        # LangChain's, before ANTHROPIC_BASE_URL; Claude Code's other upstreams.
        elsewhere=("ANTHROPIC_API_URL", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"),
    ),
    Provider(
        "gemini",
        base_urls=("GOOGLE_GEMINI_BASE_URL",),
        # The SDK warns if both are set, and uses GOOGLE_API_KEY.
        keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        # With these it calls Vertex AI, where a placeholder key would replace other credentials.
        elsewhere=("GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_ENTERPRISE"),
    ),
)
BASE_URLS: Final = {name: provider for provider in PROVIDERS for name in provider.base_urls}
"""The provider of each variable that contains a base URL."""
