"""Names and attributes: what may be done, with which errors, and what it does to times, modes and link counts."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable

import pytest

from support.working import Bench
from vfs.errors import (
    AlreadyExists,
    InvalidInput,
    IsADirectory,
    NameTooLong,
    NoAttribute,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotPermitted,
)
from vfs.model.objects import Kind
from vfs.overlay.layer_nodes import ROOT_INO


@pytest.fixture(params=["fresh", "committed"])
def tree(bench: Bench, request: pytest.FixtureRequest) -> Bench:
    """Some files and directories: made just now, or of a version and untouched."""
    bench.mkdir(b"d")
    bench.mkdir(b"d/empty")
    bench.mkdir(b"d/full")
    bench.put(b"d/full/x", b"x")
    bench.put(b"a", b"aaa")
    bench.put(b"b", b"bbbb")
    if request.param == "committed":
        bench.commit()
        bench.reopen()
    return bench


def test_lookup_of_an_absent_name(tree: Bench) -> None:
    with pytest.raises(NotFound):
        tree.overlay.lookup(ROOT_INO, b"z")
    with pytest.raises(NotADirectory):
        tree.overlay.lookup(tree.ino(b"a"), b"z")
    with pytest.raises(NotFound):
        tree.overlay.getattr(12345)
    with pytest.raises(NameTooLong):
        tree.overlay.lookup(ROOT_INO, b"n" * 256)


def test_names_are_taken_once(tree: Bench) -> None:
    for name in (b"a", b"d"):
        with pytest.raises(AlreadyExists):
            tree.put(name)
        with pytest.raises(AlreadyExists):
            tree.mkdir(name)
        with pytest.raises(AlreadyExists):
            tree.link(b"b", name)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"x/y", b"x\0y"])
def test_names_that_no_directory_can_have_are_refused(tree: Bench, name: bytes) -> None:
    with pytest.raises(InvalidInput):
        tree.overlay.mknod(ROOT_INO, name, 0o100644, 0, 0, 0)
    with pytest.raises(InvalidInput):
        tree.overlay.rename(ROOT_INO, b"a", ROOT_INO, name)


def test_names_of_255_bytes_of_any_value(bench: Bench) -> None:
    name = bytes(value for value in range(1, 256) if value != ord("/")) + b"x"
    assert len(name) == 255
    bench.put(name, b"x")
    bench.commit()
    bench.reopen()
    assert bench.read(name) == b"x"
    with pytest.raises(NameTooLong):
        bench.put(name + b"y")


def test_unlink_and_rmdir_keep_to_their_kinds(tree: Bench) -> None:
    with pytest.raises(IsADirectory):
        tree.unlink(b"d")
    with pytest.raises(NotADirectory):
        tree.rmdir(b"a")
    with pytest.raises(NotEmpty):
        tree.rmdir(b"d/full")
    tree.unlink(b"d/full/x")
    tree.rmdir(b"d/full")
    tree.rmdir(b"d/empty")
    tree.rmdir(b"d")
    assert tree.names() == [b"a", b"b"]


def test_a_removed_directory_takes_no_names(tree: Bench) -> None:
    ino = tree.ino(b"d/empty")
    tree.rmdir(b"d/empty")
    with pytest.raises(NotFound):
        tree.overlay.mknod(ino, b"x", 0o100644, 0, 0, 0)
    with pytest.raises(NotFound):
        tree.overlay.rename(ROOT_INO, b"a", ino, b"a")
    assert tree.overlay.getattr(ino).nlink == 0
    assert list(tree.overlay.names(ino)) == []
    with pytest.raises(NotFound):
        tree.overlay.path_of(ino)


def test_rename_replaces_a_file_but_no_directory(tree: Bench) -> None:
    tree.rename(b"a", b"b")
    assert tree.read(b"b") == b"aaa"
    assert tree.names() == [b"b", b"d"]
    with pytest.raises(IsADirectory):
        tree.rename(b"b", b"d")
    with pytest.raises(NotADirectory):
        tree.rename(b"d", b"b")


def test_rename_replaces_an_empty_directory_only(tree: Bench) -> None:
    with pytest.raises(NotEmpty):
        tree.rename(b"d/empty", b"d/full")
    tree.rename(b"d/full", b"d/empty")
    assert tree.names(b"d") == [b"empty"]
    assert tree.read(b"d/empty/x") == b"x"


def test_rename_noreplace_and_exchange(tree: Bench) -> None:
    with pytest.raises(AlreadyExists):
        tree.rename(b"a", b"b", 1)
    with pytest.raises(NotFound):
        tree.rename(b"a", b"z", 2)
    with pytest.raises(InvalidInput):
        tree.rename(b"a", b"z", 4)
    with pytest.raises(InvalidInput):
        tree.rename(b"a", b"b", 3)
    tree.rename(b"a", b"c", 1)
    tree.rename(b"c", b"d/full", 2)
    assert tree.read(b"d/full") == b"aaa"
    assert tree.read(b"c/x") == b"x"
    assert tree.overlay.parent_of(tree.ino(b"c")) == ROOT_INO


def test_a_directory_does_not_move_into_itself(tree: Bench) -> None:
    for new in (b"d/full/d", b"d/d"):
        with pytest.raises(InvalidInput):
            tree.rename(b"d", new)
    with pytest.raises(InvalidInput):
        tree.rename(b"d", b"d/full", 2)
    with pytest.raises(InvalidInput):
        tree.rename(b"d/full", b"d", 2)


def test_rename_of_two_names_of_one_file_does_nothing(tree: Bench) -> None:
    tree.link(b"a", b"l")
    before = tree.picture()
    tree.rename(b"a", b"l")
    tree.rename(b"a", b"l", 2)
    assert tree.picture() == before


def test_rename_over_an_open_file_keeps_its_bytes(tree: Bench) -> None:
    ino = tree.ino(b"b")
    tree.overlay.open_file(ino)
    tree.rename(b"a", b"b")
    assert tree.overlay.getattr(ino).nlink == 0
    assert bytes(tree.overlay.read(ino, 0, 100)) == b"bbbb"
    tree.overlay.write(ino, 4, b"!")
    assert bytes(tree.overlay.read(ino, 0, 100)) == b"bbbb!"
    tree.overlay.forget(ino)
    assert bytes(tree.overlay.read(ino, 0, 100)) == b"bbbb!"
    tree.overlay.close_file(ino)
    with pytest.raises(NotFound):
        tree.overlay.getattr(ino)


def test_an_unlinked_open_file_lives_through_a_commit(tree: Bench) -> None:
    ino = tree.ino(b"b")
    tree.overlay.open_file(ino)
    tree.write(b"b", 1, b"B")
    tree.unlink(b"b")
    tree.overlay.write(ino, 3, b"C")
    tree.commit()
    assert bytes(tree.overlay.read(ino, 0, 100)) == b"bBbC"
    tree.overlay.write(ino, 0, b"A")
    tree.commit(lambda: tree.overlay.write(ino, 2, b"x"))
    assert bytes(tree.overlay.read(ino, 0, 100)) == b"ABxC"
    with pytest.raises(NotFound):
        tree.overlay.link(ino, ROOT_INO, b"again")
    tree.overlay.close_file(ino)
    tree.overlay.forget(ino)
    # Journals of the generations before are closed with the last orphan that has data in them.
    assert [path.name for path in sorted(tree.directory.glob("journal-*"))] == [f"journal-{tree.consumed + 1}"]


def test_hard_links_are_one_file(tree: Bench) -> None:
    linked = tree.link(b"a", b"d/l")
    assert linked.nlink == 2
    assert linked.ino == tree.ino(b"a") == tree.ino(b"d/l")
    tree.write(b"d/l", 0, b"A")
    assert tree.read(b"a") == b"Aaa"
    tree.unlink(b"a")
    assert tree.attr(b"d/l").nlink == 1
    assert tree.overlay.path_of(linked.ino) == b"d/l"
    with pytest.raises(NotPermitted):
        tree.link(b"d", b"e")


def test_hard_links_of_a_version_are_one_file(bench: Bench) -> None:
    bench.mkdir(b"d")
    bench.mkdir(b"e")
    bench.put(b"d/a", b"1234")
    bench.link(b"d/a", b"e/b")
    bench.link(b"d/a", b"e/c")
    version = bench.commit()
    bench.reopen()
    assert bench.attr(b"e/c").nlink == 3
    assert bench.ino(b"e/c") == bench.ino(b"e/b") == bench.ino(b"d/a")
    bench.write(b"e/c", 0, b"X")
    assert bench.read(b"d/a") == bench.read(b"e/b") == b"X234"
    bench.unlink(b"d/a")
    bench.rename(b"e", b"f")
    bench.reopen()
    assert bench.attr(b"f/b").nlink == 2
    picture = bench.picture()
    assert bench.picture_of(bench.commit()) == picture
    assert bench.picture_of(version)[b"e/b"].content == b"1234"


def test_untouched_hard_links_follow_a_moved_directory(bench: Bench) -> None:
    bench.mkdir(b"m")
    bench.mkdir(b"m/n")
    bench.put(b"m/n/a", b"1")
    bench.link(b"m/n/a", b"z")
    bench.commit()
    bench.reopen()
    ino = bench.ino(b"z")
    bench.rename(b"m", b"zz")
    bench.rename(b"zz/n", b"y")
    picture = bench.picture()
    for _ in range(2):
        assert bench.picture_of(bench.commit()) == picture
        bench.reopen()
        assert bench.ino(b"y/a") == bench.ino(b"z") == ino


def test_link_counts_of_directories(bench: Bench) -> None:
    assert bench.attr(b"").nlink == 2
    assert bench.mkdir(b"d").nlink == 2
    bench.mkdir(b"d/e")
    bench.put(b"d/f")
    assert bench.attr(b"d").nlink == 3
    bench.rename(b"d/e", b"e")
    assert (bench.attr(b"d").nlink, bench.attr(b"").nlink) == (2, 4)
    bench.rename(b"d/f", b"e", 2)
    assert (bench.attr(b"d").nlink, bench.attr(b"").nlink) == (3, 3)
    bench.rmdir(b"d/f")
    assert bench.attr(b"d").nlink == 2


def test_setgid_directories_pass_their_group_on(bench: Bench) -> None:
    bench.mkdir(b"d")
    bench.overlay.setattr(bench.ino(b"d"), mode=0o2775, gid=77)
    assert bench.put(b"d/f").gid == 77
    made = bench.mkdir(b"d/e")
    assert (made.gid, made.mode) == (77, 0o2755)
    assert bench.put(b"f").gid == 2


@pytest.mark.parametrize(
    ("mode", "after"), [(0o4755, 0o755), (0o6755, 0o755), (0o2755, 0o755), (0o2745, 0o2745), (0o1777, 0o1777)]
)
def test_setuid_and_setgid_go_with_writes_and_new_owners(bench: Bench, mode: int, after: int) -> None:
    overlay = bench.overlay
    changes: list[Callable[[int], object]] = [
        lambda ino: overlay.write(ino, 0, b"x"),
        lambda ino: overlay.setattr(ino, size=1),
        lambda ino: overlay.setattr(ino, uid=9),
        lambda ino: overlay.setattr(ino, gid=9),
    ]
    for number, change in enumerate(changes):
        ino = bench.put(b"f%d" % number, mode=mode).ino
        assert overlay.getattr(ino).mode == mode
        change(ino)
        assert overlay.getattr(ino).mode == after
        overlay.setattr(ino, uid=3, mode=mode)
        assert overlay.getattr(ino).mode == mode
    directory = bench.mkdir(b"d", mode=mode).ino
    overlay.setattr(directory, uid=9)
    assert overlay.getattr(directory).mode == mode


def test_capabilities_go_with_writes_and_new_sizes(bench: Bench) -> None:
    overlay = bench.overlay
    capabilities = b"security.capability"
    ino = bench.put(b"f").ino
    changes: list[tuple[Callable[[], object], bool]] = [
        (lambda: overlay.write(ino, 0, b""), True),
        (lambda: overlay.setattr(ino, mode=0o700), True),
        (lambda: overlay.write(ino, 0, b"x"), False),
        (lambda: overlay.setattr(ino, size=1), False),
    ]
    for change, stay in changes:
        overlay.setxattr(ino, b"user.key", b"value")
        overlay.setxattr(ino, capabilities, b"rights")
        change()
        assert overlay.listxattr(ino) == ([capabilities] if stay else []) + [b"user.key"]


def test_operations_set_times(tree: Bench) -> None:
    overlay = tree.overlay

    def times(path: bytes) -> tuple[int, int, int]:
        attr = tree.attr(path)
        return attr.atime_ns, attr.mtime_ns, attr.ctime_ns

    before = times(b"a")
    overlay.read(tree.ino(b"a"), 0, 3)
    assert times(b"a") == before
    overlay.write(tree.ino(b"a"), 0, b"x")
    now = tree.clock.now_ns
    assert times(b"a") == (before[0], now, now)
    overlay.setattr(tree.ino(b"a"), mode=0o600)
    assert times(b"a") == (before[0], now, tree.clock.now_ns)
    overlay.setattr(tree.ino(b"a"), atime_ns=-5, mtime_ns=2**62 + 1)
    assert times(b"a") == (-5, 2**62 + 1, tree.clock.now_ns)
    overlay.setxattr(tree.ino(b"a"), b"user.x", b"1")
    assert times(b"a") == (-5, 2**62 + 1, tree.clock.now_ns)
    for change in (
        lambda: tree.put(b"d/new"),
        lambda: tree.link(b"b", b"d/l"),
        lambda: tree.unlink(b"d/l"),
        lambda: tree.rename(b"d/new", b"d/other"),
        lambda: tree.mkdir(b"d/sub"),
        lambda: tree.rmdir(b"d/sub"),
    ):
        change()
        assert times(b"d")[1:] == (tree.clock.now_ns, tree.clock.now_ns)
    tree.rename(b"b", b"d/b")
    assert times(b"d/b")[2] == tree.clock.now_ns
    assert times(b"")[1] == times(b"d")[1] == tree.clock.now_ns
    size_before = times(b"a")
    overlay.setattr(tree.ino(b"a"), size=1)
    assert times(b"a") == (size_before[0], tree.clock.now_ns, tree.clock.now_ns)


def test_xattrs(tree: Bench) -> None:
    ino = tree.ino(b"a")
    overlay = tree.overlay
    with pytest.raises(NoAttribute):
        overlay.getxattr(ino, b"user.x")
    with pytest.raises(NoAttribute):
        overlay.removexattr(ino, b"user.x")
    overlay.setxattr(ino, b"user.x", b"1")
    overlay.setxattr(ino, b"user.a", b"\0\xff")
    overlay.setxattr(ino, b"user.x", b"")
    assert overlay.listxattr(ino) == [b"user.a", b"user.x"]
    assert overlay.getxattr(ino, b"user.x") == b""
    overlay.removexattr(ino, b"user.x")
    with pytest.raises(OSError, match="No space") as error:
        overlay.setxattr(ino, b"user.big", bytes(65536))
    assert error.value.errno == errno.ENOSPC
    tree.commit()
    tree.reopen()
    assert tree.overlay.listxattr(tree.ino(b"a")) == [b"user.a"]


def test_special_files_are_kept_as_they_are(bench: Bench) -> None:
    overlay = bench.overlay
    overlay.mknod(ROOT_INO, b"fifo", stat.S_IFIFO | 0o600, 0, 1, 2)
    overlay.mknod(ROOT_INO, b"socket", stat.S_IFSOCK | 0o600, 9, 1, 2)
    overlay.mknod(ROOT_INO, b"char", stat.S_IFCHR | 0o600, 0x103, 1, 2)
    overlay.mknod(ROOT_INO, b"block", stat.S_IFBLK | 0o600, 0x800, 1, 2)
    overlay.symlink(ROOT_INO, b"link", b"../x\xff", 1, 2)
    picture = bench.picture()
    assert picture[b"socket"].rdev == 0
    assert picture[b"block"].rdev == 0x800
    assert picture[b"link"].content == b"../x\xff"
    assert bench.picture_of(bench.commit()) == picture
    bench.reopen()
    assert bench.picture() == picture
    with pytest.raises(InvalidInput):
        bench.overlay.read(bench.ino(b"fifo"), 0, 1)
    with pytest.raises(InvalidInput):
        bench.overlay.readlink(bench.ino(b"fifo"))
    with pytest.raises(InvalidInput):
        bench.overlay.setattr(bench.ino(b"fifo"), size=0)
    with pytest.raises(IsADirectory):
        bench.overlay.setattr(ROOT_INO, size=0)
    with pytest.raises(InvalidInput):
        bench.overlay.mknod(ROOT_INO, b"d", stat.S_IFDIR, 0, 0, 0)
    with pytest.raises(OSError, match="File name too long"):
        bench.overlay.symlink(ROOT_INO, b"long", b"x" * 4096, 0, 0)
    assert bench.attr(b"char").kind == Kind.CHAR


def test_names_continue_after_any_name_while_the_directory_changes(bench: Bench) -> None:
    for number in range(0, 200, 2):
        bench.put(b"%03d" % number)
    bench.commit()
    for number in range(1, 200, 4):
        bench.put(b"%03d" % number)
    names = bench.names()
    assert len(names) == 150
    for after in (b"", b"000", b"001", b"0015", b"199", b"zzz"):
        assert list(bench.overlay.names(ROOT_INO, after)) == [name for name in names if name > after]
    listing = bench.overlay.names(ROOT_INO)
    seen = [next(listing) for _ in range(10)]
    bench.unlink(b"100")
    bench.write(b"150", 0, b"changed while listed")
    bench.put(b"101x")
    bench.unlink(b"101")
    seen += listing
    assert [name for name in seen if name not in (b"100", b"101", b"101x")] == [
        name for name in names if name not in (b"100", b"101")
    ]


def test_a_tree_deeper_than_the_interpreters_stack(bench: Bench) -> None:
    parent = ROOT_INO
    for _ in range(1500):
        parent = bench.overlay.mkdir(parent, b"d", 0o755, 0, 0).ino
    bench.overlay.mknod(parent, b"f", 0o100644, 0, 0, 0)
    assert len(bench.overlay.path_of(parent)) == 1500 * 2 - 1
    bench.commit()
    bench.reopen()
    parent = ROOT_INO
    for _ in range(1500):
        parent = bench.overlay.lookup(parent, b"d").ino
    bench.overlay.write(bench.overlay.lookup(parent, b"f").ino, 0, b"x")
    assert [change.kind for change in bench.overlay.changes()] == ["modified"]
    with pytest.raises(InvalidInput):
        bench.overlay.rename(ROOT_INO, b"d", parent, b"e")
    bench.commit()
