"""What peers take for the work that is timed of this filesystem: saving versions, keeping them, bringing one back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks import data, machine
from benchmarks.peers import CheckoutPeer, Image, MountPeer, Peer
from benchmarks.subjects import remove_tree

MB = 1e6
LATER_IMAGES = 1
"""Later versions of peers for which each is as dear as the first."""
MOUNT_TITLE = "an old version readable after (mounted, or checked out)"

Add = Callable[[str, str, str, dict[str, list[float]]], None]
"""(name, title, unit, values by subject) of a figure."""


@dataclass
class Saved:
    """A mounting peer with its versions, ready to be read."""

    peer: MountPeer
    newest: int


@dataclass
class Contest:
    """Peers of one run; `add` takes what is found."""

    place: Path
    sizes: data.Sizes
    versions: int
    add: Add
    say: Callable[[str], None]
    ready: list[Saved] = field(default_factory=list)

    def save_versions(self, kinds: Sequence[type[Peer]], first: Path, title: str, *, later: bool = True) -> None:
        """Lets each peer save the first version, from a cold source, and the later ones; mounting ones stay.

        Peers take their turns one after the other: side by side their copies would not fit on many a disk.
        """
        name = title.replace(" ", "-").replace(",", "")
        for kind in kinds:
            peer = kind(self.place / kind.name, first)
            self.say(f"{peer.name}: {title}")
            machine.drop_caches()
            self._figure(name, f"{title}, from a cold source", "s", peer, [machine.seconds(partial(peer.save, 1))])
            self._figure(f"{name}-stored", f"{title}, stored", "MB", peer, [peer.stored_bytes() / MB])
            newest = self._save_later(peer) if later else 1
            if isinstance(peer, MountPeer):
                remove_tree(peer.source)
                self.ready.append(Saved(peer, newest))
            else:
                if later:
                    self._check_out(peer)
                peer.discard()

    def _save_later(self, peer: Peer) -> int:
        newest = 1 + LATER_IMAGES if isinstance(peer, Image) else self.versions
        times = []
        for version in range(2, newest + 1):
            data.Change.of(version, self.sizes).apply(peer.source)
            self.say(f"{peer.name}: version {version}")
            times.append(machine.seconds(partial(peer.save, version)))
        self._figure("later-import", "later version by import", "s", peer, times)
        if newest == self.versions:
            self._figure("stored-all", f"stored, {newest} versions", "MB", peer, [peer.stored_bytes() / MB])
        return newest

    def _check_out(self, peer: Peer) -> None:
        assert isinstance(peer, CheckoutPeer)
        self.say(f"{peer.name}: checking out version 1")
        machine.drop_caches()
        self._figure("mount", MOUNT_TITLE, "s", peer, [machine.seconds(partial(peer.checkout, 1))])

    def mounting(self) -> list[MountPeer]:
        """Returns the peers that show their first version in a mount: subjects of the reading workloads."""
        return [saved.peer for saved in self.ready]

    def diff(self) -> None:
        """Lets `diff -rq` compare the first version and the newest of each, once."""
        for saved in self.ready:
            peer = saved.peer
            self.say(f"{peer.name}: diff")
            peer.refresh()
            command = ["diff", "-rq", str(peer.tree()), str(peer.show(saved.newest))]
            taken = machine.seconds(partial(subprocess.run, command, stdout=subprocess.DEVNULL, check=False))
            self._figure("diff", "diff -rq of the first and the newest version, cold", "s", peer, [taken])

    def finish(self, memory_title: str = "") -> None:
        """Adds what mounting took, and the memory of each daemon at its peak; removes all peers."""
        while self.ready:
            peer = self.ready.pop().peer
            peer.close()
            if memory_title:
                self._figure("mount", MOUNT_TITLE, "s", peer, peer.mount_seconds)
                if peer.peak_bytes:
                    self._figure(memory_title.replace(" ", "-"), memory_title, "MB", peer, [peer.peak_bytes / MB])
            peer.discard()

    def _figure(self, name: str, title: str, unit: str, peer: Peer, values: list[float]) -> None:
        if not values:
            return
        self.add(name, title, unit, {peer.name: values})
