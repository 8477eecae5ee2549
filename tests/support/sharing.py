"""People who share a repository: each has one of their own, with a working layer, and a remote between them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from vfs.backend.locations import Location, open_location
from vfs.errors import NotFound
from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.model.run_record import RunRecord, Source
from vfs.overlay.overlay import Overlay
from vfs.remote.remote import Remote
from vfs.repo.commit import commit
from vfs.repo.merge import merge
from vfs.repo.repository import Repository
from vfs.repo.runs.records import begin_run, find_run
from vfs.repo.runs.run_event_file import Event, RecordingFile, recording_path
from vfs.repo.runs.sealing import Ending, seal
from vfs.repo.runs.snapshots import Snapshots
from vfs.repo.transfer.clone import Cloned, clone
from vfs.repo.transfer.fetch import Fetched, fetch
from vfs.repo.transfer.pull import advance, finish
from vfs.repo.transfer.push import Pushed, push
from vfs.repo.transfer.remote_sweep import RemoteCollected, sweep_remote
from vfs.repo.transfer.remotes import Wrap, add_remote, config_of
from vfs.store.refs.operation import REMOTE_REFS

ORIGIN = "origin"
CACHE_BYTES = 4 << 20


def content(number: int, size: int = 50_000) -> bytes:
    """Returns bytes that no other number has."""
    return random.Random(number).randbytes(size)


class Person:
    """A person with a repository; closed by `close`."""

    def __init__(self, name: str, path: Path, *, wrap: Wrap | None = None) -> None:
        self.name = name
        self.path = path
        self.wrap = wrap
        self.repo: Repository
        self.overlay: Overlay
        self._stack = ExitStack()

    def init(self) -> Person:
        """Makes an empty repository."""
        self.repo = self._stack.enter_context(Repository.init(self.path, cache_bytes_max=CACHE_BYTES))
        self.overlay = self._stack.enter_context(self.repo.open_overlay())
        return self

    def clone(self, location: Location, *, contents: bool = False, depth: int = 0) -> Cloned:
        """Clones a remote."""
        done = clone(location, self.path, author=self.name, contents=contents, depth=depth, wrap=self.wrap)
        self.reopen()
        return done

    def reopen(self) -> None:
        """Opens the repository again, as another process would."""
        self.close()
        self._stack = ExitStack()
        self.repo = self._stack.enter_context(Repository.open(self.path, cache_bytes_max=CACHE_BYTES))
        self.overlay = self._stack.enter_context(self.repo.open_overlay())

    def close(self) -> None:
        """Closes what is open."""
        self._stack.close()

    def add_remote(self, location: Location, *, is_tested: bool = True) -> None:
        """Makes the remote known, and makes it.

        `is_tested`: its conditional writes are tested, which takes seconds at a server: it lets racing writers wait.
        """
        if not is_tested:
            Remote(open_location(location)).create(config_of(self.repo))
        add_remote(self.repo, ORIGIN, location, author=self.name, wrap=self.wrap)

    def write(self, name: str, data: bytes) -> None:
        """Writes a file of the root directory in the working layer."""
        with suppress(NotFound):
            self.overlay.unlink(1, name.encode())
        ino = self.overlay.mknod(1, name.encode(), 0o644, 0, 0, 0).ino
        self.overlay.write(ino, 0, data)

    def commit(self, name: str, data: bytes) -> Version:
        """Commits one changed file."""
        self.write(name, data)
        return commit(self.repo, self.overlay, f"{self.name}: {name}", self.name).version

    def push(
        self,
        branches: Sequence[str] = ("main",),
        *,
        tags: bool = False,
        runs: bool = True,
        removed: Sequence[str] = (),
        force: bool = False,
    ) -> Pushed:
        """Pushes."""
        return push(
            self.repo, ORIGIN, branches, author=self.name, tags=tags, runs=runs, removed=removed, force=force,
            wrap=self.wrap, sleep=lambda _seconds: None,
        )  # fmt: skip

    def sweep(self, *, grace_s: float = 0, thorough: bool = False, dry_run: bool = False) -> RemoteCollected:
        """Removes what the remote does not need."""
        return sweep_remote(
            self.repo, ORIGIN, author=self.name, grace_s=grace_s, thorough=thorough, dry_run=dry_run,
            wrap=self.wrap, sleep=lambda _seconds: None,
        )  # fmt: skip

    def fetch(self, *, contents: bool | None = None, purged: bool = False) -> Fetched:
        """Fetches."""
        return fetch(self.repo, ORIGIN, author=self.name, contents=contents, purged=purged, wrap=self.wrap)

    def pull(self, *, rebase: bool = False) -> Version | None:
        """Pulls the working layer's branch; returns its newest version. Asserts that there is no conflict."""
        self.fetch()
        branch = self.overlay.branch
        theirs = self.repo.refs.get(f"{REMOTE_REFS}{ORIGIN}/{branch}")
        if theirs is None:
            return self.repo.head(branch)
        version = Version(theirs, self.repo.store.get_commit(theirs))
        done = advance(self.repo, self.overlay, version, self.name, rebase=rebase)
        if done.own is not None:
            made = merge(self.repo, self.overlay, "own", done.own, self.name)
            assert made.state is None
        finish(self.repo, branch, self.name)
        return self.repo.head(branch)

    def versions(self, branch: str = "main") -> list[CommitId]:
        """Returns the versions of a branch, the first one first."""
        return [version.id for version in self.repo.history(branch)][::-1]

    def read(self, name: str) -> bytes:
        """Returns what a file has in the working layer."""
        ino = self.overlay.lookup(1, name.encode()).ino
        return bytes(self.overlay.read(ino, 0, 1 << 24))


def record_run(
    person: Person, digit: str, *, dirty: bytes = b"", private: bool = False, metric: float = 0.5
) -> RunRecord:
    """Records a run of the working layer, which has a file `dirty` then, not committed, that the run writes."""
    repo, head = person.repo, person.repo.head("main")
    before: CommitId | None = None
    if dirty:
        person.write("dirty", dirty)
        taken = Snapshots().take(repo, person.overlay, person.name)
        assert taken is not None
        before = taken.id
    source = Source("main", 1, head.id.hex() if head else "", "snapshot" if before is not None else "working")
    record = RunRecord(id=digit * 16, number=1, branch="main", is_observed=True, is_private=private, sources=(source,))
    begun = begin_run(repo, record, {}, before=before, author=person.name)
    file = RecordingFile(recording_path(repo.path, record.id))
    file.append([Event("read", b"a"), *([Event("write", b"dirty")] if dirty else [])])
    file.append([Event("end", version=before or (head.id if head else b""))])
    file.close()
    return seal(repo, find_run(repo, begun.id), Ending(exit_status=0, metrics={"accuracy": metric}), person.name)
