"""What this machine has for mounts: found out by trying, not by names and versions.

A FUSE connection is made on a directory of its own and ended again, to see that this user may and what the kernel
offers.
"""

from __future__ import annotations

import array
import ctypes
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from vfs.native.session import LIBRARY, SWITCH, ZSTD, can_decompress, load

State = Literal["ok", "missing", "optional"]

EXTRAS = {
    "mount": (("pyfuse3", "trio"), "`vfs mount`"),
    "ui": (("jinja2", "starlette", "uvicorn"), "`vfs ui`"),
    "tables": (("duckdb",), "rows and cells in `vfs diff`, `vfs blame` and the page"),
    "images": (("PIL",), "pictures in `vfs diff` and the page"),
    "remote": (("obstore",), "remotes in object storage"),
    "fsspec": (("fsspec",), "vfs:// addresses in pandas and others"),
}
"""The extras of the package: the modules of each, and what it is for."""

_DEVICE = "/dev/fuse"
_CONFIG = "/etc/fuse.conf"
_MESSAGE_BYTES = 1 << 20
_INIT = struct.Struct("<40xIIII")
"""The kernel's first message: behind its head the protocol's version, two numbers, the read-ahead and the flags."""
_MNT_DETACH = 2
_MS_NOSUID, _MS_NODEV = 2, 4
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_FLAGS = {30: "second word of flags", 21: "posix access lists", 28: "privileges removed on write"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `state`: `missing`: mounts need it; `optional`: something else does.

    `advice`: what to do about it, empty where nothing is to be done.
    """

    name: str
    state: State
    text: str
    advice: str = ""


def findings() -> Iterator[Finding]:
    """Yields what was found, the more basic first."""
    yield Finding("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")
    yield Finding("kernel", "ok", f"{os.uname().sysname} {os.uname().release}, {os.uname().machine}")
    yield from _extras()
    yield _native()
    yield _device()
    yield _fusermount()
    yield _connection()
    yield _others()
    yield _namespaces()
    yield _compiler()


def _extras() -> Iterator[Finding]:
    for extra, (modules, purpose) in EXTRAS.items():
        absent = [name for name in modules if importlib.util.find_spec(name) is None]
        if absent:
            state: State = "missing" if extra == "mount" else "optional"
            text = f"not installed ({', '.join(absent)}): no {purpose}"
            yield Finding(f"[{extra}]", state, text, f"pip install 'vfs-versions[{extra}]'")
        else:
            yield Finding(f"[{extra}]", "ok", f"{', '.join(map(_release, modules))}: {purpose}")


def _release(module: str) -> str:
    names = importlib.metadata.packages_distributions().get(module, [])
    return f"{module} {importlib.metadata.version(names[0])}" if names else module


def _native() -> Finding:
    if os.environ.get(SWITCH) == "0":
        return Finding("native layer", "optional", f"switched off by {SWITCH}=0", f"Unset {SWITCH}: opens are faster.")
    if not LIBRARY.exists():
        advice = "Install a wheel for this platform, or build the package where a C compiler is."
        return Finding("native layer", "optional", "not in this installation: opens are slower", advice)
    if load() is None:
        return Finding("native layer", "optional", "does not load: opens are slower", f"See what `ldd {LIBRARY}` says.")
    if not can_decompress():
        text = f"loads, but not {ZSTD}: what is compressed is read by Python"
        return Finding("native layer", "optional", text, "Install zstd's library (`apt install libzstd1`).")
    return Finding("native layer", "ok", "loads: versions' files are opened and read without Python")


def _device() -> Finding:
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        advice = "Load the module (`modprobe fuse`); give a container the device (`--device /dev/fuse`)."
        return Finding(_DEVICE, "missing", "there is no such device", advice)
    except PermissionError:
        advice = f"chmod 666 {_DEVICE}; a container's rules for devices may refuse it too (`--device {_DEVICE}`)."
        return Finding(_DEVICE, "missing", "this user may not open it", advice)
    except OSError as error:
        return Finding(_DEVICE, "missing", f"does not open: {error.strerror}", "Load the module: `modprobe fuse`.")
    return Finding(_DEVICE, "ok", "opens")


def _fusermount() -> Finding:
    path = shutil.which("fusermount3")
    is_root = os.geteuid() == 0
    if path is None:
        text = "not installed" + (": root mounts without it" if is_root else ": only root may mount without it")
        return Finding("fusermount3", "optional" if is_root else "missing", text, "Install the package fuse3.")
    if not is_root and not (os.stat(path).st_mode & 0o4000 and os.stat(path).st_uid == 0):
        return Finding("fusermount3", "missing", f"{path} is not set-user-id root", f"As root: chmod u+s {path}")
    return Finding("fusermount3", "ok", path)


def _connection() -> Finding:
    """Makes a connection, reads the kernel's offer and ends it."""
    if not os.path.exists(_DEVICE):
        return Finding("a mount", "missing", "not tried: there is no device", "See above.")
    with tempfile.TemporaryDirectory(prefix="vfs-doctor-") as place:
        connection, reason = _mount_as_root(place) if os.geteuid() == 0 else _mount_by_fusermount(place)
        if connection < 0:
            advice = (
                "In a container, give it the right to mount (`--cap-add SYS_ADMIN --device /dev/fuse`, and a security "
                "profile that allows mount), or mount outside and bind the mount into it."
            )
            return Finding("a mount", "missing", f"was refused: {reason}", advice)
        try:
            message = os.read(connection, _MESSAGE_BYTES)
        finally:
            os.close(connection)
            _unmount(place)
    major, minor, read_ahead, flags = _INIT.unpack_from(message)
    names = [name for bit, name in _FLAGS.items() if flags & 1 << bit]
    text = f"made and ended; protocol {major}.{minor}, read-ahead {read_ahead // 1024} KiB, {', '.join(names)}"
    return Finding("a mount", "ok", text)


def _mount_as_root(place: str) -> tuple[int, str]:
    connection = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    library = ctypes.CDLL(None, use_errno=True)
    data = f"fd={connection},rootmode=40000,user_id=0,group_id=0".encode()
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV)
    if library.mount(b"vfs-doctor", os.fsencode(place), b"fuse", flags, data):
        reason = os.strerror(ctypes.get_errno())
        os.close(connection)
        return -1, reason
    return connection, ""


