"""Contents: reading gives back what was stored, and re-cutting around a change gives what cutting all gives."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from support.stores import CountingSink, MemorySink
from vfs.model.chunking import ChunkerParams, IngestParams
from vfs.model.objects import Content, Form
from vfs.store.trees.content_writer import ContentWriter
from vfs.store.trees.file_reader import FileReader, Run

BLOCK = 64
SMALL = IngestParams(ChunkerParams(64, 256, 1024, 2, 0), tiny_bytes_max=100)
Blocks = list[bytes | None]


class BlockFile:
    """A file made of blocks, some of them holes, that ends `short` bytes before its last block does."""

    def __init__(self, blocks: Blocks, short: int) -> None:
        self.blocks = blocks
        self.size = max(len(blocks) * BLOCK - short, 0)
        self.data = b"".join(block or bytes(BLOCK) for block in blocks)[: self.size]

    def read(self, offset: int, buffer: memoryview) -> int:
        return fill(buffer, self.data[offset:])

    def runs(self, start: int) -> Iterator[Run]:
        joined: list[Run] = []
        for number, block in enumerate(self.blocks):
            begin, end = number * BLOCK, min((number + 1) * BLOCK, self.size)
            if begin >= end:
                continue
            if joined and joined[-1].is_hole == (block is None):
                joined[-1] = joined[-1]._replace(end=end)
            else:
                joined.append(Run(begin, end, block is None))
        for run in joined:
            if run.end > start:
                yield run._replace(start=max(run.start, start))


def fill(buffer: memoryview, data: bytes | bytearray) -> int:
    size = min(len(buffer), len(data))
    buffer[:size] = data[:size]
    return size


def random_blocks(rng: random.Random, count: int) -> Blocks:
    def block() -> bytes | None:
        roll = rng.random()
        return None if roll < 0.15 else rng.randbytes(BLOCK) if roll < 0.85 else bytes(BLOCK)

    return [block() for _ in range(count)]


def changed_file(rng: random.Random, old: BlockFile) -> tuple[BlockFile, list[tuple[int, int]]]:
    blocks = list(old.blocks)
    changed = []
    for number in range(len(blocks)):
        if rng.random() < 0.04:
            blocks[number] = random_blocks(rng, 1)[0]
            changed.append((number * BLOCK, (number + 1) * BLOCK))
    short = len(blocks) * BLOCK - old.size
    if rng.random() < 0.4:
        short = rng.randrange(BLOCK)
        grow = rng.choice([-3, -1, 0, 1, 6])
        blocks = blocks[:grow] if grow < 0 else blocks + random_blocks(rng, grow)
    new = BlockFile(blocks, short)
    return new, [(start, min(end, new.size)) for start, end in changed if start < new.size]


@settings(max_examples=200)
@given(st.randoms(use_true_random=True), st.sampled_from([0, 1, 2, 30, 150]))
def test_updates_give_the_content_that_storing_afresh_gives(rng: random.Random, count: int) -> None:
    sink = MemorySink()
    writer = ContentWriter(sink, SMALL)
    file = BlockFile(random_blocks(rng, count), rng.randrange(BLOCK) if count else 0)
    content = writer.from_reader(file.size, file.read, file.runs)
    for _ in range(4):
        reader = FileReader(sink, content)
        assert bytes(reader.read(0, file.size + 1)) == file.data
        assert content.hole_bytes == sum(run.end - run.start for run in file.runs(0) if run.is_hole)
        if content.hole_bytes:
            assert list(reader.runs()) == list(file.runs(0))
        file, changed = changed_file(rng, file)
        content = writer.update(content, file.size, changed, file.read, file.runs)
        assert content == writer.from_reader(file.size, file.read, file.runs)


@given(st.randoms(use_true_random=True), st.integers(0, 9_000), st.integers(0, 9_000))
def test_any_range_reads_as_in_the_source(rng: random.Random, offset: int, size: int) -> None:
    sink = MemorySink()
    file = BlockFile(random_blocks(rng, 120), 7)
    content = ContentWriter(sink, SMALL).from_reader(file.size, file.read, file.runs)
    assert bytes(FileReader(sink, content).read(offset, size)) == file.data[offset : offset + size]


def test_forms_follow_from_size_and_holes() -> None:
    sink = MemorySink()
    writer = ContentWriter(sink, SMALL)
    assert writer.from_bytes(b"") == Content()
    assert writer.from_bytes(b"x" * 100).form == Form.TINY
    assert writer.from_bytes(random.Random(1).randbytes(200)).form in (Form.CHUNK, Form.LIST)
    assert writer.from_bytes(random.Random(1).randbytes(5000)).form == Form.LIST
    hole = BlockFile([None], 0)
    assert writer.from_reader(hole.size, hole.read, hole.runs) == writer.from_reader(hole.size, hole.read, hole.runs)
    assert writer.from_reader(hole.size, hole.read, hole.runs).hole_bytes == BLOCK


def test_a_small_change_in_a_long_file_reads_little_of_it() -> None:
    rng = random.Random(2)
    sink = CountingSink(MemorySink())
    writer = ContentWriter(sink, SMALL)
    data = bytearray(rng.randbytes(2_000_000))
    asked: list[int] = []

    def read(offset: int, buffer: memoryview) -> int:
        asked.append(len(buffer))
        return fill(buffer, data[offset:])

    def runs(start: int) -> Iterator[Run]:
        yield Run(start, len(data), is_hole=False)

    old = writer.from_reader(len(data), read, runs)
    data[1_000_000:1_000_010] = rng.randbytes(10)
    asked.clear()
    sink.reset()
    new = writer.update(old, len(data), [(1_000_000, 1_000_010)], read, runs)
    assert new == writer.from_bytes(data)
    assert sum(asked) < 40_000


def test_inserting_a_kilobyte_into_the_middle_makes_a_few_new_chunks() -> None:
    rng = random.Random(3)
    sink = CountingSink(MemorySink())
    writer = ContentWriter(sink, IngestParams())
    data = rng.randbytes(32 * 1024 * 1024)
    writer.from_bytes(data)
    before = sink.chunk_bytes_new
    writer.from_bytes(data[: len(data) // 2] + rng.randbytes(1024) + data[len(data) // 2 :])
    assert sink.chunk_bytes_new - before < 1_000_000
