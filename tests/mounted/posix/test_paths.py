"""What every system call says of paths that lead nowhere, are too long, go in circles or are in a version."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from support.calls import ALICE, DONE, answer, in_thread_as_user, outcome, touch
from support.mounts import Mount

pytestmark = pytest.mark.mount

Call = Callable[[str], object]


def _open(flags: int) -> Call:
    return lambda path: os.close(os.open(path, flags, 0o644))


# What needs something at the path, and follows a link there.
FOLLOWING: dict[str, Call] = {
    "open": _open(os.O_RDONLY),
    "open to write": _open(os.O_WRONLY),
    "open to cut": _open(os.O_WRONLY | os.O_TRUNC),
    "stat": os.stat,
    "statvfs": os.statvfs,
    "chmod": lambda path: os.chmod(path, 0o700),
    "chown": lambda path: os.chown(path, 1, 1),
    "truncate": lambda path: os.truncate(path, 1),
    "utime": os.utime,
    "setxattr": lambda path: os.setxattr(path, "user.key", b"value"),
    "getxattr": lambda path: os.getxattr(path, "user.key"),
    "listxattr": os.listxattr,
    "removexattr": lambda path: os.removexattr(path, "user.key"),
    "listdir": os.listdir,
}
# What needs something there and takes a link for itself.
NOT_FOLLOWING: dict[str, Call] = {
    "lstat": os.lstat,
    "readlink": os.readlink,
    "lchown": lambda path: os.lchown(path, 1, 1),
    "lutime": lambda path: os.utime(path, follow_symlinks=False),
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "link from": lambda path: os.link(path, "linked", follow_symlinks=False),
    "rename from": lambda path: os.rename(path, "renamed"),
}
# What makes something there.
MAKING: dict[str, Call] = {
    "creat": _open(os.O_CREAT | os.O_WRONLY | os.O_TRUNC),
    "open exclusively": _open(os.O_CREAT | os.O_EXCL | os.O_RDWR),
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "mknod file": lambda path: os.mknod(path, stat.S_IFREG | 0o644),
    "mknod socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o644),
    "mknod device": lambda path: os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 3)),
    "symlink": lambda path: os.symlink("target", path),
    "link to": lambda path: os.link("file", path),
    "rename to": lambda path: os.rename("file", path),
}
CALLS = FOLLOWING | NOT_FOLLOWING | MAKING
EXCLUSIVE = [name for name in MAKING if name not in ("creat", "rename to")]
LONG_NAME = "n" * 256


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a place with a file and a directory in it, in which the test stands."""
    monkeypatch.chdir(place)
    touch("file")
    os.mkdir("dir")
    return place


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_path_through_a_file_is_not_a_directory(call: Call, here: Path) -> None:
    assert outcome(lambda: call("file/name")) == "ENOTDIR"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_path_through_nothing_does_not_exist(call: Call, here: Path) -> None:
    assert outcome(lambda: call("nothing/name")) == "ENOENT"


@pytest.mark.parametrize("call", (FOLLOWING | NOT_FOLLOWING).values(), ids=FOLLOWING | NOT_FOLLOWING)
def test_an_absent_path_does_not_exist(call: Call, here: Path) -> None:
    assert outcome(lambda: call("dir/nothing")) == "ENOENT"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_name_of_256_bytes_is_too_long(call: Call, here: Path) -> None:
    assert outcome(lambda: call(LONG_NAME)) == "ENAMETOOLONG"
    assert outcome(lambda: call(f"dir/{LONG_NAME}/name")) == "ENAMETOOLONG"


@pytest.mark.parametrize("call", MAKING.values(), ids=MAKING)
def test_a_name_of_255_bytes_is_not(call: Call, here: Path) -> None:
    assert outcome(lambda: call(LONG_NAME[1:])) == DONE
    assert LONG_NAME[1:] in os.listdir()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_path_of_more_than_4095_bytes_is_too_long(call: Call, here: Path) -> None:
    assert outcome(lambda: call("dir/../" * 585 + "f")) == "ENAMETOOLONG"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_links_in_a_circle_are_too_many(call: Call, here: Path) -> None:
    os.symlink("two", "one")
    os.symlink("one", "two")
    assert outcome(lambda: call("one/name")) == "ELOOP"
    if call in FOLLOWING.values():
        assert outcome(lambda: call("one")) == "ELOOP"


@pytest.mark.parametrize("name", EXCLUSIVE)
@pytest.mark.parametrize("there", ["file", "dir", "link", "dangling"])
def test_an_existing_path_is_not_created_again(name: str, there: str, here: Path) -> None:
    os.symlink("file", "link")
    os.symlink("nothing", "dangling")
    assert outcome(lambda: MAKING[name](there)) == "EEXIST"
    assert not (here / "nothing").exists()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_directory_that_may_not_be_searched_keeps_others_out(call: Call, here: Path) -> None:
    os.mkdir("closed", 0o700)
    touch("closed/name", 0o666)
    assert in_thread_as_user(ALICE, here, lambda: call("closed/name")) == "EACCES"


