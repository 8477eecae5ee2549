"""Journals: framing, torn tails, damage, full disks."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt, Unsupported
from vfs.model.ids import digest64
from vfs.model.objects import Kind
from vfs.overlay.journal.file_check import check_file
from vfs.overlay.journal.framing import CHECKPOINT_FORMAT, FORMAT, OLD_FORMAT, Heading
from vfs.overlay.journal.journal import Journal
from vfs.overlay.journal.journal_records import Create, Record, Synced, Unlink, Write, decode_stored

HEADING = Heading(FORMAT, "main", 1, b"", 1)
RECORDS: list[tuple[Record, bytes]] = [
    (Create(5, 1, b"a", Kind.FILE, 0o644, 0, 0, 0, 7), b""),
    (Write(5, 0, 8), b"x" * 100),
    (Write(5, 100, 9), bytes(range(256)) * 1200),
    (Unlink(1, b"a", 10), b""),
]


def make(path: Path, *, is_closed: bool, is_synced: bool = False) -> list[int]:
    """Makes a journal of RECORDS and returns where each of them ends, the heading first."""
    journal = Journal.create(RootedPath.of(path), HEADING)
    ends = [journal.end]
    for record, data in RECORDS:
        journal.append(record, data)
        ends.append(journal.end)
    if is_synced:
        journal.sync()
        journal.mark_synced()
    if is_closed:
        journal.finish()
    else:
        journal.close()
    return ends


def contents(journal: Journal) -> list[tuple[Record, bytes]]:
    found = []
    for at in journal.records():
        record = decode_stored(at)
        if not isinstance(record, Synced):
            found.append((record, journal.read(at.data_position, at.data_bytes)))
    return found


def reopened(path: Path) -> tuple[list[tuple[Record, bytes]], bool, int]:
    journal = Journal.open(RootedPath.of(path))
    try:
        return contents(journal), journal.was_cut, journal.seq
    finally:
        journal.close()


def test_a_journal_of_an_older_format_continues_with_its_checksums(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal.create(RootedPath.of(path), Heading(OLD_FORMAT, "main", 1, b"", 1))
    journal.append(*RECORDS[0])
    journal.append(*RECORDS[1])
    journal.close()
    journal = Journal.open(RootedPath.of(path))
    journal.append(*RECORDS[2])
    journal.append_all([RECORDS[3][0]])
    assert not list(journal.damaged_data())
    raw = path.read_bytes()
    for found in journal.records():
        data = raw[found.data_position : found.data_position + found.data_bytes]
        assert found.data_sum == (digest64(data) if data else 0)
        assert not found.flags
    journal.close()
    assert reopened(path)[0] == RECORDS


@pytest.mark.parametrize("is_closed", [True, False])
def test_records_come_back_with_their_data_and_numbers(tmp_path: Path, is_closed: bool) -> None:
    make(tmp_path / "j", is_closed=is_closed)
    assert reopened(tmp_path / "j") == (RECORDS, False, 5)


def test_a_journal_torn_at_any_byte_keeps_the_records_before(tmp_path: Path) -> None:
    """Every length around the ends of records, and some between."""
    ends = make(tmp_path / "whole", is_closed=False)
    whole = (tmp_path / "whole").read_bytes()
    lengths = {length for end in ends for length in range(end - 60, end + 61)} | set(range(ends[0], ends[-1], 997))
    for length in sorted(length for length in lengths if ends[0] <= length <= ends[-1]):
        path = tmp_path / "torn"
        path.write_bytes(whole[:length])
        kept = sum(end <= length for end in ends) - 1
        assert reopened(path) == (RECORDS[:kept], length not in ends, kept + 1)
        assert path.stat().st_size == ends[kept]


@given(st.data())
@pytest.mark.parametrize("is_synced", [True, False])
def test_a_flipped_bit_takes_no_record_with_it_without_a_word(
    tmp_path_factory: pytest.TempPathFactory, is_synced: bool, data: st.DataObject
) -> None:
    """Nothing is cut where whole records follow, or where all was durable; what is cut is kept."""
    path = tmp_path_factory.mktemp("flip") / "j"
    ends = make(path, is_closed=False, is_synced=is_synced)
    position = data.draw(st.integers(ends[0], ends[-1] - 1))
    flipped = bytearray(path.read_bytes())
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(flipped)
    number = sum(end <= position for end in ends) - 1
    is_last = number == len(RECORDS) - 1
    refused = ""
    found: list[tuple[Record, bytes]] = []
    was_cut = False
    try:
        found, was_cut, _ = reopened(path)
    except Corrupt as error:
        refused = error.message
    if refused:
        assert f"damaged at byte {ends[number]}" in refused
        assert path.read_bytes() == flipped
        assert is_synced or not is_last
        assert whole_records(path) == [*RECORDS[:number], *RECORDS[number + 1 :]]
    elif was_cut:
        # A bit of the data of a record that ends with a zero looks as if a power cut had torn it.
        assert not is_synced
        assert is_last or (RECORDS[number][1] and not flipped[ends[number + 1] - 1])
        assert found == RECORDS[:number]
        (kept,) = path.parent.glob("*.cut")
        assert path.read_bytes() + kept.read_bytes() == bytes(flipped)
    else:
        # A bit of the data of a record: the others are there, and a reader of all gets an error.
        assert check_file(RootedPath.of(path))
        assert [record for record, _ in found] == [record for record, _ in RECORDS]


def whole_records(path: Path) -> list[tuple[Record, bytes]]:
    """Returns what a recovery finds in a damaged journal."""
    journal = Journal.inspect(RootedPath.of(path), passes_damage=True)
    try:
        return contents(journal)
    finally:
        journal.close()


def test_data_that_was_durable_is_not_read_again(tmp_path: Path) -> None:
    """CommittedTree by a change that only reading would find: the cost of opening does not follow what was synced."""
    path = tmp_path / "j"
    journal = Journal.create(RootedPath.of(path), HEADING)
    position = journal.append(Write(5, 0, 8), b"x" * 100)
    journal.sync()
    journal.append(Unlink(1, b"a", 9))
    journal.close()
    with path.open("r+b") as file:
        file.seek(position)
        file.write(b"y")
    assert len(reopened(path)[0]) == 2


def test_damage_in_a_closed_journal_is_reported_and_nothing_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "j"
    ends = make(path, is_closed=True)
    damaged = bytearray(path.read_bytes())
    damaged[ends[1] + 5] ^= 1
    path.write_bytes(damaged)
    journal = Journal.open(RootedPath.of(path))
    with pytest.raises(Corrupt, match="damaged at byte"):
        list(journal.records())
    journal.close()
    assert path.read_bytes() == damaged


def test_a_group_of_records_counts_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal.create(RootedPath.of(path), HEADING)
    journal.append(RECORDS[0][0])
    before = journal.end
    journal.append_all([Unlink(1, b"a", 1), Unlink(1, b"b", 2), Unlink(1, b"c", 3)])
    end = journal.end
    journal.close()
    os.truncate(path, end - 1)
    assert reopened(path) == ([RECORDS[0]], True, 2)
    assert path.stat().st_size == before


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Lets the kernel refuse to write behind a size, in the middle of a write if it has to: a full disk's manners."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("room", [0, 1, 30, 100, 5000])
def test_an_append_without_room_leaves_nothing_behind(tmp_path: Path, room: int) -> None:
    path = tmp_path / "j"
    journal = Journal.create(RootedPath.of(path), HEADING)
    journal.append(*RECORDS[0])
    end, seq = journal.end, journal.seq
    with file_size_limit(end + room), pytest.raises(OSError, match=r"File too large|\[Errno 27\]"):
        journal.append(Write(5, 0, 1), b"z" * 10_000)
    assert (journal.end, journal.seq, path.stat().st_size) == (end, seq, end)
    journal.append(*RECORDS[1])
    journal.close()
    assert reopened(path) == (RECORDS[:2], False, 3)


def test_the_rest_of_a_failed_append_goes_before_the_next_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes half of a record, and cannot shorten the file again (docs/durability.md, W2)."""

    def refuse(_fd: int, _size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    path = tmp_path / "j"
    journal = Journal.create(RootedPath.of(path), HEADING)
    journal.append(*RECORDS[0])
    end = journal.end
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        with file_size_limit(end + 5000), pytest.raises(OSError, match=r"File too large|\[Errno 27\]"):
            journal.append(Write(5, 0, 1), b"z" * 10_000)
        with pytest.raises(OSError, match="Input/output"):
            journal.append(*RECORDS[1])
    assert (journal.end, path.stat().st_size) == (end, end + 5000)
    journal.append(*RECORDS[1])
    assert path.stat().st_size == journal.end
    journal.close()
    assert reopened(path) == (RECORDS[:2], False, 3)


def test_a_torn_tail_is_cut_off_although_the_disk_has_no_room_to_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "j"
    ends = make(path, is_closed=False)
    os.truncate(path, ends[3] - 5)
    with file_size_limit(10):
        assert reopened(path) == (RECORDS[:2], True, 3)
    assert os.listdir(tmp_path) == ["j"]
    assert path.stat().st_size == ends[2]


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    for content in (b"", b"short", b"x" * 500):
        path.write_bytes(content)
        with pytest.raises(Corrupt):
            Journal.open(RootedPath.of(path))
    make(path, is_closed=True)
    damaged = bytearray(path.read_bytes())
    damaged[30] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(Corrupt, match="heading"):
        Journal.open(RootedPath.of(path))


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal.create(RootedPath.of(path), Heading(CHECKPOINT_FORMAT + 1, "main", 1, b"", 1)).close()
    with pytest.raises(Unsupported, match="format"):
        Journal.open(RootedPath.of(path))


def test_steps_are_announced_before_they_are_taken(tmp_path: Path) -> None:
    steps: list[str] = []
    journal = Journal.create(RootedPath(tmp_path, "j"), HEADING, on_step=steps.append)
    journal.append(*RECORDS[0])
    journal.sync()
    journal.sync()
    journal.remove()
    journal.close()
    assert steps == ["write j", "sync directory of j", "sync j", "remove j"]


class Failing:
    """Makes the steps of some names fail, each the first time it is taken."""

    def __init__(self, *names: str) -> None:
        self.left = list(names)

    def __call__(self, step: str) -> None:
        if step in self.left:
            self.left.remove(step)
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("also", [[], ["write j again"], ["sync directory of j", "sync directory of j"]])
def test_after_a_failed_sync_everything_is_in_a_new_file(also: list[str], tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal.create(RootedPath.of(path), HEADING, on_step=(failing := Failing()))
    failing.left = ["sync j", *also]
    # Open, so that no other file gets its number.
    before = path.open("rb")
    position = journal.append(*RECORDS[1])
    for _ in ("sync j", *also):
        with pytest.raises(OSError, match="Input/output"):
            journal.sync()
    journal.append(*RECORDS[2])
    journal.sync()
    assert not os.path.samestat(path.stat(), os.fstat(before.fileno()))
    before.close()
    journal.append(*RECORDS[3])
    assert journal.read(position, 100) == RECORDS[1][1]
    journal.finish()
    assert [name.name for name in tmp_path.iterdir()] == ["j"]
    assert reopened(path)[:2] == (RECORDS[1:], False)


def test_bytes_that_the_kernel_dropped_after_a_failed_sync_are_missed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = Journal.create(RootedPath.of(path), HEADING, on_step=Failing("sync j"))
    position = journal.append(*RECORDS[1])
    with pytest.raises(OSError, match="Input/output"):
        journal.sync()
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, bytes(100), position)
    os.close(fd)
    for _ in range(2):
        with pytest.raises(OSError, match="lost from byte"):
            journal.sync()
    journal.close()
    assert [name.name for name in tmp_path.iterdir()] == ["j"]


def test_a_reader_keeps_a_closed_journal_readable(tmp_path: Path) -> None:
    journal = Journal.create(RootedPath(tmp_path, "j"), HEADING)
    position = journal.append(Write(5, 0, 8), b"abc")
    journal.hold()
    journal.remove()
    journal.close()
    assert journal.read(position, 3) == b"abc"
    journal.release()
    with pytest.raises(OSError, match="used after it was closed"):
        journal.read(position, 3)


def test_bytes_cut_off_behind_our_back_are_an_error(tmp_path: Path) -> None:
    journal = Journal.create(RootedPath(tmp_path, "j"), HEADING)
    position = journal.append(Write(5, 0, 8), b"abc" * 100)
    os.truncate(tmp_path / "j", position + 10)
    with pytest.raises(Corrupt, match="shorter"):
        journal.read(position, 300)
    journal.close()
