"""Open files of a version."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from vfs.model.objects import Content
from vfs.python.open_repositories import SharedRepository, shared_repository
from vfs.store.trees.file_reader import FileReader

_PIECE_BYTES = 8 * 1024 * 1024
_BUFFER_BYTES = 16 * 1024


class RawFile(io.RawIOBase):
    """A file's bytes, unbuffered. Usable after a fork, in the parent and in the child, each at its own position."""

    def __init__(self, shared: SharedRepository, content: Content, name: str) -> None:
        super().__init__()
        self._shared = shared
        self._content = content
        self.name = name
        self.mode = "rb"
        self._at = 0
        self._generation = -1
        self._reader: FileReader | None = None

    def reader(self) -> FileReader:
        """Returns what reads the file in this process."""
        if self._reader is None or self._generation != self._shared.generation:
            store = self._shared.opened().store
            self._generation = self._shared.generation
            self._reader = FileReader(store, self._content)
        return self._reader

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self._content.size

    def __reduce__(self) -> tuple[Any, ...]:
        if self.closed:
            raise ValueError("a closed file cannot be pickled")
        return _raw_file, (str(self._shared.path), self._content, self.name, self._at)

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position and returns it. Raises ValueError for one before the beginning."""
        if self.closed:
            raise ValueError("seek of a closed file")
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative position {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer and returns the number of bytes, 0 at the end. Raises Corrupt for damage."""
        if self.closed:
            raise ValueError("read of a closed file")
        view = memoryview(buffer).cast("B")
        data = self.reader().read(self._at, len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        """Returns the rest of the file."""
        if self.closed:
            raise ValueError("read of a closed file")
        data = read_range(self.reader(), self._at, self.size)
        self._at = max(self._at, self.size)
        return data


class File(io.BufferedReader):
    """An open file of a version, as the built-in `open` gives one for `rb`; `size` is its length in bytes.

    Pickles by its repository's path and the content's id, with its position.
    """

    def __init__(self, raw: RawFile) -> None:
        super().__init__(raw, _BUFFER_BYTES)
        self.size = raw.size

    def __reduce__(self) -> tuple[Any, ...]:
        return _file, (self.raw, self.tell())


def _raw_file(repository: str, content: Content, name: str, at: int) -> RawFile:
    file = RawFile(shared_repository(Path(repository)), content, name)
    file.seek(at)
    return file


def _file(raw: RawFile, at: int) -> File:
    file = File(raw)
    file.seek(at)
    return file


def read_range(reader: FileReader, start: int, end: int) -> bytes:
    """Returns the bytes of a range that ends at `end` or at the file's end."""
    end = min(end, reader.size)
    if end - start <= _PIECE_BYTES:
        return bytes(reader.read(start, end - start)) if start < end else b""
    return b"".join(reader.read(at, min(_PIECE_BYTES, end - at)) for at in range(start, end, _PIECE_BYTES))
