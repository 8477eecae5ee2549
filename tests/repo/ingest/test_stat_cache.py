"""The import's memory: what it finds again, what it takes on disk, what damage does to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.errors import Corrupt
from vfs.model.ids import chunk_id
from vfs.model.objects import Content, Entry, Form, Kind
from vfs.repo.ingest.stat_cache import StatCache, row_of
from vfs.repo.ingest.stat_cache_blocks import BLOCK_INODES, EMPTY_BLOCK, Known, decode_block
from vfs.store.lmdb_tables import Tables
from vfs.store.packs.compression import Compression

SECOND = 10**9
FIRST_NS = 1_795_574_000 * SECOND


def state(inode: int, size: int = 1000, mtime_ns: int = FIRST_NS, ctime_ns: int = FIRST_NS) -> os.stat_result:
    """Returns what `stat` says of a regular file."""
    times = {"st_atime_ns": 0, "st_mtime_ns": mtime_ns, "st_ctime_ns": ctime_ns}
    return os.stat_result((0o100644, inode, 7, 1, 0, 0, size, 0, mtime_ns // SECOND, ctime_ns // SECOND), times)


def content(number: int, form: Form = Form.CHUNK, size: int = 1000) -> Content:
    return Content(form, chunk_id(str(number).encode()), size)


def entry_of(content: Content) -> Entry:
    return Entry(b"name", Kind.FILE, 0o644, 0, 0, 0, content.size, content.id, content.form)


def test_a_file_is_found_in_the_state_in_which_it_was_read_alone(tmp_path: Path) -> None:
    status = state(2**63 + 5, mtime_ns=-1, ctime_ns=FIRST_NS + 1)
    xattrs = ((b"user.a", b"\0" * 300),)
    with StatCache(tmp_path / "cache") as cache:
        assert cache.find(status) is None
        read = Content(Form.LIST, chunk_id(b"list"), 1000, 24)
        cache.remember([row_of(status, read, xattrs)])
    with StatCache(tmp_path / "cache") as cache:
        known = cache.find(status)
        assert known is not None
        assert (known.form, known.id, known.hole_bytes, known.xattrs) == (Form.LIST, read.id, 24, xattrs)
        assert cache.find(state(2**63 + 5, 1001, -1, FIRST_NS + 1)) is None
        assert cache.find(state(2**63 + 5, 1000, -2, FIRST_NS + 1)) is None
        assert cache.find(state(2**63 + 5, 1000, -1, FIRST_NS + 2)) is None
        assert cache.find(state(2**63 + 6, 1000, -1, FIRST_NS + 1)) is None


def test_later_rows_take_the_place_of_earlier_ones_and_leave_their_neighbours(tmp_path: Path) -> None:
    with StatCache(tmp_path / "cache") as cache:
        cache.remember(row_of(state(inode), content(inode), ()) for inode in range(3 * BLOCK_INODES))
        changed = state(2700, ctime_ns=FIRST_NS + 9)
        assert cache.find(changed) is None, "the block is at hand when it is changed"
        cache.remember([row_of(changed, content(-1), ())])
        found = cache.find(changed)
        assert found is not None
        assert found.id == content(-1).id
        assert cache.find(state(2700)) is None
        for inode in (0, 2699, 2701, 3 * BLOCK_INODES - 1):
            neighbour = cache.find(state(inode))
            assert neighbour is not None
            assert neighbour.id == content(inode).id


def test_a_hundred_thousand_small_files_take_under_12_bytes_each(tmp_path: Path) -> None:
    files = 100_000
    with StatCache(tmp_path / "cache") as cache:
        rows = (
            row_of(state(3_000_000 + n, 900 + n * 7919 % 500, FIRST_NS + n * 4_000_000), content(n, Form.TINY), ())
            for n in range(files)
        )
        cache.remember(rows)
    assert (tmp_path / "cache/data.mdb").stat().st_size < 12 * files


def test_a_tiny_file_is_known_where_the_previous_version_has_its_content_alone(tmp_path: Path) -> None:
    read, other = content(1, Form.TINY), content(2, Form.TINY)
    with StatCache(tmp_path / "cache") as cache:
        cache.remember([row_of(state(1), read, ())])
        known = cache.find(state(1), entry_of(read))
        assert known is not None
        assert known.form == Form.TINY
        assert cache.find(state(1), entry_of(other)) is None
        assert cache.find(state(1), entry_of(content(1, Form.CHUNK))) is None
        assert cache.find(state(1)) is None
        assert cache.find(state(1, mtime_ns=FIRST_NS + 1), entry_of(read)) is None


def test_tags_of_two_caches_differ(tmp_path: Path) -> None:
    tags = set()
    for name in ("one", "two"):
        with StatCache(tmp_path / name) as cache:
            cache.remember([row_of(state(1), content(1), ())])
            tags.add(cache.find(state(1)).tag)  # type: ignore[union-attr]
    assert len(tags) == 2


def test_without_its_secret_no_row_counts(tmp_path: Path) -> None:
    with StatCache(tmp_path / "cache") as cache:
        cache.remember([row_of(state(1), content(1), ())])
    tables = Tables(tmp_path / "cache", ["rows"])
    with tables.write() as batch:
        batch.delete("rows", b"secret")
    tables.close()
    with StatCache(tmp_path / "cache") as cache:
        assert cache.find(state(1)) is None
        cache.remember([row_of(state(1), content(1), ())])
        assert cache.find(state(1)) is not None


def test_a_damaged_block_is_worth_as_much_as_none_and_is_written_anew(tmp_path: Path) -> None:
    with StatCache(tmp_path / "cache") as cache:
        cache.remember(row_of(state(inode), content(inode), ()) for inode in (1, BLOCK_INODES))
    tables = Tables(tmp_path / "cache", ["rows"])
    (first, whole), *_ = tables.scan("rows")
    with tables.write() as batch:
        batch.put("rows", first, whole[:-1])
    tables.close()
    with StatCache(tmp_path / "cache") as cache:
        assert cache.find(state(1)) is None
        assert cache.find(state(BLOCK_INODES)) is not None
        cache.remember([row_of(state(2), content(2), ())])
        assert cache.find(state(2)) is not None


@pytest.mark.parametrize("table", ["files", "blocks"])
def test_what_earlier_programs_remembered_is_thrown_away(tmp_path: Path, table: str) -> None:
    old = Tables(tmp_path / "cache", [table])
    with old.write() as batch:
        for number in range(10_000):
            batch.put(table, number.to_bytes(16, "big"), b"x" * 80)
    old.close()
    assert (tmp_path / "cache/data.mdb").stat().st_size > 1_000_000
    with StatCache(tmp_path / "cache") as cache:
        cache.remember([row_of(state(1), content(1), ())])
        assert cache.find(state(1)) is not None
    assert (tmp_path / "cache/data.mdb").stat().st_size < 100_000


knowns = st.builds(
    Known,
    tag=st.integers(0, 2**64 - 1),
    form=st.sampled_from([Form.LIST, Form.CHUNK]),
    id=st.binary(min_size=32, max_size=32),
    hole_bytes=st.integers(0, 2**63 - 1),
    xattrs=st.sampled_from([(), ((b"user.a", b"1"), (b"user.b", b""))]),
) | st.builds(
    Known,
    tag=st.integers(0, 2**64 - 1),
    form=st.sampled_from([Form.EMPTY, Form.TINY]),
    id=st.just(b""),
    hole_bytes=st.just(0),
    xattrs=st.just(()),
)


@given(st.lists(st.dictionaries(st.integers(0, BLOCK_INODES - 1), knowns, max_size=8), max_size=4))
def test_a_block_is_the_map_of_what_was_put(changes: list[dict[int, Known]]) -> None:
    block, model = EMPTY_BLOCK, dict[int, Known]()
    for rows in changes:
        block = decode_block(block.with_rows(rows).encode(Compression()), Compression())
        model.update(rows)
    assert {inode: block.find(inode) for inode in range(BLOCK_INODES) if block.find(inode) is not None} == model


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:4],
        lambda whole: whole[:-1],
        lambda whole: b"\xff" * 4 + whole[4:],
        lambda whole: whole[:4] + b"\x09" + whole[5:],
        lambda whole: Compression().compress(b"\x91\x01")[1],
    ],
)
def test_an_invalid_block_is_refused(damage: Callable[[bytes], bytes]) -> None:
    known = Known(1, Form.EMPTY, b"", 0, ())
    whole = EMPTY_BLOCK.with_rows(dict.fromkeys(range(100), known)).encode(Compression())
    assert decode_block(whole, Compression()).find(99) == known
    with pytest.raises(Corrupt):
        decode_block(damage(whole), Compression())
