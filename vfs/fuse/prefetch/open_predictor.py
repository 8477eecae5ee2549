"""Whether a program will open a file that it looks up, or only stat it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

_LOOKED_UP_MAX = 16
"""Files that were looked up and may yet be opened: more than programs usually read at the same time."""
CONFIDENCE_MIN, _CONFIDENCE_MAX = 4, 8
"""Opens after a lookup minus lookups without an open: the least to predict an open, and the most that is counted."""


class OpenPredictor(Protocol):
    """Predicts opens from those before; the native session layer has one too (`first_reads.c`)."""

    def looked_up(self, ino: int) -> bool:
        """Records a lookup. Returns True if the file will probably be opened at once."""
        ...

    def opened(self, ino: int) -> None:
        """Records an open."""
        ...


class ConfidencePredictor:
    """Predicts an open if more files that were looked up were opened lately than were not."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._confidence = 0

    def looked_up(self, ino: int) -> bool:
        """Records a lookup. Returns True if the file will probably be opened at once."""
        self._waiting[ino] = None
        if len(self._waiting) > _LOOKED_UP_MAX:
            self._waiting.popitem(last=False)
            self._confidence = max(0, self._confidence - 1)
        return self._confidence >= CONFIDENCE_MIN

    def opened(self, ino: int) -> None:
        """Records an open."""
        if ino in self._waiting:
            del self._waiting[ino]
            self._confidence = min(_CONFIDENCE_MAX, self._confidence + 1)
