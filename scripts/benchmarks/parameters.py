"""Measures what decides a repository's constants: chunk sizes, tiny files, blocks, zstd level.

Works on the parts themselves (chunker, ids, compression, tables), so that a figure says what a choice costs and not
what the layers around it do. The result, with the choice, is docs/decisions/0002-chunk-parameters.md.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import KIB, MIB, Text, document, image
from benchmarks.tables import table
from vfs.model.chunking import Chunker, ChunkerParams
from vfs.model.ids import Buffer, chunk_id
from vfs.model.nodes import NodeKind, cut_nodes, encode_node
from vfs.model.objects import TinyItem
from vfs.store.lmdb_tables import Tables
from vfs.store.packs.compression import Compression

CORPUS_BYTES = 128 * MIB
INDEX_ROWS = 300_000
LOCATION_BYTES = 30
READS = 400
EDITS = 40

CHUNKERS = [
    ChunkerParams(minimum * KIB, average * KIB, maximum * KIB)
    for average in (32, 64, 128, 256)
    for minimum, maximum in ((average // 4, average * 4), (average // 2, average * 4), (average // 2, average * 2))
]


@dataclass(frozen=True)
class Frame:
    """One chunk as it lies in a file of frames."""

    id: bytes
    offset: int
    stored: int
    codec: int
    plain: int


def cut(params: ChunkerParams, data: Buffer) -> Iterator[memoryview]:
    """Yields the chunks of a buffer."""
    view, start = memoryview(data), 0
    for length in Chunker(params).cut(data):
        yield view[start : start + length]
        start += length


def new_bytes(params: ChunkerParams, known: set[bytes], data: Buffer) -> int:
    """Returns how many bytes of a changed file are in chunks that were not known."""
    return sum(len(chunk) for chunk in cut(params, data) if chunk_id(chunk) not in known)


def edits(base: bytes) -> dict[str, list[bytes]]:
    """Returns changed versions of a file, by the kind of change."""
    source = random.Random(11)
    text = Text(12)

    def inserted() -> bytes:
        at = source.randrange(len(base))
        return base[:at] + text.take(KIB) + base[at:]

    def overwritten() -> bytes:
        at = source.randrange(len(base) - 4 * KIB)
        return base[:at] + text.take(4 * KIB) + base[at + 4 * KIB :]

    def scattered() -> bytes:
        changed = bytearray(base)
        for _ in range(20):
            at = source.randrange(len(base) - 16)
            changed[at : at + 16] = text.take(16)
        return bytes(changed)

    return {
        "insert": [inserted() for _ in range(EDITS)],
        "overwrite": [overwritten() for _ in range(EDITS)],
        "scattered": [scattered() for _ in range(4)],
    }


def write_frames(path: Path, chunks: Iterable[Buffer], compression: Compression) -> list[Frame]:
    """Writes chunks as frames, one after the other, and returns where each lies."""
    frames: list[Frame] = []
    offset = 0
    with path.open("wb") as file:
        for chunk in chunks:
            codec, stored = compression.compress(chunk)
            frames.append(Frame(chunk_id(chunk), offset, len(stored), codec, len(chunk)))
            offset += file.write(stored)
    return frames


def read_frame(descriptor: int, frame: Frame, compression: Compression) -> None:
    """Does what a read that misses every cache does: one pread, decompress, check the hash."""
    stored = os.pread(descriptor, frame.stored, frame.offset)
    if chunk_id(compression.decompress(frame.codec, stored, frame.plain)) != frame.id:
        raise AssertionError("a frame was read back wrong")


def forget(path: Path) -> int:
    """Returns a descriptor of a file of which nothing is in the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    # The kernel's read-ahead would fetch neighbours that a random reader does not want.
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    return descriptor


def random_read_us(path: Path, frames: list[Frame], compression: Compression, *, cold: bool) -> float:
    """Returns the median time of one chunk at a random place."""
    descriptor = forget(path) if cold else os.open(path, os.O_RDONLY)
    times = []
    for frame in random.Random(5).sample(frames, min(READS, len(frames))):
        started = time.perf_counter()
        read_frame(descriptor, frame, compression)
        times.append(time.perf_counter() - started)
    os.close(descriptor)
    return statistics.median(times) * 1e6


