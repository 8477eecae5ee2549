"""Goal: undo gives refs and the working layer back as they were before the last operation, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.lines import TEXT, Lines
from support.repositories import Repositories
from support.trees import Picture, picture_of_overlay, write_file
from vfs.errors import Conflict
from vfs.model.objects import Version
from vfs.repo.branches import create_branch, delete_branch, rename_branch, set_current_branch
from vfs.repo.commit import commit, publish, put_commit
from vfs.repo.merge import abort_merge
from vfs.repo.merge_conflicts import unresolved
from vfs.repo.merge_state import merge_state
from vfs.repo.repository import Repository
from vfs.repo.restore import restore
from vfs.repo.tags import create_tag, delete_tag
from vfs.repo.undo import Undone, last_operation, layer_of, undo
from vfs.store.object_writer import ObjectWriter
from vfs.store.refs.operation import commits_of
from vfs.store.refs.operation_args import encode_args


class Undoing(Lines):
    """Two lines of versions whose operations are undone."""

    def undo(self) -> Undone:
        operation = last_operation(self.repo)
        branch = layer_of(operation)
        assert branch in (None, "main")
        return undo(self.repo, self.overlay if branch is not None else None, operation, "u")

    def everything(self) -> tuple[dict[str, bytes], dict[str, str], Picture, list[tuple[bytes, str]]]:
        """Refs, settings, files and what of them is not committed."""
        changes = [(change.path, str(change.kind)) for change in self.overlay.changes()]
        refs, settings = dict(self.repo.refs.list()), dict(self.repo.refs.settings())
        return dict(refs), settings, picture_of_overlay(self.overlay), changes


@pytest.fixture
def lines(repositories: Repositories) -> Undoing:
    return Undoing(repositories)


def test_an_undone_commit_leaves_its_files_as_changes(lines: Undoing) -> None:
    before = lines.everything()
    lines.change({b"t": b"changed", b"new/n": b"n" * 5000, b"gone": None})
    uncommitted = lines.everything()
    version = commit(lines.repo, lines.overlay, "ours", "a").version
    committed = lines.everything()
    assert lines.undo().undone.kind == "commit"
    assert lines.everything() == uncommitted
    assert lines.repo.head() == lines.base
    lines.reopen()
    assert lines.everything() == uncommitted
    # Undoing that does it again.
    lines.undo()
    assert lines.everything() == committed
    assert lines.repo.head() == version
    lines.undo()
    restore(lines.repo, lines.overlay, lines.base, discard=True)
    assert lines.everything() == before


def test_what_was_written_after_a_commit_stays_when_it_is_undone(lines: Undoing) -> None:
    lines.change({b"t": b"committed"})
    commit(lines.repo, lines.overlay, "ours", "a")
    lines.change({b"d/y": b"later"})
    picture = picture_of_overlay(lines.overlay)
    lines.undo()
    assert picture_of_overlay(lines.overlay) == picture
    assert [change.path for change in lines.overlay.changes()] == [b"d/y", b"t"]
    again = commit(lines.repo, lines.overlay, "both", "a").version
    assert (again.commit.number, again.commit.parents) == (2, (lines.base.id,))


def test_the_first_commit_can_be_undone(repositories: Repositories) -> None:
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    write_file(overlay, b"d/f", b"first")
    before = picture_of_overlay(overlay)
    first = commit(repo, overlay, "first", "a").version
    undo(repo, overlay, last_operation(repo), "u")
    assert repo.head() is None
    assert picture_of_overlay(overlay) == before
    overlay.close()
    repo = repositories.reopen(repo)
    overlay = repositories.overlay(repo)
    assert picture_of_overlay(overlay) == before
    assert commit(repo, overlay, "again", "a").version.commit.root == first.commit.root


def test_an_undone_restore_restores_the_changes_that_it_dropped(lines: Undoing) -> None:
    lines.on_main({b"d/y": b"second"})
    lines.change({b"t": b"uncommitted", b"new": b"n" * 9000})
    before = lines.everything()
    restore(lines.repo, lines.overlay, lines.base, discard=True)
    restored = lines.everything()
    lines.undo()
    assert lines.everything() == before
    lines.undo()
    assert lines.everything() == restored
    lines.undo()
    lines.reopen()
    assert lines.everything() == before


def test_an_undone_restore_of_a_path_in_a_clean_layer_leaves_it_clean(lines: Undoing) -> None:
    lines.on_main({b"t": b"second"})
    before = lines.everything()
    restore(lines.repo, lines.overlay, lines.base, [b"t"])
    lines.undo()
    assert lines.everything() == before
    assert lines.overlay.is_clean()


def test_undo_refuses_to_lose_what_was_changed_since(lines: Undoing) -> None:
    lines.on_main({b"t": b"second"})
    restore(lines.repo, lines.overlay, lines.base, [b"t"])
    write_file(lines.overlay, b"later", b"l")
    before = lines.everything()
    with pytest.raises(Conflict, match="made since would be lost: later"):
        lines.undo()
    assert lines.everything() == before


def test_an_undone_merge_or_import_leaves_nothing_of_it(lines: Undoing) -> None:
    lines.on_exp({b"new": b"n"})
    lines.on_main({b"t": b"ours"})
    before = lines.everything()
    lines.merge()
    merged = lines.everything()
    lines.undo()
    assert lines.everything() == before
    lines.undo()
    assert lines.everything() == merged
    lines.undo()
    write_file(lines.overlay, b"later", b"l")
    with pytest.raises(Conflict, match="made since would be lost: later"):
        lines.undo()


def test_an_undone_merge_that_had_conflicts_is_unfinished_again(lines: Undoing) -> None:
    lines.on_exp({b"t": TEXT.replace(b"two", b"zwei")})
    lines.on_main({b"t": TEXT.replace(b"two", b"deux")})
    before = lines.everything()
    lines.merge()
    begun = lines.everything()
    lines.undo()
    assert lines.everything() == before
    assert merge_state(lines.repo, "main") is None
    lines.undo()
    assert lines.everything() == begun
    state = merge_state(lines.repo, "main")
    assert state is not None
    assert [conflict.path for conflict in unresolved(lines.overlay, state)] == [b"t"]
    write_file(lines.overlay, b"t", b"decided")
    with pytest.raises(Conflict, match="would be lost: t"):
        lines.undo()
    version = commit(lines.repo, lines.overlay, "", "a").version
    lines.undo()
    assert picture_of_overlay(lines.overlay)[b"t"] == b"decided"
    again = commit(lines.repo, lines.overlay, "", "a").version
    assert (again.commit.parents, again.commit.root) == (version.commit.parents, version.commit.root)


def test_an_abandoned_merge_comes_back_with_what_was_decided(lines: Undoing) -> None:
    lines.on_exp({b"t": TEXT.replace(b"two", b"zwei")})
    lines.on_main({b"t": TEXT.replace(b"two", b"deux")})
    lines.merge()
    write_file(lines.overlay, b"t", b"decided")
    before = lines.everything()
    abort_merge(lines.repo, lines.overlay, "a")
    lines.undo()
    assert lines.everything() == before
    assert merge_state(lines.repo, "main") is not None


def _tag(repo: Repository, version: Version) -> None:
    create_tag(repo, "t", version, author="a")


def _untag(repo: Repository, version: Version) -> None:
    delete_tag(repo, "old", author="a")


def _branch(repo: Repository, version: Version) -> None:
    create_branch(repo, "fresh", version, author="a")


def _unbranch(repo: Repository, version: Version) -> None:
    delete_branch(repo, "exp", author="a")


def _rename(repo: Repository, version: Version) -> None:
    rename_branch(repo, "exp", "renamed", author="a")


def _switch(repo: Repository, version: Version) -> None:
    set_current_branch(repo, "exp", author="a")


@pytest.mark.parametrize("act", [_tag, _untag, _branch, _unbranch, _rename, _switch])
def test_what_moved_refs_and_settings_alone_is_undone_and_done_again(
    lines: Undoing, act: Callable[[Repository, Version], None]
) -> None:
    create_tag(lines.repo, "old", lines.base, author="a")
    before = lines.everything()
    act(lines.repo, lines.base)
    done = lines.everything()
    assert done != before
    assert encode_args(lines.undo().by.args)["what"] == encode_args(last_operation(lines.repo).args)["what"]
    assert lines.everything() == before
    lines.undo()
    assert lines.everything() == done


def test_a_new_branch_with_changes_does_not_go(lines: Undoing) -> None:
    create_branch(lines.repo, "fresh", lines.base, author="a")
    with lines.repo.open_overlay("fresh") as overlay:
        write_file(overlay, b"f", b"1")
    with pytest.raises(Conflict, match="uncommitted changes"):
        lines.undo()


def test_undo_says_when_there_is_nothing_or_another_operation_came_meanwhile(
    lines: Undoing, repositories: Repositories
) -> None:
    with pytest.raises(Conflict, match="nothing to undo"):
        last_operation(repositories.make("other"))
    lines.on_main({b"t": b"second"})
    seen = last_operation(lines.repo)
    create_tag(lines.repo, "t", lines.base, author="a")
    with pytest.raises(Conflict, match="came meanwhile"):
        undo(lines.repo, lines.overlay, seen, "u")


def test_the_commits_that_an_undo_needs_are_named_by_the_operation(lines: Undoing) -> None:
    lines.change({b"t": b"uncommitted"})
    restore(lines.repo, lines.overlay, lines.base, discard=True)
    named = set(commits_of(last_operation(lines.repo)))
    assert len(named) == 2
    kept = [lines.repo.store.get_commit(commit_id) for commit_id in named - {lines.base.id}]
    assert [commit.parents for commit in kept] == [(lines.base.id,)]


def test_a_publication_that_is_undone_needs_a_clean_layer(lines: Undoing) -> None:
    with ObjectWriter(lines.repo.store) as writer:
        version = put_commit(writer, lines.base, lines.base.commit.root, b"", "import", "a")
        writer.flush()
    before = lines.everything()
    publish(lines.repo, lines.overlay, version.id, lines.base.id)
    lines.undo()
    assert lines.everything() == before
