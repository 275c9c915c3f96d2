"""How objects and addresses are named."""

__all__ = ["HostPort", "ObjectKey"]

ObjectKey = tuple[str, str]
"""Namespace ("" for what has none) and name."""

HostPort = tuple[str, int]
"""Host and port."""
