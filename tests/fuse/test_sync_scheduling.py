"""Where a sync runs: on the event loop while the disk is quick, in a worker thread otherwise."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from support.working import Bench, working_layer
from vfs.fuse.sync_scheduling import FAST_SYNC_S, RECENT_SYNCS, SMALL_BYTES, SyncScheduler
from vfs.overlay.layer_nodes import ROOT_INO


class Disk:
    """The disk's clock, and which thread each flush came from; a flush takes `takes_s`."""

    def __init__(self, bench: Bench) -> None:
        self.now_s = 0.0
        self.takes_s = FAST_SYNC_S / 2
        self.fails = False
        self.on_loop: list[bool] = []
        bench.on_step = self.step
        self.overlay = bench.reopen()
        self.ino = self.overlay.mknod(ROOT_INO, b"f", 0o644, 0, 0, 0).ino
        self.scheduler = SyncScheduler(lambda: self.now_s)

    def step(self, name: str) -> None:
        if name.startswith("sync journal"):
            self.on_loop.append(threading.current_thread() is threading.main_thread())
            self.now_s += self.takes_s
            if self.fails:
                raise OSError(errno.EIO, name)

    def sync(self, size: int = 10) -> bool:
        """Writes and syncs; returns whether that ran on the event loop."""
        self.overlay.write(self.ino, 0, bytes(size))
        trio.run(self.scheduler.sync, self.overlay)
        assert not self.overlay.unsynced_bytes()
        return self.on_loop[-1]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with working_layer(tmp_path) as bench:
        yield Disk(bench)


def test_a_disk_that_is_quick_is_waited_for_once_that_is_known(disk: Disk) -> None:
    assert [disk.sync() for _ in range(RECENT_SYNCS + 2)] == [False] * RECENT_SYNCS + [True] * 2


def test_one_slow_sync_sends_the_next_ones_to_threads(disk: Disk) -> None:
    for _ in range(RECENT_SYNCS):
        disk.sync()
    disk.takes_s = 2 * FAST_SYNC_S
    assert disk.sync()
    disk.takes_s = FAST_SYNC_S / 2
    assert [disk.sync() for _ in range(RECENT_SYNCS + 1)] == [False] * RECENT_SYNCS + [True]


def test_much_data_is_never_waited_for_and_says_nothing_of_little(disk: Disk) -> None:
    for _ in range(RECENT_SYNCS):
        disk.sync()
    disk.takes_s = 100 * FAST_SYNC_S
    assert not disk.sync(SMALL_BYTES + 1)
    disk.takes_s = FAST_SYNC_S / 2
    assert disk.sync()


def test_a_disk_that_fails_says_so_on_the_loop_too(disk: Disk) -> None:
    for _ in range(RECENT_SYNCS):
        disk.sync()

    disk.fails = True
    with pytest.raises(OSError, match="sync journal"):
        disk.sync()
    disk.fails = False
    assert disk.sync()
