"""Opening again whatever happened: stopped at every durable step, journals lost, base moved, other processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from support.engine import Crash, StopAfter
from support.steps import AtStep
from support.working import Bench, Picture, working_layer
from vfs.errors import Busy, Conflict, Corrupt, NotFound
from vfs.overlay import freezing
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.store.trees.directories import resolve_path

OVERLAY = str(Path(freezing.__file__).parent)


def prepare(bench: Bench) -> None:
    """A version with everything that a rebase must carry over, and changes on top of it."""
    bench.mkdir(b"d")
    bench.put(b"d/a", b"a" * 5000)
    bench.put(b"d/b", b"b")
    bench.link(b"d/b", b"l")
    bench.put(b"r", b"renamed")
    bench.commit()
    bench.write(b"d/a", 1000, b"X" * 50)
    bench.rename(b"r", b"d/r")
    bench.rename(b"d", b"e")


def later(bench: Bench) -> None:
    """Writes during the commit."""
    bench.write(b"e/a", 1500, b"Y" * 50)
    bench.unlink(b"l")
    bench.put(b"new", b"n")
    bench.rename(b"e/r", b"s")


def made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def numbers(bench: Bench, picture: Picture) -> dict[bytes, int]:
    return {path: bench.ino(path) for path in picture}


def test_a_commit_stopped_at_every_step_behind_its_commit_point(tmp_path: Path) -> None:
    """The next opening stands on the new version, and names, contents and numbers are what they were."""
    stopped = []
    for steps in range(20):
        with working_layer(made(tmp_path / str(steps))) as bench:
            prepare(bench)
            bench.on_step = stop = StopAfter(1000)
            bench.reopen()
            frozen = bench.overlay.freeze()
            later(bench)
            version = bench.store_frozen(frozen)
            picture = bench.picture()
            before = numbers(bench, picture)
            stop.left = steps
            try:
                bench.overlay.complete(frozen, version)
            except Crash:
                stopped.append(stop.stopped_at)
            is_done = stop.left > 0 and not stop.stopped_at
            bench.on_step = None
            bench.crash()
            assert bench.overlay.base == version
            assert bench.picture() == picture
            assert numbers(bench, picture) == before
            assert len(list(bench.directory.glob("journal-*"))) == 1
            assert bench.picture_of(bench.commit()) == picture
        if is_done:
            break
    assert stopped == ["sync base", "remove journal-2"]


def test_opening_stopped_at_every_step_while_it_finishes_a_commit(tmp_path: Path) -> None:
    for steps in range(20):
        with working_layer(made(tmp_path / str(steps))) as bench:
            prepare(bench)
            frozen = bench.overlay.freeze()
            later(bench)
            version = bench.store_frozen(frozen)
            picture = bench.picture()
            before = numbers(bench, picture)
            bench.on_step = stop = StopAfter(steps)
            with contextlib.suppress(Crash):
                bench.crash()
            bench.on_step = None
            bench.crash()
            assert bench.overlay.base == version
            assert bench.picture() == picture
            assert numbers(bench, picture) == before
        if not stop.stopped_at:
            return
    pytest.fail("opening takes more steps than expected")


@pytest.mark.parametrize("steps", range(4))
def test_freezing_stopped_at_every_step_loses_nothing(tmp_path: Path, steps: int) -> None:
    with working_layer(tmp_path) as bench:
        prepare(bench)
        picture = bench.picture()
        bench.on_step = stop = StopAfter(1000)
        bench.reopen()
        stop.left = steps
        try:
            bench.overlay.freeze()
        except Crash:
            assert bench.picture() == picture
        bench.on_step = None
        bench.crash()
        assert bench.picture() == picture
        assert bench.overlay.recovery.dropped == ()
        bench.put(b"more")
        picture = bench.picture()
        assert bench.picture_of(bench.commit()) == picture


@pytest.mark.parametrize("steps", range(6))
def test_moving_to_another_base_stopped_at_every_step(tmp_path: Path, steps: int) -> None:
    with working_layer(tmp_path) as bench:
        prepare(bench)
        bench.commit()
        old = bench.picture()
        bench.rename(b"e", b"f")
        version = bench.commit()
        first = bench.versions_of(version)[0]
        bench.on_step = stop = StopAfter(1000)
        bench.reopen()
        published = bench.publish(first)
        stop.left = steps
        try:
            bench.overlay.set_base(published)
        except Crash:
            assert stop.stopped_at
        bench.on_step = None
        bench.crash()
        assert bench.overlay.base == published
        assert bench.picture() == bench.picture_of(published)
        assert bench.overlay.is_clean()
        assert b"e" in old


def test_a_failed_commit_leaves_everything_as_it_was(bench: Bench) -> None:
    prepare(bench)
    frozen = bench.overlay.freeze()
    later(bench)
    picture = bench.picture()
    before = numbers(bench, picture)
    bench.overlay.thaw(frozen)
    assert bench.picture() == picture
    for again in (bench.crash, bench.reopen):
        again()
        assert bench.picture() == picture
        assert numbers(bench, picture) == before
    assert bench.picture_of(bench.commit()) == picture
    with pytest.raises(Busy):
        bench.overlay.thaw(frozen)


def test_one_commit_at_a_time(bench: Bench) -> None:
    bench.put(b"f")
    frozen = bench.overlay.freeze()
    with pytest.raises(Busy):
        bench.overlay.freeze()
    with pytest.raises(Busy):
        bench.overlay.graft(b"f", None)
    bench.overlay.thaw(frozen)
    bench.overlay.thaw(bench.overlay.freeze())


def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(bench: Bench) -> None:
    """Nothing is ever closed or synced here; each step is followed by what a kill leaves."""
    steps: list[Callable[[], object]] = [
        lambda: bench.mkdir(b"d"),
        lambda: bench.put(b"d/a", b"1234"),
        lambda: bench.link(b"d/a", b"b"),
        bench.commit,
        lambda: bench.write(b"b", 1, b"xx"),
        lambda: bench.overlay.setattr(bench.ino(b"d"), mode=0o700, mtime_ns=5),
        lambda: bench.rename(b"d", b"e"),
        lambda: bench.overlay.freeze(),  # noqa: PLW0108 - the overlay of that moment.
        lambda: bench.unlink(b"b"),
        lambda: bench.overlay.setxattr(bench.ino(b"e/a"), b"user.x", b"1"),
        lambda: bench.commit(lambda: bench.write(b"e/a", 0, b"during")),
        lambda: bench.overlay.graft(b"e", None),
        lambda: bench.put(b"e", b"now a file"),
    ]
    for step in steps:
        step()
        picture = bench.picture()
        bench.crash()
        assert bench.picture() == picture


def test_a_torn_tail_is_cut_and_reported(bench: Bench) -> None:
    bench.put(b"a", b"kept")
    picture = bench.picture()
    bench.write(b"a", 0, b"lost" * 100)
    bench.overlay.abandon()
    journal = bench.directory / "journal-1"
    os.truncate(journal, journal.stat().st_size - 1)
    bench.crash()
    assert bench.overlay.recovery.cut == ("journal-1",)
    assert not bench.overlay.recovery.is_clean
    assert bench.picture() == picture
    bench.reopen()
    assert bench.overlay.recovery.is_clean


def test_journals_after_a_lost_end_do_not_count_and_are_quarantined(bench: Bench) -> None:
    """A power cut may keep the newer journal and lose the end of the older one, if neither was synced."""
    bench.put(b"a", b"1")
    bench.put(b"b", b"2")
    bench.overlay.thaw(bench.overlay.freeze())
    bench.put(b"c", b"3")
    bench.overlay.abandon()
    journal = bench.directory / "journal-1"
    os.truncate(journal, journal.stat().st_size - 1)
    bench.crash()
    assert bench.overlay.recovery.dropped == ("journal-2",)
    assert bench.names() == [b"a", b"b"]
    assert (bench.directory / "journal-2.lost").exists()
    bench.put(b"d")
    bench.reopen()
    assert bench.names() == [b"a", b"b", b"d"]


def test_damage_among_what_was_durable_is_refused(bench: Bench) -> None:
    bench.put(b"a", b"1")
    bench.put(b"b", b"1")
    bench.overlay.close()
    journal = bench.directory / "journal-1"
    damaged = bytearray(journal.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    journal.write_bytes(damaged)
    with pytest.raises(Corrupt, match="journal-1"):
        bench.crash()
    damaged[len(damaged) // 2] ^= 255
    journal.write_bytes(damaged)
    bench.crash()
    assert bench.names() == [b"a", b"b"]


def test_one_process_at_a_time(bench: Bench) -> None:
    other = os.open(bench.directory / "lock", os.O_RDWR)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        bench.overlay.close()
        bench.overlay.close()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(Busy):
            bench.crash()
    finally:
        os.close(other)
    bench.crash()


def test_a_clean_layer_follows_its_branch_when_opened(bench: Bench) -> None:
    bench.put(b"f", b"1")
    first = bench.commit()
    bench.write(b"f", 0, b"2")
    bench.commit()
    published = bench.publish(first)
    bench.reopen()
    assert bench.overlay.base == published
    assert bench.read(b"f") == b"1"


def test_a_changed_layer_stays_on_its_base_when_the_branch_moves(bench: Bench) -> None:
    bench.put(b"f", b"1")
    first = bench.commit()
    bench.write(b"f", 0, b"2")
    second = bench.commit()
    bench.put(b"g")
    published = bench.publish(first)
    for _ in range(2):
        bench.reopen()
        assert bench.overlay.base == second
        assert bench.read(b"f") == b"2"
    with pytest.raises(Conflict):
        bench.overlay.set_base(published)
    bench.unlink(b"g")
    bench.overlay.set_base(published)
    assert bench.read(b"f") == b"1"


def test_a_full_disk_changes_nothing(bench: Bench) -> None:
    bench.put(b"f", b"1234")
    bench.commit()
    bench.put(b"g", b"x" * 3000)
    picture = bench.picture()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    end = max(path.stat().st_size for path in bench.directory.glob("journal-*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (end, limits[1]))
    try:
        for change in (
            lambda: bench.write(b"f", 0, b"y" * 100),
            lambda: bench.put(b"h"),
            lambda: bench.rename(b"f", b"h"),
            lambda: bench.unlink(b"f"),
            lambda: bench.overlay.graft(b"f", None),
            lambda: bench.overlay.setattr(bench.ino(b"f"), size=0),
        ):
            with pytest.raises(OSError, match="too large"):
                change()
            assert bench.picture() == picture
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    bench.write(b"f", 0, b"y" * 100)
    assert bench.read(b"f") == b"y" * 100
    picture = bench.picture()
    bench.crash()
    assert bench.picture() == picture


def test_a_commit_without_room_for_its_last_step_is_finished_by_the_next(bench: Bench) -> None:
    bench.put(b"f", b"1")
    frozen = bench.overlay.freeze()
    bench.put(b"g", b"2")
    version = bench.store_frozen(frozen)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((bench.directory / "base").stat().st_size, limits[1]))
    try:
        bench.overlay.complete(frozen, version)
        assert bench.names() == [b"f", b"g"]
        assert bench.overlay.base == version
        with pytest.raises(OSError, match="too large"):
            bench.overlay.is_clean()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [change.path for change in bench.overlay.changes()] == [b"g"]
    assert bench.overlay.base == version
    picture = bench.picture()
    assert bench.picture_of(bench.commit()) == picture


_WITHOUT_FAILURE = ("complete", "check_current", "__exit__")
"""A context manager whose exit cannot be called releases nothing, and no program can do anything about it."""


class NoMemory:
    """A profile function: the call of a function of the working layer with this number finds no memory."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, frame: FrameType, event: str, _arg: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(OVERLAY) or code.co_name in _WITHOUT_FAILURE:
            return
        self.left -= 1
        if self.left < 0:
            raise MemoryError


