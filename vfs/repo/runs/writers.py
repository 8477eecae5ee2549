"""Which run wrote a file: by the outputs that records keep, each at its path."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from vfs.errors import VfsError
from vfs.model.names import join_path
from vfs.repo.repository import Repository
from vfs.repo.runs.records import OUTPUTS, RunRef, list_runs
from vfs.store.trees.directories import resolve_path

SEARCHED_MAX = 1000
"""Runs that are looked at, the newest ones."""


class WrittenFile(NamedTuple):
    """A file as it is: its path from the branch's root, and its content id, or empty where that is not known."""

    path: bytes
    size: int
    mtime_ns: int
    content: bytes = b""


def writer_of(repo: Repository, file: WrittenFile) -> RunRef | None:
    """Returns the newest run that wrote a file, None where none is known to.

    It is the content that counts; of an uncommitted file, whose content id is not known, size and time of change.
    """
    for run in islice(list_runs(repo), SEARCHED_MAX):
        try:
            root = repo.store.get_commit(run.commit_id).root
            entry = resolve_path(repo.store, root, join_path(OUTPUTS, file.path)).entry
        except VfsError:
            continue
        is_same = entry.content == file.content if file.content else entry.mtime_ns == file.mtime_ns
        if entry.size == file.size and is_same:
            return run
    return None
