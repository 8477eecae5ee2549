"""A leaf of small files, which the native session layer keeps, and whose chunks lie in a file of blocks."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate

from support.native_layer import DIRECTORY_INO, Kernel
from support.native_names import PREFIX, SLOT
from support.native_pack import Pack, noise
from vfs.fuse.inodes import FILE_BITS
from vfs.fuse.view.version_inodes import encode_entry
from vfs.model.ids import digest64_and_check, node_id
from vfs.model.nodes import NodeKind, encode_node
from vfs.model.objects import ChunkRef, Entry, Form, Kind
from vfs.native.leaf_source import NodeBlock
from vfs.native.session import Found, FoundFile, Piece

CHUNK_BYTES = 30_000
ROW = struct.Struct("<4xIIIIB")
"""A row of the index (docs/format.md): pack, offset, bytes of the block, of the chunk, type."""
CHUNK_TYPE = 1


def block_of(nodes: Sequence[bytes], ids: Sequence[bytes] | None = None) -> NodeBlock:
    """Returns a block of nodes by their ids, or by others."""
    names = [node_id(node) for node in nodes] if ids is None else ids
    plain = b"".join(nodes)
    ends = array("I", accumulate(map(len, nodes))).tobytes()
    return NodeBlock(b"".join(names), ends, len(names), plain, len(plain))


class Leaf:
    """Files of a directory, at positions from `first` on, and a LeafSource of them.

    `asked` and `alone`: lists whose blocks were asked for, and those that were themselves.
    """

    def __init__(self, kernel: Kernel, pack: Pack, sizes: Sequence[int], first: int = 1000) -> None:
        self._session = kernel.session
        self.first = first
        self.contents = [noise(size) for size in sizes]
        self.pieces: list[list[Piece]] = []
        self.entries: list[Entry] = []
        self.lists: dict[bytes, bytes] = {}
        self.rows: dict[bytes, bytes] = {}
        self.blocks: list[NodeBlock] = []
        self.asked: list[bytes] = []
        self.alone: list[bytes] = []
        self.on_ask: Callable[[], object] = lambda: None
        self.on_find: Callable[[list[bytes]], object] = lambda _: None
        self.is_partial = False
        self.descriptor = -1
        self.pack = 1
        for number, content in enumerate(self.contents):
            parts = [content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES)]
            pieces = [piece for part in parts for piece in pack.add(part)]
            self.pieces.append(pieces)
            self.entries.append(self._entry(number, len(content), pieces))
            for piece in pieces:
                self.descriptor = piece.descriptor
                self.rows[piece.id] = ROW.pack(piece.pack, piece.offset, piece.block_bytes, piece.size, CHUNK_TYPE)

    def _entry(self, number: int, size: int, pieces: Sequence[Piece]) -> Entry:
        content, form = pieces[0].id, Form.CHUNK
        if len(pieces) > 1:
            form = Form.LIST
            node = encode_node(NodeKind.CHUNKS, 0, [ChunkRef(piece.id, piece.size) for piece in pieces])
            content = node_id(node)
            self.lists[content] = node
        return Entry(b"%05d" % number, Kind.FILE, 0o644, 1, 2, 3, size, content, form)

    def keep(self) -> bool:
        """Hands over the leaf."""
        node = encode_node(NodeKind.ENTRIES, 0, self.entries)
        return self._session.keep_leaf(DIRECTORY_INO, SLOT, self.first, PREFIX, node)

    def locate(self, at: int = 0) -> bool:
        """Hands over the places of its files, asked for one of them."""
        return self._session.locate_leaf(DIRECTORY_INO, self.first + at, self)

    def read_block(self, list_id: bytes) -> NodeBlock | None:
        """Returns the block that the list is in; where it is in none, one of it alone, as `lists` has it."""
        self.asked.append(list_id)
        self.on_ask()
        found = next((block for block in self.blocks if list_id in block.ids), None)
        return found or (block_of([self.lists[list_id]], [list_id]) if list_id in self.lists else None)

    def read_list(self, list_id: bytes) -> bytes:
        """Returns the list as `lists` has it, whatever its id."""
        self.alone.append(list_id)
        return self.lists[list_id]

    def find(self, ids: list[bytes]) -> tuple[bytes, list[tuple[int, int]]]:
        """Returns the rows of chunks, and the pack."""
        self.on_find(ids)
        missing = bytes(ROW.size)
        return b"".join(self.rows.get(key, missing) for key in ids), [(self.pack, self.descriptor)]

    def number(self, at: int) -> tuple[int, int]:
        """Returns the number and the check of a file."""
        digest, check = digest64_and_check(PREFIX + encode_entry(self.entries[at]))
        return (1 << FILE_BITS) + (digest & (1 << FILE_BITS) - 1), check

    def ino(self, at: int) -> int:
        """Returns the number of a file."""
        return self.number(at)[0]

    def prepare(self, at: int) -> int:
        """Has a file prepared for its read."""
        return self._session.prepare_at(DIRECTORY_INO, self.first + at, self.ino(at))

    def found(self, *numbers: int) -> list[FoundFile]:
        """Returns what the layer knows of files."""
        return self._session.find_files(DIRECTORY_INO, [self.first + at for at in numbers])

    def prefetch(self, *numbers: int, told: int = 0, known: bool = True) -> None:
        """Has files prefetched; of the reads of these that of `told` is noted."""
        files = self.found(*numbers)
        found = Found.KNOWN if known else Found.PLACE
        self._session.prefetch(DIRECTORY_INO, [file._replace(found=found) for file in files], self.ino(told))
