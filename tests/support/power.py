"""Power cuts: records what a process does to the files below a directory, and makes the directory as a disk may have it
when the power fails at any moment.

Recorded are the calls of the `os` module: everything of the working layer, the packs and the log, and nothing of
LMDB. What a disk may have: of a file, everything before its last fsync; of what was written since, any part (whole,
torn, zeros or nothing, later writes without earlier ones). Of names, everything before the last fsync of their
directory; of those made since, any that build on present ones. That is less than ext4 promises, which keeps names in
their order.
"""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

Keep = Literal["everything", "nothing", "names", "bytes", "chance"]
"""What a power cut leaves of unsynced changes: `names` and `bytes` leave all of one and nothing of the other."""


class Written(NamedTuple):
    """Bytes at a place of a file."""

    file: int
    offset: int
    data: bytes


class Cut(NamedTuple):
    """A file's new size."""

    file: int
    size: int


class Synced(NamedTuple):
    """A file is durable up to here."""

    file: int


class Named(NamedTuple):
    """A name appears (`file` below 0: a directory), moves (from `source`) or goes (`file` 0)."""

    path: str
    file: int = 0
    source: str = ""


class NamesSynced(NamedTuple):
    """The names in a directory are durable up to here."""

    path: str


class Mark(NamedTuple):
    """What the test wants to know of a moment."""

    what: Any


Event = Written | Cut | Synced | Named | NamesSynced | Mark
_FOLDER = -1


class State(NamedTuple):
    """What a disk has: files by path, and directories."""

    files: dict[str, bytes]
    folders: set[str]

    def frozen(self) -> Hashable:
        """Returns what is equal for equal states alone."""
        return frozenset(self.files.items()), frozenset(self.folders)

    def write_to(self, directory: Path) -> None:
        """Makes a new directory of it."""
        directory.mkdir()
        for folder in sorted(self.folders):
            (directory / folder).mkdir()
        for path, content in self.files.items():
            (directory / path).write_bytes(content)


