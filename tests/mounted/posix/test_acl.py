"""POSIX access lists: set, enforced, followed by the mode and following it, inherited. As the local filesystem does."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from support.calls import ALICE, BOB, ROOT, User, answer, in_thread_as_user, outcome, touch
from support.mounts import Mount, mounted

pytestmark = pytest.mark.mount

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
NOBODY = 0xFFFFFFFF
CAROL = User(65531, 65531)
IN_GROUP = User(CAROL.uid, CAROL.gid, (BOB.gid,))


def acl(*entries: tuple[int, int] | tuple[int, int, int]) -> bytes:
    """Returns the value of a list, of (tag, rights) or (tag, rights, id)."""
    whole = ((*entry, NOBODY)[:3] for entry in entries)
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in whole)


PLAIN = acl((USER_OBJ, 6), (GROUP_OBJ, 4), (OTHER, 0))
LISTS = {
    "plain": PLAIN,
    "a user reads": acl((USER_OBJ, 6), (USER, 4, ALICE.uid), (GROUP_OBJ, 0), (MASK, 7), (OTHER, 0)),
    "a user is shut out": acl((USER_OBJ, 6), (USER, 0, ALICE.uid), (GROUP_OBJ, 6), (MASK, 6), (OTHER, 7)),
    "a group writes": acl((USER_OBJ, 7), (GROUP_OBJ, 0), (GROUP, 6, BOB.gid), (MASK, 6), (OTHER, 4)),
    "the mask takes it back": acl((USER_OBJ, 7), (USER, 7, ALICE.uid), (GROUP_OBJ, 7), (MASK, 4), (OTHER, 0)),
    "only a mask": acl((USER_OBJ, 6), (GROUP_OBJ, 6), (MASK, 0), (OTHER, 4)),
}
DEFAULTS = {
    "plain": acl((USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 0)),
    "a group writes": acl((USER_OBJ, 7), (GROUP_OBJ, 5), (GROUP, 7, BOB.gid), (MASK, 7), (OTHER, 0)),
    "others too": acl((USER_OBJ, 6), (USER, 7, ALICE.uid), (GROUP_OBJ, 7), (MASK, 7), (OTHER, 7)),
    "little": acl((USER_OBJ, 4), (GROUP_OBJ, 1), (GROUP, 2, BOB.gid), (MASK, 2), (OTHER, 1)),
}


def facts(path: Path) -> tuple[str, ...]:
    """Returns mode and lists."""
    lists = (answer(partial(os.getxattr, path, name)) for name in (ACCESS, DEFAULT))
    return (stat.filemode(path.stat().st_mode), *lists)


def _rights() -> list[object]:
    rights: list[object] = [os.access("file", flags) for flags in (os.R_OK, os.W_OK, os.X_OK)]
    return [*rights, outcome(lambda: os.close(os.open("file", os.O_RDWR)))]


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("mode", [0o600, 0o777, 0o6755])
def test_a_list_sets_the_mode_and_is_enforced(name: str, mode: int, local: Path, inside: Path) -> None:
    told = []
    for place in (local, inside):
        touch(place / "file", mode, b"data")
        os.chown(place / "file", 1, 1)
        os.chmod(place / "file", mode)
        os.setxattr(place / "file", ACCESS, LISTS[name])
        results: list[object] = [facts(place / "file"), sorted(os.listxattr(place / "file"))]
        results += [in_thread_as_user(user, place, _rights) for user in (ROOT, ALICE, BOB, CAROL, IN_GROUP, User(1, 1))]
        for new in (0o640, 0o4707, 0o070):
            os.chmod(place / "file", new)
            results.append(facts(place / "file"))
            results.append(in_thread_as_user(ALICE, place, partial(os.access, "file", os.W_OK)))
        os.removexattr(place / "file", ACCESS)
        results.append(facts(place / "file"))
        told.append(results)
    assert told[0] == told[1]


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_new_inodes_inherit_default_lists(name: str, umask: int, local: Path, inside: Path) -> None:
    calls: dict[str, Callable[[], object]] = {
        "file": lambda: os.close(os.open("dir/file", os.O_CREAT | os.O_WRONLY, 0o666)),
        "private": lambda: os.close(os.open("dir/private", os.O_CREAT | os.O_WRONLY, 0o600)),
        "program": lambda: os.close(os.open("dir/program", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o755)),
        "sub": lambda: os.mkdir("dir/sub", 0o777),
        "closed": lambda: os.mkdir("dir/closed", 0o2700),
        "below": lambda: os.close(os.open("dir/sub/below", os.O_CREAT | os.O_WRONLY, 0o666)),
        "fifo": lambda: os.mkfifo("dir/fifo", 0o666),
        "node": lambda: os.mknod("dir/node", stat.S_IFREG | 0o664),
    }
    told = []
    for place in (local, inside):
        (place / "dir").mkdir()
        os.chmod(place / "dir", 0o2777)
        os.setxattr(place / "dir", DEFAULT, DEFAULTS[name])
        results = [in_thread_as_user(ALICE, place, call, umask=umask) for call in calls.values()]
        os.symlink("x", place / "dir/link")
        found = {path.name: facts(path) for path in (place / "dir").rglob("*") if not path.is_symlink()}
        told.append((results, found, facts(place / "dir")))
    assert told[0] == told[1]


def test_who_may_set_lists_and_which(local: Path, inside: Path) -> None:
    told = []
    wrong = {
        "no entries": acl(),
        "no others": acl((USER_OBJ, 7), (GROUP_OBJ, 7)),
        "no mask": acl((USER_OBJ, 7), (USER, 7, 1), (GROUP_OBJ, 7), (OTHER, 7)),
        "short": PLAIN[:-1],
        "version": b"\x03" + PLAIN[1:],
        "nothing": b"",
    }
    for place in (local, inside):
        touch(place / "file")
        (place / "dir").mkdir()
        os.chown(place / "file", BOB.uid, BOB.gid)
        results: list[object] = [outcome(partial(os.setxattr, place / "dir", kind, value)) for kind in (ACCESS, DEFAULT)
                   for value in wrong.values()]  # fmt: skip
        results.append(in_thread_as_user(ALICE, place, lambda: os.setxattr("file", ACCESS, PLAIN)))
        results.append(in_thread_as_user(BOB, place, lambda: os.setxattr("file", ACCESS, PLAIN)))
        results.append(outcome(partial(os.setxattr, place / "file", DEFAULT, PLAIN)))
        results.append(outcome(partial(os.removexattr, place / "dir", DEFAULT)))
        results.append(outcome(partial(os.removexattr, place / "dir", ACCESS)))
        results.append(facts(place / "dir"))
        told.append(results)
    assert told[0] == told[1]


def test_lists_last_beyond_remounting_and_hold_in_versions(mount: Mount) -> None:
    mount.end()
    with mounted(mount.repository, mount.path, "allow_other") as first:
        touch(first / "file", 0o600)
        os.setxattr(first / "file", ACCESS, LISTS["a user reads"])
        (first / "dir").mkdir()
        os.setxattr(first / "dir", DEFAULT, DEFAULTS["a group writes"])
        kept = [facts(first / name) for name in ("file", "dir")]
    with mounted(mount.repository, mount.path, "allow_other") as again:
        assert [facts(again / name) for name in ("file", "dir")] == kept
        again.commit()
        version = again / "@v1"
        assert [facts(version / name) for name in ("file", "dir")] == kept
        for place in (again.path, version):
            assert in_thread_as_user(ALICE, place, lambda: os.access("file", os.R_OK)) is True
            assert in_thread_as_user(CAROL, place, lambda: os.access("file", os.R_OK)) is False
        assert outcome(lambda: os.setxattr(version / "file", ACCESS, PLAIN)) == "EROFS"
