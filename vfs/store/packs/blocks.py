"""Blocks: one or more objects, compressed as one, behind a header that names them all.

Small neighbours share a block, so that they compress together and arrive with one read. A block can be read without
anything else; docs/format.md, "Packs", has its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import IntEnum
from operator import itemgetter
from typing import NamedTuple
from zlib import crc32

from vfs.errors import REBUILD_HINT, Advice, Corrupt, Hint
from vfs.model.ids import ID_BYTES, Buffer, chunk_id, commit_id, node_id
from vfs.store.memory_cache import ByteCache
from vfs.store.packs.compression import BadFrame, Codec, Compression, is_worth_it
from vfs.store.packs.node_payload import NodePayload, pack_nodes

OBJECT_BYTES_MAX = 16 * 1024 * 1024
"""The largest object, and the most a block's payload may be once decompressed."""
BLOCK_OBJECTS_MAX = 4096

_MAGIC = b"VBK1"
_HEAD = struct.Struct("<4sBBHIII")
_CHECK_AT = _HEAD.size - 4
_RECORD = struct.Struct(f"<BI{ID_BYTES}s")
HEAD_BYTES = _HEAD.size
HEADER_BYTES_MAX = HEAD_BYTES + BLOCK_OBJECTS_MAX * _RECORD.size
BLOCK_BYTES_MAX = HEADER_BYTES_MAX + OBJECT_BYTES_MAX
MAGIC = _MAGIC
"""What a block begins with; a scan of a damaged pack looks for it."""
_FSCK_HINT = Hint(Advice.CHECK_DATA)
WRONG_BYTES = "the bytes do not match the id"
_CACHED_OBJECT_BYTES = 300
"""What a cached object costs beside its bytes: keys, tuples and a view."""


class ObjectType(IntEnum):
    """What an object is."""

    CHUNK = 1
    NODE = 2
    COMMIT = 3


_ID_OF: dict[int, Callable[[Buffer], bytes]] = {
    ObjectType.CHUNK: chunk_id,
    ObjectType.NODE: node_id,
    ObjectType.COMMIT: commit_id,
}


_TYPES = frozenset(map(int, ObjectType))
_type_of = itemgetter(0)
_size_of = itemgetter(1)


class BadBlock(Corrupt):
    """A block's header is damaged or claims what no writer makes."""


class MissingObject(Corrupt):
    """Something names an object that no indexed pack holds."""

    def __init__(self, object_id: bytes) -> None:
        super().__init__(f"object {object_id.hex()} is missing", hint=REBUILD_HINT)
        self.object_id = object_id


class DamagedObject(Corrupt):
    """A pack does not give an object's bytes back; `pack` is its key."""

    def __init__(self, object_id: bytes, pack: str, reason: str, *, hint: Hint = _FSCK_HINT) -> None:
        super().__init__(f"object {object_id.hex()} in {pack}: {reason}", hint=hint)
        self.object_id = object_id
        self.pack = pack


class StoredObject(NamedTuple):
    """An object as its block's header names it; `size` counts plain bytes."""

    type: int
    size: int
    id: bytes


class Header(NamedTuple):
    """A block's header: its own length, how the payload is stored and which objects it has."""

    header_bytes: int
    codec: int
    stored_bytes: int
    plain_bytes: int
    objects: tuple[StoredObject, ...]

    @property
    def block_bytes(self) -> int:
        """Length of header and payload."""
        return self.header_bytes + self.stored_bytes


class Block(NamedTuple):
    """An encoded block; written as `header` followed by `payload`."""

    header: bytes
    payload: Buffer
    objects: Sequence[StoredObject]

    @property
    def block_bytes(self) -> int:
        """Length of header and payload."""
        return len(self.header) + len(self.payload)


def object_id_of(kind: int, plain: Buffer) -> bytes:
    """Returns the id that an object of a type has."""
    return _ID_OF[kind](plain)


def encode_block(objects: Sequence[StoredObject], plains: Sequence[Buffer], compression: Compression) -> Block:
    """Returns the block of these objects; a single object that does not compress is referred to, not copied."""
    plain = _joined(plains)
    payload: Buffer
    # Nodes and commits are few, and read again and again.
    is_dense = objects[0].type != ObjectType.CHUNK
    if is_dense and compression.node_blocks:
        codec, payload = Codec.NODES, pack_nodes([stored.id for stored in objects], plains, compression)
        if not is_worth_it(len(payload), len(plain)):
            codec, payload = Codec.RAW, plain
    else:
        codec, payload = compression.compress(plain, is_dense=is_dense)
    return _block(objects, codec, payload, len(plain))


