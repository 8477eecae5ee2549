"""File contents: journal over frozen layer over version, stretch by stretch; sparse files; what a commit stores."""

from __future__ import annotations

import errno
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.memory import memory_directory
from support.working import Bench, working_layer
from vfs.errors import IsADirectory
from vfs.model.objects import Form
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.store.object_writer import ObjectWriter
from vfs.store.trees.directories import resolve_path

MIB = 1 << 20

_STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 12_000), st.integers(1, 5_000)),
    st.tuples(st.just("write"), st.integers(0, 12_000), st.integers(1, 20)),
    st.tuples(st.just("truncate"), st.integers(0, 15_000), st.just(0)),
    st.tuples(st.sampled_from(["commit", "freeze", "thaw", "complete", "reopen", "crash"]), st.just(0), st.just(0)),
)


@given(st.lists(_STEP, max_size=25), st.integers(0, 2**32))
def test_a_file_is_what_was_written(steps: list[tuple[str, int, int]], seed: int) -> None:
    source = random.Random(seed)
    with memory_directory() as directory, working_layer(directory) as bench:
        bench.put(b"f")
        model = bytearray()
        frozen = None
        for what, offset, size in steps:
            if what == "write":
                data = source.randbytes(size)
                bench.write(b"f", offset, data)
                model.extend(bytes(max(0, offset - len(model))))
                model[offset : offset + size] = data
            elif what == "truncate":
                bench.overlay.setattr(bench.ino(b"f"), size=offset)
                del model[offset:]
                model.extend(bytes(offset - len(model)))
            elif what in ("reopen", "crash"):
                frozen = None
                bench.reopen() if what == "reopen" else bench.crash()
            elif what == "commit" and frozen is None:
                bench.commit()
            elif what == "freeze" and frozen is None:
                frozen = bench.overlay.freeze()
            elif what == "thaw" and frozen is not None:
                bench.overlay.thaw(frozen)
                frozen = None
            elif what == "complete" and frozen is not None:
                bench.overlay.complete(frozen, bench.store_frozen(frozen))
                frozen = None
            assert bench.attr(b"f").size == len(model)
            assert bench.read(b"f") == model
            start = source.randrange(15_000)
            length = source.randrange(6_000)
            part = bench.overlay.read(bench.ino(b"f"), start, length)
            assert bytes(part) == model[start : start + length]


def test_a_file_is_unchanged_while_a_version_has_it_as_it_is(bench: Bench) -> None:
    data = random.Random(1).randbytes(9_000)
    bench.put(b"f", data)
    assert bench.overlay.open_file(bench.ino(b"f")) is None
    version = bench.commit()
    bench.reopen()
    unchanged = bench.overlay.open_file(bench.ino(b"f"))
    assert unchanged is not None
    place = resolve_path(bench.store, version.commit.root, b"f")
    assert (unchanged.directory, unchanged.entry) == (place.directory, place.entry)
    bench.write(b"f", 3, b"changed")
    assert bench.overlay.open_file(bench.ino(b"f")) is None


def test_reads_end_where_the_file_ends(bench: Bench) -> None:
    ino = bench.put(b"f", b"abc").ino
    for _ in range(2):
        assert bytes(bench.overlay.read(ino, 0, 10)) == b"abc"
        assert bytes(bench.overlay.read(ino, 2, 10)) == b"c"
        assert bytes(bench.overlay.read(ino, 3, 10)) == b""
        assert bytes(bench.overlay.read(ino, 30, 10)) == b""
        assert bytes(bench.overlay.read(ino, 0, 0)) == b""
        bench.commit()
        bench.overlay.forget(ino)
        assert bench.ino(b"f") == ino
    with pytest.raises(IsADirectory):
        bench.overlay.read(ROOT_INO, 0, 1)
    with pytest.raises(IsADirectory):
        bench.overlay.write(ROOT_INO, 0, b"x")


def test_any_buffer_can_be_written_and_is_not_kept(bench: Bench) -> None:
    buffer = bytearray(b"12345")
    ino = bench.put(b"f").ino
    bench.overlay.write(ino, 0, buffer)
    bench.overlay.write(ino, 5, memoryview(buffer)[1:3])
    assert bench.overlay.write(ino, 7, b"") == 0
    buffer[:] = b"xxxxx"
    assert bench.read(b"f") == b"1234523"


