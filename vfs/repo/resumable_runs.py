"""The runs of a bisection or crosscheck, kept in a file: the same command line goes on where it was interrupted.

One line of JSON for each run, appended and made durable when the run has ended: minutes or hours of work, against one
write. A line that a crash cut off is skipped. The file belongs to one question (the versions, the command, what is
bad) and is removed when that is answered.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from vfs.model.decoding import UNDECODABLE
from vfs.model.ids import CommitId, chunk_id
from vfs.repo.paths import bisection
from vfs.repo.repository import Repository
from vfs.repo.trial_verdicts import Run

_UNREADABLE: tuple[type[Exception], ...] = (*UNDECODABLE, ValueError)
_KEY_DIGITS = 16
_LINE_BYTES_MAX = 64 << 20
"""Longest line: of a run that read hundreds of thousands of files."""


class _Line(msgspec.Struct, omit_defaults=True):
    """A run, of a commit (hex)."""

    commit: str
    run: Run


class KeptRuns:
    """The runs of one question, in memory and in the file. One process uses it at a time."""

    def __init__(self, repo: Repository, question: Sequence[str]) -> None:
        key = chunk_id(msgspec.json.encode(list(question))).hex()[:_KEY_DIGITS]
        self._path = bisection(repo.path, key)
        self._runs: dict[CommitId, list[Run]] = {}
        self._read()

    def _read(self) -> None:
        try:
            descriptor = self._path.open(os.O_RDONLY)
        except FileNotFoundError:
            return
        with os.fdopen(descriptor, "rb") as file:
            while line := file.readline(_LINE_BYTES_MAX):
                try:
                    found = msgspec.json.decode(line, type=_Line)
                    commit_id = CommitId(bytes.fromhex(found.commit))
                except _UNREADABLE:
                    continue
                self._runs.setdefault(commit_id, []).append(found.run)

    def of(self, commit_id: CommitId) -> list[Run]:
        """Returns the runs on a commit, in their order."""
        return self._runs.get(commit_id, [])

    @property
    def count(self) -> int:
        """How many runs there are."""
        return sum(map(len, self._runs.values()))

    def add(self, commit_id: CommitId, run: Run) -> None:
        """Keeps a run, durable on return."""
        self._runs.setdefault(commit_id, []).append(run)
        with self._path.parent.opened(create=True, mode=0o700):
            pass
        descriptor = self._path.open(os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # Behind a line that a crash cut off, a new one begins.
            data = b"\n" + msgspec.json.encode(_Line(commit_id.hex(), run)) + b"\n"
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def forget(self) -> None:
        """Removes the file, and what it says."""
        self._path.unlink(missing_ok=True)
        self._runs.clear()
