"""Secret values: a type that makes leaks impossible."""

from __future__ import annotations

import hashlib

__all__ = ["SecretValue"]


class SecretValue:
    """A secret that cannot be shown by accident: it prints `[redacted]` everywhere.

    Only `reveal` gives the value. Not a dataclass and not picklable on purpose.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself. Use it only to serialize the secret for Envoy."""
        return self._value

    def digest(self) -> str:
        """Return a short content hash that distinguishes versions without revealing the value."""
        return hashlib.blake2b(self._value.encode(), digest_size=8, person=b"thruway").hexdigest()

    def __repr__(self) -> str:
        return "[redacted]"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("[redacted]", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretValue) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a SecretValue cannot be pickled or copied into another form")
