"""Tables: ordered maps, and what happens to them on damage, full disks and with other processes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.engine import Crash, StopAfter
from support.pages import forget_pages, pages_in_memory, wait_for_pages
from support.threads import together
from vfs.api.hints import hint_text
from vfs.backend.rooted_path import Planted
from vfs.errors import Busy, Corrupt, TooLarge
from vfs.store.lmdb_environment import DamagedTables
from vfs.store.lmdb_tables import KEY_BYTES_MAX, Tables, discard

MAP = 1 << 26


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[Tables]:
    opened = Tables(tmp_path / "t", ["one", "two"], map_bytes=MAP)
    yield opened
    opened.close()


def fill(tables: Tables, rows: dict[bytes, bytes], table: str = "one") -> None:
    with tables.write() as batch:
        for key, value in rows.items():
            batch.put(table, key, value)


def test_values_are_found_in_their_table_alone(tables: Tables) -> None:
    fill(tables, {b"k": b"v", b"empty": b""})
    assert tables.get("one", b"k") == b"v"
    assert tables.get("one", b"empty") == b""
    assert tables.get("two", b"k") is None
    assert tables.has("one", b"k")
    assert not tables.has("two", b"k")
    assert tables.count("one") == 2


def test_stored_rows_stand_one_behind_the_other_with_their_checksums(tables: Tables) -> None:
    fill(tables, {b"a": b"12", b"b": b"34", b"long": b"567"})
    rows = tables.stored_rows("one", [b"b", b"none", b"a", b"long", b"b"], bytes(6))
    parts = [rows[at : at + 6] for at in range(0, len(rows), 6)]
    a, b = (tables.seal("one", key, value) for key, value in ((b"a", b"12"), (b"b", b"34")))
    assert parts == [b, bytes(6), a, bytes(6), b]
    assert tables.stored_rows("two", [], bytes(6)) == b""


def test_a_directory_may_have_any_name_that_a_file_may(tmp_path: Path) -> None:
    directory = tmp_path / os.fsdecode(b"no \xff utf-8")
    tables = Tables(directory, ["one"], map_bytes=MAP)
    fill(tables, {b"k": b"v"})
    tables.close()
    assert (directory / "data.mdb").is_file()


def test_a_transaction_sees_its_own_changes_and_an_exception_drops_them(tables: Tables) -> None:
    fill(tables, {b"k": b"old", b"gone": b"x"})

    def change_and_fail() -> None:
        with tables.write() as batch:
            batch.put("one", b"k", b"new")
            assert batch.get("one", b"k") == b"new"
            assert batch.delete("one", b"gone")
            assert batch.get("one", b"gone") is None
            batch.clear("two")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    assert tables.get("one", b"k") == b"old"
    assert tables.get("one", b"gone") == b"x"


def test_the_first_rows_of_a_table_fill_its_pages(tmp_path: Path) -> None:
    rows = [(number.to_bytes(32, "big"), bytes(20)) for number in range(20_000)]
    opened = Tables(tmp_path / "filled", ["one"])
    with opened.write() as batch:
        assert batch.put_new("one", iter(rows + rows[-1:])) == len(rows)
    assert [row[0] for row in opened.scan("one")] == [row[0] for row in rows]
    opened.close()
    assert (tmp_path / "filled/data.mdb").stat().st_size < 70 * len(rows)


def test_put_new_keeps_existing_rows(tables: Tables) -> None:
    fill(tables, {b"b": b"old"})
    with tables.write() as batch:
        assert batch.put_new("one", iter([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")])) == 2
    assert list(tables.scan("one")) == [(b"a", b"1"), (b"b", b"old"), (b"c", b"3")]


KEYS = st.binary(min_size=1, max_size=4)


@given(
    rows=st.dictionaries(KEYS | st.sampled_from([b"\xff", b"\xff\xff", b"p\xff", b"p"]), st.binary(max_size=3)),
    prefix=st.binary(max_size=2) | st.sampled_from([b"\xff", b"p\xff"]),
    start=st.binary(max_size=4),
    reverse=st.booleans(),
)
def test_scan_agrees_with_a_sorted_dict(
    tmp_path_factory: pytest.TempPathFactory,
    rows: dict[bytes, bytes],
    prefix: bytes,
    start: bytes,
    reverse: bool,
) -> None:
    # From `start` on, where it has the prefix; a start elsewhere is a mistake of the caller's.
    start = prefix + start if start else b""
    tables = Tables(tmp_path_factory.mktemp("t"), ["one"], map_bytes=MAP)
    try:
        fill(tables, rows)
        expected = sorted((item for item in rows.items() if item[0].startswith(prefix)), reverse=reverse)
        if start:
            expected = [item for item in expected if (item[0] <= start if reverse else item[0] >= start)]
        assert list(tables.scan("one", prefix, start=start, reverse=reverse)) == expected
    finally:
        tables.close()


def test_scan_continues_over_pages_while_rows_change(tables: Tables) -> None:
    fill(tables, {b"%06d" % number: b"v" for number in range(2000)})
    seen = []
    for key, _ in tables.scan("one"):
        seen.append(key)
        if len(seen) == 600:
            with tables.write() as batch:
                batch.delete("one", b"%06d" % 511)
                batch.delete("one", b"%06d" % 1999)
    assert seen == [b"%06d" % number for number in range(1999)]
    assert [key for key, _ in tables.scan("one", reverse=True)] == [
        b"%06d" % number for number in reversed(range(1999)) if number != 511
    ]


def test_delete_prefix_starts_at_the_given_key(tables: Tables) -> None:
    fill(tables, dict.fromkeys((b"a1", b"a2", b"a3", b"b1"), b""))
    with tables.write() as batch:
        batch.delete_prefix("one", b"a", start=b"a2")
    assert [key for key, _ in tables.scan("one")] == [b"a1", b"b1"]
    with tables.write() as batch:
        batch.delete_prefix("one", b"a")
        assert batch.last("one") == (b"b1", b"")
        assert batch.last("two") is None
    assert [key for key, _ in tables.scan("one")] == [b"b1"]


def test_a_key_beyond_the_limit_is_refused(tables: Tables) -> None:
    for key in (b"", b"x" * (KEY_BYTES_MAX + 1)):
        with pytest.raises(TooLarge), tables.write() as batch:
            batch.put("one", key, b"v")


def test_a_flipped_bit_of_a_value_is_noticed(tmp_path: Path) -> None:
    tables = Tables(tmp_path / "t", ["one"], map_bytes=MAP)
    fill(tables, {b"key-number-one": b"the value of number one", b"other": b"fine"})
    tables.close()
    path = tmp_path / "t" / "data.mdb"
    data = bytearray(path.read_bytes())
    at = data.find(b"the value of number one")
    while at >= 0:
        data[at + 4] ^= 1
        at = data.find(b"the value of number one", at + 1)
    path.write_bytes(data)
    tables = Tables(tmp_path / "t", ["one"], map_bytes=MAP)
    try:
        with pytest.raises(DamagedTables):
            tables.get("one", b"key-number-one")
        with pytest.raises(DamagedTables):
            list(tables.scan("one"))
        with pytest.raises(DamagedTables), tables.write() as batch:
            batch.get("one", b"key-number-one")
        assert tables.get("one", b"other") == b"fine"
    finally:
        tables.close()


def test_a_row_that_turns_up_under_another_key_is_noticed(tmp_path: Path) -> None:
    tables = Tables(tmp_path / "t", ["one"], map_bytes=MAP)
    fill(tables, {b"key-aaaa": b"value"})
    tables.close()
    path = tmp_path / "t" / "data.mdb"
    path.write_bytes(path.read_bytes().replace(b"key-aaaa", b"key-aaab"))
    tables = Tables(tmp_path / "t", ["one"], map_bytes=MAP)
    try:
        assert tables.get("one", b"key-aaaa") is None
        with pytest.raises(DamagedTables):
            tables.get("one", b"key-aaab")
    finally:
        tables.close()


def test_a_truncated_file_is_refused_before_it_is_mapped(tmp_path: Path) -> None:
    directory = tmp_path / "t"
    tables = Tables(directory, ["one"], map_bytes=MAP)
    fill(tables, {b"%06d" % number: bytes(100) for number in range(2000)})
    tables.close()
    path = directory / "data.mdb"
    whole = path.read_bytes()
    for size in (1, 5000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedTables):
            Tables(directory, ["one"], map_bytes=MAP)
    discard(directory)
    Tables(directory, ["one"], map_bytes=MAP).close()


def test_a_copy_is_not_trusted_because_it_may_be_torn_or_built_to_do_harm(tmp_path: Path) -> None:
    tables = Tables(tmp_path / "t", ["one"], map_bytes=MAP)
    fill(tables, {b"k": b"v"})
    tables.close()
    for name, files in (("whole", ["data.mdb", "lock.mdb", "origin"]), ("data", ["data.mdb"])):
        (tmp_path / name).mkdir()
        for file in files:
            shutil.copy(tmp_path / "t" / file, tmp_path / name / file)
        with pytest.raises(DamagedTables, match="copy from elsewhere"):
            Tables(tmp_path / name, ["one"], map_bytes=MAP)
        discard(tmp_path / name)
        assert os.listdir(tmp_path / name) == []
        Tables(tmp_path / name, ["one"], map_bytes=MAP).close()
    (tmp_path / "t").rename(tmp_path / "moved")
    tables = Tables(tmp_path / "moved", ["one"], map_bytes=MAP)
    assert tables.get("one", b"k") == b"v"
    tables.close()


def test_the_file_holds_all_pages_that_its_header_counts(tmp_path: Path) -> None:
    """Pages that a transaction takes and frees again are never written; the next open must not call that damage."""
    directory = tmp_path / "t"
    tables = Tables(directory, ["one"], map_bytes=MAP)
    for turn in range(30):
        with tables.write() as batch:
            for number in range(500):
                batch.put("one", b"%03d-%06d" % (turn, number), bytes(1000 + turn * 100))
            for number in range(500):
                batch.delete("one", b"%03d-%06d" % (turn, number))
        tables.close()
        tables = Tables(directory, ["one"], map_bytes=MAP)
    tables.close()


def test_a_data_file_removed_by_hand_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "origin").write_text("12345678901234567890\n")
    for _ in range(2):
        Tables(tmp_path / "t", ["one"], map_bytes=MAP).close()


@pytest.mark.parametrize("size", [0, 4096, 100_000])
def test_a_file_of_something_else_is_refused_or_begun(tmp_path: Path, size: int) -> None:
    directory = tmp_path / "t"
    directory.mkdir()
    (directory / "data.mdb").write_bytes(os.urandom(size))
    if size == 0:
        Tables(directory, ["one"], map_bytes=MAP).close()
        return
    with pytest.raises(DamagedTables):
        Tables(directory, ["one"], map_bytes=MAP)


@pytest.mark.parametrize("name", ["data.mdb", "lock.mdb", "origin"])
def test_links_are_refused_so_that_nothing_outside_is_written(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    for make in (Path.symlink_to, Path.hardlink_to):
        directory = tmp_path / make.__name__
        directory.mkdir()
        make(directory / name, outside)
        with pytest.raises(DamagedTables):
            Tables(directory, ["one"], map_bytes=MAP)
    # Not damage that a new file would mend: what the link leads to is another's.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.mdb").write_bytes(b"another's")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    for use in (lambda path: Tables(path, ["one"], map_bytes=MAP), discard):
        with pytest.raises(Planted):
            use(tmp_path / "link")
    assert (tmp_path / "other" / "data.mdb").read_bytes() == b"another's"
    assert outside.read_bytes() == b""


def test_a_full_map_is_a_full_disk_and_loses_nothing(tmp_path: Path) -> None:
    tables = Tables(tmp_path / "t", ["one"], map_bytes=1 << 18)
    fill(tables, {b"k": b"v"})
    with pytest.raises(OSError) as caught:
        fill(tables, {b"%06d" % number: bytes(1000) for number in range(2000)})
    assert caught.value.errno == errno.ENOSPC
    assert list(tables.scan("one")) == [(b"k", b"v")]
    fill(tables, {b"k2": b"v2"})
    tables.close()


def test_a_second_opening_in_one_process_is_refused(tables: Tables, tmp_path: Path) -> None:
    with pytest.raises(Busy):
        Tables(tmp_path / "t", ["one", "two"], map_bytes=MAP)
    assert tables.get("one", b"k") is None


def test_a_crash_before_the_commit_leaves_the_old_rows(tmp_path: Path) -> None:
    stop = StopAfter(1)
    tables = Tables(tmp_path / "t", ["one"], map_bytes=MAP, on_step=stop)
    fill(tables, {b"k": b"old"})
    with pytest.raises(Crash):
        fill(tables, {b"k": b"new"})
    tables.close()
    tables = Tables(tmp_path / "t", ["one"], map_bytes=MAP)
    assert tables.get("one", b"k") == b"old"
    tables.close()


def test_threads_read_while_another_writes(tables: Tables) -> None:
    done = threading.Event()
    fill(tables, {b"%d" % number: b"0" for number in range(10)})

    def read(_number: int) -> None:
        while not done.is_set():
            # All rows change in one transaction, so that a reader never sees two values.
            assert len({value for _, value in tables.scan("one")}) == 1
            tables.get("one", b"3")

    def write() -> None:
        for turn in range(50):
            fill(tables, {b"%d" % number: b"%d" % turn for number in range(10)})
        done.set()

    together(3, read, write)


def _count(directory: str, table: str, turns: int) -> None:
    tables = Tables(Path(directory), ["one"], map_bytes=MAP)
    for _ in range(turns):
        with tables.write() as batch:
            value = int(batch.get(table, b"count") or b"0")
            batch.put(table, b"count", b"%d" % (value + 1))
    tables.close()


def _open_and_close(directory: str, turns: int) -> None:
    for _ in range(turns):
        Tables(Path(directory), ["one"], map_bytes=MAP).close()


def test_a_file_that_grows_while_it_is_opened_is_not_taken_for_damaged(tmp_path: Path) -> None:
    tables = Tables(tmp_path / "t", ["one"], map_bytes=MAP)
    other = multiprocessing.get_context("spawn").Process(target=_open_and_close, args=(str(tmp_path / "t"), 150))
    other.start()
    turn = 0
    while other.is_alive():
        turn += 1
        with tables.write() as batch:
            for number in range(20):
                batch.put("one", b"%06d-%06d" % (turn % 50, number), bytes(500 + turn % 3000))
    assert other.exitcode == 0
    tables.close()


def test_processes_write_one_after_the_other_and_see_each_other(tmp_path: Path) -> None:
    tables = Tables(tmp_path / "t", ["one"], map_bytes=MAP)
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=_count, args=(str(tmp_path / "t"), "one", 25)) for _ in range(2)]
    for other in others:
        other.start()
    for _ in range(25):
        with tables.write() as batch:
            value = int(batch.get("one", b"count") or b"0")
            batch.put("one", b"count", b"%d" % (value + 1))
    for other in others:
        other.join()
        assert other.exitcode == 0
    assert tables.get("one", b"count") == b"75"
    tables.close()


def test_damage_is_an_error_that_callers_can_tell(tables: Tables) -> None:
    assert issubclass(DamagedTables, Corrupt)
    assert "rebuild-index" in hint_text(DamagedTables("x").hint)


def test_what_will_be_needed_is_read_up_to_a_size(disk_path: Path) -> None:
    tables = Tables(disk_path, ["one", "two"], map_bytes=MAP)
    fill(tables, {b"%d" % number: bytes(500) for number in range(1000)})
    path = disk_path / "data.mdb"
    tables.close()
    forget_pages(path)
    again = Tables(disk_path, ["one", "two"], map_bytes=MAP)
    try:
        assert not all(pages_in_memory(path)[8:64])
        again.hint_readahead(64 * 4096)
        wait_for_pages(path, range(64))
        assert not all(pages_in_memory(path))
        assert again.get("one", b"7") == bytes(500)
    finally:
        again.close()


def test_every_page_of_every_tree_is_checked_also_beside_a_writer(tmp_path: Path) -> None:
    directory = tmp_path / "t"
    tables = Tables(directory, ["one", "two"], map_bytes=MAP)
    rows = {b"%06d" % number: os.urandom(40) for number in range(3000)}
    fill(tables, rows | {b"large": os.urandom(20_000)})
    fill(tables, {b"k": b"v"}, "two")
    tables.check()
    done = threading.Event()

    def write() -> None:
        for number in range(200):
            fill(tables, {b"%06d" % (number * 7): os.urandom(30)})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        tables.check()
    writer.join()
    tables.close()
    whole = (directory / "data.mdb").read_bytes()
    found = 0
    for page in range(2, len(whole) // 4096):
        damaged = bytearray(whole)
        damaged[page * 4096 + page % 8] ^= 1 << page % 7
        (directory / "data.mdb").write_bytes(damaged)
        tables = Tables(directory, ["one", "two"], map_bytes=MAP)
        try:
            tables.check()
        except DamagedTables:
            found += 1
        tables.close()
    # All but those that are free, and what follows the first page of a large value.
    assert found > 40
