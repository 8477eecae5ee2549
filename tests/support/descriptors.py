"""The descriptors that a process has open."""

from __future__ import annotations

import contextlib
import os


def open_paths(process: int | str = "self") -> list[str]:
    """Returns what each open descriptor refers to: a path, or a name like `pipe:[…]`."""
    found = []
    for number in os.listdir(f"/proc/{process}/fd"):
        # The descriptor of this listing itself is closed by now.
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{process}/fd/{number}"))
    return found
