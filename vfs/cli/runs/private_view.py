"""A view of its own for one program: a mount's path shows one version there and the live mount elsewhere.

See vfs/control/pinned_view.py.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from vfs.control import pinned_view


@dataclass(frozen=True, slots=True)
class Pin:
    """What is shown in a view: the directory `version` in the place of `mount`; `cwd` is entered again.

    `scratch`: a directory that takes what is written over the version; empty: nothing can be written.
    """

    mount: str
    version: str
    cwd: str
    scratch: str = ""


def written_directory(pin: Pin) -> str:
    """Returns the directory that has what was written over a version."""
    return os.path.join(pin.scratch, pinned_view.WRITTEN)


def enter(pin: Pin) -> None:
    """Gives this process, which has one thread, the view. Raises OSError."""
    scratch = os.fsencode(pin.scratch)
    pinned_view.enter(os.fsencode(pin.mount), os.fsencode(pin.version), os.fsencode(pin.cwd), scratch)


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