def test_a_commit_without_memory_for_its_last_step_is_finished_later(tmp_path: Path) -> None:
    """Whatever finds no memory: what others see stays right, no compaction comes between, and nothing is lost."""
    unfinished = calls = 0
    is_through = False
    while not is_through:
        with working_layer(made(tmp_path / str(calls))) as bench:
            prepare(bench)
            # What is behind it is done in memory that is there already.
            at_step = AtStep()
            bench.on_step = at_step
            bench.reopen()
            bench.picture()
            frozen = bench.overlay.freeze()
            later(bench)
            version = bench.store_frozen(frozen)
            picture = bench.picture()
            at_step.do("sync base", lambda: sys.setprofile(None))
            sys.setprofile(no_memory := NoMemory(calls))
            try:
                bench.overlay.complete(frozen, version)
            finally:
                sys.setprofile(None)
            unfinished += bench.state.frozen is not None
            assert bench.overlay.base == version
            assert bench.picture() == picture
            bench.put(b"later", b"acknowledged")
            picture = bench.picture()
            before = numbers(bench, picture)
            bench.overlay.compactor.run()
            if calls % 2:
                assert not bench.overlay.is_clean()
                assert bench.picture() == picture
            bench.crash()
            assert bench.overlay.base == version
            assert bench.picture() == picture
            assert numbers(bench, picture) == before
            assert bench.picture_of(bench.commit()) == picture
        is_through = no_memory.left >= 0
        calls += 1
    assert unfinished > 10


