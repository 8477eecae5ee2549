"""The small objects of a remote: what one program writes another reads, and nothing else is believed."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.errors import Corrupt, TooLarge, Unsupported
from vfs.model.chunking import ChunkerParams
from vfs.model.ids import check64
from vfs.remote.format import (
    INDEX_BYTES_MAX,
    ROOT_BYTES_MAX,
    IndexName,
    PushLine,
    RefMove,
    RemoteConfig,
    Root,
    StoredPack,
    decode_config,
    decode_index,
    decode_root,
    encode_config,
    encode_index,
    encode_root,
)

ID, NONCE, COMMIT = "a" * 32, "b" * 16, "c" * 64
CONFIG = RemoteConfig(id=ID, chunker=ChunkerParams(), tiny_bytes_max=1024)
LINE = PushLine(1, NONCE, 5, "ana", (RefMove("branches/main", "", COMMIT, 0, 1),), 100)
ROOT = Root(
    format=1,
    id=ID,
    seq=1,
    nonce=NONCE,
    refs={"branches/main": COMMIT, "tags/paper": COMMIT},
    indexes=(IndexName("d" * 32, 100, 2),),
    chain=("e" * 16, NONCE),
    recent=(LINE,),
)


def test_what_is_written_is_read_back() -> None:
    assert msgspec.structs.replace(decode_config(encode_config(CONFIG)), checksum="") == CONFIG
    assert decode_root(encode_root(ROOT)) == ROOT
    packs = [StoredPack(1, bytes(16), 1000, b"table"), StoredPack(2, b"x" * 16, 2000, b"")]
    name, data = encode_index(packs)
    assert decode_index(name, data) == packs
    assert LINE.key == f"log/000000000000001-{NONCE}.json"


@given(st.data())
def test_a_damaged_object_is_refused(data: st.DataObject) -> None:
    name, index = encode_index([StoredPack(1, bytes(16), 1000, b"table")])
    for whole, decode in (
        (encode_config(CONFIG), decode_config),
        (encode_root(ROOT), decode_root),
        (index, lambda damaged: decode_index(name, damaged)),
    ):
        at = data.draw(st.integers(0, len(whole) - 1))
        bit = 1 << data.draw(st.integers(0, 7))
        damaged = whole[:at] + bytes((whole[at] ^ bit,)) + whole[at + 1 :]
        cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
        for wrong in (damaged, cut):
            try:
                decoded = decode(wrong)
            except (Corrupt, Unsupported):
                continue
            # White space of JSON, and the case of a digit, carry nothing.
            assert decoded == decode(whole)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_a_reason(junk: bytes) -> None:
    for decode in (decode_config, decode_root, lambda data: decode_index(IndexName("d" * 32, 0, 0), data)):
        with pytest.raises((Corrupt, Unsupported)):
            decode(junk)


def _root_of(text: bytes, size: int | None = None) -> bytes:
    return struct.pack("<8sI8s", b"VFSROOT\x01", len(text) if size is None else size, check64(text)) + text


def _text(**changes: object) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(ROOT) | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"refs": {"branches/../x": COMMIT}},
        {"refs": {"branches/.x": COMMIT}},
        {"refs": {"heads/main": COMMIT}},
        {"refs": {"branches/main": "short"}},
        {"indexes": [["../../etc/passwd", 1, 1]]},
        {"indexes": [["d" * 32, INDEX_BYTES_MAX + 1, 1]]},
        {"chain": []},
        {"chain": ["f" * 16]},
        {"seq": -1},
        {"seq": 2**60},
        {"id": "../" * 8},
        {"protected": ["tags/a/b"]},
    ],
)
def test_a_root_that_says_what_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(Corrupt):
        decode_root(_root_of(_text(**changes)))


def test_sizes_are_bounded_before_memory_is_taken() -> None:
    with pytest.raises(Corrupt):
        decode_root(bytes(ROOT_BYTES_MAX + 1))
    with pytest.raises(Corrupt):
        decode_root(_root_of(b"x", size=2**32 - 1))
    with pytest.raises(Corrupt):
        decode_index(IndexName("d" * 32, 5, 1), bytes(INDEX_BYTES_MAX + 1))
    refs = {f"branches/{number:0100d}": f"{number:064x}" for number in range(120_000)}
    with pytest.raises(TooLarge):
        encode_root(msgspec.structs.replace(ROOT, refs=refs))


def test_what_a_newer_program_wrote_is_named() -> None:
    with pytest.raises(Unsupported, match="format 3"):
        decode_root(_root_of(_text(format=3)))
    newer = msgspec.json.decode(encode_config(CONFIG)) | {"features": ["encrypted"]}
    with pytest.raises(Unsupported, match="encrypted"):
        decode_config(msgspec.json.encode(newer))


def test_a_table_that_does_not_fit_its_pack_is_refused() -> None:
    for size, table in ((10, b""), (1000, b"junk"), (1000, b"")):
        with pytest.raises(Corrupt):
            StoredPack(1, bytes(16), size, table).info()
