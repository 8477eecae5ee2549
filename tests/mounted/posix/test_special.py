"""Fifos, sockets and devices in use, what watches are told, free space, what the mount says of itself."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.calls import outcome, touch
from support.mounts import Mount

pytestmark = pytest.mark.mount

_libc = ctypes.CDLL(None, use_errno=True)
_EVENT = struct.Struct("iIII")
_WATCHED = 0xFFF
NAMES = {
    0x1: "access", 0x2: "modify", 0x4: "attrib", 0x8: "close_write", 0x10: "close", 0x20: "open",
    0x40: "moved_from", 0x80: "moved_to", 0x100: "create", 0x200: "delete", 0x400: "delete_self", 0x800: "move_self",
}  # fmt: skip


def test_a_fifo_carries_bytes_between_processes(place: Path) -> None:
    path = place / "fifo"
    os.mkfifo(path)
    child = os.fork()
    if not child:
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"through the pipe")
        os._exit(0)
    with path.open("rb") as pipe:
        assert pipe.read() == b"through the pipe"
    os.waitpid(child, 0)
    assert outcome(lambda: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))) == "ENXIO"
    assert path.stat().st_size == 0


def test_a_socket_is_found_by_its_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("socket")
        assert stat.S_ISSOCK(os.stat("socket").st_mode)
        server.listen()
        os.rename("socket", "moved")
        client.connect("moved")
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"hello")
            assert accepted.recv(5) == b"hello"
        with socket.socket(socket.AF_UNIX) as second:
            assert outcome(lambda: second.bind("moved")) == "EADDRINUSE"
    with socket.socket(socket.AF_UNIX) as late:
        assert outcome(lambda: late.connect("moved")) == "ECONNREFUSED"
    assert outcome(lambda: os.close(os.open("moved", os.O_RDONLY))) == "ENXIO"


def test_devices_are_what_their_numbers_say(place: Path) -> None:
    os.mknod(place / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(place / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.mknod(place / "none", stat.S_IFCHR | 0o666, os.makedev(250, 250))
    (place / "null").write_bytes(b"gone")
    assert (place / "null").read_bytes() == b""
    with (place / "zero").open("rb") as zero:
        assert zero.read(4) == bytes(4)
    assert outcome(lambda: os.close(os.open(place / "none", os.O_RDONLY))) == "ENXIO"


@pytest.fixture
def watch() -> Iterator[Callable[[Path], Callable[[], list[str]]]]:
    """Yields a function that watches a directory; what that returns gives the events since, in words."""
    fd = _libc.inotify_init1(os.O_NONBLOCK)

    def start(directory: Path) -> Callable[[], list[str]]:
        assert _libc.inotify_add_watch(fd, os.fsencode(directory), _WATCHED) >= 0
        return lambda: _events(fd)

    yield start
    os.close(fd)


def _events(fd: int) -> list[str]:
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        return []
    events = []
    while data:
        _, mask, _, size = _EVENT.unpack_from(data)
        name = data[_EVENT.size : _EVENT.size + size].rstrip(b"\0").decode()
        events += [f"{NAMES[bit]} {name}" for bit in NAMES if mask & bit]
        data = data[_EVENT.size + size :]
    return events


def test_inotify_watches_get_the_same_events_as_on_a_local_filesystem(
    watch: Callable[[Path], Callable[[], list[str]]], local: Path, inside: Path
) -> None:
    told = []
    for place in (local, inside):
        (place / "watched").mkdir()
        events = watch(place / "watched")
        path = place / "watched" / "file"
        path.write_bytes(b"data")
        path.read_bytes()
        os.chmod(path, 0o600)
        os.truncate(path, 1)
        os.setxattr(path, "user.key", b"value")
        os.link(path, place / "watched" / "linked")
        os.rename(path, place / "watched" / "moved")
        os.rename(place / "watched" / "moved", place / "out")
        os.rename(place / "out", place / "watched" / "linked")
        os.mkdir(place / "watched" / "dir")
        os.rmdir(place / "watched" / "dir")
        os.unlink(place / "watched" / "linked")
        os.symlink("x", place / "watched" / "link")
        os.rename(place / "watched", place / "elsewhere")
        told.append(events())
    assert told[0] == told[1]
    assert len(told[0]) > 15


def test_free_space_is_that_of_the_disk_below(shared: Mount, inside: Path) -> None:
    here, there = os.statvfs(inside), os.statvfs(shared.repository)
    assert (here.f_bsize, here.f_frsize, here.f_blocks) == (there.f_bsize, there.f_frsize, there.f_blocks)
    assert abs(here.f_bavail - there.f_bavail) * here.f_frsize < 1 << 30
    assert (here.f_files, here.f_namemax) == (there.f_files, 255)


def test_reading_leaves_the_access_time_and_the_mount_says_so(shared: Mount, inside: Path) -> None:
    touch(inside / "file", data=b"data")
    os.utime(inside / "file", ns=(1, 2))
    (inside / "file").read_bytes()
    assert (inside / "file").stat().st_atime_ns == 1
    assert os.statvfs(shared.path).f_flag & os.ST_NOATIME


def test_what_the_binding_cannot_carry_is_refused_as_unsupported(inside: Path) -> None:
    """The rows of docs/known-limits.md that a program can see."""
    assert outcome(lambda: os.close(os.open(inside, os.O_TMPFILE | os.O_RDWR))) == "ENOTSUP"
    touch(inside / "file")
    with (inside / "file").open("r+b") as file:
        assert _libc.fallocate(file.fileno(), 1, ctypes.c_long(0), ctypes.c_long(10)) == -1
        assert os.strerror(ctypes.get_errno()) == "Operation not supported"


def test_a_removed_open_file_keeps_its_number(place: Path) -> None:
    seen = set()
    for number in range(50):
        path = place / "file"
        touch(path)
        seen.add(path.stat().st_ino)
        os.link(path, place / f"kept{number}")
        path.unlink()
    assert len(seen) == 50
