"""Inode numbers outside the working layer: derived by hash, checked to be unique among those in use, lookups counted.

The ranges never meet: 1 is the mount's root, a few small numbers are the directories that list names, the rest is
derived (docs/decisions/0011-inode-numbers.md). A number is derived from what the inode is, so it is the same after
`forget` and after a remount. Two different inodes never share one: where the derived number belongs to another inode
in use, the next probe is taken and recorded permanently.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar, cast

from vfs.backend.rooted_path import RootedPath
from vfs.fuse.compact_file_inodes import FileColumns, FileTable
from vfs.model.ids import digest64, digest64_and_check

log = logging.getLogger(__name__)

ROOT = 1
NAMES_DIRECTORY = 2
"""`@`, the directory of the lists of versions, tags and branches."""
VERSIONS_DIRECTORY = 3
TAGS_DIRECTORY = 4
BRANCHES_DIRECTORY = 5
RUNS_DIRECTORY = 6

VIRTUAL_BITS = 57
LINK_BITS = 58
DIRECTORY_BITS = 59
FILE_BITS = 60
WORKING_BITS = 61
BRANCH_BITS = 62
"""A range's numbers have this bit as their highest: virtual directories, symbolic links that are names, directories of
versions (as session.h knows), other entries of versions, the working layers (whose numbers the overlays give), the
directories `@/branches/NAME`."""

WORKING_START = 1 << WORKING_BITS
BRANCHES_START = 1 << BRANCH_BITS
_FILES_START = 1 << FILE_BITS
_PROBES_MAX = 10_000
_WHOLE_BITS = 64


class Inode(Protocol):
    """An inode that the table can hold. `ino` and `lookups` are 0 until the table has given a number and counted."""

    ino: int
    lookups: int

    def same_as(self, other: Inode) -> bool:
        """Returns True if both are the same inode, whatever their numbers: the kernel may see them as one."""


I = TypeVar("I", bound=Inode)


class VersionedFile(Protocol):
    """An inode of the files of versions, as far as the columns keep it. `ino` is 0 until the table has given a number.

    `check` is of the key, 0 until the table has set it.
    """

    ino: int
    check: int


F = TypeVar("F", bound=VersionedFile)


class CollisionTable:
    """The collision table: inode numbers that are not their key's first probe, in a file so that they never change.

    The file has one line a number: the number, the key in hexadecimal and a checksum, a space between each. A line that
    is torn or damaged is ignored: two inodes would share a number. Without a path the table ends with the process.
    """

    def __init__(self, path: RootedPath | None = None) -> None:
        self.on_first: Callable[[], object] = lambda: None
        """Called when a number is added to an empty table."""
        self._path = path
        self._number_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        if path is not None and path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                self._load(line)

    def _load(self, line: bytes) -> None:
        if not line.endswith(b"\n"):
            return
        number, _, rest = line[:-1].partition(b" ")
        key, _, check = rest.partition(b" ")
        try:
            # Programs before this one wrote no checksum.
            if check and check != _check(number, key):
                raise ValueError
            self._remember(bytes.fromhex(key.decode("ascii")), int(number))
        except ValueError:
            log.warning("%s: ignored a line that is no inode number", self._path)

    def _remember(self, key: bytes, number: int) -> None:
        self._number_of[key] = number
        self._key_of[number] = key

    def __len__(self) -> int:
        return len(self._number_of)

    def number_of(self, key: bytes) -> int | None:
        """Returns a key's number in the table, or None if the key has its first probe."""
        return self._number_of.get(key)

    def free_for(self, number: int, key: bytes) -> bool:
        """Returns True if no other key has this number in the table."""
        return self._key_of.get(number, key) == key

    def add(self, key: bytes, number: int) -> None:
        """Records a key's number permanently."""
        if not self:
            self.on_first()
        self._remember(key, number)
        if self._path is not None:
            try:
                digits, text = b"%d" % number, key.hex().encode("ascii")
                self._append(self._path, b"%s %s %s\n" % (digits, text, _check(digits, text)))
            except OSError as error:
                # Of a read-only mount of a full or read-only disk; the number is the same as long as the mount lives.
                log.warning("inode number %d may be another one in the next mount: %s", number, error)

    @staticmethod
    def _append(path: RootedPath, line: bytes) -> None:
        path.parent.make_directory()
        fd = path.open(os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(fd, line)
            os.fsync(fd)
        finally:
            os.close(fd)


def _check(number: bytes, key: bytes) -> bytes:
    return b"%016x" % digest64(number + b" " + key)


class InodeTable:
    """The inodes outside the working layer that the kernel knows. One thread uses it.

    Invariant: an inode is in the table exactly while its lookup count is positive. Those of the range of versions'
    files, which a walk makes a million, are in `files`: one with the same number and check is the same.
    `hash_bits` narrows the ranges so that tests meet collisions.
    """

    def __init__(
        self,
        probed: CollisionTable | None = None,
        files: FileTable[Any] | None = None,
        *,
        hash_bits: int = _WHOLE_BITS,
    ) -> None:
        self._inodes: dict[int, Inode] = {}
        self.files: FileTable[Any] = files if files is not None else FileColumns()
        self._probed = probed if probed is not None else CollisionTable()
        self._hash_bits = hash_bits
        self.on_directory_forgotten: Callable[[Inode], object] = lambda _: None
        """Called with a directory of a version, whose number may be given to another one from then on."""
        self._file_mask = (1 << min(FILE_BITS, hash_bits)) - 1

    def __len__(self) -> int:
        return len(self._inodes) + len(self.files)

    def __iter__(self) -> Iterator[Inode]:
        """Yields the inodes that are held now, but for the files of versions."""
        return iter(list(self._inodes.values()))

    def find(self, ino: int) -> Inode | None:
        """Returns the inode that the kernel knows by this number, or None; files of versions are in `files`."""
        return self._inodes.get(ino)

    def admit(self, inode: I, key: bytes, bits: int) -> I:
        """Returns the inode in the table that is the same as this one, or this one with its number.

        `key` is what the number is derived from and names the inode among all of its range; the highest bit of the
        number is `bits`. The inode is not yet held: nothing else may be admitted between this and `hold`.
        """
        start = 1 << bits
        mask = (1 << min(bits, self._hash_bits)) - 1
        ino = start + (digest64(key) & mask)
        known = self._inodes.get(ino)
        if known is None:
            if not self._probed:
                inode.ino = ino
                return inode
        elif known.same_as(inode):
            return cast("I", known)
        return self._probe(inode, key, lambda probe: start + (digest64(probe) & mask))

    def admit_file(self, file: F, key: bytes) -> F:
        """Gives a file of a version its number; `key` names it among all. Its lookup is counted next, by `files`."""
        digest, check = digest64_and_check(key)
        file.check = check
        file.ino = ino = _FILES_START + (digest & self._file_mask)
        known = self.files.check(ino)
        if (known is not None and known != check) or (known is None and self._probed):
            file.ino = self._probe_file(key, check)
        return file

    @property
    def numbers_are_derived(self) -> bool:
        """True if the number of each file is the one that is derived from its key, unprobed."""
        return self._hash_bits == _WHOLE_BITS and not self._probed

    def on_first_probe(self, call: Callable[[], object]) -> None:
        """Has `call` called when that ends to be so."""
        self._probed.on_first = call

    def _probe_file(self, key: bytes, check: int) -> int:
        given = self._probed.number_of(key)
        if given is not None:
            return given
        for count in range(_PROBES_MAX):
            probe = key + count.to_bytes(4, "little") if count else key
            ino = _FILES_START + (digest64(probe) & self._file_mask)
            known = self.files.check(ino)
            if known is None and self._probed.free_for(ino, key):
                if count:
                    self._probed.add(key, ino)
                return ino
            if known == check:
                return ino
        raise OSError(errno.ENFILE, "no inode number is free")

    def _probe(self, inode: I, key: bytes, derive: Callable[[bytes], int]) -> I:
        given = self._probed.number_of(key)
        if given is not None:
            inode.ino = given
            return cast("I", self._inodes.get(given, inode))
        for count in range(_PROBES_MAX):
            ino = derive(key + count.to_bytes(4, "little") if count else key)
            known = self._inodes.get(ino)
            if known is not None and known.same_as(inode):
                return cast("I", known)
            if known is None and self._probed.free_for(ino, key):
                if count:
                    self._probed.add(key, ino)
                inode.ino = ino
                return inode
        raise OSError(errno.ENFILE, "no inode number is free")

    def hold(self, inode: Inode) -> None:
        """Counts one lookup of an admitted inode: the kernel was told about it."""
        self._inodes[inode.ino] = inode
        inode.lookups += 1

    def lookups_of(self, ino: int) -> int:
        """Returns the lookup count of an inode, 0 for one that the kernel does not know."""
        if ino >> FILE_BITS == 1:
            return self.files.lookups_of(ino)
        inode = self._inodes.get(ino)
        return inode.lookups if inode is not None else 0

    def forget(self, ino: int, lookups: int) -> None:
        """Decrements the lookup count of an inode, and removes the inode when the kernel does not know it any more."""
        if ino >> FILE_BITS == 1:
            left = self.files.forget(ino, lookups)
            if left is None:
                log.warning("the kernel forgot inode %d, which it did not know", ino)
            elif left < 0:
                log.warning("the kernel forgot inode %d more often than it looked it up", ino)
            return
        inode = self._inodes.get(ino)
        if inode is None:
            log.warning("the kernel forgot inode %d, which it did not know", ino)
            return
        inode.lookups -= lookups
        if inode.lookups <= 0:
            if inode.lookups < 0:
                log.warning("the kernel forgot inode %d more often than it looked it up", ino)
            del self._inodes[ino]
            if ino >> DIRECTORY_BITS == 1:
                self.on_directory_forgotten(inode)
