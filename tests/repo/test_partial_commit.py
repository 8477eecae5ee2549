"""Goal: a commit of some paths, or one that leaves ignored files out, takes these and leaves the rest as it was."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.memory import memory_directory
from support.repositories import Repositories
from support.trees import Picture, picture_of_overlay, picture_of_version, write_file
from vfs.errors import NotFound, NothingToDo, VfsError
from vfs.model.names import is_within
from vfs.model.objects import Kind
from vfs.overlay import freezing
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.describe import amend
from vfs.repo.fsck import fsck
from vfs.repo.ignore_rules import Excluded, Rules, rules_of
from vfs.repo.partial_commit import Selection
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import gc
from vfs.repo.status import status_apart
from vfs.repo.undo import last_operation, undo
from vfs.store.trees.directories import resolve_path

NAMES = [b"a", b"b", b"c"]
PATHS = [
    b"/".join((one, two, three)[:depth]) for one in NAMES for two in NAMES for three in NAMES for depth in (1, 2, 3)
]
paths = st.sampled_from(sorted(set(PATHS)))
changes = st.lists(
    st.tuples(st.sampled_from(["write", "write", "append", "remove", "link", "move", "mkdir", "chmod"]), paths, paths),
    max_size=12,
)


def change(overlay: Overlay, what: str, path: bytes, other: bytes) -> None:
    """Changes a working layer where that is possible."""
    with suppress(VfsError, OSError):
        parent, _, name = path.rpartition(b"/")
        if what == "write":
            write_file(overlay, path, path + other)
            return
        above = overlay.find(parent) if parent else None
        parent_ino = above.ino if above is not None else ROOT_INO
        found = overlay.lookup(parent_ino, name)
        if what == "append":
            overlay.write(found.ino, found.size, b"+" * 3000)
        elif what == "remove":
            (overlay.rmdir if found.kind == Kind.DIR else overlay.unlink)(parent_ino, name)
        elif what == "chmod":
            overlay.setattr(found.ino, mode=0o700)
        elif what == "mkdir":
            overlay.mkdir(found.ino, b"a", 0o755, 0, 0)
        else:
            *directories, last = other.split(b"/")
            place = overlay.find(b"/".join(directories)) if directories else None
            place_ino = place.ino if place is not None else ROOT_INO
            if what == "link":
                overlay.link(found.ino, place_ino, last)
            else:
                overlay.rename(parent_ino, name, place_ino, last)


def expected(old: Picture, new: Picture, wanted: Sequence[bytes]) -> Picture | None:
    """Returns what a version has that takes all at some paths; None where directories and files are in each other's
    way."""
    made = {path: data for path, data in old.items() if not any(is_within(path, one) for one in wanted)}
    made.update({path: data for path, data in new.items() if any(is_within(path, one) for one in wanted)})
    for path in list(made):
        for at in (at for at in range(len(path)) if path[at : at + 1] == b"/"):
            if made.setdefault(path[:at], None) is not None or new.get(path[:at]) is not None:
                return None
            if old.get(path[:at]) is not None:
                return None
    return made


@settings(max_examples=120)
@given(changes, changes, st.lists(paths, min_size=1, max_size=3), changes)
def test_a_commit_of_paths_commits_these_and_leaves_the_rest(
    before: list[tuple[str, bytes, bytes]],
    since: list[tuple[str, bytes, bytes]],
    wanted: list[bytes],
    later: list[tuple[str, bytes, bytes]],
) -> None:
    with memory_directory() as directory, Repository.init(directory / "repo") as repo:
        with repo.open_overlay() as overlay:
            for step in before:
                change(overlay, *step)
            first = commit(repo, overlay, "one", "a", allow_empty=True).version
            for step in since:
                change(overlay, *step)
            old, new = picture_of_version(repo.store, first), picture_of_overlay(overlay)
            reference = expected(old, new, wanted)
            try:
                second = commit(repo, overlay, "two", "a", selection=Selection(Rules(), wanted)).version
            except NothingToDo:
                second = first
                assert reference is None or reference == old or first.commit.links
            except NotFound:
                assert not all(path in old or path in new for path in wanted)
                return
            if reference is not None and second is not first:
                assert picture_of_version(repo.store, second) == reference
            assert picture_of_overlay(overlay) == new
            for step in later:
                change(overlay, *step)
            newest = picture_of_overlay(overlay)
        assert fsck(repo, read_data=True).damage == []
        gc(repo, grace_s=0)
        with repo.open_overlay() as overlay:
            assert picture_of_overlay(overlay) == newest
            attributes = {path: overlay.find(path) for path in newest}
            with suppress(NothingToDo):
                third = commit(repo, overlay, "three", "a").version
                assert picture_of_version(repo.store, third) == newest
            assert overlay.is_clean()
            assert {path: found.nlink for path, found in attributes.items() if found and found.kind != Kind.DIR} == {
                path: found.nlink for path in newest if (found := overlay.find(path)) and found.kind != Kind.DIR
            }
        assert fsck(repo, read_data=True).damage == []


def test_ignored_files_stay_uncommitted_and_apart(repositories: Repositories) -> None:
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    write_file(overlay, b"cache/old", b"committed before there were rules")
    commit(repo, overlay, "one", "a")
    write_file(overlay, b".vfsignore", b"cache/\n*.tmp\n")
    write_file(overlay, b"cache/old", b"changed")
    write_file(overlay, b"cache/new", b"x" * 5000)
    write_file(overlay, b"a.tmp", b"y")
    write_file(overlay, b"only/b.tmp", b"z")
    write_file(overlay, b"data", b"d")
    overlay.link(overlay.lookup(ROOT_INO, b"data").ino, ROOT_INO, b"data.tmp")
    apart = {change.path for change, is_ignored in status_apart(overlay) if is_ignored}
    assert apart == {b"cache/new", b"a.tmp", b"only/b.tmp", b"data.tmp"}
    shown = picture_of_overlay(overlay)
    version = commit(repo, overlay, "two", "a").version
    assert sorted(picture_of_version(repo.store, version)) == [
        b".vfsignore",
        b"cache",
        b"cache/old",
        b"data",
        b"only",
    ]
    assert not resolve_path(repo.store, version.commit.root, b"data").entry.linked
    assert version.commit.links == b""
    assert picture_of_overlay(overlay) == shown
    assert overlay.lookup(ROOT_INO, b"data").nlink == 2
    left = {change.path: is_ignored for change, is_ignored in status_apart(overlay)}
    assert left == {
        b"cache/new": True,
        b"a.tmp": True,
        b"only/b.tmp": True,
        b"data.tmp": True,
        b"data": False,
    }, "the file has another link, which a version cannot say without its name"
    overlay.unlink(ROOT_INO, b"data.tmp")
    with pytest.raises(NothingToDo):
        commit(repo, overlay, "three", "a")
    assert amend(repo, overlay, "a", "other words").version.commit.message == "other words"
    named = commit(repo, overlay, "four", "a", selection=Selection(Rules(), [b"a.tmp"])).version
    assert b"a.tmp" in picture_of_version(repo.store, named), "what is named is meant"
    write_file(overlay, b"a.tmp", b"changed")
    changed = commit(repo, overlay, "five", "a").version
    assert picture_of_version(repo.store, changed)[b"a.tmp"] == b"changed"


def test_excludes_hold_for_one_commit(repositories: Repositories) -> None:
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    write_file(overlay, b"a", b"1")
    write_file(overlay, b"b", b"2")
    first = commit(repo, overlay, "one", "a", selection=Selection(rules_of(Excluded([b"b"])))).version
    assert list(picture_of_version(repo.store, first)) == [b"a"]
    second = commit(repo, overlay, "two", "a").version
    assert list(picture_of_version(repo.store, second)) == [b"a", b"b"]


def test_what_was_left_out_survives_undo_and_what_follows(repositories: Repositories) -> None:
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    write_file(overlay, b"a", b"1")
    commit(repo, overlay, "one", "a")
    write_file(overlay, b"b", b"2")
    write_file(overlay, b"c", b"3")
    commit(repo, overlay, "two", "a", selection=Selection(Rules(), [b"b"]))
    shown = picture_of_overlay(overlay)
    undo(repo, overlay, last_operation(repo), "a")
    assert picture_of_overlay(overlay) == shown
    assert {change.path for change, _ in status_apart(overlay)} == {b"b", b"c"}
    undo(repo, overlay, last_operation(repo), "a")
    assert {change.path for change, _ in status_apart(overlay)} == {b"c"}
    assert picture_of_overlay(overlay) == shown


def test_a_new_directory_can_be_committed_without_all_of_it(repositories: Repositories) -> None:
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    for name in (b"new/a/x", b"new/a/y", b"new/b/z", b"top"):
        write_file(overlay, name, name)
    version = commit(repo, overlay, "one", "a", selection=Selection(Rules(), [b"new/a/x"])).version
    assert picture_of_version(repo.store, version) == {b"new": None, b"new/a": None, b"new/a/x": b"new/a/x"}
    with pytest.raises(NotFound, match="nothing has been at"):
        commit(repo, overlay, "two", "a", selection=Selection(Rules(), [b"nowhere"]))
    assert overlay.find(b"new/b/z") is not None
    whole = commit(repo, overlay, "two", "a").version
    assert picture_of_version(repo.store, whole) == picture_of_overlay(overlay)
    overlay.unlink(overlay.lookup(overlay.lookup(ROOT_INO, b"new").ino, b"b").ino, b"z")
    overlay.rmdir(overlay.lookup(ROOT_INO, b"new").ino, b"b")
    overlay.unlink(ROOT_INO, b"top")
    less = commit(repo, overlay, "three", "a", selection=Selection(Rules(), [b"new/b/z"])).version
    assert sorted(picture_of_version(repo.store, less)) == [b"new", b"new/a", b"new/a/x", b"new/a/y", b"new/b", b"top"]


@pytest.mark.parametrize("is_replaced", [False, True])
@pytest.mark.parametrize("ignored", [b"", b"x.tmp"])
def test_a_file_that_was_written_again_as_it_was_is_no_change_after_a_commit(
    repositories: Repositories, is_replaced: bool, ignored: bytes
) -> None:
    """A change and its return within one tick of the clock look like this, and `cp -p` of the same file."""
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    write_file(overlay, b".vfsignore", b"*.tmp\n")

    def write(name: bytes) -> None:
        write_file(overlay, name, b"1" * 5000)
        overlay.setattr(overlay.lookup(ROOT_INO, name).ino, mtime_ns=10**18)

    write(b"a")
    commit(repo, overlay, "one", "a")
    for name in filter(None, (ignored,)):
        write_file(overlay, name, b"2" * 5000)
    if is_replaced:
        write(b"b")
        overlay.rename(ROOT_INO, b"b", ROOT_INO, b"a")
    else:
        write(b"a")
    shown = picture_of_overlay(overlay)
    assert not overlay.is_clean()
    with pytest.raises(NothingToDo):
        commit(repo, overlay, "two", "a")
    assert [change.path for change, _ in status_apart(overlay)] == list(filter(None, (ignored,)))
    gc(repo, grace_s=0)
    overlay.close()
    overlay = repositories.overlay(repo)
    assert overlay.recovery.is_clean
    assert picture_of_overlay(overlay) == shown
    assert [change.path for change, _ in status_apart(overlay)] == list(filter(None, (ignored,)))
    overlay.setattr(ROOT_INO, mode=0o700)
    assert commit(repo, overlay, "two", "a").version.name == "v2"
    assert fsck(repo, read_data=True).damage == []


def test_what_a_commit_of_nothing_leaves_out_outlives_a_failed_step_and_a_sweep(
    repositories: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line of the log names what the layer would stand on, so a sweep removes it before the step is repeated."""
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    for message in ("one", ""):
        write_file(overlay, b"a", b"1" * 5000)
        overlay.setattr(overlay.lookup(ROOT_INO, b"a").ino, mtime_ns=10**18)
        if message:
            commit(repo, overlay, message, "a")
    write_file(overlay, b"rest", b"2" * 5000)
    shown = picture_of_overlay(overlay)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(freezing, "switch_base", full)
        with pytest.raises(NothingToDo):
            commit(repo, overlay, "two", "a", selection=Selection(Rules(), [b"a"]))
    gc(repo, grace_s=0)
    write_file(overlay, b"later", b"3")
    shown[b"later"] = picture_of_overlay(overlay)[b"later"]
    assert {change.path for change, _ in status_apart(overlay)} >= {b"rest", b"later"}
    overlay.close()
    overlay = repositories.overlay(repo)
    assert overlay.recovery.is_clean
    assert picture_of_overlay(overlay) == shown
    commit(repo, overlay, "two", "a")
    assert fsck(repo, read_data=True).damage == []
