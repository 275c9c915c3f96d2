"""How objects and addresses are named."""

__all__ = ["HostPort", "ObjectKey"]

ObjectKey = tuple[str, str]
"""Namespace ("" for objects without one) and name."""

HostPort = tuple[str, int]
"""Host and port."""