class Disk:
    """What happens below a directory from now on; `without` names top-level entries that are left out."""

    def __init__(self, root: Path, without: tuple[str, ...] = ()) -> None:
        self.events: list[Event] = []
        self._root = os.path.realpath(root)
        self._without = without
        self._numbers: dict[int, int] = {}
        self._files = 0
        self._start = State({}, set())
        for folder, folders, names in os.walk(self._root):
            for name in (*folders, *names):
                path = self._inside(os.path.join(folder, name))
                if path is None:
                    continue
                if name in folders:
                    self.events.append(Named(path, _FOLDER))
                    continue
                full = Path(folder, name)
                self.events += [
                    Named(path, self._number(full.stat().st_ino)),
                    Written(self._files, 0, full.read_bytes()),
                ]
        self.events += [Synced(number) for number in self._numbers.values()]
        self.events += [
            NamesSynced(""),
            *(NamesSynced(event.path) for event in self.events if isinstance(event, Named)),
        ]

    def mark(self, what: object) -> None:
        """Puts something of the test's between the events."""
        self.events.append(Mark(what))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Records within."""
        calls: dict[str, Callable[..., Any]] = {
            "open": self._open,
            "pwrite": self._pwrite,
            "pwritev": self._pwritev,
            "ftruncate": self._truncate,
            "truncate": self._truncate,
            "fsync": self._fsync,
            "fdatasync": self._fsync,
            "rename": self._rename,
            "unlink": self._unlink,
            "mkdir": self._mkdir,
        }
        real = {name: getattr(os, name) for name in calls}
        for name, call in calls.items():
            setattr(os, name, _recorder(real[name], call))
        try:
            yield
        finally:
            for name, function in real.items():
                setattr(os, name, function)

    # The calls, each with the real one first.

    def _open(self, real: Callable[..., int], path: Any, flags: int, *args: Any, dir_fd: int | None = None) -> int:
        inside = self._inside(path, dir_fd)
        was_there = inside is not None and os.path.lexists(os.path.join(self._root, inside))
        fd = real(path, flags, *args, dir_fd=dir_fd)
        if inside is not None and not flags & os.O_DIRECTORY:
            if not was_there:
                self.events.append(Named(inside, self._number(os.fstat(fd).st_ino)))
            elif flags & os.O_TRUNC:
                self.events.append(Cut(self._numbers[os.fstat(fd).st_ino], 0))
        return fd

    def _pwrite(self, real: Callable[..., int], fd: int, data: Any, offset: int) -> int:
        written = real(fd, data, offset)
        self._wrote(fd, offset, bytes(data)[:written])
        return written

    def _pwritev(self, real: Callable[..., int], fd: int, pieces: Any, offset: int) -> int:
        written = real(fd, pieces, offset)
        self._wrote(fd, offset, b"".join(pieces)[:written])
        return written

    def _wrote(self, fd: int, offset: int, data: bytes) -> None:
        number = self._file(fd)
        if number is not None and data:
            self.events.append(Written(number, offset, data))

    def _truncate(self, real: Callable[..., None], fd: Any, size: int) -> None:
        real(fd, size)
        number = self._file(fd)
        if number is not None:
            self.events.append(Cut(number, size))

    def _fsync(self, real: Callable[..., None], fd: int) -> None:
        real(fd)
        path = self._inside(os.readlink(f"/proc/self/fd/{fd}"))
        # Asked first: a new directory may have the inode number of a file that is gone.
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            if path is not None:
                self.events.append(NamesSynced(path))
        elif (number := self._file(fd)) is not None:
            self.events.append(Synced(number))

    def _rename(
        self, real: Callable[..., None], old: Any, new: Any, *, src_dir_fd: Any = None, dst_dir_fd: Any = None
    ) -> None:
        source, path = self._inside(old, src_dir_fd), self._inside(new, dst_dir_fd)
        file = self._numbers.get(os.stat(old, dir_fd=src_dir_fd).st_ino, 0)
        real(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        if path is not None:
            assert source is not None
            self.events.append(Named(path, file, source))

    def _unlink(self, real: Callable[..., None], path: Any, *, dir_fd: int | None = None) -> None:
        inside = self._inside(path, dir_fd)
        real(path, dir_fd=dir_fd)
        if inside is not None:
            self.events.append(Named(inside))

    def _mkdir(self, real: Callable[..., None], path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        inside = self._inside(path, dir_fd)
        real(path, mode, dir_fd=dir_fd)
        if inside is not None:
            self.events.append(Named(inside, _FOLDER))

    def _number(self, ino: int) -> int:
        self._files += 1
        self._numbers[ino] = self._files
        return self._files

    def _file(self, fd: Any) -> int | None:
        if self._inside(os.readlink(f"/proc/self/fd/{fd}") if isinstance(fd, int) else fd) is None:
            return None
        return self._numbers.get(os.stat(fd).st_ino)

    def _inside(self, path: Any, dir_fd: int | None = None) -> str | None:
        above = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd()
        full = os.path.normpath(os.path.join(above, os.fsdecode(path)))
        if full == self._root:
            return ""
        inside = full.removeprefix(self._root + "/")
        return None if inside == full or inside.split("/")[0] in self._without else inside


def _recorder(real: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **names: call(real, *args, **names)


def after_power_cut(events: list[Event], keep: Keep, chance: random.Random) -> State:
    """Returns what a disk may have when the power fails behind these events."""
    images: dict[int, bytearray] = {}
    pending: dict[int, list[Written | Cut]] = {}
    names: list[tuple[Named, bool]] = []
    for event in events:
        match event:
            case Written(file=file) | Cut(file=file):
                pending.setdefault(file, []).append(event)
            case Synced(file=file):
                for change in pending.pop(file, ()):
                    _apply(images.setdefault(file, bytearray()), change)
            case Named():
                names.append((event, False))
            case NamesSynced(path=path):
                names = [(name, is_safe or path in _folders_of(name)) for name, is_safe in names]
            case Mark():
                pass
    for file, changes in pending.items():
        image = images.setdefault(file, bytearray())
        if keep == "everything" or keep == "bytes":
            for change in changes:
                _apply(image, change)
        elif keep == "chance":
            for change in _some(changes, chance):
                _apply(image, change)
    found: dict[str, int] = {}
    # Often all names, or names in order: what happens to bytes is seen only where their file has its name.
    luck = chance.choice((1.0, 1.0, 0.5)) if keep == "chance" else 1.0 if keep in ("everything", "names") else 0.0
    for name, is_safe in names:
        if is_safe or chance.random() < luck:
            _name(found, name)
    return State(
        {path: bytes(images.get(file, b"")) for path, file in found.items() if file > 0},
        {path for path, file in found.items() if file == _FOLDER},
    )


def _folders_of(name: Named) -> tuple[str, ...]:
    # A name that has moved is safe when the directory it moved to is; then it is not found twice either.
    return (name.path.rpartition("/")[0],)


def _apply(image: bytearray, change: Written | Cut) -> None:
    if isinstance(change, Cut):
        del image[change.size :]
        image.extend(bytes(change.size - len(image)))
        return
    image.extend(bytes(max(0, change.offset - len(image))))
    image[change.offset : change.offset + len(change.data)] = change.data


def _some(changes: list[Written | Cut], chance: random.Random) -> Iterator[Written | Cut]:
    """Yields what the disk has of changes that were not synced."""
    whole_until = chance.randrange(len(changes) + 1)
    for number, change in enumerate(changes):
        fate = "whole" if number < whole_until else chance.choice(("whole", "torn", "zeros", "lost", "lost"))
        if fate == "whole":
            yield change
        elif isinstance(change, Written) and fate == "torn":
            at = chance.randrange(len(change.data))
            yield change._replace(data=change.data[:at])
        elif isinstance(change, Written) and fate == "zeros":
            at = chance.choice((0, 0, chance.randrange(len(change.data))))
            yield change._replace(data=change.data[:at] + bytes(len(change.data) - at))


def _name(found: dict[str, int], name: Named) -> None:
    folder = name.path.rpartition("/")[0]
    if folder and folder not in found:
        return
    found.pop(name.source, None)
    if name.file:
        found[name.path] = name.file
    else:
        found.pop(name.path, None)
