"""The clock of file times: the kernel's own, so that its times and those of the overlay are in order."""

from __future__ import annotations

import time

_CLOCK_REALTIME_COARSE = 5  # Linux's number of the clock; Python has no name for it.


def kernel_time_ns() -> int:
    """Returns the time of the kernel's coarse clock, which the kernel itself uses for file times.

    The kernel also sends times to a mount (`touch`): with a finer clock an earlier write would seem newer than those.
    """
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
