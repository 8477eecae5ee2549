"""Goal: commit, status, diff and restore say and do the same about the working layer."""

from __future__ import annotations

import threading

import pytest

from support.repositories import Repositories
from support.sources import Source, Usage
from support.trees import picture_of_overlay, picture_of_version, write_file
from vfs.errors import Conflict, NotFound, NothingToDo
from vfs.model.objects import Commit, Version
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit, move_branch
from vfs.repo.repository import Repository
from vfs.repo.restore import restore
from vfs.repo.stats import stats
from vfs.repo.status import diff_working, status
from vfs.store.object_writer import ObjectWriter


@pytest.fixture
def overlay(repositories: Repositories, repo: Repository) -> Overlay:
    """A working layer over a version with a few files, clean."""
    made = repositories.overlay(repo)
    write_file(made, b"a/one", b"1" * 5000)
    write_file(made, b"a/two", b"2")
    write_file(made, b"b/three", b"3" * 100_000)
    commit(repo, made, "first", "me")
    return made


def change(overlay: Overlay) -> None:
    """Adds, changes and removes one file each."""
    write_file(overlay, b"a/new", b"new")
    write_file(overlay, b"a/two", b"changed")
    b = overlay.lookup(ROOT_INO, b"b").ino
    overlay.unlink(b, b"three")


CHANGES = [(b"a/new", "added"), (b"a/two", "modified"), (b"b/three", "removed")]


def test_a_commit_is_numbered_dated_and_stands_on_its_parent(repo: Repository, overlay: Overlay) -> None:
    first = repo.head()
    assert first is not None
    change(overlay)
    made = commit(repo, overlay, "second", "me <me@here>").version
    assert (made.name, made.commit.parents, made.commit.message) == ("v2", (first.id,), "second")
    assert made.commit.author == "me <me@here>"
    assert made.commit.time_ns >= first.commit.time_ns
    assert picture_of_version(repo.store, made) == picture_of_overlay(overlay)
    assert overlay.is_clean()


def test_a_clock_that_goes_back_does_not_reorder_versions(repo: Repository, overlay: Overlay) -> None:
    head = repo.head()
    assert head is not None
    future = 4_000_000_000 * 10**9
    late = Commit(2, (head.id,), head.commit.root, b"", future, "a", "from a wrong clock")
    with ObjectWriter(repo.store) as writer:
        version = Version(writer.put_commit(late), late)
        writer.flush()
    move_branch(repo, version, head, "commit", "main", None)
    overlay.set_base(version)
    change(overlay)
    assert commit(repo, overlay, "m", "a").version.commit.time_ns == future


def test_nothing_to_commit_is_said_and_an_empty_version_can_be_asked_for(repo: Repository, overlay: Overlay) -> None:
    with pytest.raises(NothingToDo):
        commit(repo, overlay, "m", "a")
    ino = write_file(overlay, b"a/passing", b"x")
    overlay.unlink(overlay.lookup(ROOT_INO, b"a").ino, b"passing")
    overlay.forget(ino)
    assert commit(repo, overlay, "m", "a", allow_empty=True).version.name == "v2"


def test_progress_of_a_commit_moves_within_a_large_file_and_knows_the_bytes(repo: Repository, overlay: Overlay) -> None:
    write_file(overlay, b"large", bytes(range(256)) * 40_000)
    write_file(overlay, b"small", b"s")
    calls: list[tuple[int, int, int | None]] = []
    expected: list[int] = []
    commit(repo, overlay, "m", "a", progress=lambda *at: calls.append(at), expecting=expected.append)
    within = {size for files, size, _ in calls if files == 0}
    assert len(within) > 5
    assert expected == [10_240_001]
    assert calls[-1] == (2, 10_240_001, 2)


def test_status_lists_what_changed_in_the_order_of_names(overlay: Overlay) -> None:
    assert list(status(overlay)) == []
    change(overlay)
    assert [(found.path, found.kind) for found in status(overlay)] == CHANGES


def test_a_diff_with_the_working_layer_is_what_a_commit_would_make(repo: Repository, overlay: Overlay) -> None:
    first = repo.resolve("v1")
    change(overlay)
    found = diff_working(repo, overlay, first)
    assert [(each.path, each.kind) for each in found] == CHANGES
    assert diff_working(repo, overlay, first, b"b")[0].path == b"b/three"
    second = commit(repo, overlay, "m", "a").version
    assert diff_working(repo, overlay, second) == []
    assert [(each.path, each.kind) for each in diff_working(repo, overlay, first)] == CHANGES
    for each in found:
        if each.new is not None:
            assert each.new == Source(repo.store, second).resolve(each.path).entry


def test_writers_continue_while_a_commit_runs_and_a_version_is_one_moment(repo: Repository, overlay: Overlay) -> None:
    change(overlay)
    wanted = picture_of_overlay(overlay)
    later: list[bytes] = []

    def write_more(_files: int, _bytes: int, _total: int | None) -> None:
        name = b"later%d" % len(later)
        later.append(name)
        writer = threading.Thread(target=write_file, args=(overlay, name, b"during the commit"))
        writer.start()
        writer.join(10)
        assert not writer.is_alive(), "a commit holds writers up"

    made = commit(repo, overlay, "m", "a", progress=write_more).version
    assert later
    assert picture_of_version(repo.store, made) == wanted
    assert picture_of_overlay(overlay) == wanted | dict.fromkeys(later, b"during the commit")
    assert {found.path for found in status(overlay)} == set(later)


