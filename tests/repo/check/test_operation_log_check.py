"""The comparison of the operation log with its tables, while others move refs."""

from __future__ import annotations

import pytest

from support.repositories import Repositories
from support.trees import write_file
from vfs.repo.check.operation_log_check import check_log
from vfs.repo.commit import commit
from vfs.store.lmdb_tables import Tables
from vfs.store.packs.index import INDEX_TABLES
from vfs.store.refs.refs import REFS_TABLES


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_commit_in_each_look_at_the_log_is_no_damage_and_hides_none(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch, is_damaged: bool
) -> None:
    path = repositories.make().path
    repositories.close()
    if is_damaged:
        tables = Tables(path / "index", (*INDEX_TABLES, *REFS_TABLES))
        with tables.write() as batch:
            batch.put("refs-meta", b"setting/none", b"of the log's")
        tables.close()
    repo = repositories.open(path)
    overlay = repositories.overlay(repo)
    write_file(overlay, b"file", b"")
    follow = repo.refs.follow
    commits = 0

    def commit_and_follow() -> int:
        nonlocal commits
        monkeypatch.undo()
        commits += 1
        write_file(overlay, b"file", b"%d" % commits)
        commit(repo, overlay, "in the middle", "a")
        monkeypatch.setattr(repo.refs, "follow", commit_and_follow)
        return follow()

    monkeypatch.setattr(repo.refs, "follow", commit_and_follow)
    reasons = [notice.text for notice in check_log(repo)]
    monkeypatch.undo()
    assert commits > 1
    assert reasons == (["the table refs-meta is not what the operation log leaves: 1 rows"] if is_damaged else [])
    if is_damaged:
        repo.refs.rebuild()
