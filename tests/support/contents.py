"""Files in memory, as the modules of the formats read them."""

from __future__ import annotations

from typing import Any

from vfs.formats.detail import Detail
from vfs.formats.detection import describe


class Bytes:
    """A file in memory that counts the bytes read; with a `size`, one that goes on with dots."""

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self._data = data
        self.size = len(data) if size is None else size
        self.bytes_read = 0

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes from an offset on."""
        self.bytes_read += size
        piece = self._data[offset : offset + size]
        return piece + b"." * max(min(self.size, offset + size) - offset - len(piece), 0)


def compared(name: str, old: bytes, new: bytes, **options: Any) -> Detail:
    """Returns what differs between two contents of a file of this name."""
    return describe(name.encode(), Bytes(old), Bytes(new), **options)
