"""The operation log, and the tables that are made of it: made a second time, and compared."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import NamedTuple

from vfs.errors import REBUILD_HINT, Corrupt, Notice
from vfs.history.walk import first_parents
from vfs.model.ids import CommitId
from vfs.repo.repository import Repository
from vfs.store.memory_tables import MemoryTables
from vfs.store.refs.ancestry import ANCESTRY, decode_row
from vfs.store.refs.refs import OPERATIONS, REFS_TABLES, Refs

_ATTEMPTS = 10

_Row = tuple[str, bytes, bytes | None]
"""Table, key and value of a row that is not what the log leaves; None for one that is missing."""


class _Found(NamedTuple):
    """What is wrong with the log itself, and which rows of the tables differ from it."""

    notices: list[Notice]
    rows: set[_Row]

    def also_in(self, later: _Found) -> _Found:
        """Returns what is wrong in the same way later."""
        return _Found([notice for notice in self.notices if notice in later.notices], self.rows & later.rows)


def check_log(repo: Repository) -> list[Notice]:
    """Checks every line of the log, and every row of the tables against it; returns what is wrong.

    Others may go on: where the log has grown meanwhile, only what is wrong in the same way when all is looked at again
    is returned. Memory: some 100 bytes for each operation, 300 for each commit that ever was a version.
    """
    found: _Found | None = None
    for _ in range(_ATTEMPTS):
        size = repo.log.size()
        now = _compared(repo)
        if repo.log.size() == size:
            return _notices(now)
        # The tables are as new as the log, or newer. What they were ahead of one time, the log has the next time.
        found = found.also_in(now) if found is not None else now
        if not any(found):
            break
    return _notices(found) if found is not None else []


def _notices(found: _Found) -> list[Notice]:
    notices = list(found.notices)
    counts = Counter((table, value is None) for table, _, value in found.rows)
    for table in REFS_TABLES:
        words = [f"{counts[table, False]} rows"] if counts[table, False] else []
        words += [f"{counts[table, True]} missing"] if counts[table, True] else []
        if words:
            text = f"the table {table} is not what the operation log leaves: {', '.join(words)}"
            notices.append(Notice(text, REBUILD_HINT))
    return notices


def _compared(repo: Repository) -> _Found:
    tables = MemoryTables({OPERATIONS})
    again = Refs(tables, repo.log, repo.store.get_commit)
    again.follow()
    found = _Found([Notice(f"operation log at byte {each.offset}: {each.reason}") for each in again.damage], set())
    try:
        repo.refs.follow()
        # The tables may well know what a damaged log has lost.
        if not again.damage:
            for table in REFS_TABLES:
                differing = _ancestry_differences(repo) if table == ANCESTRY else _differing(repo, table, tables)
                found.rows.update(differing)
    except Corrupt as error:
        found.notices.append(Notice(error.message, error.hint))
    return found


def _differing(repo: Repository, table: str, expected: MemoryTables) -> set[_Row]:
    """Returns the rows of a table that are not as they should be, and those that are missing."""
    found: set[_Row] = set()
    seen = 0
    for key, value in repo.refs.rows(table):
        wanted = expected.get(table, key)
        seen += wanted is not None
        if expected.kept(table, value) != wanted:
            found.add((table, key, value))
    wanted_keys = [key for key, _ in expected.scan(table) if not repo.refs.may_lack(table, key)]
    if len(wanted_keys) != seen:
        found.update((table, key, None) for key in wanted_keys if not repo.refs.has_row(table, key))
    return found


def _ancestry_differences(repo: Repository) -> set[_Row]:
    """Does the same for the table of versions, against the commits themselves: a sweep may have taken some since."""
    found: set[_Row] = set()
    seen: set[bytes] = set()
    for key, value in repo.refs.rows(ANCESTRY):
        seen.add(key)
        commit_id = CommitId(key)
        # What cannot be read is found to be damaged where something needs it.
        with contextlib.suppress(Corrupt):
            if repo.index.has(key):
                commit, row = repo.store.get_commit(commit_id), decode_row(value)
                if (row.number, row.time_ns) != (commit.number, commit.time_ns):
                    found.add((ANCESTRY, key, value))
    for _, head in repo.refs.list():
        with contextlib.suppress(Corrupt):
            found.update((ANCESTRY, each.id, None) for each in first_parents(repo.store, head) if each.id not in seen)
    return found
