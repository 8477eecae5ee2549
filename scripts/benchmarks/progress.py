"""The progress line: the running part, the time it has taken, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping


class Progress:
    """Follows a run through its parts; `expected` says how many seconds each will take."""

    def __init__(self, expected: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = dict(expected)
        self._started = self._since = clock()
        self._part = ""

    def begin(self, part: str) -> None:
        """A part begins."""
        self._part, self._since = part, self._clock()

    def end(self) -> float:
        """The part has ended; returns the seconds it took."""
        self._left.pop(self._part, None)
        self._part, since = "", self._since
        return self._clock() - since

    def left(self) -> float:
        """Returns how many seconds are left, as far as is known."""
        elapsed = self._clock() - self._since
        return sum(max(0.0, each - elapsed) if part == self._part else each for part, each in self._left.items())

    def line(self, words: str) -> str:
        """Returns the line that says what runs now."""
        elapsed = self._clock() - self._started
        name = f"{self._part}: " if self._part else ""
        return f"{_clock_face(elapsed)} elapsed, about {_clock_face(self.left())} left  {name}{words}"

    def say(self, words: str) -> None:
        """Prints it."""
        print(time.strftime("%H:%M:%S"), self.line(words), file=sys.stderr, flush=True)


def _clock_face(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
