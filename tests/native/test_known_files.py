"""The tables of versions' files that the kernel knows: natively and in Python, as a dict would have them."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import struct
import tempfile
from collections.abc import Callable

import pytest

from support.native_layer import (
    BATCH_FORGET,
    DIRECTORY_INO,
    FILE_INO,
    FORGET,
    HEADER,
    LOOKUP,
    READDIRPLUS,
    Kernel,
    read_body,
)
from support.native_names import LISTED_INO, Admitted, Names
from vfs.fuse.compact_file_inodes import FileColumns, FileTable, Row
from vfs.fuse.inodes import WORKING_START
from vfs.fuse.native_file_inodes import NativeFiles
from vfs.fuse.session.takeover_state import Legacy
from vfs.model.objects import Entry, Form, Kind
from vfs.native.session import Modes, NativeSession

Make = Callable[[], "FileTable[Directory]"]


class Directory:
    """What rows refer to."""

    slot = -1


@pytest.fixture(params=["python", "native"])
def make(library: ctypes.PyDLL, request: pytest.FixtureRequest) -> Make:
    return FileColumns if request.param == "python" else lambda: NativeFiles(NativeSession(library))


def test_rows_are_found_counted_and_removed_as_in_a_dict(make: Make) -> None:
    """Numbers of few bits come again and fill the index in runs; those of many are the kind that is met."""
    chance = random.Random(1)
    table = make()
    directories = [Directory() for _ in range(9)]
    for bits in (12, 60):
        model: dict[int, tuple[int, Row[Directory]]] = {}
        for step in range(20_000):
            if chance.random() < 0.55 or not model:
                ino = chance.getrandbits(bits)
                known = model.get(ino)
                row = known[1] if known else Row(chance.getrandbits(32), chance.choice(directories), step)
                model[ino] = (known[0] if known else 0) + 1, row
                table.hold(ino, *row)
            else:
                ino = next(iter(model)) if step % 2 else chance.choice(list(model)[:500])
                lookups, row = model.pop(ino)
                count = chance.randint(1, lookups)
                assert table.forget(ino, count) == lookups - count
                if count < lookups:
                    model[ino] = lookups - count, row
            assert len(table) == len(model)
        assert {ino: table.row(ino) for ino in table} == {ino: row for ino, (_, row) in model.items()}
        assert {ino: table.lookups_of(ino) for ino in table} == {ino: lookups for ino, (lookups, _) in model.items()}
        assert all(table.check(ino) == row.check for ino, (_, row) in model.items())
        assert set(table.some(len(model))) == set(model)
        for ino, (lookups, _) in model.items():
            assert table.forget(ino, lookups) == 0
            assert (table.row(ino), table.check(ino), table.forget(ino, 1)) == (None, None, None)
    assert all(directory.slot == -1 for directory in directories)


def test_a_mark_lasts_as_long_as_the_row_and_does_not_change_the_count(make: Make) -> None:
    table = make()
    table.mark(7)
    assert not table.is_marked(7)
    table.hold(7, 1, Directory(), 0)
    table.mark(7)
    table.hold(7, 1, Directory(), 0)
    assert table.is_marked(7)
    assert table.forget(7, 1) == 1
    assert table.is_marked(7)
    assert table.forget(7, 1) == 0
    table.hold(7, 1, Directory(), 0)
    assert not table.is_marked(7)


def test_a_count_below_nothing_is_told_and_ends_the_row(make: Make) -> None:
    table = make()
    table.hold(7, 1, Directory(), 0)
    assert table.forget(7, 3) == -2
    assert table.row(7) is None


def test_some_are_others_each_time(make: Make) -> None:
    table = make()
    for number in range(10_000):
        table.hold(number << 20 | number, 0, Directory(), 0)
    first, second = table.some(100), table.some(100)
    assert len(first) >= 100
    assert len(second) >= 100
    assert not set(first) & set(second)


def test_crossing_a_limit_and_reaching_a_floor_is_told(make: Make) -> None:
    table = make()
    told: list[int] = []
    table.known.on_crossing = lambda: told.append(table.known.count)
    table.known.limit, table.known.floor = 3, 1
    for number in range(5):
        table.hold(number, 0, Directory(), 0)
    assert told == [4, 5]
    for number in range(5):
        table.forget(number, 1)
    assert told == [4, 5, 1]
    assert table.known.dropped == 5


def test_a_directory_that_is_held_keeps_its_slot_without_files(library: ctypes.PyDLL) -> None:
    table: NativeFiles[Directory] = NativeFiles(NativeSession(library))
    held, other, last = Directory(), Directory(), Directory()
    slot = table.hold_directory(held)
    assert table.hold_directory(held) == slot
    table.hold(1, 0, held, 0)
    table.hold(2, 0, other, 0)
    assert table.forget(1, 1) == 0
    assert held.slot == slot != other.slot
    table.release_directory(held)
    table.release_directory(held)
    assert held.slot == -1
    # Nothing was begun for this one, to which a file refers.
    table.release_directory(other)
    assert other.slot != -1
    assert table.hold_directory(last) == slot


def test_a_directory_keeps_its_slot_while_a_file_refers_to_it(library: ctypes.PyDLL) -> None:
    table: NativeFiles[Directory] = NativeFiles(NativeSession(library))
    directory = Directory()
    table.hold_directory(directory)
    table.hold(1, 0, directory, 0)
    table.release_directory(directory)
    row = table.row(1)
    assert row is not None
    assert row.directory is directory
    assert table.forget(1, 1) == 0
    assert directory.slot == -1


def test_a_directory_of_which_no_row_is_kept_gets_no_slot(make: Make) -> None:
    table = make()
    first, second = Directory(), Directory()
    table.hold(1, 0, first, 0)
    table.hold(1, 0, second, 5)
    assert second.slot == -1
    row = table.row(1)
    assert row is not None
    assert row.directory is first


# What the kernel forgets.


def test_what_the_kernel_forgets_is_counted_natively(attached: Kernel) -> None:
    shared = _Shared(attached, [_file(b"%03d" % number) for number in range(100)])
    shared.files.table.take_forgets(are_taken=True)
    assert _list(attached)
    assert _look_up(attached, b"007")
    twice = next(ino for ino in shared.files if shared.files.lookups_of(ino) == 2)
    one, two, three, *others = (ino for ino in shared.files if ino != twice)
    assert attached.send(FORGET, one, struct.pack("<Q", 1)) is None
    assert attached.send(FORGET, twice, struct.pack("<Q", 1)) is None
    assert (shared.files.lookups_of(one), shared.files.lookups_of(twice)) == (0, 1)
    # What it does not know, or what cannot be, is Python's.
    assert attached.send(FORGET, one, struct.pack("<Q", 1)) is not None
    assert attached.send(FORGET, two, struct.pack("<Q", 2)) is not None
    assert shared.files.lookups_of(two) == 1
    assert _forget(
        attached, [(three, 1), (DIRECTORY_INO, 5), (twice, 1), (WORKING_START + 1, 3), (7, 2), (two, 2)]
    ) == [
        (DIRECTORY_INO, 5),
        (WORKING_START + 1, 3),
        (7, 2),
        (two, 2),
    ]
    assert (shared.files.lookups_of(three), shared.files.lookups_of(twice)) == (0, 0)
    assert _forget(attached, [(ino, 1) for ino in others]) == []
    assert list(shared.files) == [two]
    assert not attached.has_answer()


def test_python_forgets_while_opens_are_recorded_or_it_wants_to(attached: Kernel) -> None:
    shared = _Shared(attached, [_file(b"%03d" % number) for number in range(10)])
    assert _list(attached)
    inos = list(shared.files)
    assert _forget(attached, [(inos[0], 1)]) == [(inos[0], 1)]
    shared.files.table.take_forgets(are_taken=True)
    attached.session.record_opens(True)
    assert _forget(attached, [(inos[1], 1)]) == [(inos[1], 1)]
    attached.session.record_opens(False)
    # A name that Python has recorded, before the file was counted.
    shared.files.table.set_record(inos[2], -1)
    assert _forget(attached, [(inos[2], 1), (inos[3], 1)]) == [(inos[2], 1)]
    assert len(shared.files) == 9


def test_a_directory_is_let_go_with_its_last_file(attached: Kernel) -> None:
    shared = _Shared(attached, [])
    shared.files.table.take_forgets(are_taken=True)
    shared.files.table.record_names(-1, 0)
    directory = Directory()
    for ino in (FILE_INO, FILE_INO + 1):
        shared.files.hold(ino, 0, directory, 0)
    assert _forget(attached, [(FILE_INO, 1)]) == []
    assert directory.slot >= 0
    assert _forget(attached, [(FILE_INO + 1, 1)]) == []
    assert directory.slot == -1


# Names that are recorded for a takeover.


def _file(name: bytes) -> Entry:
    return Entry(name, Kind.FILE, 0o644, 1, 2, 3, 7, b"c" * 32, Form.CHUNK)


def _directory(name: bytes) -> Entry:
    return Entry(name, Kind.DIR, 0o755, 1, 2, 3, 0, b"", Form.EMPTY)


def _look_up(kernel: Kernel, name: bytes) -> bool:
    """Returns whether the layer has answered."""
    if kernel.send(LOOKUP, DIRECTORY_INO, name + b"\0") is not None:
        return False
    return kernel.answer()[0] == 0


def _list(kernel: Kernel, position: int = 0) -> bool:
    if kernel.send(READDIRPLUS, DIRECTORY_INO, read_body(0, position, 32 * 1024)) is not None:
        return False
    return kernel.answer()[0] == 0


def _forget(kernel: Kernel, forgotten: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns what the binding has to forget."""
    body = struct.pack("<II", len(forgotten), 0) + b"".join(struct.pack("<QQ", *each) for each in forgotten)
    passed = kernel.send(BATCH_FORGET, 0, body)
    if passed is None:
        return []
    (count,) = struct.unpack_from("<I", passed, HEADER.size)
    return [struct.unpack_from("<QQ", passed, HEADER.size + 8 + 16 * at) for at in range(count)]