def _mount_by_fusermount(place: str) -> tuple[int, str]:
    """Mounts as libfuse does: the helper sends the connection's descriptor through a socket."""
    helper = shutil.which("fusermount3")
    if helper is None:
        return -1, "fusermount3 is not installed"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        done = subprocess.run(
            [helper, "--", place],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=(theirs.fileno(),),
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        theirs.close()
        if done.returncode:
            return -1, done.stderr.strip() or f"fusermount3 ended with {done.returncode}"
        descriptors = array.array("i")
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(descriptors.itemsize))
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[: descriptors.itemsize])
        return (descriptors[0], "") if descriptors else (-1, "fusermount3 sent no connection")


def _unmount(place: str) -> None:
    if os.geteuid() == 0:
        ctypes.CDLL(None).umount2(os.fsencode(place), _MNT_DETACH)
    else:
        subprocess.run(["fusermount3", "-u", "-z", "--", place], check=False, capture_output=True)


def _others() -> Finding:
    if os.geteuid() == 0:
        return Finding("--allow-other", "ok", "root may let other users into mounts")
    try:
        with open(_CONFIG, encoding="utf-8", errors="replace") as file:
            words = {line.strip() for line in file}
    except OSError:
        words = set()
    if "user_allow_other" in words:
        return Finding("--allow-other", "ok", f"{_CONFIG} has user_allow_other")
    advice = f"As root: echo user_allow_other >> {_CONFIG}"
    return Finding("--allow-other", "optional", "only root may let other users into a mount", advice)


def _namespaces() -> Finding:
    flags = _CLONE_NEWNS if os.geteuid() == 0 else _CLONE_NEWNS | _CLONE_NEWUSER
    if _in_child(lambda: ctypes.CDLL(None).unshare(flags) == 0):
        return Finding("pinned views", "ok", "mount namespaces can be made: `vfs run --at` shows a version at its path")
    advice = "Allow them (`sysctl kernel.unprivileged_userns_clone=1`, AppArmor's and the container's profile)."
    return Finding("pinned views", "optional", "namespaces are refused: versions are shown at another path", advice)


def _in_child(question: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        answer = 1
        try:
            answer = 0 if question() else 1
        finally:
            os._exit(answer)
    return os.waitpid(child, 0)[1] == 0


def _compiler() -> Finding:
    found = next(filter(None, map(shutil.which, ("gcc", "cc", "clang"))), None)
    text = f"{found}; only building from source needs one" if found else "none; wheels need none"
    return Finding("C compiler", "ok", text)
