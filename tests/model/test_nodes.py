"""Nodes: grouping is a function of the items, encoding is canonical, and nothing malformed is decoded."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.errors import Corrupt
from vfs.model.nodes import (
    ITEMS_MAX,
    LEAF_FANOUT,
    LEVEL_MAX,
    NodeCutter,
    NodeKind,
    cut_nodes,
    decode_commit,
    decode_node,
    encode_commit,
    encode_node,
    sums,
)
from vfs.model.objects import ChildRef, ChunkRef, Commit, Entry, Form, Kind, TinyItem


def entry(name: bytes, **fields: object) -> Entry:
    values: dict[str, object] = {"kind": Kind.FILE, "mode": 0o644, "uid": 0, "gid": 0, "mtime_ns": 0} | fields
    return Entry(name=name, **values)  # type: ignore[arg-type]


def test_an_entry_with_every_field_survives_a_round_trip() -> None:
    full = entry(
        b"\xff\x80name",
        mode=0o4755,
        uid=2**32 - 1,
        mtime_ns=-1,
        size=2**62,
        content=bytes(32),
        form=Form.LIST,
        hole_bytes=5,
        linked=True,
        xattrs=((b"user.a", b"\0"), (b"user.b", b"")),
    )
    encoded = encode_node(NodeKind.ENTRIES, 0, [full])
    assert decode_node(encoded).items == (full,)


def test_times_after_2038_and_before_1970_are_kept_to_the_nanosecond() -> None:
    items = [entry(b"a", mtime_ns=-(2**62)), entry(b"b", mtime_ns=2**63 - 1)]
    assert list(decode_node(encode_node(NodeKind.ENTRIES, 0, items)).items) == items


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b", b"x" * 256])
def test_a_name_that_no_directory_can_have_is_refused(name: bytes) -> None:
    with pytest.raises(Corrupt):
        decode_node(encode_node(NodeKind.ENTRIES, 0, [entry(name)]))
    with pytest.raises(Corrupt):
        decode_node(encode_node(NodeKind.TINY, 0, [TinyItem(name, b"x")]))


@pytest.mark.parametrize("names", [(b"b", b"a"), (b"a", b"a")])
def test_names_out_of_order_are_refused(names: tuple[bytes, bytes]) -> None:
    with pytest.raises(Corrupt):
        decode_node(encode_node(NodeKind.ENTRIES, 0, [entry(name) for name in names]))


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x01",
        b"\x01\x00\x90",
        b"\x09\x00\x91\x00",
        b"\x01\xff\x91\x00",
        b"\x01\x00\x91\x91\xa1a",
        b"\x01\x00\xdd\xff\xff\xff\xff",
        bytes((1, 0)) + b"\x91" * 5000,
        encode_node(NodeKind.CHUNKS, 0, [ChunkRef(b"x" * 33, 1)]),
        encode_node(NodeKind.CHUNKS, 0, [ChunkRef(b"x" * 32, -1)]),
        encode_node(NodeKind.ENTRIES, 0, [entry(b"a", kind=9)]),
        encode_node(NodeKind.ENTRIES, 0, [entry(b"a", mode=0o10000)]),
        encode_node(NodeKind.ENTRIES, 0, [entry(b"a")])[:-1],
        encode_node(NodeKind.ENTRIES, 0, [entry(b"a")]) + b"\0",
    ],
)
def test_malformed_nodes_are_corrupt_and_nothing_else(encoded: bytes) -> None:
    with pytest.raises(Corrupt):
        decode_node(encoded)


@given(st.binary(max_size=200))
def test_random_bytes_decode_or_are_corrupt(data: bytes) -> None:
    for decode in (decode_node, decode_commit):
        try:
            decode(data)
        except Corrupt:
            pass


@given(st.sets(st.binary(min_size=1, max_size=12), max_size=300), st.integers(0, 300))
def test_a_boundary_is_decided_by_what_follows_the_last_one(names: set[bytes], cut: int) -> None:
    """Grouping the items that follow any boundary gives the groups that the whole gives there."""
    items = [TinyItem(name, b"") for name in sorted(names)]
    groups = list(cut_nodes(NodeKind.TINY, 0, items))
    assert [item for group in groups for item in group] == items
    cut = min(cut, len(groups))
    rest = [item for group in groups[cut:] for item in group]
    assert list(cut_nodes(NodeKind.TINY, 0, rest)) == groups[cut:]


def test_leaves_have_the_stated_mean() -> None:
    items = [TinyItem(b"%08d" % number, b"") for number in range(20_000)]
    groups = list(cut_nodes(NodeKind.TINY, 0, items))
    assert LEAF_FANOUT[NodeKind.TINY] * 0.85 < len(items) / len(groups) < LEAF_FANOUT[NodeKind.TINY] * 1.15


def test_items_without_a_boundary_are_cut_by_number() -> None:
    holes = [ChunkRef(b"", 1)] * (ITEMS_MAX + 1)
    assert [len(group) for group in cut_nodes(NodeKind.CHUNKS, 0, holes)] == [ITEMS_MAX, 1]


def test_heavy_items_are_cut_by_weight() -> None:
    items = [entry(b"%04d" % n, xattrs=((b"user.x", bytes(60_000)),)) for n in range(20)]
    assert max(len(encode_node(NodeKind.ENTRIES, 0, g)) for g in cut_nodes(NodeKind.ENTRIES, 0, items)) < 400_000


def test_ranks_are_a_part_of_the_format() -> None:
    """Golden values: another rank would give equal trees other ids and end all sharing with older versions."""
    names = [b"%d" % number for number in range(20_000)]
    above = [{int(n) for n in names if NodeCutter(NodeKind.ENTRIES, level).ends_by(n)} for level in (0, 1)]
    assert sorted(above[0] - above[1])[:3] == [145, 160, 272]
    assert min(above[1]) == 11546
    chunks = [NodeCutter(NodeKind.CHUNKS, level) for level in range(LEVEL_MAX)]
    assert [each.ends_by((256 * 128).to_bytes(8, "little")) for each in chunks[:4]] == [True, True, False, False]
    assert not any(each.ends_by(b"") for each in chunks)
    # The highest rank is 8, also that of a number which everything divides.
    assert [each.ends_by(bytes(8)) for each in chunks] == [True] * 8 + [False] * (LEVEL_MAX - 8)


def test_sums_count_files_and_bytes_through_directories_and_children() -> None:
    items = [
        entry(b"a", size=5),
        entry(b"d", kind=Kind.DIR, files=3, size=100),
        entry(b"l", kind=Kind.SYMLINK, size=7, content=b"target!"),
    ]
    assert sums(items) == (3, 5, 105)
    assert sums([ChildRef(b"l", bytes(32), 3, 5, 105), ChildRef(b"z", bytes(32), 1, 1, 1)]) == (4, 6, 106)


def test_a_commit_survives_a_round_trip_and_a_root_that_is_no_directory_is_refused() -> None:
    root = entry(b"", kind=Kind.DIR, mode=0o755)
    commit = Commit(3, (bytes(32),), root, b"", 5, "A <a@b>", "why\n", (("k", "v"),))
    assert decode_commit(encode_commit(commit)) == commit
    bad = msgspec.structs.replace(commit, root=entry(b""))
    with pytest.raises(Corrupt):
        decode_commit(encode_commit(bad))