def _left(legacy: Legacy) -> dict[int, tuple[int, bytes]]:
    """Returns the inodes that a daemon leaves."""
    taken = Legacy(os.dup(legacy.descriptor))
    try:
        return taken.left.inodes
    finally:
        os.close(taken.descriptor)


@pytest.fixture
def attached(kernel: Kernel) -> Kernel:
    kernel.attach(Modes.NO_OPEN | Modes.NO_OPENDIR)
    return kernel


class _Shared:
    """A daemon's records that the layer writes too, and the directory whose names it is asked for."""

    def __init__(self, kernel: Kernel, entries: list[Entry]) -> None:
        self.legacy = Legacy()
        self.files: NativeFiles[Directory] = NativeFiles(kernel.session)
        self.files.table.are_derived(are_derived=True)
        self.legacy.share(self.files.table)
        self.names = Names(kernel.session, entries)
        self.names.known_files = self.files.table
        self.names.admit = self.admit
        kernel.session.serve_names(self.names)

    def admit(self, found: Admitted) -> int:
        self.legacy.told(LISTED_INO, DIRECTORY_INO, b"directory")
        return LISTED_INO


def test_names_that_the_kernel_is_told_natively_are_left_to_the_next_daemon(attached: Kernel) -> None:
    names = [b"%03d" % number for number in range(100)]
    shared = _Shared(attached, [*map(_file, names), _directory(b"a"), *(_file(b"b%d" % number) for number in range(9))])
    assert _look_up(attached, b"007")
    (inode,) = _left(shared.legacy).items()
    assert inode[1] == (DIRECTORY_INO, b"007")
    shared.legacy.told(77, 5, b"by Python")
    assert _list(attached)
    left = _left(shared.legacy)
    assert left.pop(77) == (5, b"by Python")
    assert left.pop(LISTED_INO) == (DIRECTORY_INO, b"directory")
    assert sorted(left.values()) == [(DIRECTORY_INO, name) for name in [*names, *(b"b%d" % n for n in range(9))]]
    # Each is recorded once.
    size = os.fstat(shared.legacy.descriptor).st_size
    assert _list(attached)
    assert _look_up(attached, b"008")
    shared.legacy.told(inode[0], DIRECTORY_INO, b"007")
    assert os.fstat(shared.legacy.descriptor).st_size == size


