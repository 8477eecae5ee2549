"""Writing files of the working layer, and the steps that tests stop at."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from vfs.model.ids import Buffer

OnStep = Callable[[str], None]
"""Called with a step's name just before it makes something durable; tests raise from it."""


def step(on_step: OnStep | None, name: str) -> None:
    """Tells of a durable step."""
    if on_step is not None:
        on_step(name)


def write_all(fd: int, parts: Sequence[Buffer], position: int) -> None:
    """Writes all of some parts, one behind the other."""
    for part in parts:
        view = memoryview(part)
        while view:
            written = os.pwrite(fd, view, position)
            view = view[written:]
            position += written
