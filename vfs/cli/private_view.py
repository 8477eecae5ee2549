"""A view of its own for one program: a mount's path shows one version there and the live mount elsewhere.

Root needs a mount namespace; others a user namespace around it, in which their ids stay what they are and from which
no capability is left once the program is executed.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass

_NEWNS = 0x00020000
_NEWUSER = 0x10000000
_BIND = 4096
_RECURSIVE = 16384
_SLAVE = 1 << 19


@dataclass(frozen=True, slots=True)
class Pin:
    """What is shown in a view: the directory `version` in the place of `mount`; `cwd` is entered again."""

    mount: str
    version: str
    cwd: str


def enter(pin: Pin) -> None:
    """Gives this process, which has one thread, the view. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(_NEWNS) != 0:
        _check(libc.unshare(_NEWNS | _NEWUSER), "a mount namespace")
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    # What is unmounted outside is unmounted here too, and nothing of this is seen outside.
    _check(libc.mount(None, b"/", None, _SLAVE | _RECURSIVE, None), "/")
    source, target = os.fsencode(pin.version), os.fsencode(pin.mount)
    _check(libc.mount(source, target, None, _BIND | _RECURSIVE, None), pin.version)
    os.chdir(pin.cwd)


def objection(pin: Pin) -> str:
    """Returns why a view cannot be had here, empty if it can; tries it in a child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.close(reading)
            try:
                enter(pin)
            except OSError as error:
                os.write(writing, f"{error.strerror}: {error.filename}".encode())
            except BaseException as error:  # noqa: BLE001 - the child ends here
                os.write(writing, str(error).encode() or b"?")
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        reason = file.read().decode("utf-8", "replace")
    os.waitpid(child, 0)
    return reason


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
