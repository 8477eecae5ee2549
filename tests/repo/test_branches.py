"""Goal: branches are names that cost nothing, keep their own changes, and are not lost by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.repositories import Repositories
from support.trees import write_file
from vfs.errors import AlreadyExists, Busy, Conflict, InvalidInput, NotFound
from vfs.model.objects import Version
from vfs.repo.branches import (
    Branch,
    create_branch,
    delete_branch,
    list_branches,
    rename_branch,
    set_current_branch,
)
from vfs.repo.commit import commit
from vfs.repo.fsck import fsck
from vfs.repo.import_directory import import_directory
from vfs.repo.protection import protect
from vfs.repo.repository import Repository
from vfs.repo.tags import create_tag, delete_tag
from vfs.store.lmdb_tables import Tables
from vfs.store.packs.index import INDEX_TABLES
from vfs.store.refs.refs import REFS_TABLES, Protected


def write(repo: Repository, branch: str, name: bytes, data: bytes) -> None:
    with repo.open_overlay(branch) as overlay:
        write_file(overlay, name, data)


def grow(repo: Repository, branch: str, name: bytes) -> Version:
    with repo.open_overlay(branch) as overlay:
        write_file(overlay, name, name)
        return commit(repo, overlay, "m", "a").version


def has(repo: Repository, branch: str, name: bytes) -> bool:
    with repo.open_overlay(branch) as overlay:
        return overlay.find(name) is not None


@pytest.fixture
def filled(repo: Repository) -> Repository:
    grow(repo, "main", b"one")
    grow(repo, "main", b"two")
    return repo


def test_a_branch_begins_at_the_given_version_and_diverges(filled: Repository) -> None:
    create_branch(filled, "side", filled.resolve("v1"), author="me")
    assert (has(filled, "side", b"one"), has(filled, "side", b"two")) == (True, False)
    made = grow(filled, "side", b"three")
    assert made.name == "v2"
    assert filled.resolve("v2", "side") == filled.resolve("side") == made
    assert filled.resolve("v2", "main") != made
    assert filled.resolve("v1", "side") == filled.resolve("v1", "main")
    assert not has(filled, "main", b"three")


def test_making_a_branch_writes_one_line_of_the_log_and_nothing_else(filled: Repository) -> None:
    def files() -> set[Path]:
        return {path for path in filled.path.rglob("*") if path.is_file()}

    before, size = files(), filled.log.size()
    for number in range(300):
        create_branch(filled, f"b{number}", filled.resolve("v2"), author="me")
    assert files() == before
    assert filled.log.size() - size < 300 * 400
    assert len(list_branches(filled)) == 301


def test_each_branch_keeps_its_own_uncommitted_changes(filled: Repository, repositories: Repositories) -> None:
    create_branch(filled, "side", filled.resolve("v2"), author="me")
    write(filled, "main", b"mine", b"m")
    write(filled, "side", b"yours", b"y")
    again = repositories.reopen(filled)
    assert (has(again, "main", b"mine"), has(again, "main", b"yours")) == (True, False)
    assert (has(again, "side", b"mine"), has(again, "side", b"yours")) == (False, True)


def test_the_current_branch_is_what_was_chosen_last_and_one_operation(
    filled: Repository, repositories: Repositories
) -> None:
    create_branch(filled, "side", filled.resolve("v1"), author="me")
    assert set_current_branch(filled, "side", author="me")
    assert not set_current_branch(filled, "side", author="me")
    again = repositories.reopen(filled)
    assert again.current_branch == again.branch == "side"
    assert again.head() == again.resolve("v1")
    operation = next(again.refs.operations())
    assert (operation.kind, operation.author) == ("switch", "me")
    assert [(change.old, change.new) for change in operation.settings] == [("", "side")]
    again.refs.rebuild()
    assert again.current_branch == "side"
    with pytest.raises(NotFound):
        set_current_branch(again, "none", author="me")


def test_settings_that_are_not_the_logs_are_damage(filled: Repository, repositories: Repositories) -> None:
    create_branch(filled, "side", filled.resolve("v1"), author="me")
    set_current_branch(filled, "side", author="me")
    assert fsck(filled).is_clean
    filled.close()
    tables = Tables(filled.path / "index", (*INDEX_TABLES, *REFS_TABLES))
    with tables.write() as batch:
        batch.put("refs-meta", b"setting/current", b"main")
    tables.close()
    again = repositories.open(filled.path)
    assert [damage.reason for damage in fsck(again).damage if "refs-meta" in damage.reason]
    again.refs.rebuild()
    assert fsck(again).is_clean


def test_branches_are_listed_with_the_current_one(repo: Repository) -> None:
    assert list_branches(repo) == [Branch("main", None, True, False)]
    made = grow(repo, "main", b"f")
    create_branch(repo, "a", made, author="me")
    protect(repo, "branches/a", author="me")
    assert list_branches(repo) == [Branch("a", made.id, False, True), Branch("main", made.id, True, False)]


def test_names_with_another_meaning_or_another_owner_are_refused(filled: Repository) -> None:
    one = filled.resolve("v1")
    create_tag(filled, "paper", one, author="me")
    for name in ("v3", "latest", "2026-11-01", "deadbeef", "a/b", "..", "inodes", "ü" * 101, "語" * 99):
        with pytest.raises(InvalidInput):
            create_branch(filled, name, one, author="me")
    for name in ("main", "paper"):
        with pytest.raises(AlreadyExists):
            create_branch(filled, name, one, author="me")
    with pytest.raises(NotFound):
        filled.open_overlay("nobody")
    assert not filled.work_path("nobody").exists()


def test_removing_a_branch_takes_its_layer_and_another_of_its_name_begins_anew(filled: Repository) -> None:
    create_branch(filled, "side", filled.resolve("v2"), author="me")
    made = grow(filled, "side", b"three")
    create_tag(filled, "kept", made, author="me")
    assert delete_branch(filled, "side", author="me") == made.id
    assert not filled.work_path("side").exists()
    assert [path.name for path in (filled.path / "work").iterdir()] == ["main"]
    create_branch(filled, "side", filled.resolve("v1"), author="me")
    write(filled, "side", b"four", b"4")
    assert [has(filled, "side", name) for name in (b"one", b"two", b"three", b"four")] == [True, False, False, True]
    assert grow(filled, "side", b"five").name == "v2"


def test_what_would_be_lost_with_a_branch_is_said_and_kept_unless_forced(filled: Repository) -> None:
    create_branch(filled, "side", filled.resolve("v2"), author="me")
    write(filled, "side", b"draft", b"d")
    with pytest.raises(Conflict, match="draft"):
        delete_branch(filled, "side", author="me")
    assert has(filled, "side", b"draft")
    grow(filled, "side", b"three")
    grow(filled, "side", b"four")
    with pytest.raises(Conflict, match="2 versions"):
        delete_branch(filled, "side", author="me")
    was = delete_branch(filled, "side", author="me", force=True)
    assert filled.refs.get("branches/side") is None
    assert filled.resolve(was.hex()).name == "v4"


def test_a_branch_that_another_name_leads_to_is_removed_without_a_question(filled: Repository) -> None:
    create_branch(filled, "side", filled.resolve("v2"), author="me")
    grow(filled, "side", b"three")
    create_branch(filled, "further", filled.resolve("side"), author="me")
    grow(filled, "further", b"four")
    delete_branch(filled, "side", author="me")
    with pytest.raises(Conflict, match="2 versions"):
        delete_branch(filled, "further", author="me")


def test_the_current_branch_and_one_in_use_are_not_removed(filled: Repository) -> None:
    create_branch(filled, "side", filled.resolve("v2"), author="me")
    with pytest.raises(Conflict, match="current"):
        delete_branch(filled, "main", author="me")
    with filled.open_overlay("side"), pytest.raises(Busy):
        delete_branch(filled, "side", author="me", force=True)
    with pytest.raises(NotFound):
        delete_branch(filled, "nobody", author="me")


def test_a_renamed_branch_keeps_its_versions_and_stays_current(filled: Repository) -> None:
    create_branch(filled, "side", filled.resolve("v2"), author="me")
    made = grow(filled, "side", b"three")
    set_current_branch(filled, "side", author="me")
    rename_branch(filled, "side", "labels", author="me")
    assert filled.current_branch == "labels"
    assert filled.head() == made
    assert filled.refs.get("branches/side") is None
    assert has(filled, "labels", b"three")
    write(filled, "labels", b"draft", b"d")
    with pytest.raises(Conflict, match="draft"):
        rename_branch(filled, "labels", "other", author="me")
    with pytest.raises(AlreadyExists):
        rename_branch(filled, "labels", "main", author="me")


def test_a_crash_while_a_branch_is_removed_leaves_nothing_to_its_successor(filled: Repository) -> None:
    create_branch(filled, "side", filled.resolve("v2"), author="me")
    write(filled, "side", b"draft", b"d")
    kept = filled.path / "kept"
    filled.work_path("side").path.rename(kept)
    delete_branch(filled, "side", author="me", force=True)
    # As if the process had died behind the log's line.
    kept.rename(filled.work_path("side").path)
    create_branch(filled, "side", filled.resolve("v1"), author="me")
    assert not has(filled, "side", b"draft")


def test_a_protected_branch_stays_where_it_is(filled: Repository, tmp_path: Path) -> None:
    create_branch(filled, "side", filled.resolve("v2"), author="me")
    assert protect(filled, "branches/side", author="me")
    assert not protect(filled, "branches/side", author="me")
    before = filled.log.size()
    (tmp_path / "data").mkdir()
    with filled.open_overlay("side") as overlay:
        write_file(overlay, b"three", b"3")
        with pytest.raises(Protected, match="side"):
            commit(filled, overlay, "m", "a")
    with pytest.raises(Protected):
        import_directory(filled, tmp_path / "data", "m", "a", branch="side", publish_with=lambda made, _: made)
    with pytest.raises(Protected):
        delete_branch(filled, "side", author="me", force=True)
    with pytest.raises(Protected):
        rename_branch(filled, "side", "other", author="me")
    assert filled.log.size() == before
    assert protect(filled, "branches/side", author="me", on=False)
    assert grow(filled, "side", b"four").name == "v3"


def test_a_protected_tag_stays_where_it_is(filled: Repository) -> None:
    one, two = filled.resolve("v1"), filled.resolve("v2")
    create_tag(filled, "paper", one, author="me")
    protect(filled, "tags/paper", author="me")
    with pytest.raises(Protected):
        create_tag(filled, "paper", two, author="me", replace=True)
    with pytest.raises(Protected):
        delete_tag(filled, "paper", author="me")
    assert filled.resolve("paper") == one
    protect(filled, "tags/paper", author="me", on=False)
    create_tag(filled, "paper", two, author="me", replace=True)
    with pytest.raises(NotFound):
        protect(filled, "tags/none", author="me")
