"""The error for text that is not of its grammar."""

from __future__ import annotations


class IllFormed(ValueError):
    """A line is not what its grammar allows. `line` counts from 1; `reason` follows the words "line N"."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line} {reason}")
        self.line = line
        self.reason = reason
