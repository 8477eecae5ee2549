"""Repacking: copies what is still wanted of old packs into new ones, and removes the old ones.

A pack is never changed. The caller keeps the order of docs/durability.md, G3 to G5: new packs durable, index moved,
old packs noted as retired, removed, the note removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence

from vfs.backend.protocol import MissingKey, ObjectBackend
from vfs.errors import Corrupt
from vfs.model.nodes import NodeKind, encode_node
from vfs.model.objects import TinyItem
from vfs.store.packs.blocks import (
    Block,
    ObjectType,
    StoredObject,
    encode_block,
    object_id_of,
    open_block,
    parse_header,
)
from vfs.store.packs.compression import Compression
from vfs.store.packs.index import RETIRED_KEY, Index, retired_packs
from vfs.store.packs.pack_file import PackInfo, PackKind, PackName, PackWriter, PlacedBlock

_SALT_BYTES = 16


class Repacker:
    """Copies wanted objects into new packs; they are durable after `seal`, and found once they are indexed.

    Owned by one thread. A block of which everything is wanted is copied as it is; of another one the rest becomes a
    block of its own. Everything is checked against its hash on the way: damage is never copied, it raises Corrupt.
    """

    def __init__(
        self, backend: ObjectBackend, compression: Compression, *, source: ObjectBackend | None = None
    ) -> None:
        """`backend` gets the new packs; the old ones are in `source`, where that is another one."""
        self._backend = backend
        self._source = source if source is not None else backend
        self._compression = compression
        self._open: dict[PackKind, PackWriter] = {}
        self._sealed: list[PackInfo] = []
        self._copied: set[bytes] = set()
        self.bytes_read = 0

    def copy(self, info: PackInfo, is_wanted: Callable[[bytes], bool]) -> None:
        """Copies the wanted objects of a pack that are not copied yet."""
        for placed in info.blocks:
            wanted = {stored.id for stored in placed.objects if stored.id not in self._copied and is_wanted(stored.id)}
            if wanted:
                self._put(info.name.kind, self._rest(info, placed, wanted))
                self._copied |= wanted

    def seal(self) -> Sequence[PackInfo]:
        """Makes the new packs durable and returns all of them; copying may go on."""
        for kind in list(self._open):
            self._sealed.append(self._open.pop(kind).seal())
        return self._sealed

    def take_sealed(self) -> list[PackInfo]:
        """Returns the new packs that are durable by now, each once."""
        sealed, self._sealed = self._sealed, []
        return sealed

    def drop(self) -> None:
        """Removes the new packs, which nothing names yet; one that cannot be removed is the next sweep's."""
        for writer in self._open.values():
            writer.abort()
        self._open.clear()
        for info in self._sealed:
            with contextlib.suppress(MissingKey, OSError):
                self._backend.delete(info.name.key)
        self._sealed.clear()

    def _rest(self, info: PackInfo, placed: PlacedBlock, wanted: set[bytes]) -> Block:
        raw = memoryview(self._source.read_range(info.name.key, placed.offset, placed.block_bytes))
        self.bytes_read += len(raw)
        header = parse_header(raw)
        if header.block_bytes != len(raw):
            raise Corrupt(f"{info.name.key}: the block at {placed.offset} is not as long as it was")
        opened = open_block(header, raw[header.header_bytes :], self._compression)
        if opened.bad:
            raise Corrupt(f"{info.name.key}: the block at {placed.offset} is damaged")
        if len(wanted) == len(header.objects):
            return Block(bytes(raw[: header.header_bytes]), raw[header.header_bytes :], header.objects)
        kept = [(stored, view) for stored, view in opened.good if stored.id in wanted]
        return encode_block([stored for stored, _ in kept], [view for _, view in kept], self._compression)

    def _put(self, kind: PackKind, block: Block) -> None:
        writer = self._open.get(kind)
        if writer is not None and not writer.fits(block):
            self._sealed.append(self._open.pop(kind).seal())
            writer = None
        if writer is None:
            writer = self._open[kind] = PackWriter(self._backend, kind)
        writer.add(block)


def salted(backend: ObjectBackend, info: PackInfo, compression: Compression) -> list[PackInfo]:
    """Returns packs with all that a pack holds, under names that no pack has had: each has a random object more.

    For names that must not be used again. More than one pack where the object has no room.
    """
    made: list[PackInfo] = []
    writer = _salted_writer(backend, info.name.kind, compression)
    try:
        for placed in info.blocks:
            raw = memoryview(backend.read_range(info.name.key, placed.offset, placed.block_bytes))
            header = parse_header(raw)
            block = Block(bytes(raw[: header.header_bytes]), raw[header.header_bytes :], header.objects)
            if not writer.fits(block):
                made.append(writer.seal())
                writer = _salted_writer(backend, info.name.kind, compression)
            writer.add(block)
    except BaseException:
        writer.abort()
        raise
    made.append(writer.seal())
    return made


def _salted_writer(backend: ObjectBackend, kind: PackKind, compression: Compression) -> PackWriter:
    plain = os.urandom(_SALT_BYTES)
    object_type = ObjectType.CHUNK
    if kind == PackKind.TREE:
        # A leaf that names nothing, so finding it implies no other object.
        plain, object_type = encode_node(NodeKind.TINY, 0, [TinyItem(b"salt", plain)]), ObjectType.NODE
    stored = StoredObject(int(object_type), len(plain), object_id_of(object_type, plain))
    writer = PackWriter(backend, kind)
    writer.add(encode_block([stored], [plain], compression))
    return writer


def retire(backend: ObjectBackend, names: Sequence[PackName]) -> None:
    """Removes packs that the index no longer names; after a crash `finish_retiring` does the rest."""
    if names:
        backend.put(RETIRED_KEY, "".join(f"{name.key}\n" for name in names).encode("ascii"))
        _remove(backend, names)


def finish_retiring(backend: ObjectBackend, index: Index) -> None:
    """Finishes an interrupted `retire`. The caller holds the repository's write lock."""
    names = retired_packs(backend)
    if names:
        known = {row.name for row in index.packs()}
        _remove(backend, [name for name in names if name not in known])


def _remove(backend: ObjectBackend, names: Sequence[PackName]) -> None:
    for name in names:
        with contextlib.suppress(MissingKey):
            backend.delete(name.key)
    backend.delete(RETIRED_KEY)