def encode_chunk_blocks(
    groups: Sequence[tuple[Sequence[StoredObject], Sequence[Buffer]]], compression: Compression
) -> list[Block]:
    """Returns a block for each group of chunks and their bytes, as `encode_block` does, with less work for a block."""
    plains = [_joined(plains) for _, plains in groups]
    return [
        _block(objects, codec, payload, len(plain))
        for (objects, _), plain, (codec, payload) in zip(groups, plains, compression.compress_many(plains), strict=True)
    ]


def _joined(plains: Sequence[Buffer]) -> Buffer:
    return plains[0] if len(plains) == 1 else b"".join(plains)


def _block(objects: Sequence[StoredObject], codec: Codec, payload: Buffer, plain_bytes: int) -> Block:
    records = b"".join([_RECORD.pack(*stored) for stored in objects])
    head = _HEAD.pack(_MAGIC, codec, 0, len(objects), len(payload), plain_bytes, 0)[:_CHECK_AT]
    check = crc32(records, crc32(head)).to_bytes(4, "little")
    return Block(head + check + records, payload, objects)


class Head(NamedTuple):
    """The fixed part of a header, and the header's own length with the records of objects."""

    header_bytes: int
    codec: int
    stored_bytes: int
    plain_bytes: int

    @property
    def block_bytes(self) -> int:
        """Length of header and payload."""
        return self.header_bytes + self.stored_bytes


def read_records(data: Buffer, at: int = 0) -> tuple[Head, list[tuple[int, int, bytes]]]:
    """Returns the header that begins at `at`, with (type, size, id) of each object; as `parse_header` does.

    For a reader of trees: a block has some hundred nodes, of which it wants few.
    """
    if len(data) - at < HEAD_BYTES:
        raise BadBlock("a block is cut short")
    magic, codec, reserved, count, stored, plain, check = _HEAD.unpack_from(data, at)
    size = HEAD_BYTES + count * _RECORD.size
    if (
        magic != _MAGIC
        or reserved
        or not 0 < count <= BLOCK_OBJECTS_MAX
        or not stored <= plain <= OBJECT_BYTES_MAX
        or len(data) - at < size
    ):
        raise BadBlock("a block has no valid header")
    view = memoryview(data)[at : at + size]
    packed = view[HEAD_BYTES:]
    if crc32(packed, crc32(view[:_CHECK_AT])) != check:
        raise BadBlock("a block's header is damaged")
    records = list(_RECORD.iter_unpack(packed))
    if sum(map(_size_of, records)) != plain or not _TYPES.issuperset(map(_type_of, records)):
        raise BadBlock("a block's header contradicts itself")
    return Head(size, codec, stored, plain), records


def parse_header(data: Buffer, at: int = 0) -> Header:
    """Returns the header that begins at `at`; raises BadBlock. Every length in it is checked against its limit.

    `data` holds at least the whole header, or the header is refused as cut short.
    """
    head, records = read_records(data, at)
    return Header(*head, tuple(map(StoredObject._make, records)))


def _nodes(header: Header, payload: Buffer, compression: Compression) -> NodePayload:
    return NodePayload(payload, [(stored.size, stored.id) for stored in header.objects], compression)


def _unpacked(header: Header, nodes: NodePayload, wanted: Iterable[int]) -> list[tuple[StoredObject, memoryview]]:
    """Returns the objects that are wanted, by number, and all that came with them."""
    return [(header.objects[number], memoryview(plain)) for number, plain in sorted(nodes.unpack(wanted).items())]


class Opened(NamedTuple):
    """What a block held: the objects whose hash is right, with their bytes, and those whose is not."""

    good: list[tuple[StoredObject, memoryview]]
    bad: list[StoredObject]
    plain_bytes: int
    is_raw: bool