def test_records_that_are_written_anew_have_what_the_kernel_knows(attached: Kernel) -> None:
    shared = _Shared(attached, [_file(b"%03d" % number) for number in range(100)])
    assert _list(attached)
    known = _left(shared.legacy)
    for ino in list(known)[::2]:
        assert shared.files.forget(ino, 1) == 0
        shared.legacy.moved(ino)
        del known[ino]
    shared.legacy.told(77, 5, b"by Python")
    known[77] = 5, b"by Python"
    shared.legacy.write_anew()
    assert _left(shared.legacy) == known
    # One that was forgotten is recorded again; what was written anew is not.
    size = os.lseek(shared.legacy.descriptor, 0, os.SEEK_CUR)
    assert _list(attached)
    assert len(_left(shared.legacy)) == 101
    assert os.lseek(shared.legacy.descriptor, 0, os.SEEK_CUR) == size + 50 * (19 + 3)


def test_records_that_cannot_be_read_are_not_released(attached: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = _Shared(attached, [_file(b"%03d" % number) for number in range(100)])
    shared.legacy.shook_hands(b"hello")
    assert _list(attached)
    known = _left(shared.legacy)

    def fail(*_: int) -> int:
        raise OSError(errno.ENOMEM, "no memory")

    for name in ("records_bytes", "write_records"):
        with monkeypatch.context() as patch:
            patch.setattr(shared.files.table, name, fail)
            shared.legacy.write_anew()
        assert _left(shared.legacy) == known
        assert _look_up(attached, b"000")
    shared.legacy.write_anew()
    assert _left(shared.legacy) == known


def test_python_tells_the_kernel_when_records_have_to_be_written_anew(
    attached: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfs.fuse.session.takeover_state._ANEW_BYTES", 1000)
    shared = _Shared(attached, [_file(b"%03d" % number) for number in range(100)])
    shared.legacy.shook_hands(b"hello")
    shared.legacy.write_anew()
    for number in range(100):
        if not _look_up(attached, b"%03d" % number):
            break
    assert 0 < number < 60
    before = os.lseek(shared.legacy.descriptor, 0, os.SEEK_CUR)
    shared.legacy.told(77, 5, b"by Python")
    assert os.lseek(shared.legacy.descriptor, 0, os.SEEK_CUR) > before
    # There is more room then.
    assert _look_up(attached, b"%03d" % number)
    assert len(_left(shared.legacy)) == number + 2


def test_no_names_are_recorded_when_there_are_too_many(attached: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfs.fuse.session.takeover_state.BYTES_MAX", 100)
    shared = _Shared(attached, [_file(b"%03d" % number) for number in range(20)])
    while _look_up(attached, b"%03d" % shared.files.known.count):
        pass
    size = os.fstat(shared.legacy.descriptor).st_size
    shared.legacy.told(77, 5, b"by Python")
    assert _list(attached)
    assert os.fstat(shared.legacy.descriptor).st_size == size
    assert len(shared.files) == 20


def test_a_name_that_cannot_be_written_does_not_stop_the_answer(attached: Kernel) -> None:
    shared = _Shared(attached, [_file(b"%03d" % number) for number in range(20)])
    with tempfile.TemporaryFile() as file, open(os.devnull, "rb") as unwritable:
        shared.files.table.record_names(unwritable.fileno(), 1 << 40)
        assert _look_up(attached, b"001")
        assert [shared.files.table.record_of(ino) for ino in shared.files] == [-1]
        shared.files.table.record_names(file.fileno(), 1 << 40)
        assert _look_up(attached, b"002")
        assert os.fstat(file.fileno()).st_size
