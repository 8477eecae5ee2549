"""The descriptors that a process has open."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator


def open_paths(process: int | str = "self") -> list[str]:
    """Returns what each open descriptor refers to: a path, or a name like `pipe:[…]`."""
    found = []
    for number in os.listdir(f"/proc/{process}/fd"):
        # The descriptor of this listing itself is closed by now.
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{process}/fd/{number}"))
    return found


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Leaves this process `count` descriptors to open anything with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 20, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for descriptor in taken[len(taken) - count :]:
            os.close(descriptor)
        del taken[len(taken) - count :]
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
