"""ObjectStore: objects by id, over the index, the packs and the caches.

Every object that comes from disk is checked against its id before a caller sees it (docs/durability.md, rule 8): chunks
when they come in, nodes and commits when they are asked for, since a block has neighbours that no caller may want.
What is cached is immutable. `ObjectWriter` puts new objects into packs (vfs/store/object_writer.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vfs.backend.protocol import MissingKey, ObjectBackend, OnDisk
from vfs.errors import REBUILD_HINT, Corrupt
from vfs.model.ids import Buffer, ChunkId, CommitId, NodeId
from vfs.model.nodes import NODE_BYTES_MIN, AnyItem, Node, NodeKind, decode_commit, decode_node
from vfs.model.objects import Commit
from vfs.store.memory_cache import ByteCache
from vfs.store.packs.blocks import (
    BLOCK_BYTES_MAX,
    WRONG_BYTES,
    DamagedObject,
    MissingObject,
    ObjectType,
    cache_blocks,
    find_object,
    open_blocks,
)
from vfs.store.packs.compression import Compression
from vfs.store.packs.index import Index, Location, PackRow
from vfs.store.packs.pack_file import PackKind
from vfs.store.packs.tree_blocks import TreeBlock, open_tree_block
from vfs.store.sequential_readahead import JOB_BYTES_MAX, JOB_CHUNKS_MAX, ChunkPrefetcher, Extent
from vfs.store.tree_cache import TreeCache

if TYPE_CHECKING:
    from vfs.store.remote_blocks import RemoteBlocks

CACHE_BYTES = 24 * 1024 * 1024
"""What the caches of one store may hold together, unless the caller says otherwise."""
_ITEM_BYTES = 360
"""What a decoded item costs beside its encoded bytes: an entry as much as this, a tiny file's bytes or a reference to a
chunk a third of it (measured with tracemalloc)."""
_LOADING_LOCKS = 64
_HINTED_MAX = 64
_LISTED_PACKS_MAX = 1024
_HINTED_PACKS_MAX = 32
_ADVISED_BYTES = 128 * 1024
"""As much as some disks take of one hint."""
_CHUNK = int(ObjectType.CHUNK)
_NODE = int(ObjectType.NODE)
_TINY_LEAF = bytes((NodeKind.TINY, 0))
_PREFETCH_BYTES = 4 * 1024 * 1024


class StoredChunk(NamedTuple):
    """Where a chunk lies: its block's place on disk, the pack's number, the block's bytes, the chunk's. Not checked."""

    id: ChunkId
    place: OnDisk
    pack: int
    block_bytes: int
    size: int


class ObjectSource(Protocol):
    """Where objects are read from. Every get raises Corrupt rather than return anything but what the id names.

    Where the thread must not wait for a backend that is not local, gets and `prefetch` may raise NotLocal.
    """

    def get_node(self, object_id: NodeId) -> Node:
        """Returns a decoded node; shared between callers, never changed."""
        ...

    def get_chunk(self, object_id: ChunkId) -> memoryview:
        """Returns a chunk's bytes, read-only. A slice kept for long keeps the whole chunk (or its block) in memory."""
        ...

    def get_commit(self, object_id: CommitId) -> Commit:
        """Returns a commit."""
        ...

    def has(self, object_id: bytes) -> bool:
        """Returns True if the object is stored, and therefore everything that it names."""
        ...

    def prefetch(self, object_ids: Iterable[ChunkId]) -> None:
        """Loads chunks that will be wanted at once; may do nothing, never fails for missing or damaged ones."""
        ...

    def start_prefetch(self, object_ids: Sequence[ChunkId]) -> None:
        """Starts to prefetch chunks that will be wanted later, and returns at once; may do nothing."""
        ...


class ObjectSink(ObjectSource, Protocol):
    """Where objects go. Children are put before what names them."""

    def put_chunk(self, plain: Buffer) -> ChunkId:
        """Stores a chunk; one that is there already costs a lookup and no write. `plain` is not kept."""
        ...

    def put_node(self, kind: NodeKind, level: int, items: Sequence[AnyItem]) -> NodeId:
        """Stores a tree node."""
        ...

    def put_commit(self, commit: Commit) -> CommitId:
        """Stores a commit."""
        ...