def _split(header: Header, payload: Buffer, compression: Compression) -> list[tuple[StoredObject, memoryview]]:
    """Returns a block's objects with their bytes, none of them checked; without those of parts that are damaged."""
    if header.codec == Codec.NODES:
        nodes = _nodes(header, payload, compression)
        for number in range(len(header.objects)):
            with suppress(BadFrame):
                nodes.unpack([number])
        return _unpacked(header, nodes, ())
    plain = compression.decompress(header.codec, payload, header.plain_bytes)
    parts: list[tuple[StoredObject, memoryview]] = []
    at = 0
    for stored in header.objects:
        end = at + stored.size
        parts.append((stored, plain[at:end]))
        at = end
    return parts


def open_block(
    header: Header, payload: Buffer, compression: Compression, wanted: Container[bytes] | None = None
) -> Opened:
    """Returns a block's objects, or those wanted, each checked against its id; the views share one buffer, `payload`
    itself where it is raw. Raises BadFrame.
    """
    found = [
        (stored, view) for stored, view in _split(header, payload, compression) if wanted is None or stored.id in wanted
    ]
    good = [(stored, view) for stored, view in found if object_id_of(stored.type, view) == stored.id]
    if len(good) == len(header.objects):
        return Opened(good, [], header.plain_bytes, header.codec == Codec.RAW)
    right = {stored.id for stored, _ in good}
    bad = [stored for stored in header.objects if stored.id not in right and (wanted is None or stored.id in wanted)]
    return Opened(good, bad, header.plain_bytes, header.codec == Codec.RAW)


def find_object(
    raw: Buffer, wanted: bytes, pack: str, compression: Compression, cache: ByteCache[memoryview] | None = None
) -> memoryview:
    """Returns one object of a block, checked, and caches it with the neighbours whose hash is right.

    Raises DamagedObject, which names the id and the pack.
    """
    parts = _parts(raw, wanted, pack, compression)
    good = [(stored.id, view) for stored, view in parts if object_id_of(stored.type, view) == stored.id]
    if cache is not None:
        cache.put(good, _cost(parts))
    for found, view in good:
        if found == wanted:
            return view
    raise DamagedObject(wanted, pack, WRONG_BYTES)


def _parts(raw: Buffer, wanted: bytes, pack: str, compression: Compression) -> list[tuple[StoredObject, memoryview]]:
    try:
        header = parse_header(raw)
        numbers = [number for number, stored in enumerate(header.objects) if stored.id == wanted]
        if header.block_bytes != len(raw) or not numbers:
            raise DamagedObject(wanted, pack, "the index points at another block", hint=REBUILD_HINT)
        payload = memoryview(raw)[header.header_bytes :]
        if header.codec == Codec.NODES:
            return _unpacked(header, _nodes(header, payload, compression), numbers)
        return _split(header, payload, compression)
    except (BadBlock, BadFrame) as error:
        raise DamagedObject(wanted, pack, error.message) from error


def _cost(parts: Sequence[tuple[StoredObject, memoryview]]) -> int:
    return sum(stored.size for stored, _ in parts) + len(parts) * _CACHED_OBJECT_BYTES


def open_blocks(
    raw: Buffer, sizes: Sequence[int], compression: Compression, wanted: Container[bytes] | None = None
) -> Iterator[Opened]:
    """Yields the objects, or the wanted ones, of blocks that were read together, each checked.

    Raises BadBlock, BadFrame.
    """
    view = memoryview(raw)
    at = 0
    for size in sizes:
        header = parse_header(view, at)
        if header.block_bytes != size:
            raise BadBlock("a block is not as long as its place says")
        yield open_block(header, view[at + header.header_bytes : at + size], compression, wanted)
        at += size


def cache_blocks(raw: Buffer, sizes: Sequence[int], compression: Compression, cache: ByteCache[memoryview]) -> None:
    """Caches the objects, with right hashes, of blocks that were read together; raises BadBlock, BadFrame.

    They form one group of the cache, since raw blocks are views of the one buffer.
    """
    items: list[tuple[bytes, memoryview]] = []
    cost = 0
    has_raw = False
    for opened in open_blocks(raw, sizes, compression):
        items.extend((stored.id, view) for stored, view in opened.good)
        cost += 0 if opened.is_raw else opened.plain_bytes
        has_raw = has_raw or opened.is_raw
    cost += len(raw) if has_raw else 0
    cache.put(items, cost + len(items) * _CACHED_OBJECT_BYTES)
