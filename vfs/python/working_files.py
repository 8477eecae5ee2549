"""Files of a working layer: in a live mount, or in a layer that this process has open."""

from __future__ import annotations

import io
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from vfs.errors import IsADirectory, NotFound
from vfs.model.names import show_path
from vfs.model.objects import Kind
from vfs.overlay.layer_nodes import ROOT_INO, Attr
from vfs.overlay.overlay import Overlay

PathKind = Literal["file", "directory", "other"]

_BUFFER_BYTES = 1024 * 1024
_READ_BUFFER_BYTES = 16 * 1024
_FILE_MODE = 0o666
_DIRECTORY_MODE = 0o777
_numbers = itertools.count()


class LayerFiles(Protocol):
    """What a working layer needs; paths are relative to its root."""

    def kind(self, path: bytes) -> PathKind | None:
        """Returns what is at a path, None where nothing is."""
        ...

    def names(self, path: bytes) -> list[bytes]:
        """Returns the names in a directory. Raises NotFound, NotADirectory or the OSError of it."""
        ...

    def read(self, path: bytes) -> Any:
        """Opens a file for reading, buffered."""
        ...

    def create(self, path: bytes) -> io.RawIOBase:
        """Makes an empty file that is not there yet, in a directory that is, and opens it for writing."""
        ...

    def replace(self, old: bytes, new: bytes) -> None:
        """Renames a file over another one, whose permissions it takes."""
        ...

    def remove(self, path: bytes, *, is_directory: bool) -> None:
        """Removes a file or an empty directory."""
        ...

    def make_directories(self, path: bytes) -> None:
        """Makes a directory and those above it."""
        ...


class NewFile(io.BufferedWriter):
    """A file that is replaced: written under another name, until it is closed without an exception."""

    def __init__(self, files: LayerFiles, path: bytes) -> None:
        directory, _, _ = path.rpartition(b"/")
        if directory:
            files.make_directories(directory)
        if files.kind(path) == "directory":
            raise IsADirectory(f"{show_path(path)} is a directory")
        name = b".vfs-new-%d-%d" % (os.getpid(), next(_numbers))
        self._files = files
        self._path = path
        self._written = directory + b"/" + name if directory else name
        super().__init__(files.create(self._written), _BUFFER_BYTES)

    def close(self) -> None:
        """Ends the file, which then has its name."""
        if self.closed:
            return
        try:
            super().close()
        except BaseException:
            self._drop()
            raise
        self._files.replace(self._written, self._path)

    def discard(self) -> None:
        """Ends the file and removes it; what was under its name stays."""
        if not self.closed:
            with suppress(OSError):
                super().close()
            self._drop()

    def _drop(self) -> None:
        with suppress(OSError, NotFound):
            self._files.remove(self._written, is_directory=False)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        # Not `close`: a program that forgot to close it did not say that it is complete.
        if getattr(self, "_written", None) is not None:
            self.discard()


class TextFile(io.TextIOWrapper):
    """A file as text; one that is written anew does not appear where an exception interrupts it."""

    def __exit__(self, kind: object, *_: object) -> None:
        file = self.buffer
        if kind is not None and isinstance(file, NewFile):
            self.detach()
            file.discard()
        else:
            self.close()


