"""Measures peers at the same work as this filesystem: saving versions, storing them, restoring one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

from benchmarks import data, machine
from benchmarks.bench import MB, Bench
from benchmarks.peers import CheckoutPeer, Image, MountPeer, Peer
from benchmarks.report import Row

LATER_IMAGES = 1
"""How many later versions are saved with peers for which each costs as much as the first."""
LATER_WITHIN_S = 45.0
"""The time limit for a peer's later versions, changing its source included."""
MOUNT = Row("mount", "time until an old version is readable (mounted, or checked out)", "s")
LATER = Row("later-import", "later version by import", "s")
STORED_EACH = Row("stored-each", "stored per later version", "MB")
DIFF = Row("diff", "diff -rq of the first and the newest version, cold", "s")
DIFF_NEIGHBOURS = Row("diff-neighbours", "diff -rq of two adjacent versions, cold", "s")


def stored_all(versions: int) -> Row:
    """Returns the row for the stored bytes after so many versions."""
    return Row("stored-all", f"stored, {versions} versions", "MB")


def first_rows(name: str, title: str) -> tuple[Row, Row]:
    """Returns the rows of a first version: its duration, and the stored bytes."""
    return Row(name, f"{title}, from a cold source", "s"), Row(f"{name}-stored", f"{title}, stored", "MB")


@dataclass
class Saved:
    """A mounting peer with its versions, ready to be read."""

    peer: MountPeer
    newest: int


@dataclass
class Contest:
    """Peers of one part of a run."""

    bench: Bench
    ready: list[Saved] = field(default_factory=list)

    def save_versions(self, first: Path, name: str, title: str, *, later: bool = True) -> None:
        """Lets each peer save the first version, from a cold source, and the later ones; mounting ones stay.

        Without later ones nothing is checked out: the only version is there already. Peers take their turns one after
        the other: side by side their copies would not fit on many a disk.
        """
        for kind in self.bench.plan.peers:
            self.bench.say(f"{kind.name}: its source")
            peer = kind(self.bench.scratch / "peers" / kind.name, first, changing=later)
            newest = 0
            try:
                with self.bench.forgiving(peer, title):
                    self._save_first(peer, name, title)
                    newest = self._save_later(peer) if later else 1
                    if later and isinstance(peer, CheckoutPeer):
                        self._check_out(peer)
            finally:
                if newest and isinstance(peer, MountPeer):
                    peer.drop_source()
                    self.ready.append(Saved(peer, newest))
                else:
                    peer.discard()

    def _save_first(self, peer: Peer, name: str, title: str) -> None:
        took, stored = first_rows(name, title)
        self.bench.say(f"{peer.name}: {title}")
        machine.drop_caches()
        self._add(took, peer, [machine.seconds(partial(peer.save, 1))])
        self._add(stored, peer, [peer.stored_bytes() / MB])

    def _save_later(self, peer: Peer) -> int:
        wanted = 1 + LATER_IMAGES if isinstance(peer, Image) else self.bench.plan.versions
        newest = 1
        times: list[float] = []
        stored = [peer.stored_bytes()]
        started = time.monotonic()
        for version in range(2, wanted + 1):
            if time.monotonic() - started >= LATER_WITHIN_S:
                self.bench.note(f"{peer.name}: saved {newest} of {wanted} versions, for the time it takes")
                break
            data.Change.of(version, self.bench.sizes).apply(peer.source)
            self.bench.say(f"{peer.name}: version {version}")
            times.append(machine.seconds(partial(peer.save, version)))
            stored.append(peer.stored_bytes())
            newest = version
        self._add(LATER, peer, times)
        if newest == self.bench.plan.versions:
            self._add(stored_all(newest), peer, [stored[-1] / MB])
        self._add(STORED_EACH, peer, [(after - before) / MB for before, after in pairwise(stored)])
        return newest

    def _check_out(self, peer: CheckoutPeer) -> None:
        self.bench.say(f"{peer.name}: checking out version 1")
        machine.drop_caches()
        self._add(MOUNT, peer, [machine.seconds(partial(peer.checkout, 1))])

    def mounting(self) -> list[MountPeer]:
        """Returns the peers that show their first version in a mount: subjects of the reading workloads."""
        return [saved.peer for saved in self.ready if not saved.peer.failed]

    def diff(self) -> None:
        """Lets `diff -rq` compare the first version and the newest of each, once, and the newest and its neighbour."""
        for saved in self.ready:
            if saved.peer.failed:
                continue
            if saved.newest == self.bench.plan.versions:
                self._diff(DIFF, saved.peer, 1, saved.newest)
            self._diff(DIFF_NEIGHBOURS, saved.peer, saved.newest - 1, saved.newest)

    def _diff(self, row: Row, peer: MountPeer, left: int, right: int) -> None:
        self.bench.say(f"{peer.name}: {row.title}")
        with self.bench.forgiving(peer, row.title):
            peer.refresh()
            left_tree = peer.tree() if left == 1 else peer.show(left)
            self._add(row, peer, [seconds_of_diff(left_tree, peer.show(right))])

    def finish(self, memory: Row, mounting: Row) -> None:
        """Adds what mounting took, and the memory of each daemon at its peak; removes all peers."""
        for saved in self.ready:
            saved.peer.close()
            self._add(mounting, saved.peer, saved.peer.mount_seconds)
            if saved.peer.peak_bytes:
                self._add(memory, saved.peer, [saved.peer.peak_bytes / MB])
        self.discard()

    def discard(self) -> None:
        """Removes all peers."""
        while self.ready:
            self.ready.pop().peer.discard()

    def _add(self, row: Row, peer: Peer, values: Sequence[float]) -> None:
        self.bench.add(row, {peer.name: values})


def seconds_of_diff(left: Path, right: Path) -> float:
    """Returns how long `diff -rq` takes to find the differences of two trees that have some."""
    finished: list[subprocess.CompletedProcess[str]] = []
    command = ["diff", "-rq", f"{left}/.", f"{right}/."]
    run = partial(subprocess.run, command, capture_output=True, text=True, check=False, errors="replace")
    took = machine.seconds(lambda: finished.append(run()))
    if finished[0].returncode != 1:
        raise RuntimeError(f"{' '.join(command)} exited with {finished[0].returncode}: {finished[0].stderr}")
    return took
