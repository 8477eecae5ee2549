"""Journals written anew: stopped and failing at every durable step, beside writers, commits and damage."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from support.engine import Crash, StopAfter
from support.steps import AtStep, Steps
from support.working import Bench, Picture, working_layer
from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt
from vfs.overlay.compaction import compaction, compaction_policy
from vfs.overlay.compaction.compaction_policy import CompactionPolicy, Size, live_size, total_size
from vfs.overlay.journal.file_check import check_file
from vfs.overlay.layer_nodes import DirNode, FileNode, Node
from vfs.overlay.state import Layer

STEPS = ["write journal-4", "sync directory of journal-4", "sync journal-3.new", "name journal-3"]
STEPS += ["sync directory of journal-3", "remove journal-2"]
"""Of a compaction of generation 2."""


def prepare(bench: Bench) -> None:
    """A version, and something of everything that a layer can have over it."""
    bench.mkdir(b"d")
    bench.put(b"d/a", b"a" * 5000)
    bench.put(b"d/b", b"b")
    bench.link(b"d/b", b"l")
    bench.put(b"gone", b"x")
    bench.mkdir(b"empty")
    bench.put(b"r", b"renamed")
    bench.commit()
    for number in range(20):
        bench.write(b"d/a", 1000 + number, b"X" * 50)
    bench.rename(b"r", b"d/r")
    bench.rename(b"d", b"e")
    bench.unlink(b"gone")
    bench.rmdir(b"empty")
    bench.mkdir(b"new")
    bench.put(b"new/f", b"12345", mode=0o4711)
    bench.write(b"new/f", 100, b"behind a hole")
    bench.link(b"new/f", b"new/g")
    bench.overlay.symlink(*bench.at(b"new/s"), b"target", 3, 4)
    bench.overlay.mknod(*bench.at(b"new/c"), 0o020600, 259, 5, 6)
    bench.overlay.setxattr(bench.ino(b"new"), b"user.a", b"1")
    bench.overlay.setattr(bench.ino(b"e/a"), size=3000, atime_ns=7)


def later(bench: Bench) -> None:
    """Writes during the compaction."""
    bench.write(b"e/a", 1010, b"Y" * 50)
    bench.unlink(b"l")
    bench.rename(b"e/r", b"s")
    bench.put(b"new/later", b"n")
    bench.overlay.setattr(bench.ino(b"new/f"), size=2)


def numbers(bench: Bench, picture: Picture) -> dict[bytes, int]:
    return {path: bench.ino(path) for path in picture}


def made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def journals(bench: Bench) -> set[str]:
    return {path.name for path in bench.directory.glob("journal-*")}


def bytes_of(bench: Bench) -> int:
    return sum(path.stat().st_size for path in bench.directory.glob("journal-*"))


def described(layer: Layer) -> object:
    """Everything that a layer knows, but for where in which journal bytes are."""

    def of(node: Node) -> object:
        common = {name: getattr(node, name) for name in Node.__slots__ if name not in ("places", "ino", "kind")}
        own: tuple[object, ...] = ()
        if isinstance(node, FileNode):
            runs = [[extent.start, extent.end] for extent in node.extents]
            for before, after in pairwise(runs):
                if before[1] == after[0]:
                    after[0] = before[0]
                    before.clear()
            own = node.size, node.lower, node.lower_size, [run for run in runs if run]
        elif isinstance(node, DirNode):
            own = node.lower, node.changes, node.subdirs, node.base_path
        return node.kind, sorted(node.places), common, own

    return {ino: of(node) for ino, node in layer.nodes.items()}, layer.gone, layer.leaders, layer.removed


def test_a_checkpoint_has_the_complete_state_of_the_layer(bench: Bench) -> None:
    prepare(bench)
    before = described(bench.state.active)
    picture = bench.picture()
    assert bench.overlay.compactor.run()
    assert described(bench.state.active) == before
    assert journals(bench) == {"journal-3", "journal-4"}
    bench.crash()
    assert described(bench.state.active) == before
    assert bench.overlay.recovery.records < len(bench.state.active.nodes) + 5
    assert bench.picture() == picture
    assert bench.picture_of(bench.commit()) == picture
    assert journals(bench) == {"journal-5"}


def test_stopped_at_every_step_it_has_happened_or_not(tmp_path: Path) -> None:
    stopped = []
    for steps in range(len(STEPS) + 1):
        with working_layer(made(tmp_path / str(steps))) as bench:
            prepare(bench)
            bench.on_step = stop = StopAfter(1000)
            bench.reopen()
            picture = bench.picture()
            before = numbers(bench, picture)
            stop.left = steps
            try:
                bench.overlay.compactor.run()
            except Crash:
                stopped.append(stop.stopped_at)
            bench.on_step = None
            bench.crash()
            assert bench.picture() == picture
            assert numbers(bench, picture) == before
            assert bench.overlay.recovery.dropped == ()
            later(bench)
            picture = bench.picture()
            assert bench.overlay.compactor.run()
            bench.crash()
            assert bench.picture() == picture
            assert bench.picture_of(bench.commit()) == picture
            assert len(journals(bench)) == 1
    assert stopped == STEPS


@pytest.mark.parametrize("step", range(len(STEPS)))
def test_failing_at_any_step_changes_nothing_and_the_next_time_it_works(bench: Bench, step: int) -> None:
    prepare(bench)
    steps = Steps(lambda name: OSError(errno.EIO, name))
    bench.on_step = steps
    bench.reopen()
    picture = bench.picture()
    steps.arm(step)
    if STEPS[step].startswith("remove"):
        assert bench.overlay.compactor.run()
    else:
        with pytest.raises(OSError, match=STEPS[step]):
            bench.overlay.compactor.run()
    steps.disarm()
    assert bench.picture() == picture
    assert not list(bench.directory.glob("*.new"))
    later(bench)
    picture = bench.picture()
    assert bench.overlay.compactor.run()
    assert bench.picture() == picture
    bench.crash()
    assert bench.picture() == picture
    assert bench.overlay.recovery.dropped == ()
    assert bench.picture_of(bench.commit()) == picture


@pytest.fixture
def at_step(bench: Bench) -> AtStep:
    """What a compaction does just before one of its steps."""
    bench.on_step = hook = AtStep()
    bench.reopen()
    return hook


@pytest.mark.parametrize("step", ["write", "sync journal"])
def test_writers_continue(bench: Bench, at_step: AtStep, step: str) -> None:
    prepare(bench)
    at_step.do(step, lambda: later(bench))
    assert bench.overlay.compactor.run()
    picture = bench.picture()
    assert picture[b"e/a"].content[1010:1060] == b"Y" * 50
    bench.crash()
    assert bench.picture() == picture
    assert bench.picture_of(bench.commit()) == picture


def test_operations_that_need_the_layer_cancel_a_compaction(bench: Bench, at_step: AtStep) -> None:
    prepare(bench)
    picture = bench.picture()
    at_step.do("sync journal", bench.commit)
    assert not bench.overlay.compactor.run()
    assert bench.picture() == picture
    assert bench.overlay.is_clean()
    later(bench)
    at_step.do("sync journal", lambda: bench.overlay.graft(b"e", None))
    assert not bench.overlay.compactor.run()
    assert b"e" not in bench.names()
    version = bench.commit()
    at_step.do("sync journal", lambda: bench.overlay.set_base(bench.publish(version)))
    assert not bench.overlay.compactor.run()
    at_step.do("sync journal", bench.overlay.close)
    assert not bench.overlay.compactor.run()
    assert at_step.is_done
    before = sorted(bench.directory.iterdir())
    assert not bench.overlay.compactor.run(), "the layer may be another process's by now"
    assert sorted(bench.directory.iterdir()) == before
    assert not [path for path in before if path.suffix == ".new"]
    bench.crash()
    assert b"new" in bench.names()


def test_closing_waits_until_a_compaction_in_another_thread_has_cleaned_up(
    bench: Bench, at_step: AtStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(bench)
    left: list[str] = []
    compactor = bench.overlay.compactor
    is_stopping = threading.Event()

    def cancel(cancel_running: Callable[[], None] = compactor.cancel) -> None:
        cancel_running()
        is_stopping.set()

    monkeypatch.setattr(compactor, "cancel", cancel)

    def close() -> None:
        bench.overlay.close()
        # From here on the files are another process's.
        left.extend(path.name for path in bench.directory.iterdir() if path.suffix == ".new")
        left.extend(["a compaction"] if bench.overlay.compactor.running is not None else [])

    closing = threading.Thread(target=close)

    def begin_closing() -> None:
        closing.start()
        is_stopping.wait()

    at_step.do("sync journal", begin_closing)
    running = threading.Thread(target=bench.overlay.compactor.run)
    running.start()
    running.join()
    closing.join()
    assert at_step.is_done
    assert not left
    assert bench.overlay.is_closed


def test_while_a_commit_is_under_way_there_is_none(bench: Bench) -> None:
    prepare(bench)
    frozen = bench.overlay.freeze()
    assert not bench.overlay.compactor.run()
    bench.overlay.thaw(frozen)
    assert bench.overlay.compactor.run()


def test_a_renamed_checkpoint_is_installed_by_operations_that_need_the_layer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_SLICE_NODES", 1)
    prepare(bench)
    running = compaction.Compaction(bench.state)
    running.write()
    assert running.advance()
    later(bench)
    picture = bench.picture()
    running.end()
    assert bench.picture_of(bench.commit()) == picture
    assert not running.advance()
    running.release()
    running.clean_up()
    bench.crash()
    assert bench.picture() == picture
    assert bench.overlay.is_clean()


def test_an_open_file_without_a_name_keeps_its_bytes_and_its_journal_goes(bench: Bench, at_step: AtStep) -> None:
    bench.put(b"f", b"0123456789" * 100)
    bench.put(b"kept", b"k")
    ino = bench.ino(b"f")
    bench.overlay.open_file(ino)
    bench.unlink(b"f")
    bench.overlay.write(ino, 500, b"after")
    expected = bytes(bench.overlay.read(ino, 0, 2000))
    at_step.do("sync journal", lambda: bench.overlay.write(ino, 0, b"meanwhile"))
    for _ in range(3):
        assert bench.overlay.compactor.run()
        expected = b"meanwhile" + expected[9:]
        assert bytes(bench.overlay.read(ino, 0, 2000)) == expected
    assert set(bench.state.journals) == {6, 7}
    bench.overlay.close_file(ino)
    bench.crash()
    assert bench.names() == [b"kept"]
    assert bench.overlay.compactor.run()
    assert bytes_of(bench) < 1000


def damage(bench: Bench, data: bytes) -> None:
    """Flips a bit in the middle of bytes that stand in a journal."""
    for path in bench.directory.glob("journal-*"):
        content = bytearray(path.read_bytes())
        at = content.find(data)
        if at >= 0:
            content[at + len(data) // 2] ^= 1
            path.write_bytes(content)
            return
    pytest.fail("not there")


def test_damaged_bytes_stay_damaged(bench: Bench) -> None:
    """Copying would give them a checksum that is right: a commit would take them, and fsck would find nothing."""
    bench.put(b"good", b"g" * 100)
    bench.put(b"bad", bytes(range(200)))
    bench.write(b"bad", 200, b"good end")
    bench.overlay.sync()
    damage(bench, bytes(range(200)))
    damaged = bench.read(b"bad")
    for _ in range(2):
        assert bench.overlay.compactor.run()
        assert bench.read(b"bad") == damaged
        assert any("damaged" in check_file(RootedPath.of(path)) for path in bench.directory.glob("journal-*"))
        frozen = bench.overlay.freeze()
        with pytest.raises(Corrupt, match="bad"):
            bench.store_frozen(frozen)
        bench.overlay.thaw(frozen)
        bench.crash()
    bench.write(b"bad", 0, b"w" * 200)
    assert bench.overlay.compactor.run()
    assert [check_file(RootedPath.of(path)) for path in sorted(bench.directory.glob("journal-*"))] == ["", ""]
    assert bench.picture_of(bench.commit())[b"bad"].content == b"w" * 200 + b"good end"


def test_what_the_disk_failed_to_write_is_not_made_durable_by_copying(bench: Bench) -> None:
    """The caller of sync must get the error; a checkpoint would have nothing left to sync."""
    bench.put(b"bad", bytes(range(200)))
    picture = bench.picture()
    damage(bench, bytes(range(200)))
    with pytest.raises(OSError, match="not synced"):
        bench.overlay.compactor.run()
    damage(bench, bytes(bytearray(range(100)) + bytes([101]) + bytearray(range(101, 200))))
    assert bench.overlay.compactor.run()
    assert bench.picture() == picture


def test_a_damaged_checkpoint_is_refused_and_not_cut(bench: Bench) -> None:
    bench.put(b"f", b"1")
    assert bench.overlay.compactor.run()
    bench.overlay.close()
    (checkpoint,) = bench.directory.glob("journal-2")
    whole = checkpoint.read_bytes()
    for content in (whole[:-1], whole[:-60] + b"\0" * 60):
        checkpoint.write_bytes(content)
        assert "damaged" in check_file(RootedPath.of(checkpoint))
        with pytest.raises(Corrupt, match="journal-2"):
            bench.crash()
        assert checkpoint.read_bytes() == content
    checkpoint.write_bytes(whole)
    bench.crash()
    assert bench.read(b"f") == b"1"


def test_nothing_is_appended_to_a_checkpoint_whatever_is_lost(bench: Bench) -> None:
    bench.put(b"f", b"1")
    assert bench.overlay.compactor.run()
    bench.overlay.close()
    (bench.directory / "journal-3").unlink()
    with pytest.raises(Corrupt, match="journal-3 is missing"):
        bench.crash()
    bench.recover()
    bench.put(b"g", b"2")
    bench.crash()
    assert bench.names() == [b"f", b"g"]
    assert bench.overlay.recovery.dropped == ()


def test_without_room_nothing_happens(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "SPARE_BYTES", 1 << 60)
    bench.put(b"f", os.urandom(3 << 20))
    picture, before = bench.picture(), journals(bench)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        bench.overlay.compactor.run()
    assert bench.picture() == picture
    assert not list(bench.directory.glob("*.new"))
    assert before <= journals(bench)
    bench.crash()
    assert bench.picture() == picture


def test_repeated_overwrites_stay_within_the_policys_bound(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_policy, "FREE", Size(200_000, 500))
    monkeypatch.setattr(compaction_policy, "_MEASURE_SIZE", Size(10_000, 50))
    file = bench.put(b"f", bytes(100_000)).ino
    at_most = compactions = 0
    for number in range(4000):
        bench.overlay.write(file, number % 25 * 4000, b"%04d" % number * 1000)
        compactions += bench.overlay.compactor.compact_if_due()
        at_most = max(at_most, bytes_of(bench))
    assert 10 < compactions < 4000 * 4000 / 250_000
    assert at_most < 200_000 + 2 * 110_000 + 10_000
    picture = bench.picture()
    bench.crash()
    assert bench.picture() == picture


def test_what_a_removed_file_had_is_given_back_when_some_time_has_gone_by(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction_policy, "FREE", Size(10_000, 10_000))
    now = 0.0
    asking = CompactionPolicy(bench.state, bench.overlay.lock, lambda: now)
    assert not asking.should_compact()
    bench.put(b"f", bytes(1_000_000))
    now = 100.0
    assert not asking.should_compact()
    bench.unlink(b"f")
    bench.overlay.forget(bench.state.orphans.popitem()[0])
    assert not asking.should_compact(), "asking again at once, for one record"
    now = 200.0
    assert asking.should_compact()
    assert bench.overlay.compactor.run()
    assert bytes_of(bench) < 1000
    assert not asking.should_compact()


def test_live_size_is_an_upper_bound(bench: Bench) -> None:
    prepare(bench)
    for number in range(300):
        bench.put(b"n" * 200 + b"%d" % number, b"1")
    sparse = bench.ino(b"new/f")
    for number in range(300):
        bench.overlay.write(sparse, number * 10, b"1")
    thought = live_size(list(bench.state.active.nodes.values()))
    assert bench.overlay.compactor.run()
    real = total_size(bench.state)
    assert real.bytes <= thought.bytes <= 3 * real.bytes
    assert real.records <= thought.records + 2


def test_closing_compacts_what_the_next_opening_need_not_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_policy, "CLOSING_FREE", Size(1_000_000, 100))
    file = bench.put(b"f", b"1").ino
    for number in range(50):
        bench.overlay.write(file, 0, b"%d" % number)
    bench.reopen()
    assert bench.overlay.recovery.records > 50
    for number in range(100):
        bench.overlay.write(file, 0, b"%d" % number)
    picture = bench.picture()
    bench.reopen()
    assert bench.overlay.recovery.records < 5
    assert bench.overlay.recovery.is_clean
    assert bench.picture() == picture