@pytest.mark.parametrize("name", [*MAKING, "unlink", "rename from"])
def test_a_directory_that_may_not_be_written_to_keeps_its_names(name: str, here: Path) -> None:
    os.chmod("file", 0o666)
    os.mkdir("closed", 0o755)
    os.chmod(here, 0o777)
    os.chown("file", ALICE.uid, ALICE.gid)
    if name in ("unlink", "rename from"):
        touch("closed/name", 0o666)
    expected = "EPERM" if name == "mknod device" else "EACCES"
    assert in_thread_as_user(ALICE, here, lambda: CALLS[name]("closed/name")) in (expected, "EACCES")
    assert os.listdir("closed") == (["name"] if name in ("unlink", "rename from") else [])


@pytest.mark.parametrize("name", ["open", "open to write", "open to cut", "truncate", "listxattr", "chmod", "unlink"])
def test_a_slash_behind_a_file_asks_for_a_directory(name: str, here: Path) -> None:
    assert outcome(lambda: CALLS[name]("file/")) == "ENOTDIR"


DOTS = [
    "rmdir dir/.",
    "rmdir dir/..",
    "unlink dir/.",
    "rename from dir/.",
    "rename to dir/..",
    "mkdir dir/.",
    "mkdir /",
]


@pytest.mark.parametrize("words", DOTS)
def test_dots_are_no_names_to_change(words: str, local: Path, inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, path = words.rpartition(" ")
    told = []
    for place in (local, inside):
        monkeypatch.chdir(place)
        touch("file")
        os.mkdir("dir")
        told.append(outcome(lambda: CALLS[name](path)))
    assert told[0] == told[1] != DONE


@pytest.mark.parametrize("call", FOLLOWING.values(), ids=FOLLOWING)
@pytest.mark.parametrize("kind", ["file", "dir", "to file", "to dir", "dangling"])
def test_a_call_says_of_each_kind_what_it_says_locally(
    call: Call, kind: str, local: Path, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for place in (local, inside):
        monkeypatch.chdir(place)
        touch("file")
        os.mkdir("dir")
        os.symlink("file", "to file")
        os.symlink("dir", "to dir")
        os.symlink("nothing", "dangling")
        told.append(outcome(lambda: call(kind)))
    assert told[0] == told[1]


CHANGING = [
    *MAKING, "open to write", "open to cut", "chmod", "chown", "lchown", "truncate", "utime", "lutime",
    "setxattr", "removexattr", "unlink", "rmdir", "rename from",
]  # fmt: skip


@pytest.fixture(scope="module")
def version(shared: Mount) -> Path:
    """Returns a version that has a file, a directory and a link."""
    root = shared / "committed"
    root.mkdir()
    touch(root / "file")
    os.setxattr(root / "file", "user.key", b"value")
    (root / "dir").mkdir()
    (root / "link").symlink_to("file")
    return shared / f"@v{shared.commit().number}" / "committed"


@pytest.mark.parametrize("name", CHANGING)
def test_a_version_is_a_readonly_filesystem(
    name: str, version: Path, shared: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(version)
    path = "new" if name in MAKING else "dir" if name == "rmdir" else "link" if name == "lutime" else "file"
    assert outcome(lambda: CALLS[name](path)) == "EROFS"
    if name in MAKING and name not in ("link to", "rename to"):
        assert outcome(lambda: CALLS[name]("file")) == ("EROFS" if name == "creat" else "EEXIST")


def test_no_file_is_linked_or_moved_out_of_a_version_or_into_it(version: Path, inside: Path) -> None:
    touch(inside / "own")
    assert outcome(lambda: os.link(version / "file", inside / "linked")) == "EXDEV"
    assert outcome(lambda: os.link(inside / "own", version / "linked")) == "EROFS"
    assert outcome(lambda: os.rename(version / "file", inside / "moved")) == "EROFS"
    assert outcome(lambda: os.rename(inside / "own", version / "moved")) == "EROFS"


def test_another_filesystem_is_another_device(local: Path, inside: Path) -> None:
    touch(inside / "own")
    assert outcome(lambda: os.link(inside / "own", local / "linked")) == "EXDEV"
    assert outcome(lambda: os.rename(inside / "own", local / "moved")) == "EXDEV"


def test_a_path_of_4095_bytes_is_reached(place: Path) -> None:
    """And deeper ones, step by step."""
    fd = os.open(place, os.O_PATH)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_PATH | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    assert os.stat("file", dir_fd=fd).st_size == 0
    os.close(fd)
    path = str(place) + ("/" + "d" * 200) * 10
    assert os.listdir(path + "/." * ((4095 - len(os.fsencode(path))) // 2)) == ["d" * 200]


def test_targets_of_links_are_as_long_as_paths(place: Path) -> None:
    os.symlink("t" * 4095, place / "longest")
    assert os.readlink(place / "longest") == "t" * 4095
    assert os.lstat(place / "longest").st_size == 4095
    assert outcome(lambda: os.symlink("t" * 4096, place / "longer")) == "ENAMETOOLONG"
    assert outcome(lambda: os.symlink("", place / "empty")) == "ENOENT"


def test_names_are_any_bytes(place: Path) -> None:
    names = [bytes([byte]) for byte in range(1, 256) if byte not in b"/."] + [b"...", b" ", b"\xff\xfe", "ä".encode()]
    for name in set(names):
        os.close(os.open(os.fsencode(place) + b"/" + name, os.O_CREAT | os.O_WRONLY))
    assert sorted(os.listdir(os.fsencode(place))) == sorted(set(names))
    assert answer(lambda: os.stat(place / "A").st_size) == "0"