class ObjectStore:
    """An ObjectSource over a repository's packs; safe to call from any thread."""

    def __init__(
        self,
        backend: ObjectBackend,
        index: Index,
        *,
        compression: Compression | None = None,
        cache_bytes_max: int = CACHE_BYTES,
    ) -> None:
        """`compression`: of what is written. `cache_bytes_max` bounds chunks, tree blocks and nodes together."""
        self.backend = backend
        self.remote = None if backend.is_local else _remote_blocks(backend)
        """How blocks are read from a backend that is not local: then a get may raise NotLocal."""
        self.index = index
        self.compression = compression or Compression()
        self.chunk_cache: ByteCache[memoryview] = ByteCache(cache_bytes_max * 5 // 8)
        self.tree_cache = TreeCache(cache_bytes_max // 8)
        self.node_cache: ByteCache[Node] = ByteCache(cache_bytes_max // 4)
        self._cached_chunk = self.chunk_cache.get
        self._cached_node = self.node_cache.get
        self._loading = [threading.Lock() for _ in range(_LOADING_LOCKS)]
        self._prefetcher: ChunkPrefetcher | None = None
        # Places of objects that the disk was told to read: the read that follows asks the index no more.
        self._hinted: dict[bytes, Location] = {}

    def set_prefetcher(self, prefetcher: ChunkPrefetcher | None) -> None:
        """Sets what performs `start_prefetch` on a local backend; None: nothing."""
        self._prefetcher = prefetcher

    def get_chunk(self, object_id: ChunkId) -> memoryview:
        """Returns a chunk's bytes, read-only."""
        view = self.cached(object_id)
        return self._load(object_id, ObjectType.CHUNK) if view is None else view

    def start_prefetch(self, object_ids: Sequence[ChunkId]) -> None:
        """Begins to prefetch chunks that will be wanted later, and returns at once.

        Does nothing with a local backend and without `set_prefetcher`.
        """
        prefetcher = self._prefetcher
        # The read that wants one of them reports the damage.
        with suppress(Corrupt, MissingKey, OSError):
            if self.remote is not None:
                self.hint_readahead(object_ids)
            elif prefetcher is not None:
                self._prefetch_in_jobs(prefetcher, object_ids)

    def _prefetch_in_jobs(self, prefetcher: ChunkPrefetcher, object_ids: Sequence[ChunkId]) -> None:
        wanted = [key for key in object_ids if not self._is_near(key)]
        job: dict[ChunkId, Location] = {}
        size = 0
        for key, place in zip(wanted, self.index.lookup_many(wanted), strict=True):
            if place is None or place.type != _CHUNK:
                continue
            if job and (size + place.size > JOB_BYTES_MAX or len(job) == JOB_CHUNKS_MAX):
                prefetcher.prefetch(list(job), self._extents(job.values()))
                job, size = {}, 0
            job[key] = place
            size += place.size
        if job:
            prefetcher.prefetch(list(job), self._extents(job.values()))

    def extents(self, object_ids: Sequence[ChunkId]) -> list[Extent]:
        """Returns where chunks lie, as far as an index knows them, and has the disk begin to read there."""
        places = self.index.lookup_many(object_ids)
        return self._extents(place for place in places if place is not None and place.type == _CHUNK)

    def _extents(self, places: Iterable[Location]) -> list[Extent]:
        """Returns the blocks at some places, each once, and has the disk begin to read them."""
        found = []
        for run in _side_by_side(sorted({place._replace(size=0) for place in places})):
            extent = self._extent(run)
            found.append(extent)
            if self.remote is not None:
                self.remote.prefetch_extent(extent)
            else:
                self.backend.hint_readahead(extent.pack, extent.offset, sum(extent.sizes))
        return found

    def _extent(self, run: Sequence[Location]) -> Extent:
        return Extent(self.index.pack_key(run[0].pack), run[0].offset, [place.block_bytes for place in run])

    def prefetch(self, object_ids: Iterable[ChunkId]) -> None:
        """Caches chunks that will be wanted soon; blocks that lie side by side arrive with one read.

        Missing and damaged ones are left to `get_chunk`, which reports them.
        """
        wanted = [key for key in object_ids if self.cached(key) is None]
        runs = list(_side_by_side(self._chunk_places(wanted)))
        if self.remote is not None:
            self.remote.require([self._extent(run) for run in runs])
        for run in runs:
            self._cache_run(run)

    def read_chunks(self, object_ids: Sequence[ChunkId], buffer: bytearray) -> dict[ChunkId, memoryview]:
        """Returns chunks without caching what comes from disk, for a caller that passes them on at once.

        They are checked and valid until `buffer` is used again, since most are views of it. A chunk that is missing,
        damaged, not local (on a thread that must not wait), or has no room in the buffer is not in the result;
        `get_chunk` has it, or reports the damage.
        """
        found: dict[ChunkId, memoryview] = {}
        for object_id in object_ids:
            view = self.cached(object_id)
            if view is not None:
                found[object_id] = view
        if self.remote is not None and not self.remote.may_wait:
            return found
        rest = memoryview(buffer)
        wanted = set(object_ids).difference(found)
        for run in _side_by_side(self._chunk_places(list(wanted))):
            size = sum(place.block_bytes for place in run)
            if size > len(rest):
                break
            raw, rest = rest[:size], rest[size:]
            try:
                if self.backend.read_into(self.index.pack_key(run[0].pack), run[0].offset, raw) == size:
                    sizes = [place.block_bytes for place in run]
                    blocks = open_blocks(raw, sizes, self.compression, wanted)
                    found.update((ChunkId(stored.id), view) for opened in blocks for stored, view in opened.good)
            except (Corrupt, MissingKey):
                continue
        return found

    def stored_chunks(self, object_ids: Sequence[ChunkId]) -> list[StoredChunk]:
        """Returns where chunks lie on a local disk, for a caller that reads and checks them itself.

        Ends before the first that is not there.
        """
        found: list[StoredChunk] = []
        for key, place in zip(object_ids, self.index.lookup_many(object_ids), strict=True):
            if place is None or place.type != _CHUNK:
                break
            on_disk = self.backend.on_disk(self.index.pack_key(place.pack), place.offset, place.block_bytes)
            if on_disk is None:
                break
            found.append(StoredChunk(key, on_disk, place.pack, place.block_bytes, place.size))
        return found

    def hint_readahead(self, object_ids: Sequence[bytes]) -> None:
        """Has the disk begin to read objects that will be asked for in a moment, and does not wait for it."""
        wanted = [key for key in object_ids if not (self._is_near(key) or self.holds_tree_object(key))]
        if len(wanted) == 1 and self.remote is None:
            self._hint_one(wanted[0])
        else:
            self._extents(place for place in self.index.lookup_many(wanted) if place is not None)

    def hint_trees(self, bytes_max: int) -> None:
        """Has a local disk read all trees into the page cache in the background, if they are no larger than a size.

        Else each directory that is looked up first waits for the disk. Does nothing where trees lie in many packs: each
        would have to be opened, and is waited for.
        """
        if self.remote is not None:
            return
        # The read of what is damaged reports it.
        with suppress(Corrupt, MissingKey, OSError):
            for row in self._small_trees(bytes_max):
                for at in range(0, row.size, _ADVISED_BYTES):
                    self.backend.hint_readahead(row.name.key, at, min(_ADVISED_BYTES, row.size - at))

    def _small_trees(self, bytes_max: int) -> Sequence[PackRow]:
        """Returns the packs of trees, none if they are larger together, or many."""
        trees: list[PackRow] = []
        for number, row in enumerate(self.index.packs()):
            if row.name.kind is PackKind.TREE:
                trees.append(row)
                bytes_max -= row.size
            if bytes_max < 0 or len(trees) > _HINTED_PACKS_MAX or number == _LISTED_PACKS_MAX:
                return ()
        return trees

    def _hint_one(self, object_id: bytes) -> None:
        place = self.index.lookup(object_id)
        if place is not None:
            self.backend.hint_readahead(self.index.pack_key(place.pack), place.offset, place.block_bytes)
            # Chunks are mostly read natively: their places would fill this.
            if place.type == _NODE:
                if len(self._hinted) >= _HINTED_MAX:
                    self._hinted.clear()
                self._hinted[object_id] = place

    def holds_tree_object(self, object_id: bytes) -> bool:
        """Returns True if a node or commit is in memory, decoded or not."""
        return self.node_cache.holds(object_id) or self.tree_cache.holds(object_id)

    def _is_near(self, object_id: bytes) -> bool:
        """Returns True if a chunk is in memory or its prefetch is in flight."""
        return self.chunk_cache.holds(object_id) or (
            self._prefetcher is not None and self._prefetcher.holds(ChunkId(object_id))
        )

    def _chunk_places(self, object_ids: Sequence[ChunkId]) -> list[Location]:
        """Returns the blocks that hold chunks, in the order of their places, each once."""
        places = self.index.lookup_many(object_ids)
        return sorted({place._replace(size=0) for place in places if place is not None and place.type == _CHUNK})

    def _cache_run(self, run: Sequence[Location]) -> None:
        sizes = [place.block_bytes for place in run]
        try:
            pack = self.index.pack_key(run[0].pack)
            cache_blocks(self._read_blocks(pack, run[0].offset, sizes), sizes, self.compression, self.chunk_cache)
        except (Corrupt, MissingKey):
            # Left to the request for one of them.
            return

    def get_node(self, object_id: NodeId) -> Node:
        """Returns a decoded node; shared, never changed."""
        node = self._cached_node(object_id)
        if node is None:
            node = self._decoded(object_id, self._tree_bytes(object_id, ObjectType.NODE))
        return node

    def _decoded(self, object_id: NodeId, encoded: memoryview) -> Node:
        node = decode_node(encoded)
        self.node_cache.put([(object_id, node)], len(encoded) + len(node.items) * _ITEM_BYTES)
        return node

    def encoded_node(self, object_id: NodeId) -> memoryview:
        """Returns a node's bytes, checked against its id alone, and that they have a kind, a level and more."""
        view = self.tree_cache.get(object_id, _NODE)
        return _with_head(self._load(object_id, ObjectType.NODE) if view is None else view)

    def block_of(self, object_id: NodeId) -> TreeBlock:
        """Returns a block with a node, read if it is not in memory; of its nodes none may be checked."""
        held = self.tree_cache.block_of(object_id)
        encoded = b"" if held else self.encoded_node(object_id)
        return held or self.tree_cache.block_of(object_id) or TreeBlock((object_id,), (len(encoded),), encoded)

    def encoded_unless_held(self, object_id: NodeId) -> memoryview | None:
        """Returns a node's bytes as `encoded_node` does; None for a node that is in memory."""
        return None if self.holds_tree_object(object_id) else self.encoded_node(object_id)

    def inner_node_or_leaf(self, object_id: NodeId) -> Node | memoryview:
        """Returns an inner node decoded and kept so, a leaf as its bytes; the latter is checked against its id alone.

        Its first two items are the kind and the level, whichever it is.
        """
        node = self._cached_node(object_id)
        if node is not None and node.level:
            return node
        encoded = self.encoded_node(object_id)
        return self._decoded(object_id, encoded) if encoded[1] else encoded

    def get_commit(self, object_id: CommitId) -> Commit:
        """Returns a commit."""
        return decode_commit(self._tree_bytes(object_id, ObjectType.COMMIT))

    def has(self, object_id: bytes) -> bool:
        """Returns True if a pack of this repository holds an object."""
        return self.index.has_here(object_id)

    def stored(self, object_ids: Sequence[bytes]) -> set[bytes]:
        """Returns those of these objects that `has` finds, by one look at the index."""
        places = self.index.lookup_many(object_ids)
        return {
            found
            for found, place in zip(object_ids, places, strict=True)
            if place is not None and self.index.is_here(place.pack)
        }

    def cached(self, object_id: ChunkId) -> memoryview | None:
        """Returns a chunk that is in memory, or will be in a moment; None for one that has to be read."""
        view = self._cached_chunk(object_id)
        return self._prefetcher.get(object_id) if view is None and self._prefetcher is not None else view

    def _tree_bytes(self, object_id: bytes, kind: ObjectType) -> memoryview:
        view = self._held(object_id, kind)
        return self._load(object_id, kind) if view is None else view

    def _held(self, object_id: bytes, kind: ObjectType) -> memoryview | None:
        """Returns an object that is cached, and checked by now."""
        if kind == ObjectType.CHUNK:
            return self._cached_chunk(ChunkId(object_id))
        # If it is damaged, reading it again says where.
        return self.tree_cache.get(object_id, kind)

    def _load(self, object_id: bytes, kind: ObjectType) -> memoryview:
        location = self._hinted.pop(object_id, None) or self._locate(object_id)
        is_again = False
        while True:
            try:
                return self._load_from(location, object_id, kind)
            except Corrupt:
                if not is_again and self._drop_copy(location):
                    # Damaged on its way here, perhaps.
                    is_again = True
                    continue
                # A sweep of another process may have moved the object since the index was asked, or removed it; what
                # the index says now decides (docs/durability.md, G6).
                moved = self._locate(object_id)
                if moved == location:
                    raise
                location = moved

    def _drop_copy(self, location: Location) -> bool:
        pack = self.index.pack_key(location.pack)
        return self.backend.drop_copy(pack, location.offset, location.block_bytes)

    def _locate(self, object_id: bytes) -> Location:
        location = self.index.lookup(object_id)
        if location is None:
            raise MissingObject(object_id)
        return location

    def _load_from(self, location: Location, object_id: bytes, kind: ObjectType) -> memoryview:
        pack = self.index.pack_key(location.pack)
        if location.type != kind:
            raise DamagedObject(object_id, pack, f"is no {kind.name.lower()}")
        if self.remote is not None:
            # Reads of one block share a flight there.
            return self._find_in(location, object_id, kind, pack)
        lock = self._loading[hash((location.pack, location.offset)) % _LOADING_LOCKS]
        if not lock.acquire(blocking=False):
            # Another thread reads this block (or one that shares the lock): wait, and use what it cached.
            lock.acquire()
            view = self._held(object_id, kind)
            if view is not None:
                lock.release()
                return view
        try:
            return self._find_in(location, object_id, kind, pack)
        finally:
            lock.release()

    def _find_in(self, location: Location, object_id: bytes, kind: ObjectType, pack: str) -> memoryview:
        raw = self._read(object_id, pack, location)
        if kind == ObjectType.CHUNK:
            return find_object(raw, object_id, pack, self.compression, self.chunk_cache)
        block = open_tree_block(raw, object_id, pack, self.compression)
        view = block.get(object_id, kind)
        # An object that is alone is large: its decoded form is cached, or its reader keeps it. Of tiny files' bytes the
        # reader of one takes no more.
        if len(block.ids) > 1 or (view is not None and view[:2] == _TINY_LEAF):
            self.tree_cache.put(block)
        if view is None:
            raise DamagedObject(object_id, pack, WRONG_BYTES)
        return view

    def _read_blocks(self, pack: str, offset: int, sizes: Sequence[int]) -> Buffer:
        if self.remote is not None:
            return self.remote.read(pack, offset, sizes)
        return self.backend.read_range(pack, offset, sum(sizes))

    def _read(self, object_id: bytes, pack: str, location: Location) -> Buffer:
        if location.block_bytes > BLOCK_BYTES_MAX:
            raise DamagedObject(object_id, pack, "the index gives it an impossible place", hint=REBUILD_HINT)
        try:
            raw = self._read_blocks(pack, location.offset, (location.block_bytes,))
        except MissingKey:
            raise DamagedObject(object_id, pack, "the pack is missing") from None
        if len(raw) != location.block_bytes:
            raise DamagedObject(object_id, pack, "the pack is cut short")
        return raw


def _with_head(encoded: memoryview) -> memoryview:
    if len(encoded) < NODE_BYTES_MIN:
        raise Corrupt("a tree node has no valid head")
    return encoded


def _remote_blocks(backend: ObjectBackend) -> RemoteBlocks:
    from vfs.store.remote_blocks import RemoteBlocks

    return RemoteBlocks(backend)


def _side_by_side(places: Sequence[Location]) -> Iterator[Sequence[Location]]:
    """Splits sorted places into runs without gaps, each worth one read."""
    run: list[Location] = []
    size = 0
    for place in places:
        if run and (
            place.pack != run[-1].pack
            or place.offset != run[-1].offset + run[-1].block_bytes
            or size + place.block_bytes > _PREFETCH_BYTES
        ):
            yield run
            run, size = [], 0
        run.append(place)
        size += place.block_bytes
    if run:
        yield run
