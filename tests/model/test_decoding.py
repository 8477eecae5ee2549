"""Decoders: whatever bytes say, they give a value that can be or an error of ours, never anything else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from vfs.errors import VfsError
from vfs.model.nodes import NodeKind, decode_commit, decode_node, encode_commit, encode_node, sums
from vfs.model.objects import ChildRef, ChunkRef, Commit, Entry, Form, Kind, LinkItem, TinyItem
from vfs.model.validation import SIZE_MAX
from vfs.overlay.journal.framing import StoredRecord
from vfs.overlay.journal.journal_records import TYPE_OF, Create, Graft, Whiteouts, Write, decode_stored, encode_record
from vfs.repo.config import Config, decode_config, encode_config
from vfs.repo.merge_state import MergeState, decode_file, encode_file
from vfs.store.packs.blocks import OBJECT_BYTES_MAX, parse_header
from vfs.store.packs.compression import BadFrame, Codec, Compression
from vfs.store.refs.operation import Operation, RefChange
from vfs.store.refs.operation_log import decode_text, encode_text

ID = bytes(range(32))
FILE = Entry(b"f", Kind.FILE, 0o644, 0, 0, 1, 9, ID, Form.CHUNK, xattrs=((b"user.a", b"1"),))
ROOT = Entry(b"", Kind.DIR, 0o755, 0, 0, 1, 9, ID, tiny=ID, files=2)
COMMIT = Commit(3, (ID, ID), ROOT, ID, 5, "a", "m", (("k", "v"),))

NODES: list[bytes] = [
    encode_node(NodeKind.ENTRIES, 0, [FILE, msgspec.structs.replace(ROOT, name=b"g")]),
    encode_node(NodeKind.TINY, 0, [TinyItem(b"f", b"bytes")]),
    encode_node(NodeKind.CHUNKS, 0, [ChunkRef(ID, 9), ChunkRef(b"", 2**40)]),
    encode_node(NodeKind.LINKS, 0, [LinkItem(b"a/b", b"a/b", (b"a/b", b"c")), LinkItem(b"c", b"a/b")]),
    encode_node(NodeKind.ENTRIES, 3, [ChildRef(b"k", ID, 7, 5, 9), ChildRef(b"l", ID, 2, 1, 2**62)]),
]

RECORDS = [
    bytes((TYPE_OF[type(made)],)) + encode_record(made)
    for made in (
        Write(5, 0, 9),
        Create(5, 1, b"f", 1, 0o644, 0, 0, 0, 7),
        Graft(5, 1, b"f", FILE, ROOT, 7),
        Whiteouts(1, (b"f",)),
    )
]

NUMBERS = st.sampled_from([-1, 0, 1, 2, 7, 31, 2**31, 2**32, 2**48, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)])
BYTES = st.sampled_from([b"", b"f", b"..", b"a/../b", b"a\0b", b"/", ID, ID[:-1], ID * 2, b"x" * 300])
LEAVES = st.none() | st.booleans() | NUMBERS | BYTES | st.floats() | st.text(max_size=4)
VALUES = st.recursive(LEAVES, lambda below: st.lists(below, max_size=8) | st.dictionaries(st.text(), below, max_size=3))


def node(data: bytes) -> None:
    found = decode_node(data)
    assert max(sums(found.items)) <= SIZE_MAX
    # What was taken can be stored again.
    decode_node(encode_node(found.kind, found.level, found.items))


def commit(data: bytes) -> None:
    decode_commit(encode_commit(decode_commit(data)))


def record(data: bytes) -> None:
    decode_stored(StoredRecord(data[0] % 18, 0, 1, 0, data[1:], 0, 0, 0, 0))


DECODERS: dict[str, tuple[Callable[[bytes], object], list[bytes]]] = {
    "node": (node, NODES),
    "commit": (commit, [encode_commit(COMMIT)]),
    "record": (
        record,
        RECORDS,
    ),
    "log": (decode_text, [encode_text(Operation(1, 2, "k", refs=(RefChange("branches/b", "", ID.hex()),)))]),
    "config": (decode_config, [encode_config(Config(id="0" * 32))]),
    "merge": (decode_file, [encode_file([MergeState(ID.hex(), ID.hex(), [ID.hex()], "n", "m", [])]), b'{"ours":""}']),
    "header": (parse_header, [b"VBK1" + bytes(60)]),
}


def only_ours(decode: Callable[[bytes], object], data: bytes) -> None:
    with suppress(VfsError):
        decode(data)


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=150)
@given(data=st.data())
def test_changed_bytes_give_a_value_or_an_error_of_ours(name: str, data: st.DataObject) -> None:
    decode, samples = DECODERS[name]
    changed = bytearray(data.draw(st.sampled_from(samples)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=4) | BYTES)
        if not changed:
            return
    only_ours(decode, bytes(changed))


@settings(max_examples=200)
@given(level=st.integers(0, 26), items=st.lists(st.lists(LEAVES, max_size=15) | VALUES, max_size=4))
def test_values_of_any_kind_in_a_node_give_a_node_or_an_error_of_ours(level: int, items: object) -> None:
    for kind in (1, 2, 3, 4):
        only_ours(node, bytes((kind, level)) + msgspec.msgpack.encode(items))


@settings(max_examples=400)
@given(changes=st.dictionaries(st.sampled_from(Entry.__struct_fields__), NUMBERS | BYTES | st.just(()), max_size=3))
def test_one_field_of_an_entry_changed_gives_a_node_or_an_error_of_ours(changes: dict[str, object]) -> None:
    fields = [changes.get(name, getattr(FILE, name)) for name in Entry.__struct_fields__]
    only_ours(node, bytes((NodeKind.ENTRIES, 0)) + msgspec.msgpack.encode([fields]))
    only_ours(commit, b"\x01" + msgspec.msgpack.encode([3, [], fields, b"", 5, "a", "m"]))


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("opening", [b"\x91", b"[", b'{"a":', b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"])
def test_what_has_no_end_takes_neither_stack_nor_memory(name: str, opening: bytes) -> None:
    for start in (b"", b"\x01", b"\x01\x00", b'{"format":1,"x":'):
        only_ours(DECODERS[name][0], start + opening * 100_000)


def test_a_compressed_block_that_states_a_huge_size_takes_no_memory() -> None:
    plain = bytes(OBJECT_BYTES_MAX)
    frame = zstandard.ZstdCompressor(level=1).compress(plain)
    bomb = zstandard.ZstdCompressor(level=1, write_content_size=False)
    stream = bomb.compressobj()
    # A gigabyte of zeros in a frame that does not say so.
    endless = b"".join(stream.compress(plain) for _ in range(64)) + stream.flush()
    stated = bytearray(frame)
    at = 5 if stated[4] & 0x20 else 6
    stated[at : at + 4] = b"\xff\xff\xff\x7f"
    for data, size in ((frame, 100), (endless, 100), (endless, OBJECT_BYTES_MAX), (bytes(stated), OBJECT_BYTES_MAX)):
        with pytest.raises(BadFrame):
            Compression().decompress(Codec.ZSTD, data, size)
