"""rename and link in all their forms; what the local filesystem does is what is expected."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from support.calls import ALICE, BOB, DONE, KINDS, Moment, User, in_thread_as_user, make, outcome, touch

pytestmark = pytest.mark.mount

AT_FDCWD = -100
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
FLAGS = {"plain": 0, "noreplace": NOREPLACE, "exchange": EXCHANGE}

_libc = ctypes.CDLL(None, use_errno=True)


def rename(old: Path | str, new: Path | str, flags: int = 0) -> None:
    """Calls renameat2."""
    if _libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def tree(directory: Path) -> dict[str, tuple[str, int, str]]:
    """Returns every path with its kind, link count and content."""
    found = {}
    for where, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = Path(where, name)
            status = path.lstat()
            kind = stat.filemode(status.st_mode)
            text = path.read_text() if stat.S_ISREG(status.st_mode) else ""
            found[str(path.relative_to(directory))] = (kind, status.st_nlink, text)
    return found


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("old", KINDS)
def test_every_kind_takes_the_place_of_every_kind_as_it_does_locally(
    old: str, flags: str, local: Path, inside: Path
) -> None:
    for new in ["nothing", *KINDS]:
        for where in ("old", "other/new"):
            told = []
            for place in (local, inside):
                at = place / f"{new}, {where.replace('/', ' ')}"
                (at / "other").mkdir(parents=True)
                make(at / "old", old)
                target = at / ("new" if where == "old" else where)
                make(target, new)
                result = outcome(partial(rename, at / "old", target, FLAGS[flags]))
                told.append((result, tree(at), at.stat().st_nlink))
            assert told[0] == told[1], (new, where)


def test_a_directory_does_not_move_into_itself(place: Path) -> None:
    (place / "a/b/c").mkdir(parents=True)
    (place / "file").touch()
    for new in ("a/x", "a/b/c/x"):
        assert outcome(partial(rename, place / "a", place / new)) == "EINVAL"
    assert outcome(lambda: rename(place / "a", place / "a/b", EXCHANGE)) == "EINVAL"
    assert outcome(lambda: rename(place / "a/b/c", place / "a", EXCHANGE)) == "EINVAL"
    assert outcome(lambda: rename(place / "a/b", place / "a")) == "ENOTEMPTY"
    assert outcome(lambda: rename(place / "a", place / "a")) == DONE
    assert outcome(lambda: rename(place / "a", place / "a", NOREPLACE)) == "EEXIST"
    assert sorted(tree(place)) == ["a", "a/b", "a/b/c", "file"]


@pytest.mark.parametrize("flags", [NOREPLACE | EXCHANGE, WHITEOUT | EXCHANGE, 8, 1 << 31])
def test_flags_that_make_no_sense_are_invalid(flags: int, place: Path) -> None:
    (place / "a").touch()
    (place / "b").touch()
    assert outcome(lambda: rename(place / "a", place / "b", flags)) == "EINVAL"


def test_exchange_needs_both_names(place: Path) -> None:
    (place / "a").touch()
    assert outcome(lambda: rename(place / "a", place / "b", EXCHANGE)) == "ENOENT"
    assert outcome(lambda: rename(place / "b", place / "a", NOREPLACE)) == "ENOENT"
    assert outcome(lambda: rename(place / "a", place / "b", NOREPLACE)) == DONE


def test_two_names_of_one_file_both_stay(place: Path) -> None:
    touch(place / "a")
    os.link(place / "a", place / "b")
    rename(place / "a", place / "b")
    rename(place / "a", place / "b", EXCHANGE)
    assert sorted(os.listdir(place)) == ["a", "b"]
    assert (place / "a").stat().st_nlink == 2


def test_a_moved_directory_has_another_parent_and_both_count_it(place: Path) -> None:
    (place / "from/moved/below").mkdir(parents=True)
    (place / "to").mkdir()
    counts = [(place / name).stat().st_nlink for name in ("from", "to", "from/moved")]
    rename(place / "from/moved", place / "to/moved")
    assert counts == [3, 2, 3]
    assert [(place / name).stat().st_nlink for name in ("from", "to", "to/moved")] == [2, 3, 3]
    assert (place / "to/moved/..").stat().st_ino == (place / "to").stat().st_ino
    (place / "from/empty").mkdir()
    rename(place / "from/empty", place / "to/moved/below")
    assert [(place / name).stat().st_nlink for name in ("from", "to", "to/moved")] == [2, 3, 3]


def test_link_counts_follow_directories_that_change_places(place: Path) -> None:
    (place / "a/dir").mkdir(parents=True)
    (place / "b").mkdir()
    (place / "b/file").touch()
    rename(place / "a/dir", place / "b/file", EXCHANGE)
    assert [(place / name).stat().st_nlink for name in ("a", "b")] == [2, 3]
    assert (place / "b/file/..").stat().st_ino == (place / "b").stat().st_ino


@pytest.mark.parametrize("target", ["nothing", "file", "link"])
def test_times_that_a_rename_changes(target: str, place: Path) -> None:
    (place / "from").mkdir()
    (place / "to").mkdir()
    touch(place / "from/a")
    make(place / "to/b", target)
    moment = Moment(place)
    rename(place / "from/a", place / "to/b")
    assert [moment.touched(place / name) for name in ("from", "to", "to/b")] == ["mc", "mc", "c"]


def test_a_failed_rename_changes_no_times(place: Path) -> None:
    (place / "dir/full").mkdir(parents=True)
    (place / "other").mkdir()
    moment = Moment(place)
    assert outcome(lambda: rename(place / "other", place / "dir")) == "ENOTEMPTY"
    assert [moment.touched(place / name) for name in ("dir", "other")] == ["", ""]


def test_a_file_that_loses_a_name_to_another_stays_open_and_counts_it(place: Path) -> None:
    touch(place / "new", data=b"new")
    touch(place / "old", data=b"old")
    os.link(place / "old", place / "second")
    moment = Moment(place)
    with (place / "old").open("r+b") as file:
        rename(place / "new", place / "old")
        assert (os.fstat(file.fileno()).st_nlink, moment.touched(place / "second")) == (1, "c")
        os.unlink(place / "second")
        assert os.fstat(file.fileno()).st_nlink == 0
        file.seek(0, os.SEEK_END)
        file.write(b" grown")
        file.flush()
        assert os.pread(file.fileno(), 100, 0) == b"old grown"
    assert (place / "old").read_bytes() == b"new"


def test_a_directory_that_is_replaced_while_open_is_empty_and_takes_nothing(place: Path) -> None:
    (place / "a").mkdir()
    (place / "b").mkdir()
    fd = os.open(place / "b", os.O_RDONLY | os.O_DIRECTORY)
    rename(place / "a", place / "b")
    assert os.fstat(fd).st_nlink == 0
    assert outcome(lambda: os.mkdir("x", dir_fd=fd)) == "ENOENT"
    assert os.listdir(fd) == []
    os.close(fd)


STICKY = [
    (sticky, owner, file_owner) for sticky in (0, 0o1000) for owner in (ALICE, BOB) for file_owner in (ALICE, BOB)
]


@pytest.mark.parametrize(("sticky", "owner", "file_owner"), STICKY)
def test_names_that_a_sticky_directory_releases(sticky: int, owner: User, file_owner: User, place: Path) -> None:
    """Alice may remove, move and replace what is hers or is in her directory."""
    calls: dict[str, Callable[[], object]] = {
        "unlink": lambda: os.unlink("box/file"),
        "rmdir": lambda: os.rmdir("box/dir"),
        "rename from": lambda: rename("box/file", "hers/moved"),
        "rename dir from": lambda: rename("box/dir", "hers/dir"),
        "rename to": lambda: rename("hers/own", "box/file"),
        "exchange": lambda: rename("hers/own", "box/file", EXCHANGE),
    }
    allowed = not sticky or ALICE in (owner, file_owner)
    for name, call in calls.items():
        at = place / name
        (at / "box/dir").mkdir(parents=True)
        (at / "hers").mkdir()
        touch(at / "box/file", 0o666)
        touch(at / "hers/own", 0o666)
        for path in ("hers", "hers/own"):
            os.chown(at / path, *ALICE[:2])
        for path in ("box/file", "box/dir"):
            os.chown(at / path, *file_owner[:2])
        os.chown(at / "box", *owner[:2])
        os.chmod(at / "box", 0o777 | sticky)
        needs_dir_write = name == "rename dir from" and file_owner != ALICE
        told = in_thread_as_user(ALICE, at, call)
        if needs_dir_write and allowed:
            # A directory that moves gets another parent: the caller needs write permission for it.
            assert told == "EACCES"
        else:
            assert told == (None if allowed else "EPERM"), name


def test_links_are_names_of_one_file(place: Path) -> None:
    touch(place / "a", data=b"data")
    moment = Moment(place)
    os.link(place / "a", place / "b")
    assert moment.touched(place / "a") == "c"
    assert moment.touched(place) == "mc"
    one, two = (place / "a").stat(), (place / "b").stat()
    assert one == two
    assert one.st_nlink == 2
    moment = Moment(place)
    os.unlink(place / "a")
    assert moment.touched(place / "b") == "c"
    assert (place / "b").stat().st_nlink == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_but_a_directory_has_several_names(kind: str, local: Path, inside: Path) -> None:
    told = []
    for place in (local, inside):
        make(place / "a", kind)
        result = outcome(partial(os.link, place / "a", place / "b", follow_symlinks=False))
        told.append((result, (place / "a").lstat().st_nlink))
    assert told[0] == told[1]
    assert told[0][0] == ("EPERM" if "dir" in kind else DONE)


def test_a_file_without_a_name_gets_none_again(place: Path) -> None:
    with (place / "file").open("w+b") as file:
        os.unlink(place / "file")
        path = os.fsencode(f"/proc/self/fd/{file.fileno()}")
        follow = 0x400
        new = os.fsencode(place / "again")
        assert _libc.linkat(AT_FDCWD, path, AT_FDCWD, new, follow) == -1
        assert ctypes.get_errno() == errno.ENOENT


def test_many_names_of_one_file(place: Path) -> None:
    touch(place / "file")
    for number in range(300):
        os.link(place / "file", place / f"name{number}")
    assert (place / "name7").stat().st_nlink == 301
    for number in range(300):
        os.unlink(place / f"name{number}")
    assert (place / "file").stat().st_nlink == 1
