"""Modes, owners and times: what sets them, what moves them on, what they can hold."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.calls import KINDS, Moment, make, outcome, touch
from support.mounts import Mount, mounted

pytestmark = pytest.mark.mount


@pytest.mark.parametrize("mode", [0, 0o111, 0o644, 0o1777, 0o2755, 0o4755, 0o7777])
@pytest.mark.parametrize("kind", ["file", "dir", "fifo", "socket", "char", "block"])
def test_every_kind_has_every_mode(kind: str, mode: int, place: Path) -> None:
    make(place / "it", kind)
    before = (place / "it").stat()
    moment = Moment(place)
    os.chmod(place / "it", mode)
    after = (place / "it").stat()
    assert stat.S_IMODE(after.st_mode) == mode
    assert stat.S_IFMT(after.st_mode) == stat.S_IFMT(before.st_mode)
    assert moment.touched(place / "it") == "c"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_any_owner(kind: str, place: Path) -> None:
    make(place / "it", kind)
    moment = Moment(place)
    os.lchown(place / "it", 123, 4_000_000_000)
    os.lchown(place / "it", -1, 4_294_967_294)
    found = (place / "it").lstat()
    assert (found.st_uid, found.st_gid) == (123, 4_294_967_294)
    assert moment.touched(place / "it") == "c"


# In the range of the local filesystem's times: 1901 to 2446.
TIMES = [0, 1, -1, -2_147_483_648_000_000_000, 2_147_483_647_999_999_999, 2_147_483_648_000_000_001]
TIMES += [4_294_967_296_123_456_789, 15_000_000_000_999_999_999]


@pytest.mark.parametrize("time_ns", TIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_times_hold_nanoseconds_long_before_and_after_now(kind: str, time_ns: int, place: Path) -> None:
    make(place / "it", kind)
    os.utime(place / "it", ns=(time_ns, 5), follow_symlinks=False)
    found = (place / "it").lstat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (time_ns, 5)
    os.utime(place / "it", ns=(7, time_ns), follow_symlinks=False)
    found = (place / "it").lstat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (7, time_ns)


@pytest.mark.parametrize("seconds", [2**35, -(2**34), 2**62, -(2**62)])
def test_a_time_beyond_those_that_are_kept_becomes_the_nearest_one(seconds: int, place: Path) -> None:
    (place / "file").touch()
    os.utime(place / "file", (seconds, seconds))
    found = (place / "file").stat()
    assert found.st_atime == found.st_mtime
    os.utime(place / "file", (4 * seconds // 5, 4 * seconds // 5))
    assert (place / "file").stat().st_mtime_ns == found.st_mtime_ns
    assert (found.st_mtime > 0) == (seconds > 0)


def test_times_last_beyond_remounting_and_in_versions(mount: Mount) -> None:
    far = 9_223_372_035_000_000_001
    (mount / "file").touch()
    os.utime(mount / "file", ns=(far, far))
    mount.end()
    with mounted(mount.repository, mount.path) as again:
        assert (again / "file").stat().st_mtime_ns == far
        again.commit()
        assert (again / "@v1/file").stat().st_mtime_ns == far


Act = Callable[[Path], object]


def _write(path: Path, flags: int = 0, data: bytes = b"more") -> None:
    fd = os.open(path, os.O_WRONLY | flags)
    os.write(fd, data)
    os.close(fd)


# What is done in a directory with a file and an empty directory; then whose times move on: directory's, file's.
ACTS: dict[str, tuple[Act, str, str]] = {
    "nothing": (lambda d: (os.stat(d / "file"), os.listdir(d)), "", ""),
    "write": (lambda d: _write(d / "file"), "", "mc"),
    "write nothing": (lambda d: _write(d / "file", 0, b""), "", ""),
    "append": (lambda d: _write(d / "file", os.O_APPEND), "", "mc"),
    "cut at opening": (lambda d: _write(d / "file", os.O_TRUNC, b""), "", "mc"),
    "cut": (lambda d: os.truncate(d / "file", 1), "", "mc"),
    "grow": (lambda d: os.truncate(d / "file", 1000), "", "mc"),
    "truncate to the same size": (lambda d: os.truncate(d / "file", 4), "", "mc"),
    "cut what is empty at opening": (lambda d: _write(d / "empty", os.O_TRUNC, b""), "", ""),
    "chmod": (lambda d: os.chmod(d / "file", 0o600), "", "c"),
    "chmod to the same": (lambda d: os.chmod(d / "file", 0o644), "", "c"),
    "chown": (lambda d: os.chown(d / "file", 1, 1), "", "c"),
    "setxattr": (lambda d: os.setxattr(d / "file", "user.key", b"value"), "", "c"),
    "removexattr": (lambda d: os.removexattr(d / "file", "user.kept"), "", "c"),
    "utime of old": (lambda d: os.utime(d / "file", (1, 1)), "", "c"),
    "utime now": (lambda d: os.utime(d / "file"), "", "mc"),
    "link": (lambda d: os.link(d / "file", d / "linked"), "mc", "c"),
    "unlink another name": (lambda d: os.unlink(d / "second"), "mc", "c"),
    "open to create what is there": (lambda d: _write(d / "file", os.O_CREAT, b""), "", ""),
    "create": (lambda d: touch(d / "new"), "mc", ""),
    "mkdir": (lambda d: os.mkdir(d / "new"), "mc", ""),
    "mkfifo": (lambda d: os.mkfifo(d / "new"), "mc", ""),
    "symlink": (lambda d: os.symlink("x", d / "new"), "mc", ""),
    "rmdir": (lambda d: os.rmdir(d / "dir"), "mc", ""),
    "rename within": (lambda d: os.rename(d / "empty", d / "moved"), "mc", ""),
    "fail to make": (lambda d: outcome(lambda: os.mkdir(d / "file")), "", ""),
    "fail to remove": (lambda d: outcome(lambda: os.rmdir(d)), "", ""),
    "fail to link": (lambda d: outcome(lambda: os.link(d / "file", d / "empty")), "", ""),
    "fail to cut": (lambda d: outcome(lambda: os.truncate(d / "file", -1)), "", ""),
}


@pytest.mark.parametrize("name", ACTS)
def test_which_times_move_on(name: str, place: Path) -> None:
    act, directory_times, file_times = ACTS[name]
    at = place / "d"
    at.mkdir()
    touch(at / "file", data=b"data")
    os.link(at / "file", at / "second")
    os.setxattr(at / "file", "user.kept", b"value")
    touch(at / "empty")
    (at / "dir").mkdir()
    moment = Moment(place)
    act(at)
    assert (moment.touched(at), moment.touched(at / "file")) == (directory_times, file_times)


@pytest.mark.parametrize("kind", ["file", "dir", "link", "fifo", "socket"])
def test_a_new_inode_has_its_creation_time(kind: str, place: Path) -> None:
    moment = Moment(place)
    make(place / "it", kind)
    found = (place / "it").lstat()
    assert min(found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns) >= moment.ns
    assert moment.touched(place) == "mc"


def test_a_directory_counts_its_directories(place: Path) -> None:
    counts = [place.stat().st_nlink]
    for number in range(3):
        (place / f"dir{number}").mkdir()
        counts.append(place.stat().st_nlink)
    (place / "file").touch()
    os.symlink("dir0", place / "link")
    counts.append(place.stat().st_nlink)
    os.rmdir(place / "dir0")
    counts.append(place.stat().st_nlink)
    assert counts == [2, 3, 4, 5, 5, 4]


def test_a_removed_directory_that_is_open_has_no_links(place: Path) -> None:
    (place / "dir").mkdir()
    fd = os.open(place / "dir", os.O_RDONLY)
    os.rmdir(place / "dir")
    assert os.fstat(fd).st_nlink == 0
    assert outcome(lambda: os.close(os.open("file", os.O_CREAT, dir_fd=fd))) == "ENOENT"
    assert outcome(lambda: os.fchmod(fd, 0o700)) == "done"
    os.close(fd)


def test_devices_keep_their_numbers(place: Path) -> None:
    for number in (os.makedev(1, 3), os.makedev(259, 1_000_000), 0):
        for kind in (stat.S_IFCHR, stat.S_IFBLK):
            os.mknod(place / f"{kind} {number}", kind | 0o600, number)
            assert (place / f"{kind} {number}").stat().st_rdev == number


def test_one_time_is_set_and_the_other_left(place: Path) -> None:
    touch(place / "file")
    os.utime(place / "file", ns=(5, 7))
    moment = Moment(place)
    subprocess.run(["touch", "-a", place / "file"], check=True)
    found = (place / "file").stat()
    assert (found.st_atime_ns >= moment.ns, found.st_mtime_ns) == (True, 7)
    os.utime(place / "file", ns=(5, 7))
    subprocess.run(["touch", "-m", place / "file"], check=True)
    found = (place / "file").stat()
    assert (found.st_atime_ns, found.st_mtime_ns >= moment.ns) == (5, True)
