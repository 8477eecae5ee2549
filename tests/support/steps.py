"""Durable steps that fail, at the n-th from a moment on and at every later one, or before which something happens."""

from __future__ import annotations

from collections.abc import Callable


class Steps:
    """Counts durable steps from when it is armed, and raises at one of them and at every later one."""

    def __init__(self, error: Callable[[str], BaseException]) -> None:
        self._error = error
        self._left: int | None = None
        self.stopped_at = ""

    def arm(self, steps: int) -> None:
        """Lets this many steps pass."""
        self._left = steps

    def disarm(self) -> None:
        """Lets all steps pass again."""
        self._left = None

    def __call__(self, name: str) -> None:
        if self._left is None:
            return
        if self._left == 0:
            self.stopped_at = self.stopped_at or name
            raise self._error(name)
        self._left -= 1


class AtStep:
    """Does something once, just before the first step whose name begins in a certain way."""

    def __init__(self) -> None:
        self._prefix = ""
        self._work: Callable[[], object] | None = None

    def do(self, prefix: str, work: Callable[[], object]) -> None:
        """Sets what to do next."""
        self._prefix, self._work = prefix, work

    @property
    def is_done(self) -> bool:
        """True if there was such a step."""
        return self._work is None

    def __call__(self, name: str) -> None:
        work = self._work
        if work is not None and name.startswith(self._prefix):
            self._work = None
            work()
