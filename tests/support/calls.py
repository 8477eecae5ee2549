"""System calls as tests make them: by name, as another user, with the error as a word."""

from __future__ import annotations

import ast
import ctypes
import errno
import os
import platform
import signal
import stat
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

_CLONE_FS = 0x200
_SYSTEM_CALLS = {"x86_64": (116, 119, 117), "aarch64": (159, 149, 147)}
"""The numbers of setgroups, setresgid and setresuid."""
DONE = "done"
"""What `outcome` says of a call that raised nothing."""


class User(NamedTuple):
    """The caller: user and groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


ROOT = User(0, 0)
ALICE = User(65533, 65533)
BOB = User(65532, 65532)


def outcome(call: Callable[[], object]) -> str:
    """Returns the name of the errno that a call raises, or DONE."""
    try:
        call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return DONE


def answer(call: Callable[[], object]) -> str:
    """Returns the name of the errno that a call raises, or what it returns, as text."""
    try:
        return repr(call())
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


def as_user(user: User, directory: Path, call: Callable[[], object], *, umask: int = 0o022) -> Any:
    """Returns what a call by another user returns, or the name of its errno; the caller stands in a directory.

    Paths relative to it need no permission for what is above it.
    """
    entered = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _be(user, entered, umask, call, writer)
    os.close(writer)
    os.close(entered)
    with open(reader, encoding="utf-8") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, told
    return ast.literal_eval(told)


def in_thread_as_user(user: User, directory: Path, call: Callable[[], object], *, umask: int = 0o022) -> Any:
    """Returns what `as_user` returns, without another process: for calls that leave nothing open.

    The kernel keeps users and groups for each thread, the C library makes them those of the process: it is passed by.
    """
    numbers = _SYSTEM_CALLS.get(platform.machine())
    if numbers is None:
        return as_user(user, directory, call, umask=umask)
    entered = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(_be_in_thread, numbers, user, entered, umask, call).result()
        finally:
            os.close(entered)


def _be_in_thread(
    numbers: tuple[int, int, int], user: User, directory: int, umask: int, call: Callable[[], object]
) -> object:
    library = ctypes.CDLL(None, use_errno=True)
    # The current directory and the umask are this thread's own from here on.
    _require(library.unshare(_CLONE_FS))
    os.fchdir(directory)
    os.umask(umask)
    groups = (ctypes.c_uint32 * len(user.groups))(*user.groups)
    set_groups, set_gid, set_uid = numbers
    _require(library.syscall(set_groups, len(user.groups), groups))
    _require(library.syscall(set_gid, user.gid, user.gid, user.gid))
    _require(library.syscall(set_uid, user.uid, user.uid, user.uid))
    try:
        return call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    finally:
        # The thread may end a moment after its last word: it must keep no mount in use.
        os.chdir("/")


def _require(status: int) -> None:
    assert status == 0, os.strerror(ctypes.get_errno())


def _be(user: User, directory: int, umask: int, call: Callable[[], object], writer: int) -> None:
    """Makes the call and ends the process, whatever happens."""
    status = 1
    try:
        os.fchdir(directory)
        os.umask(umask)
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        try:
            told = call()
        except OSError as error:
            told = errno.errorcode.get(error.errno or 0, str(error))
        with open(writer, "w", encoding="utf-8") as pipe:
            pipe.write(repr(told))
        status = 0
    finally:
        if status:
            traceback.print_exc(file=sys.stderr)
        os._exit(status)


def touch(path: Path | str, mode: int = 0o644, data: bytes = b"") -> None:
    """Makes a file with exactly this mode."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(fd, data)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def make(path: Path, kind: str) -> None:
    """Makes a thing of a kind: the names are those of KINDS."""
    match kind:
        case "file":
            touch(path, data=b"data")
        case "dir":
            path.mkdir()
        case "full dir":
            path.mkdir()
            touch(path / "in it")
        case "link":
            path.symlink_to("nowhere")
        case "fifo":
            os.mkfifo(path)
        case "socket":
            os.mknod(path, stat.S_IFSOCK | 0o644)
        case "char":
            os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 3))
        case "block":
            os.mknod(path, stat.S_IFBLK | 0o644, os.makedev(7, 99))
        case _:
            assert kind == "nothing"


KINDS = ["file", "dir", "full dir", "link", "fifo", "socket", "char", "block"]


def times(path: Path) -> tuple[int, int]:
    """Returns (mtime, ctime), not of what a link leads to."""
    found = os.lstat(path)
    return found.st_mtime_ns, found.st_ctime_ns


class Moment:
    """A moment: files whose times are older than it are known to be untouched since."""

    def __init__(self, directory: Path) -> None:
        # The local filesystem's clock is coarse: it moves on with the timer, so a thing is touched until it has moved.
        probe = directory / ".moment"
        probe.touch()
        start = probe.stat().st_ctime_ns
        while (now := probe.stat().st_ctime_ns) <= start:
            os.utime(probe)
        probe.unlink()
        self.ns = now

    def touched(self, path: Path) -> str:
        """Returns which times are not older than the moment: "", "m", "c" or "mc"."""
        modified, changed = times(path)
        return ("m" if modified >= self.ns else "") + ("c" if changed >= self.ns else "")


def end_child(pid: int) -> None:
    """Ends a child process and waits for it."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