def test_restore_restores_single_paths_and_removes_new_ones(repo: Repository, overlay: Overlay) -> None:
    change(overlay)
    commit(repo, overlay, "m", "a")
    before = picture_of_overlay(overlay)
    restored = restore(repo, overlay, repo.resolve("v1"), [b"b/three", b"a/new"], author="me")
    assert (restored.restored, restored.removed) == ([b"b/three"], [b"a/new"])
    wanted = before | {b"b/three": b"3" * 100_000}
    del wanted[b"a/new"]
    assert picture_of_overlay(overlay) == wanted
    assert next(repo.refs.operations()).kind == "restore"
    made = commit(repo, overlay, "m", "a").version
    assert picture_of_version(repo.store, made) == wanted


def test_restore_of_everything_gives_the_version_again(repo: Repository, overlay: Overlay) -> None:
    change(overlay)
    commit(repo, overlay, "m", "a")
    first = repo.resolve("v1")
    restore(repo, overlay, first)
    assert picture_of_overlay(overlay) == picture_of_version(repo.store, first)
    made = commit(repo, overlay, "back", "a").version
    assert made.commit.root.content == first.commit.root.content


def test_restore_loses_nothing_unless_asked_to(repo: Repository, overlay: Overlay) -> None:
    first = repo.resolve("v1")
    change(overlay)
    before = picture_of_overlay(overlay)
    for paths in ([b"a/two"], [b"a"], []):
        with pytest.raises(Conflict, match="a/two"):
            restore(repo, overlay, first, paths)
        assert picture_of_overlay(overlay) == before
    restore(repo, overlay, first, [b"a/one"])
    assert picture_of_overlay(overlay) == before
    restore(repo, overlay, first, [b"a/two"], discard=True)
    assert picture_of_overlay(overlay)[b"a/two"] == b"2"
    restore(repo, overlay, first, discard=True)
    assert picture_of_overlay(overlay) == picture_of_version(repo.store, first)


def test_restore_makes_the_directories_that_lead_to_a_path(repo: Repository, overlay: Overlay) -> None:
    a = overlay.lookup(ROOT_INO, b"a").ino
    for name in (b"one", b"two"):
        overlay.unlink(a, name)
    overlay.rmdir(ROOT_INO, b"a")
    commit(repo, overlay, "m", "me")
    restore(repo, overlay, repo.resolve("v1"), [b"a/two"])
    found = picture_of_overlay(overlay)
    assert (found[b"a/two"], b"a/one" in found) == (b"2", False)


def test_restore_of_what_never_was_is_an_error(repo: Repository, overlay: Overlay) -> None:
    with pytest.raises(NotFound):
        restore(repo, overlay, repo.resolve("v1"), [b"a/never"])


def test_places_in_a_version_are_found_listed_and_summed_up(repo: Repository, overlay: Overlay) -> None:
    assert overlay.base is not None
    source = Source(repo.store, overlay.base)
    assert [entry.name for entry in source.list(b"a")] == [b"one", b"two"]
    assert [entry.name for entry in source.list(b"a/one")] == [b"one"]
    assert source.count(b"a") == 2
    assert source.usage(b"") == Usage(3, 105_001)
    assert source.usage(b"a/one") == Usage(1, 5000)
    assert [path for path, _, _ in source.walk(b"b")] == [b"b/three"]
    assert bytes(source.open(b"/a//two").read(0, 10)) == b"2"


def test_statistics_count_versions_and_what_they_share(repo: Repository, overlay: Overlay) -> None:
    change(overlay)
    commit(repo, overlay, "m", "a")
    found = stats(repo)
    assert (found.versions, found.head_files, found.logical_files) == (2, 3, 6)
    assert found.head_bytes == 5000 + 7 + 3
    assert found.logical_bytes == 105_001 + found.head_bytes
    assert found.unique_bytes == 105_000
    assert found.packs == 3
    assert found.stored_bytes < found.unique_bytes
    assert found.compression_ratio > 1
    assert found.index_bytes > 0


def test_statistics_count_the_versions_of_every_branch_once(repo: Repository, overlay: Overlay) -> None:
    create_branch(repo, "side", repo.resolve("v1"), author="a")
    with repo.open_overlay("side") as side:
        change(side)
        commit(repo, side, "m", "a")
    found = stats(repo)
    assert found.versions == 2
    assert found.head_bytes == repo.resolve("v1").commit.root.size
    assert found.logical_bytes == found.head_bytes + repo.resolve("side").commit.root.size


def test_statistics_of_nothing_divide_by_nothing(repo: Repository) -> None:
    found = stats(repo)
    assert (found.versions, found.dedup_ratio, found.saving_ratio) == (0, 1.0, 1.0)
