"""Addresses of pages: what they ask, and how links are built. Paths are bytes, percent-encoded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, urlencode

from vfs.errors import InvalidInput

_PARAMETERS_MAX = 100
HEX_FIELD = "_hex"
"""Behind the name of a field: its value is a path in hexadecimal. Forms carry neither bytes nor ends of lines."""
_LONGEST_NUMBER = 15


class Query:
    """What stands behind the question mark of an address."""

    def __init__(self, text: bytes | str) -> None:
        raw = text.decode("ascii", "replace") if isinstance(text, bytes) else text
        try:
            self.pairs = parse_qsl(
                raw, keep_blank_values=True, errors="surrogateescape", max_num_fields=_PARAMETERS_MAX
            )
        except ValueError:
            raise InvalidInput("the address has too many parameters") from None

    def text(self, name: str, default: str = "") -> str:
        """Returns the first value of a name."""
        return next((value for key, value in self.pairs if key == name), default)

    def optional(self, name: str) -> str | None:
        """Returns the first value of a name, or None where it is not there."""
        return next((value for key, value in self.pairs if key == name), None)

    def every(self, name: str) -> list[str]:
        """Returns all values of a name."""
        return [value for key, value in self.pairs if key == name]

    def path(self, name: str = "path") -> bytes:
        """Returns a path. Raises InvalidInput for a HEX_FIELD that is none."""
        try:
            return bytes.fromhex(self.text(name + HEX_FIELD)) or os.fsencode(self.text(name))
        except ValueError:
            raise InvalidInput(f"{name}{HEX_FIELD} is no hexadecimal text") from None

    def after(self) -> bytes | None:
        """Returns the name that a page of a list goes on after, or None for the first page."""
        value = self.text("after")
        return os.fsencode(value) if value else None

    def number(self, name: str) -> int:
        """Returns a count from 0 on; raises InvalidInput for anything else."""
        value = self.text(name, "0")
        if not (value.isascii() and value.isdigit() and len(value) <= _LONGEST_NUMBER):
            raise InvalidInput(f"{name} is a number from 0 on, not {value!r}")
        return int(value)


def address(page: str, pairs: Iterable[tuple[str, str | int | None]]) -> str:
    """Returns the address of a page; values that are None are left out."""
    kept = [(key, os.fsencode(str(value))) for key, value in pairs if value is not None]
    return f"/{page}" + (f"?{urlencode(kept, quote_via=quote, safe='/')}" if kept else "")