class MountedFiles:
    """The files of a working layer in a live mount."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def _at(self, path: bytes) -> bytes:
        return os.path.join(os.fsencode(self.top), path) if path else os.fsencode(self.top)

    def kind(self, path: bytes) -> PathKind | None:
        """Returns what is at a path."""
        try:
            mode = os.lstat(self._at(path)).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        return "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"

    def names(self, path: bytes) -> list[bytes]:
        """Returns the names in a directory."""
        return os.listdir(self._at(path))

    def read(self, path: bytes) -> Any:
        """Opens a file for reading."""
        return open(self._at(path), "rb")

    def create(self, path: bytes) -> io.RawIOBase:
        """Makes a file."""
        return open(self._at(path), "xb", buffering=0)

    def replace(self, old: bytes, new: bytes) -> None:
        """Renames a file over another one."""
        with suppress(FileNotFoundError):
            os.chmod(self._at(old), stat.S_IMODE(os.stat(self._at(new)).st_mode))
        os.replace(self._at(old), self._at(new))

    def remove(self, path: bytes, *, is_directory: bool) -> None:
        """Removes a file or an empty directory."""
        (os.rmdir if is_directory else os.unlink)(self._at(path))

    def make_directories(self, path: bytes) -> None:
        """Makes directories."""
        os.makedirs(self._at(path), exist_ok=True)


class OpenedFiles:
    """The files of a working layer that this process has open."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._mask = _umask()

    def kind(self, path: bytes) -> PathKind | None:
        """Returns what is at a path."""
        attr = self._overlay.getattr(ROOT_INO) if not path else self._overlay.find(path)
        if attr is None:
            return None
        return "directory" if attr.kind == Kind.DIR else "file" if attr.kind == Kind.FILE else "other"

    def names(self, path: bytes) -> list[bytes]:
        """Returns the names in a directory."""
        with self._held(path) as attr:
            return list(self._overlay.names(attr.ino))

    def read(self, path: bytes) -> Any:
        """Opens a file for reading."""
        if self.kind(path) == "directory":
            raise IsADirectory(f"{show_path(path)} is a directory")
        return io.BufferedReader(_ReadFile(self._overlay, path), _READ_BUFFER_BYTES)

    def create(self, path: bytes) -> io.RawIOBase:
        """Makes a file."""
        directory, _, name = path.rpartition(b"/")
        with self._held(directory) as attr:
            made = self._overlay.mknod(attr.ino, name, _FILE_MODE & ~self._mask, 0, os.geteuid(), os.getegid())
        return _WrittenFile(self._overlay, made.ino)

    def replace(self, old: bytes, new: bytes) -> None:
        """Renames a file over another one."""
        before = self._overlay.find(new)
        directory, _, name = new.rpartition(b"/")
        with self._held(directory) as attr:
            if before is not None and before.kind == Kind.FILE:
                with self._held(old) as made:
                    self._overlay.setattr(made.ino, mode=before.mode)
            self._overlay.rename(attr.ino, old.rpartition(b"/")[2], attr.ino, name)

    def remove(self, path: bytes, *, is_directory: bool) -> None:
        """Removes a file or an empty directory."""
        directory, _, name = path.rpartition(b"/")
        with self._held(directory) as attr:
            (self._overlay.rmdir if is_directory else self._overlay.unlink)(attr.ino, name)

    def make_directories(self, path: bytes) -> None:
        """Makes directories."""
        at = b""
        for name in path.split(b"/"):
            above, at = at, at + b"/" + name if at else name
            if self.kind(at) is None:
                with self._held(above) as attr:
                    made = self._overlay.mkdir(
                        attr.ino, name, _DIRECTORY_MODE & ~self._mask, os.geteuid(), os.getegid()
                    )
                    self._overlay.forget(made.ino)

    @contextmanager
    def _held(self, path: bytes) -> Iterator[Attr]:
        """Yields the attributes of the inode at a path, whose number is valid until the exit."""
        held: list[int] = []
        attr = self._overlay.getattr(ROOT_INO)
        try:
            for name in path.split(b"/") if path else []:
                attr = self._overlay.lookup(attr.ino, name)
                held.append(attr.ino)
            yield attr
        finally:
            for ino in held:
                self._overlay.forget(ino)


def _umask() -> int:
    """Returns the mask of new files' permissions, which only setting it tells where /proc is not there."""
    try:
        with open("/proc/self/status", "rb") as status:
            return next(int(line.split()[1], 8) for line in status if line.startswith(b"Umask:"))
    except (OSError, StopIteration):
        return 0o022


class _ReadFile(io.RawIOBase):
    """A file of an open working layer, for reading."""

    def __init__(self, overlay: Overlay, path: bytes) -> None:
        super().__init__()
        self._overlay = overlay
        self._opened = overlay.opened(path)
        attr = self._opened.__enter__()
        if attr is None:
            raise NotFound(f"no file or directory {show_path(path)} in the working layer")
        self._ino = attr.ino
        self._at = 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position."""
        size = self._overlay.getattr(self._ino).size
        self._at = max(0, {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: size}[whence] + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer."""
        view = memoryview(buffer).cast("B")
        data = self._overlay.read(self._ino, self._at, len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Closes the file."""
        if not self.closed and hasattr(self, "_ino"):
            self._opened.__exit__(None, None, None)
        super().close()


class _WrittenFile(io.RawIOBase):
    """A new file of an open working layer, for writing; its inode was looked up."""

    def __init__(self, overlay: Overlay, ino: int) -> None:
        super().__init__()
        self._overlay = overlay
        self._ino = ino
        self._at = 0

    def writable(self) -> bool:
        """Returns True."""
        return True

    def write(self, data: Any) -> int:
        """Writes bytes at the end."""
        written = self._overlay.write(self._ino, self._at, memoryview(data).cast("B"))
        self._at += written
        return written

    def tell(self) -> int:
        """Returns the position."""
        return self._at

    def close(self) -> None:
        """Closes the file."""
        if not self.closed and not self._overlay.is_closed:
            self._overlay.forget(self._ino)
        super().close()
