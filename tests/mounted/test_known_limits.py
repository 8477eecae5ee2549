"""What docs/known-limits.md says that the kernel does not pass on is so."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import termios
from collections.abc import Iterator

import pytest

from support.mounts import Mount
from vfs.control.messages import RestoreArgs
from vfs.control.services import RESTORE
from vfs.model.ids import CommitId

pytestmark = pytest.mark.mount

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PAGE = 4096
CHANGES = 0xFCE
"""Every event of inotify but opening, reading and closing after that."""
_EVENT = struct.Struct("iIII")


class _Handle(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128))


def restore(mount: Mount, commit_id: CommitId, path: bytes) -> None:
    mount.call(RESTORE, RestoreArgs(commit_id, [path], discard=True, author="a"))


def events(descriptor: int) -> Iterator[bytes]:
    """Yields the names that inotify has heard of so far."""
    data = os.read(descriptor, 65536)
    while data:
        _, _, _, length = _EVENT.unpack_from(data)
        yield data[_EVENT.size : _EVENT.size + length].rstrip(b"\0")
        data = data[_EVENT.size + length :]


def test_no_file_takes_an_ioctl(mount: Mount) -> None:
    (mount / "file").write_bytes(b"content")
    mount.commit()
    for path in ("file", "@v1/file", ".", "@v1"):
        descriptor = os.open(mount / path, os.O_RDONLY)
        with pytest.raises(OSError, match=r"\w") as caught:
            fcntl.ioctl(descriptor, termios.TCGETS, bytes(60))
        assert caught.value.errno == errno.ENOTTY
        os.close(descriptor)


def test_a_restored_path_has_another_inode_and_inotify_hears_nothing_of_it(mount: Mount) -> None:
    (mount / "f").write_text("one")
    first = mount.commit()
    (mount / "f").write_text("two")
    mount.commit()
    number = (mount / "f").stat().st_ino
    watch = LIBC.inotify_init1(os.O_NONBLOCK)
    assert LIBC.inotify_add_watch(watch, os.fsencode(mount.path), CHANGES) > 0
    with (mount / "f").open() as held:
        restore(mount, first.id, b"f")
        assert (mount / "f").read_text() == "one"
        assert (mount / "f").stat().st_ino != number
        assert held.read() == "two"
        assert os.fstat(held.fileno()).st_nlink == 0
    (mount / "written").touch()
    heard = set(events(watch))
    os.close(watch)
    assert b"written" in heard
    assert b"f" not in heard


def test_a_file_handle_is_stale_once_the_kernel_has_forgotten_the_inode(mount: Mount) -> None:
    (mount / "f").write_text("one")
    mount.commit()
    handle, mount_id = _Handle(bytes=128), ctypes.c_int()
    path = os.fsencode(mount / "f")
    assert LIBC.name_to_handle_at(-100, path, ctypes.byref(handle), ctypes.byref(mount_id), 0) == 0
    directory = os.open(mount.path, os.O_RDONLY)
    try:
        found = LIBC.open_by_handle_at(directory, ctypes.byref(handle), os.O_RDONLY)
        assert os.read(found, 10) == b"one"
        os.close(found)
        mount.drop_kernel_caches()
        assert LIBC.open_by_handle_at(directory, ctypes.byref(handle), os.O_RDONLY) == -1
        assert ctypes.get_errno() == errno.ESTALE
    finally:
        os.close(directory)


def test_bytes_that_were_mapped_behind_the_end_appear_when_a_write_makes_the_file_longer(mount: Mount) -> None:
    (mount / "f").write_bytes(b"x" * 100)
    descriptor = os.open(mount / "f", os.O_RDWR)
    address = LIBC.mmap(None, PAGE, 3, 1, descriptor, 0)
    ctypes.memset(address + 400, ord("Y"), 5)
    os.pwrite(descriptor, b"e", 999)
    assert os.pread(descriptor, 9, 398) == b"\0\0YYYYY\0\0"
    LIBC.munmap(address, PAGE)
    os.close(descriptor)
    assert (mount / "f").read_bytes()[398:407] == b"\0\0YYYYY\0\0"


def test_access_says_that_a_version_can_be_written_and_opening_does_not(mount: Mount) -> None:
    (mount / "f").write_text("one")
    mount.commit()
    assert os.access(mount / "@v1" / "f", os.W_OK)
    with pytest.raises(OSError, match="Read-only") as caught:
        (mount / "@v1" / "f").open("r+")
    assert caught.value.errno == errno.EROFS