def test_an_unfinished_file_is_taken_away(bench: Bench) -> None:
    (bench.directory / "journal-9.new").write_bytes(b"half a heading")
    (bench.directory / "journal-0").write_bytes(b"left over")
    (bench.directory / "journal-x").write_bytes(b"somebody else's")
    bench.reopen()
    names = {path.name for path in bench.directory.iterdir()}
    assert names == {"base", "durable", "lock", "journal-1", "journal-x"}


def test_a_layer_that_was_deleted_starts_behind_what_was_consumed(bench: Bench) -> None:
    bench.put(b"f", b"1")
    bench.commit()
    bench.put(b"g", b"1")
    bench.overlay.close()
    for path in bench.directory.iterdir():
        path.unlink()
    bench.crash()
    assert bench.names() == [b"f"]
    assert (bench.directory / f"journal-{bench.consumed + 1}").exists()
    bench.put(b"h")
    bench.commit()
    bench.reopen()
    assert bench.names() == [b"f", b"h"]


def test_forgotten_inodes_leave_nothing_in_memory_and_are_found_again(bench: Bench) -> None:
    prepare(bench)
    bench.commit()
    bench.reopen()
    before = numbers(bench, bench.picture())
    for path, ino in before.items():
        if path:
            bench.overlay.forget(ino)
    for path, ino in before.items():
        if path:
            with pytest.raises(NotFound):
                bench.overlay.getattr(ino)
    assert numbers(bench, bench.picture()) == before


