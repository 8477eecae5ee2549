"""A writer's work on a directory: operations chosen by chance, what they should make of it, and a process that does
them one by one and reports each acknowledged one before it begins the next.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

_WRITE_BYTES_MAX = 40_000
_PAGE = 4096
_NAMES = 12
_TAG = "user.tag"
_MODES = (0o600, 0o640, 0o644, 0o755)


class Op(msgspec.Struct, frozen=True, omit_defaults=True):
    """One system call that changes something. `stamp` makes the bytes that it writes, all or (`part`) the first."""

    kind: str
    path: str
    other: str = ""
    offset: int = 0
    size: int = 0
    stamp: int = 0
    mode: int = 0
    part: int | None = None


class Seen(NamedTuple):
    """What a path is. `group`: the smallest path of its hard links."""

    kind: str
    content: bytes
    mode: int = 0
    tag: bytes = b""
    group: str = ""


Scene = dict[str, Seen]
"""What a directory holds below it."""


class _Inode:
    """A file as it should be; changed by replacing its fields."""

    def __init__(self, content: bytes = b"", mode: int = 0o644, tag: bytes = b"") -> None:
        self.content = content
        self.mode = mode
        self.tag = tag


class Tree:
    """What a directory should hold: chooses operations that work on it, and does them."""

    def __init__(self) -> None:
        self._files: dict[str, _Inode] = {}
        self._folders: dict[str, int] = {}
        self._links: dict[str, str] = {}

    def copy(self) -> Tree:
        """Returns another tree that holds the same."""
        made = Tree()
        copies = {inode: _Inode(inode.content, inode.mode, inode.tag) for inode in self._files.values()}
        made._files = {path: copies[inode] for path, inode in self._files.items()}
        made._folders = dict(self._folders)
        made._links = dict(self._links)
        return made

    def after(self, op: Op) -> Tree:
        """Returns what comes of an operation."""
        made = self.copy()
        made.apply(op)
        return made

    def scene(self) -> Scene:
        """Returns what one should see."""
        groups: dict[_Inode, str] = {}
        for path in sorted(self._files):
            groups.setdefault(self._files[path], path)
        found: Scene = {path: Seen("folder", b"") for path in self._folders}
        found.update((path, Seen("link", target.encode())) for path, target in self._links.items())
        for path, inode in self._files.items():
            found[path] = Seen("file", inode.content, inode.mode, inode.tag, groups[inode])
        return found

    def choose(self, chance: random.Random) -> Op:
        """Returns an operation that works here."""
        while True:
            op = self._propose(chance)
            if op is not None:
                return op

    def _propose(self, chance: random.Random) -> Op | None:
        kinds = ("create", "write", "append", "truncate", "map", "fsync", "rename", "replace", "move", "unlink", "link")
        kind = chance.choices(
            (*kinds, "symlink", "mkdir", "rmdir", "chmod", "tag"), (9, 14, 14, 4, 4, 6, 6, 8, 2, 5, 3, 1, 3, 1, 2, 2)
        )[0]
        new = self._new_path(chance)
        if kind in ("create", "mkdir", "symlink"):
            target = f"to{chance.randrange(1000)}" if kind == "symlink" else ""
            return Op(kind, new, target) if self._is_free(new) else None
        if kind == "rmdir":
            empty = [path for path in self._folders if not any(self._below(path))]
            return Op(kind, chance.choice(empty)) if empty else None
        if kind == "move":
            if not self._folders or not self._is_free(new):
                return None
            path = chance.choice(list(self._folders))
            return Op("rename", path, new) if not f"{new}/".startswith(f"{path}/") else None
        if not self._files:
            return None
        path = chance.choice(list(self._files))
        if kind in ("rename", "link"):
            return Op(kind, path, new) if self._is_free(new) else None
        if kind == "replace":
            other = chance.choice(list(self._files))
            return Op("rename", path, other) if self._files[other] is not self._files[path] else None
        size = len(self._files[path].content)
        if kind in ("write", "append"):
            length = chance.choice((1, 90, 4096, 5000, _WRITE_BYTES_MAX))
            offset = chance.randrange(min(size, 100_000) + 200) if kind == "write" else 0
            return Op(kind, path, offset=offset, size=length, stamp=chance.getrandbits(40))
        if kind == "map":
            return _mapped(path, size, chance)
        if kind == "truncate":
            return Op(kind, path, size=chance.randrange(min(size, 150_000) + 100))
        if kind == "chmod":
            return Op(kind, path, mode=chance.choice(_MODES))
        return Op(kind, path, stamp=chance.getrandbits(40))

    def _new_path(self, chance: random.Random) -> str:
        folder = chance.choice(["", "", *self._folders])
        name = f"{chance.choice('abc')}{chance.randrange(_NAMES)}"
        return f"{folder}/{name}" if folder else name

    def _is_free(self, path: str) -> bool:
        return path.count("/") < 4 and not any(path in held for held in (self._files, self._folders, self._links))

    def _below(self, folder: str) -> Iterator[str]:
        for held in (self._files, self._folders, self._links):
            yield from (path for path in held if path.startswith(folder + "/"))

    def cut_off(self, op: Op) -> Iterator[Op]:
        """Yields what an operation may be that was cut off: the kernel divides a write, at a page's boundary."""
        if op.kind in ("write", "append"):
            start = op.offset if op.kind == "write" else len(self._files[op.path].content)
            for end in range((start // _PAGE + 1) * _PAGE, start + op.size, _PAGE):
                yield msgspec.structs.replace(op, part=end - start)

    def apply(self, op: Op) -> None:
        """Does an operation."""
        path, file = op.path, self._files.get(op.path)
        match op.kind:
            case "create":
                self._files[path] = _Inode()
            case "mkdir":
                self._folders[path] = 0
            case "symlink":
                self._links[path] = op.other
            case "rmdir":
                del self._folders[path]
            case "unlink":
                del self._files[path]
            case "rename":
                self._rename(path, op.other)
            case _:
                assert file is not None
                self._change(file, op)

    def _change(self, file: _Inode, op: Op) -> None:
        old = file.content
        match op.kind:
            case "write" | "map":
                data = made_bytes(op)
                held = bytearray(max(len(old), op.offset + len(data)))
                held[: len(old)] = old
                held[op.offset : op.offset + len(data)] = data
                file.content = bytes(held)
            case "append":
                file.content += made_bytes(op)
            case "truncate":
                file.content = old[: op.size].ljust(op.size, b"\0")
            case "chmod":
                file.mode = op.mode
            case "tag":
                file.tag = b"%d" % op.stamp
            case "link":
                self._files[op.other] = file
            case _:
                assert op.kind == "fsync"

    def _rename(self, path: str, new: str) -> None:
        if path in self._files:
            self._files[new] = self._files.pop(path)
            return
        _move(self._files, path, new)
        _move(self._folders, path, new)
        _move(self._links, path, new)


def _move(held: dict[str, T], path: str, new: str) -> None:
    for old in [old for old in held if old == path or old.startswith(path + "/")]:
        held[new + old[len(path) :]] = held.pop(old)


def _mapped(path: str, size: int, chance: random.Random) -> Op | None:
    """Returns a change of part of one page through a mapping, synced: whole or absent."""
    if not size:
        return None
    offset = chance.randrange(size)
    room = min(size, (offset // _PAGE + 1) * _PAGE) - offset
    return Op("map", path, offset=offset, size=chance.randrange(room) + 1, stamp=chance.getrandbits(40))


def made_bytes(op: Op) -> bytes:
    """Returns what an operation writes."""
    return random.Random(op.stamp).randbytes(op.size)[: op.part]


def perform(root: Path, op: Op) -> None:
    """Does an operation below a directory: one change, whatever else that takes."""
    path, other = root / op.path, root / op.other
    match op.kind:
        case "create":
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        case "mkdir":
            os.mkdir(path)
        case "symlink":
            os.symlink(op.other, path)
        case "rmdir":
            os.rmdir(path)
        case "unlink":
            os.unlink(path)
        case "rename":
            os.rename(path, other)
        case "link":
            os.link(path, other)
        case "truncate":
            os.truncate(path, op.size)
        case "chmod":
            os.chmod(path, op.mode)
        case "tag":
            os.setxattr(path, _TAG, b"%d" % op.stamp)
        case _:
            _write(path, op)


def _write(path: Path, op: Op) -> None:
    fd = os.open(path, os.O_RDWR | (os.O_APPEND if op.kind == "append" else 0))
    try:
        if op.kind == "fsync":
            os.fsync(fd)
        elif op.kind == "map":
            with mmap.mmap(fd, os.fstat(fd).st_size) as mapping:
                mapping[op.offset : op.offset + op.size] = made_bytes(op)
                mapping.flush()
        else:
            data = made_bytes(op)
            written = os.write(fd, data) if op.kind == "append" else os.pwrite(fd, data, op.offset)
            if written != op.size:
                # The filesystem has gone in the middle of it.
                raise OSError(errno.EIO, "a short write")
    finally:
        os.close(fd)


def look(root: Path) -> Scene:
    """Returns what a directory holds."""
    found: Scene = {}
    files: dict[int, list[str]] = {}
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            place = Path(folder, name)
            path = str(place.relative_to(root))
            status = os.lstat(place)
            if stat.S_ISDIR(status.st_mode):
                found[path] = Seen("folder", b"")
            elif stat.S_ISLNK(status.st_mode):
                found[path] = Seen("link", os.readlink(place).encode())
            else:
                files.setdefault(status.st_ino, []).append(path)
                found[path] = Seen("file", place.read_bytes(), stat.S_IMODE(status.st_mode), _tag_of(place))
    for paths in files.values():
        assert os.lstat(root / paths[0]).st_nlink == len(paths), paths
        for path in paths:
            found[path] = found[path]._replace(group=min(paths))
    return found


def _tag_of(path: Path) -> bytes:
    try:
        return os.getxattr(path, _TAG)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return b""


def difference(found: Scene, wanted: Scene) -> list[str]:
    """Returns the paths at which two scenes differ."""
    return sorted(path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path))


def main() -> None:
    """Does the operations on standard input below a directory; reports each on standard output when it is done."""
    os.umask(0o022)
    root = Path(sys.argv[1])
    decoder = msgspec.json.Decoder(Op)
    for number, line in enumerate(sys.stdin.buffer.readlines(), 1):
        try:
            perform(root, decoder.decode(line))
        except OSError as error:
            os.write(1, f"! {errno.errorcode[error.errno or 0]}\n".encode())
            return
        os.write(1, f"{number}\n".encode())


if __name__ == "__main__":
    main()
