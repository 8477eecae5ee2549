"""Payloads of tree blocks without the ids in their nodes (codec 2): random bytes that compress to nothing less.

An id that the block gives away is left out: that of another object in it, or of a tiny file whose bytes it holds. What
is left compresses in parts, so that a reader of one small file decompresses the part with its node alone. Layout:
docs/format.md, "Nodes without ids".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from vfs.model.decoding import UNDECODABLE
from vfs.model.ids import ID_BYTES, Buffer, chunk_id
from vfs.model.nodes import NodeKind
from vfs.model.objects import TinyItem
from vfs.store.packs.compression import BadFrame, Codec, Compression

PART_BYTES = 16 * 1024
"""What a part has at least, where its block has so much: what a reader of one small file decompresses (decision 2)."""

_PARTS_MAX = 80
"""Of leaves of tiny files, of leaves of entries, and of the others; a byte counts them all."""
_MARK = b"\xc4" + bytes((ID_BYTES,))
"""MessagePack's head of 32 bytes. What is no id, and looks like one, is taken out as well: the bytes come back."""
_MARKED = re.compile(re.escape(_MARK) + rb"(.{%d})" % ID_BYTES, re.DOTALL)
_TAKEN_MAX = 0xFFFF
_STORED = 0xFFFF
"""In place of an object's number: the id follows from nothing in the block, and stands behind the frame."""
_PART = struct.Struct("<HIII")
_TINY_LEAF = bytes((NodeKind.TINY, 0))
_ENTRIES_LEAF = bytes((NodeKind.ENTRIES, 0))
_tiny_items = msgspec.msgpack.Decoder(tuple[TinyItem, ...]).decode


