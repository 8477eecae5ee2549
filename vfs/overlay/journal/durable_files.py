"""Writing files of the working layer, and the durable steps at which tests fail or stop it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from vfs.model.ids import Buffer

OnStep = Callable[[str], None]
"""Called with a step's name just before that makes something durable; tests raise from it."""


def step(on_step: OnStep | None, name: str) -> None:
    """Calls `on_step`, if there is one, before a durable step."""
    if on_step is not None:
        on_step(name)


def write_all(fd: int, parts: Sequence[Buffer], position: int) -> None:
    """Writes all parts, one after the other, at a position; raises OSError."""
    for part in parts:
        view = memoryview(part)
        while view:
            written = os.pwrite(fd, view, position)
            view = view[written:]
            position += written