def test_overwriting_4_kb_of_a_big_file_costs_a_few_kb(bench: Bench) -> None:
    source = random.Random(5)
    data = source.randbytes(8 * MIB)
    bench.put(b"big", data)
    bench.commit()
    bench.reopen()
    (journal,) = bench.directory.glob("journal-*")
    before = journal.stat().st_size
    bench.write(b"big", 3 * MIB + 17, b"y" * 4096)
    assert journal.stat().st_size - before < 4096 + 300
    with ObjectWriter(bench.store) as writer:
        stored_before = writer.statistics.bytes_new
    assert stored_before == 0
    frozen = bench.overlay.freeze()
    version = bench.store_frozen(frozen)
    bench.overlay.complete(frozen, version)
    model = bytearray(data)
    model[3 * MIB + 17 : 3 * MIB + 17 + 4096] = b"y" * 4096
    assert bench.read(b"big") == model


def test_holes_stay_holes(bench: Bench) -> None:
    ino = bench.put(b"sparse").ino
    bench.overlay.setattr(ino, size=1 << 40)
    bench.write(b"sparse", 1 << 39, b"middle")
    attr = bench.attr(b"sparse")
    assert (attr.size, attr.blocks) == (1 << 40, 1)
    version = bench.commit()
    entry = resolve_path(bench.store, version.commit.root, b"sparse").entry
    assert (entry.size, entry.hole_bytes) == (1 << 40, (1 << 40) - 6)
    bench.reopen()
    assert bench.attr(b"sparse").blocks == 1
    bench.write(b"sparse", 5, b"start")
    bench.overlay.setattr(bench.ino(b"sparse"), size=(1 << 39) + 3)
    version = bench.commit()
    entry = resolve_path(bench.store, version.commit.root, b"sparse").entry
    assert (entry.size, entry.hole_bytes) == ((1 << 39) + 3, (1 << 39) - 5)
    assert bytes(bench.overlay.read(bench.ino(b"sparse"), 0, 12)) == b"\0" * 5 + b"start\0\0"
    assert bytes(bench.overlay.read(bench.ino(b"sparse"), (1 << 39) - 1, 9)) == b"\0mid"


def test_what_was_cut_off_does_not_come_back(bench: Bench) -> None:
    bench.put(b"f", b"secret" * 1000)
    bench.commit()
    bench.reopen()
    ino = bench.ino(b"f")
    bench.overlay.setattr(ino, size=2)
    bench.overlay.setattr(ino, size=6000)
    assert bench.read(b"f") == b"se" + bytes(5998)
    version = bench.commit()
    assert bench.picture_of(version)[b"f"].content == b"se" + bytes(5998)


def test_files_beyond_what_offsets_can_say_are_refused(bench: Bench) -> None:
    ino = bench.put(b"f").ino
    with pytest.raises(OSError, match="too large") as error:
        bench.overlay.write(ino, 2**63 - 2, b"xyz")
    assert error.value.errno == errno.EFBIG
    assert bench.attr(b"f").size == 0


def test_a_version_is_what_there_was_at_one_moment(bench: Bench) -> None:
    """Writers continue between freezing and completing; each side keeps its own bytes."""
    bench.mkdir(b"d")
    bench.put(b"d/f", b"old" * 1000)
    bench.commit()
    bench.write(b"d/f", 0, b"new")
    before = bench.picture()

    def meanwhile() -> None:
        bench.write(b"d/f", 3, b"newer")
        bench.put(b"d/g", b"g")
        bench.rename(b"d", b"e")
        bench.put(b"d", b"a file now")

    version = bench.commit(meanwhile)
    after = bench.picture()
    assert bench.picture_of(version) == before
    assert after[b"e/f"].content[:8] == b"newnewer"
    assert after[b"d"].content == b"a file now"
    bench.crash()
    assert bench.picture() == after
    assert bench.picture_of(bench.commit()) == after


def test_the_same_content_gives_the_same_version(bench: Bench) -> None:
    """However it came about: written at once, or piece by piece over several versions."""
    source = random.Random(1)
    data = source.randbytes(100_000)
    bench.put(b"a", data)
    bench.put(b"b", data[:60_000])
    bench.commit()
    bench.reopen()
    bench.write(b"b", 70_000, data[70_000:])
    bench.commit()
    bench.write(b"b", 59_990, data[59_990:70_001])
    root = bench.commit().commit.root
    a, b = (resolve_path(bench.store, root, path).entry for path in (b"a", b"b"))
    assert (a.content, a.form, a.hole_bytes) == (b.content, b.form, b.hole_bytes)
    assert a.form == Form.LIST


def test_reading_while_a_commit_takes_the_journal_away(bench: Bench) -> None:
    data = random.Random(2).randbytes(200_000)
    ino = bench.put(b"f", data).ino
    pieces_read = []

    def read() -> None:
        pieces_read.append(bytes(bench.overlay.read(ino, 50_000, 100_000)))

    frozen = bench.overlay.freeze()
    read()
    version = bench.store_frozen(frozen)
    read()
    bench.overlay.complete(frozen, version)
    read()
    assert pieces_read == [data[50_000:150_000]] * 3
    assert not (bench.directory / "journal-1").exists()