def pack_nodes(ids: Sequence[bytes], plains: Sequence[Buffer], compression: Compression) -> bytes:
    """Returns the payload of these objects, children before parents; `unpack` gives the same bytes back."""
    whole = [bytes(plain) for plain in plains]
    # Entries need the contents that they name, the nodes above them do not: each kind has parts of its own.
    kinds: dict[bytes, list[int]] = {_TINY_LEAF: [], _ENTRIES_LEAF: [], b"": []}
    for number, plain in enumerate(whole):
        kinds[plain[:2] if plain[:2] in kinds else b""].append(number)
    parts = [part for numbers in kinds.values() for part in _cut(numbers, whole)]
    part_of = bytearray(len(whole))
    for index, numbers in enumerate(parts):
        for number in numbers:
            part_of[number] = index
    places = _places(ids, whole)
    packed = [_pack_part(numbers, whole, places, compression) for numbers in parts]
    heads = (
        _PART.pack(len(numbers), len(stored) // ID_BYTES, len(frame), size)
        for numbers, (frame, size, stored) in zip(parts, packed, strict=True)
    )
    bodies = (piece for frame, _, stored in packed for piece in (frame, stored))
    return b"".join((bytes((len(parts),)), *heads, bytes(part_of), *bodies))


def _cut(numbers: Sequence[int], plains: Sequence[bytes]) -> Iterator[list[int]]:
    """Splits objects into parts of about the same size."""
    total = sum(len(plains[number]) for number in numbers)
    wanted = total // min(max(1, total // PART_BYTES), _PARTS_MAX) + 1
    part: list[int] = []
    done, ends = 0, wanted
    for number in numbers:
        part.append(number)
        done += len(plains[number])
        if done >= ends:
            yield part
            part = []
            while ends <= done:
                ends += wanted
    if part:
        yield part


def _places(ids: Sequence[bytes], plains: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
    """Returns where the ids are that follow from the block: the number of an object, and that of its item or 0."""
    found: dict[bytes, tuple[int, int]] = {}
    for number, (object_id, plain) in enumerate(zip(ids, plains, strict=True)):
        found.setdefault(object_id, (number, 0))
        if plain[:2] == _TINY_LEAF:
            for item, content in enumerate(_content_ids(plain)):
                found.setdefault(content, (number, item + 1))
    return found


def _content_ids(leaf: Buffer) -> list[bytes]:
    """Returns the ids of the contents in a leaf of tiny files; none where it is damaged."""
    try:
        return [chunk_id(item.data) for item in _tiny_items(memoryview(leaf)[2:])]
    except UNDECODABLE:
        return []


def _pack_part(
    numbers: Sequence[int],
    plains: Sequence[bytes],
    places: dict[bytes, tuple[int, int]],
    compression: Compression,
) -> tuple[Buffer, int, bytes]:
    """Returns a part's frame, its plain bytes, and the ids behind it."""
    counts: list[int] = []
    where: list[int] = []
    which: list[int] = []
    rests: list[bytes] = []
    stored: list[bytes] = []
    expected = 0
    for number in numbers:
        plain = plains[number]
        begin = 0
        found = () if plain[:2] == _TINY_LEAF else islice(_MARKED.finditer(plain), _TAKEN_MAX)
        before = len(where)
        for match in found:
            rests.append(plain[begin : match.start(1)])
            begin = match.end()
            place = places.get(match[1])
            if place is None or place[0] >= number:
                stored.append(match[1])
                where.append(_STORED)
                which.append(0)
            else:
                where.append(place[0])
                # Neighbours mostly are neighbours there: zeros.
                which.append((place[1] - expected) & 0xFFFF)
                expected = place[1] + 1
        rests.append(plain[begin:])
        counts.append(len(where) - before)
    frame = struct.pack(f"<{len(counts) + 2 * len(where)}H", *counts, *where, *which) + b"".join(rests)
    return compression.compress_densely(frame), len(frame), b"".join(stored)


class Part(NamedTuple):
    """A part as the payload's head names it: its objects, and where its bytes are."""

    numbers: Sequence[int]
    offset: int
    frame_bytes: int
    plain_bytes: int
    stored: int


class NodePayload:
    """A payload whose parts are decompressed as their objects are wanted; nothing in it is trusted.

    `objects`: (plain bytes, id) of all in the block. All methods raise BadFrame.
    """

    def __init__(self, payload: Buffer, objects: Sequence[tuple[int, bytes]], compression: Compression) -> None:
        self._payload = memoryview(payload)
        self._objects = objects
        self._compression = compression
        self._plains: dict[int, Buffer] = {}
        self._opened: set[int] = set()
        self._failed: dict[int, BadFrame] = {}
        self._contents: dict[int, list[bytes]] = {}
        self.parts = list(self._read_parts())
        self._part_of = {number: part for part in self.parts for number in part.numbers}

    def _read_parts(self) -> Iterator[Part]:
        payload, count = self._payload, len(self._objects)
        parts = payload[0] if payload else 0
        at = 1 + parts * _PART.size + count
        if not parts or len(payload) < at:
            raise BadFrame("a block of nodes is cut short")
        members: list[list[int]] = [[] for _ in range(parts)]
        for number, index in enumerate(payload[at - count : at]):
            if index >= parts:
                raise BadFrame("a block of nodes names a part that it does not have")
            members[index].append(number)
        for index, numbers in enumerate(members):
            objects, stored, frame_bytes, plain_bytes = _PART.unpack_from(payload, 1 + index * _PART.size)
            size = sum(self._objects[number][0] for number in numbers)
            if not numbers or objects != len(numbers) or plain_bytes > 2 * objects + size:
                raise BadFrame("a block of nodes contradicts itself")
            yield Part(numbers, at, frame_bytes, plain_bytes, stored)
            at += frame_bytes + stored * ID_BYTES
        if at != len(payload):
            raise BadFrame("a block of nodes is not as long as its parts")

    def unpack(self, wanted: Iterable[int]) -> dict[int, Buffer]:
        """Returns the bytes of objects by their number in the block, and of those that came with them; unchecked."""
        for number in wanted:
            self._open(self._part_of[number])
            if number in self._failed:
                raise self._failed[number]
        return self._plains

    def _open(self, part: Part, *, is_whole: bool = False) -> None:
        """Unpacks a part; `is_whole`: refuses one that ids are taken out of, as no such leaf has them."""
        if part.numbers[0] in self._opened:
            return
        frame_end = part.offset + part.frame_bytes
        frame = self._compression.decompress(Codec.ZSTD, self._payload[part.offset : frame_end], part.plain_bytes)
        counted = 2 * len(part.numbers)
        if len(frame) < counted:
            raise BadFrame("a part of a block is cut short")
        counts = struct.unpack_from(f"<{len(part.numbers)}H", frame)
        taken = sum(counts)
        if len(frame) != counted + sum(self._objects[number][0] for number in part.numbers) - (ID_BYTES - 4) * taken:
            raise BadFrame("a part of a block is not as long as its objects")
        if is_whole and taken:
            raise BadFrame("a block takes an id from a node that is not whole")
        ids = self._ids(part, counts, struct.unpack_from(f"<{2 * taken}H", frame, counted)) if taken else []
        at, done = counted + 4 * taken, 0
        plains: dict[int, Buffer] = {}
        for number, count in zip(part.numbers, counts, strict=True):
            size = self._objects[number][0] - ID_BYTES * count
            if size < len(_MARK) * count:
                raise BadFrame("an object of a block has more ids than room for them")
            rest = frame[at : at + size]
            if number not in self._failed:
                plains[number] = _put_back(rest, ids[done : done + count]) if count else rest
            at += size
            done += count
        self._plains.update(plains)
        self._opened.add(part.numbers[0])

    def _ids(self, part: Part, counts: Sequence[int], places: Sequence[int]) -> list[bytes]:
        """Returns the ids that were taken out of a part, in their order; objects whose ids are lost have `_failed`."""
        begin = part.offset + part.frame_bytes
        stored = bytes(self._payload[begin : begin + part.stored * ID_BYTES])
        owners = (number for number, count in zip(part.numbers, counts, strict=True) for _ in range(count))
        half = len(places) // 2
        ids: list[bytes] = []
        at = expected = 0
        for owner, where, which in zip(owners, places[:half], places[half:], strict=True):
            if where == _STORED:
                ids.append(stored[at : at + ID_BYTES])
                at += ID_BYTES
                continue
            item = (expected + which) & 0xFFFF
            expected = item + 1
            if where >= owner:
                raise BadFrame("a block takes an id from an object that is not before it")
            try:
                ids.append(self._content(where, item) if item else self._objects[where][1])
            except BadFrame as error:
                # Other objects of the part are whole: a parent directory, perhaps.
                self._failed.setdefault(owner, error)
                ids.append(b"")
        if at != len(stored):
            raise BadFrame("a part of a block does not have the ids that its head counts")
        return ids

    def _content(self, number: int, item: int) -> bytes:
        found = self._contents.get(number)
        if found is None:
            self._open(self._part_of[number], is_whole=True)
            plain = self._plains[number]
            found = self._contents[number] = _content_ids(plain) if plain[:2] == _TINY_LEAF else []
        if item > len(found):
            raise BadFrame("a block takes an id from a tiny file that it does not have")
        return found[item - 1]


def _put_back(rest: memoryview, ids: Sequence[bytes]) -> bytes:
    pieces = bytes(rest).split(_MARK, len(ids))
    if len(pieces) != len(ids) + 1:
        raise BadFrame("an object of a block has fewer ids than were taken out of it")
    both = [_MARK] * (3 * len(ids) + 1)
    both[::3] = pieces
    both[2::3] = ids
    return b"".join(both)
