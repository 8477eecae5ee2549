"""The operation log, and the tables that are made of it: made a second time, and compared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vfs.errors import REBUILD_HINT, Corrupt, Notice
from vfs.history.walk import first_parents
from vfs.model.ids import CommitId
from vfs.repo.repository import Repository
from vfs.store.memory_tables import MemoryTables
from vfs.store.refs.ancestry import ANCESTRY, decode_row
from vfs.store.refs.refs import OPERATIONS, REFS_TABLES, Refs

_ATTEMPTS = 10


def check_log(repo: Repository) -> list[Notice]:
    """Checks every line of the log, and every row of the tables against it; returns what is wrong.

    Others may go on: what has moved meanwhile is looked at again. Memory: some 100 bytes for each operation, 300 for
    each commit that ever was a version.
    """
    found: list[Notice] = []
    for _ in range(_ATTEMPTS):
        size = repo.log.size()
        found = _compared(repo)
        if repo.log.size() == size:
            break
    return found


def _compared(repo: Repository) -> list[Notice]:
    tables = MemoryTables({OPERATIONS})
    again = Refs(tables, repo.log, repo.store.get_commit)
    again.follow()
    found = [Notice(f"operation log at byte {damage.offset}: {damage.reason}") for damage in again.damage]
    try:
        repo.refs.follow()
        # The tables may well know what a damaged log has lost.
        if not again.damage:
            found.extend(_compare_tables(repo, tables))
    except Corrupt as error:
        found.append(Notice(error.message, error.hint))
    return found


def _compare_tables(repo: Repository, expected: MemoryTables) -> Iterator[Notice]:
    for table in REFS_TABLES:
        wrong, missing = _ancestry_differences(repo) if table == ANCESTRY else _differing(repo, table, expected)
        words = [f"{wrong} rows"] if wrong else []
        words += [f"{missing} missing"] if missing else []
        if words:
            text = f"the table {table} is not what the operation log leaves: {', '.join(words)}"
            yield Notice(text, REBUILD_HINT)


def _differing(repo: Repository, table: str, expected: MemoryTables) -> tuple[int, int]:
    """Returns how many rows of a table are not as they should be, and how many are missing."""
    wrong = seen = 0
    for key, value in repo.refs.rows(table):
        wanted = expected.get(table, key)
        seen += wanted is not None
        wrong += expected.kept(table, value) != wanted
    return wrong, sum(1 for key, _ in expected.scan(table) if not repo.refs.may_lack(table, key)) - seen


def _ancestry_differences(repo: Repository) -> tuple[int, int]:
    """Does the same for the table of versions, against the commits themselves: a sweep may have taken some since."""
    wrong = 0
    seen: set[bytes] = set()
    for key, value in repo.refs.rows(ANCESTRY):
        seen.add(key)
        commit_id = CommitId(key)
        # What cannot be read is found to be damaged where something needs it.
        with contextlib.suppress(Corrupt):
            if repo.index.has(key):
                commit, row = repo.store.get_commit(commit_id), decode_row(value)
                wrong += (row.number, row.time_ns) != (commit.number, commit.time_ns)
    missing: set[bytes] = set()
    for _, head in repo.refs.list():
        with contextlib.suppress(Corrupt):
            missing.update(version.id for version in first_parents(repo.store, head) if version.id not in seen)
    return wrong, len(missing)