def test_a_directory_may_be_forgotten_before_its_entries(bench: Bench) -> None:
    prepare(bench)
    bench.commit()
    bench.reopen()
    directory, file = bench.ino(b"e"), bench.ino(b"e/a")
    bench.overlay.forget(directory)
    bench.overlay.write(file, 0, b"still")
    assert bench.read(b"e/a")[:5] == b"still"
    assert bench.ino(b"e") == directory
    bench.overlay.forget(999)


def test_a_restore_is_whole_or_absent_after_a_kill(bench: Bench) -> None:
    """The record of a restore and those of the hard links in it count together."""
    prepare(bench)
    version = bench.commit()
    bench.overlay.graft(b"e", None)
    picture = bench.picture()
    size = max(path.stat().st_size for path in bench.directory.glob("journal-*"))
    place = resolve_path(bench.store, version.commit.root, b"e")
    bench.overlay.graft(b"e", place.entry, None, version.commit.links)
    restored = bench.picture()
    (journal,) = bench.directory.glob("journal-*")
    whole = journal.read_bytes()
    for length in range(size, len(whole), 7):
        bench.overlay.abandon()
        journal.write_bytes(whole[:length])
        bench.crash()
        assert bench.picture() == picture
    bench.overlay.abandon()
    journal.write_bytes(whole)
    bench.crash()
    assert bench.picture() == restored
    assert bench.overlay.getattr(ROOT_INO).ino == ROOT_INO