def sequential_rate(path: Path, frames: list[Frame], compression: Compression) -> float:
    """Returns the plain MB/s of reading all chunks in order, from the page cache; the best of three."""
    rates = []
    for _ in range(3):
        descriptor = os.open(path, os.O_RDONLY)
        started = time.perf_counter()
        for frame in frames:
            read_frame(descriptor, frame, compression)
        rates.append(sum(frame.plain for frame in frames) / (time.perf_counter() - started) / 1e6)
        os.close(descriptor)
    return max(rates)


def index_row_bytes(directory: Path) -> float:
    """Returns the bytes that one object takes in LMDB, put in batches of sorted random keys as packs are."""
    tables = Tables(directory / "tables", ["objects"])
    source = random.Random(6)
    for _ in range(INDEX_ROWS // 1000):
        rows = sorted(source.randbytes(32) for _ in range(1000))
        with tables.write() as batch:
            for key in rows:
                batch.put("objects", key, source.randbytes(LOCATION_BYTES))
    used = tables.bytes_used()
    tables.close()
    return used / INDEX_ROWS


def measure_chunkers(directory: Path, row_bytes: float) -> str:
    """Returns the table of chunk sizes."""
    text = Text(7).take(CORPUS_BYTES)
    noise = random.Random(8).randbytes(CORPUS_BYTES)
    images = [image(index) for index in range(500)]
    changed = edits(text[: 32 * MIB])
    compression = Compression()
    rows = []
    for params in CHUNKERS:
        known = {bytes(chunk_id(chunk)) for chunk in cut(params, text[: 32 * MIB])}
        fresh = {
            kind: statistics.mean(new_bytes(params, known, data) for data in versions) / KIB
            for kind, versions in changed.items()
        }
        started = time.perf_counter()
        frames = write_frames(directory / "text", cut(params, text), compression)
        written = CORPUS_BYTES / (time.perf_counter() - started) / 1e6
        raw = write_frames(directory / "noise", cut(params, noise), compression)
        mean = CORPUS_BYTES / len(frames)
        rows.append([
            f"{params.min_bytes // KIB}/{params.avg_bytes // KIB}/{params.max_bytes // KIB}",
            f"{mean / KIB:.0f}",
            f"{statistics.mean(len(list(cut(params, data))) for data in images):.2f}",
            *(f"{fresh[kind]:.0f}" for kind in ("insert", "overwrite", "scattered")),
            f"{CORPUS_BYTES / sum(frame.stored for frame in frames):.2f}",
            f"{random_read_us(directory / 'text', frames, compression, cold=False):.0f}",
            f"{random_read_us(directory / 'text', frames, compression, cold=True):.0f}",
            f"{random_read_us(directory / 'noise', raw, compression, cold=True):.0f}",
            f"{sequential_rate(directory / 'text', frames, compression):.0f}",
            f"{sequential_rate(directory / 'noise', raw, compression):.0f}",
            f"{written:.0f}",
            f"{1e12 / mean * row_bytes / 1e9:.1f}",
        ])  # fmt: skip
    heads = ["min/avg/max KB", "mean KB", "chunks an image", "insert KB", "overwrite KB", "20 edits KB", "ratio"]
    heads += ["get us", "get cold us", "get cold raw us", "seq MB/s", "seq raw MB/s", "write MB/s", "index GB/TB"]
    return table(heads, rows)


def group(items: Iterable[bytes], limit: int) -> Iterator[list[bytes]]:
    """Yields runs of items whose bytes together reach a limit."""
    run: list[bytes] = []
    for item in items:
        run.append(item)
        if sum(map(len, run)) >= limit:
            yield run
            run = []
    if run:
        yield run


def measure_small_files(directory: Path, row_bytes: float) -> str:
    """Returns the table of ways to keep 1 KB documents: alone, in blocks of a size, in nodes of the tiny map."""
    count, compression = 10_000, Compression()
    documents = {b"document%06d.json" % index: document(index) for index in range(count)}
    ways: dict[str, tuple[list[bytes], float]] = {"one frame each": (list(documents.values()), row_bytes * count)}
    for size in (16, 32, 64, 128, 256):
        blocks = [b"".join(run) for run in group(documents.values(), size * KIB)]
        ways[f"chunks in {size} KB blocks"] = (blocks, row_bytes * count)
    items = [TinyItem(name, data) for name, data in documents.items()]
    nodes = [encode_node(NodeKind.TINY, 0, run) for run in cut_nodes(NodeKind.TINY, 0, items)]
    ways["tiny nodes, a frame each"] = (nodes, row_bytes * len(nodes))
    for size in (64, 128, 256):
        ways[f"tiny nodes in {size} KB blocks"] = (
            [b"".join(run) for run in group(nodes, size * KIB)],
            row_bytes * len(nodes),
        )
    rows = []
    plain = sum(map(len, documents.values()))
    for name, (blocks, index_bytes) in ways.items():
        started = time.perf_counter()
        frames = write_frames(directory / "small", blocks, compression)
        took = time.perf_counter() - started
        stored = sum(frame.stored for frame in frames)
        rows.append([
            name,
            f"{sum(frame.plain for frame in frames) / len(frames) / KIB:.0f}",
            f"{plain / stored:.2f}",
            f"{stored / count:.0f}",
            f"{index_bytes / count:.0f}",
            f"{random_read_us(directory / 'small', frames, compression, cold=False):.0f}",
            f"{random_read_us(directory / 'small', frames, compression, cold=True):.0f}",
            f"{count / took:.0f}",
        ])  # fmt: skip
    heads = ["kept as", "unit KB", "ratio", "stored a file", "index a file", "get us", "get cold us", "files/s written"]
    return table(heads, rows)


def measure_tiny_limit(directory: Path, row_bytes: float) -> str:
    """Returns the table of file sizes, kept in tiny nodes or as chunks in blocks: space, reading one, changing one."""
    compression, count = Compression(), 3_000
    rows = []
    for size in (512, 1024, 2048, 4096, 8192):
        content = b"".join(document(index) for index in range(count * size // 1000))
        files = [content[at * size : at * size + size - 64 + at % 128] for at in range(count)]
        items = [TinyItem(b"document%06d.json" % index, data) for index, data in enumerate(files)]
        nodes = [encode_node(NodeKind.TINY, 0, run) for run in cut_nodes(NodeKind.TINY, 0, items)]
        blocks = [b"".join(run) for run in group(files, 32 * KIB)]
        row = [str(size)]
        for units, indexed in ((nodes, len(nodes)), (blocks, count)):
            frames = write_frames(directory / "tiny", units, compression)
            stored = sum(frame.stored for frame in frames)
            row.append(f"{(stored + row_bytes * indexed) / count:.0f}")
            row.append(f"{random_read_us(directory / 'tiny', frames, compression, cold=True):.0f}")
            # One changed file is a new node, or a new chunk in a block of its own.
            alone = statistics.mean(len(compression.compress(data)[1]) for data in files[:200])
            row.append(f"{stored / len(frames) if units is nodes else alone:.0f}")
        rows.append(row)
    kinds = ("node", "block")
    return table(
        ["file bytes", *(f"{kind}: {what}" for kind in kinds for what in ("bytes a file", "get cold us", "a change"))],
        rows,
    )


def measure_levels(directory: Path) -> str:
    """Returns the table of zstd levels on 64 KB blocks of text and of documents."""
    corpora = {"text": Text(9).take(32 * MIB), "documents": b"".join(document(index) for index in range(8_000))}
    rows = []
    for level in (1, 2, 3, 5, 9):
        row = [str(level)]
        for data in corpora.values():
            blocks = [data[at : at + 64 * KIB] for at in range(0, len(data), 64 * KIB)]
            compression = Compression(level)
            started = time.perf_counter()
            frames = write_frames(directory / "level", blocks, compression)
            rate = len(data) / (time.perf_counter() - started) / 1e6
            back = sequential_rate(directory / "level", frames, compression)
            row += [f"{len(data) / sum(frame.stored for frame in frames):.2f}", f"{rate:.0f}", f"{back:.0f}"]
        rows.append(row)
    return table(
        ["level", *(f"{name} {what}" for name in corpora for what in ("ratio", "write MB/s", "read MB/s"))], rows
    )


def measure(directory: Path) -> Iterator[str]:
    """Yields the sections of the result as Markdown, each as soon as it is measured."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        work = Path(scratch)
        row_bytes = index_row_bytes(work)
        yield f"One object takes {row_bytes:.0f} bytes in LMDB ({INDEX_ROWS:,} random keys, sorted in batches).\n"
        yield "### Chunk sizes\n\n" + measure_chunkers(work, row_bytes)
        yield "### Small files\n\n" + measure_small_files(work, row_bytes)
        yield "### Limit of tiny files\n\n" + measure_tiny_limit(work, row_bytes)
        yield "### Compression level\n\n" + measure_levels(work)
