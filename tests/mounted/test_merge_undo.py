"""Merging and undoing under a live mount: programs see the result at once, and what they had open goes on."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from support.lines import put
from support.mounts import Mount
from vfs.control.messages import AuthorArgs, Empty, MergeArgs, MergeResult, ProgressUpdate, RestoreArgs, UndoArgs
from vfs.control.services import MERGE, MERGE_ABORT, MERGE_STATUS, RESTORE, UNDO
from vfs.errors import Conflict
from vfs.model.ids import CommitId
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.merge_state import merge_state
from vfs.repo.repository import Repository
from vfs.repo.undo import last_operation

pytestmark = pytest.mark.mount

TEXT = b"one\ntwo\nthree\n"


def with_branch(mount: Mount, files: dict[bytes, bytes | None]) -> CommitId:
    """Makes the branch `exp` with one more version, beside the mount; returns that version's id."""
    with Repository.open(mount.repository) as repo:
        base = repo.head()
        assert base is not None
        create_branch(repo, "exp", base, author="a")
        with repo.open_overlay("exp") as overlay:
            for path, data in files.items():
                put(overlay, path, data)
            return commit(repo, overlay, "theirs", "b").version.id


def merge(mount: Mount, commit_id: CommitId) -> MergeResult:
    updates: list[ProgressUpdate] = []
    result = mount.call(MERGE, MergeArgs("exp", commit_id, "a"), updates.append)
    # It reports progress, as a commit does.
    assert updates
    return result


def undo(mount: Mount) -> None:
    with Repository.open(mount.repository) as repo:
        seq = last_operation(repo).seq
    mount.call(UNDO, UndoArgs(seq, "a"))


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def begin(mount: Mount) -> None:
    (mount / "t").write_bytes(TEXT)
    (mount / "d").mkdir()
    (mount / "d" / "f").write_bytes(b"first" * 1000)
    mount.commit("first")


def test_a_merge_is_seen_at_once_and_its_undo_too(mount: Mount) -> None:
    begin(mount)
    theirs = with_branch(mount, {b"d/f": None, b"d/new": b"n", b"t": TEXT.replace(b"one", b"ONE")})
    (mount / "t").write_bytes(TEXT + b"four\n")
    mount.commit("ours")
    assert names(mount / "d") == {"f"}
    with (mount / "d" / "f").open("rb") as reader:
        assert merge(mount, theirs).id
        assert names(mount / "d") == {"new"}
        assert (mount / "t").read_bytes() == b"ONE\ntwo\nthree\nfour\n"
        assert (mount / "@v3" / "d" / "new").read_bytes() == b"n"
        # What was open before is what it was.
        assert reader.read() == b"first" * 1000
    undo(mount)
    assert names(mount / "d") == {"f"}
    assert (mount / "t").read_bytes() == TEXT + b"four\n"
    assert not (mount / "@v3").exists()
    assert (mount / "d" / "f").read_bytes() == b"first" * 1000


def test_conflicts_are_edited_in_the_mount_and_committed_there(mount: Mount) -> None:
    begin(mount)
    theirs = with_branch(mount, {b"t": TEXT.replace(b"two", b"zwei")})
    (mount / "t").write_bytes(TEXT.replace(b"two", b"deux"))
    mount.commit("ours")
    answer = merge(mount, theirs)
    assert [conflict.path for conflict in answer.left] == [b"t"]
    assert b"<<<<<<< ours" in (mount / "t").read_bytes()
    assert (mount / f"@{theirs.hex()[:8]}" / "t").read_bytes() == TEXT.replace(b"two", b"zwei")
    with pytest.raises(Conflict, match="conflicts are left: t"):
        mount.commit("too early")
    (mount / "t").write_bytes(b"decided\n")
    assert mount.call(MERGE_STATUS, Empty()).left == []
    mount.commit("")
    with Repository.open(mount.repository) as repo:
        head = repo.head()
        assert head is not None
        assert (head.commit.message, head.commit.parents[1]) == ("Merge exp", theirs)
        assert merge_state(repo, "main") is None


def test_an_abandoned_merge_survives_nothing_but_an_undo(mount: Mount) -> None:
    begin(mount)
    theirs = with_branch(mount, {b"t": b"theirs", b"new": b"n"})
    (mount / "t").write_bytes(b"ours")
    mount.commit("ours")
    merge(mount, theirs)
    (mount / "t").write_bytes(b"decided")
    mount.call(MERGE_ABORT, AuthorArgs("a"))
    assert (mount / "t").read_bytes() == b"ours"
    assert not (mount / "new").exists()
    undo(mount)
    assert (mount / "t").read_bytes() == b"decided"
    assert (mount / "new").read_bytes() == b"n"


def test_an_undone_commit_keeps_files_and_numbers_and_writers_continue(mount: Mount) -> None:
    begin(mount)
    path = mount / "d" / "g"
    with path.open("wb", buffering=0) as writer:
        writer.write(b"second")
        number = path.stat().st_ino
        mount.commit("second")
        undo(mount)
        assert (path.read_bytes(), path.stat().st_ino) == (b"second", number)
        assert not (mount / "@v2").exists()
        writer.write(b" and more")
    assert path.read_bytes() == b"second and more"
    assert mount.commit("again").number == 2
    assert (mount / "@v2" / "d" / "g").read_bytes() == b"second and more"


def test_an_undone_restore_restores_the_dropped_changes(mount: Mount) -> None:
    begin(mount)
    (mount / "d" / "f").write_bytes(b"uncommitted")
    (mount / "new").mkdir()
    (mount / "new" / "file").write_bytes(b"x" * 100_000)
    with Repository.open(mount.repository) as repo:
        head = repo.head()
        assert head is not None
    mount.call(RESTORE, RestoreArgs(head.id, discard=True, author="a"))
    assert not (mount / "new").exists()
    undo(mount)
    assert (mount / "d" / "f").read_bytes() == b"uncommitted"
    assert (mount / "new" / "file").read_bytes() == b"x" * 100_000


def test_readers_continue_while_a_branch_is_merged(mount: Mount) -> None:
    begin(mount)
    theirs = with_branch(mount, {b"new/%d" % number: b"%d" % number * 2000 for number in range(300)})
    (mount / "t").write_bytes(TEXT + b"four\n")
    mount.commit("ours")
    done = threading.Event()
    seen: list[bytes] = []

    def read() -> None:
        while not done.is_set():
            seen.append((mount / "d" / "f").read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert merge(mount, theirs).id
    finally:
        done.set()
        reader.join()
    assert set(seen) == {b"first" * 1000}
    assert len(names(mount / "new")) == 300


def test_a_branch_is_merged_in_its_place_below_the_branches(mount: Mount) -> None:
    begin(mount)
    with_branch(mount, {b"d/new": b"n"})
    (mount / "t").write_bytes(TEXT + b"four\n")
    ours = mount.commit("ours")
    place = mount / "@" / "branches" / "exp"
    assert names(place / "d") == {"f", "new"}
    mount.call(MERGE, MergeArgs("main", ours.id, "a"), branch="exp")
    assert (place / "t").read_bytes() == TEXT + b"four\n"
    assert (place / "@v3" / "t").read_bytes() == TEXT + b"four\n"
    assert names(mount / "d") == {"f"}
