"""The interface of the formats: bytes at an offset in, a detail for people and for programs out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vfs.formats.quantities import human_size
from vfs.model.ids import Buffer
from vfs.store.trees.file_reader import FileReader

PIECE_BYTES = 4 * 1024 * 1024
EXAMPLES_MAX = 10
"""Changed rows, keys or arrays that are shown one by one; all are counted."""


class Readable(Protocol):
    """A file's bytes. `read` gives fewer than asked for only at the end."""

    @property
    def size(self) -> int:
        """The number of bytes."""
        ...

    def read(self, offset: int, size: int) -> Buffer:
        """Returns bytes from an offset on."""
        ...


class BytesReadable:
    """Bytes in memory as a Readable."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read(self, offset: int, size: int) -> Buffer:
        """Returns bytes from an offset on."""
        return self.data[offset : offset + size]


@dataclass(frozen=True, slots=True)
class Detail:
    """What differs inside a file: lines for people, values for programs; `kind` names the words that are used."""

    kind: str
    lines: Sequence[str]
    value: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Returns the values with their kind."""
        return {"kind": self.kind, **self.value}


class NotThisFormat(Exception):
    """A file is not of the format that its name implies; it is then described as lines or bytes.

    The text is the reason, in words that follow "not compared row by row:"; empty where the name promised nothing.
    """


class MissingExtra(NotThisFormat):
    """The library for a format is not installed; the message names the extra of this package that installs it."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what} are shown with the extra `{extra}`: pip install 'vfs-versions[{extra}]'")


class Stream(io.RawIOBase):
    """A Readable as a file object that can be sought in."""

    def __init__(self, source: Readable) -> None:
        super().__init__()
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the offset that is read next."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to an offset and returns it."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        if start + offset < 0:
            raise ValueError(f"the offset {start + offset} is before the beginning")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer from the offset on and returns how far."""
        data = self._source.read(self._at, min(len(buffer), PIECE_BYTES))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def whole(source: Readable) -> bytes:
    """Returns all bytes; for callers that have checked the size."""
    return bytes(source.read(0, source.size))


def same_chunks(old: Readable, new: Readable, start: int, size: int) -> bool:
    """Returns True if two versions have the same chunks in [start, start + size); reads no bytes."""
    if not (isinstance(old, FileReader) and isinstance(new, FileReader)):
        return False
    refs = list(old.refs(start, start + size))
    return bool(refs) and refs == list(new.refs(start, start + size))


def too_large(old: Readable, new: Readable, limit_bytes: int, how: str) -> Detail | None:
    """Returns the detail of files above a limit, or None where both are within it."""
    if max(old.size, new.size) <= limit_bytes:
        return None
    words = f"not compared {how}: larger than {human_size(limit_bytes)}"
    return Detail("large", [words], {"limit_bytes": limit_bytes, "old_bytes": old.size, "new_bytes": new.size})


def written_differently(facts: Sequence[str]) -> str:
    """Returns the line about files with the same values and other bytes; `facts` name what differs, as far as known."""
    return f"written differently: {', '.join(facts)}" if facts else "written differently"


def cut(text: str, characters_max: int) -> str:
    """Returns a text, or its beginning with a mark where it is longer."""
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def more_than_shown(count: int, noun: str, shown: int = EXAMPLES_MAX) -> list[str]:
    """Returns the line with the number of those that were not shown, or no line."""
    return [f"  … {count - shown:,} more {noun}"] if count > shown else []
