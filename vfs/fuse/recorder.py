"""The recorder: notes what the processes of runs open, list and write in a mount.

Every open(2) and opendir(2) reaches the daemon, also of files whose pages and names the kernel has cached. An open of a
file that the run has opened before costs two look-ups in dictionaries, or one in the native session layer. Events go
into the file of vfs/repo/runs/run_event_file.py ten times a second, so that a killed daemon leaves nearly all.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

import trio

from vfs.control.mount_description import process_namespace
from vfs.control.run_recorder import RunningRun
from vfs.errors import AlreadyExists, NotFound, Unsupported, VfsError
from vfs.fuse.run_attribution import Attribution
from vfs.fuse.view.version_inodes import VersionDirectory, VersionFile
from vfs.model.ids import CommitId
from vfs.model.names import join_path
from vfs.native.session import FILE, NativeSession
from vfs.overlay.overlay import Overlay
from vfs.repo.repository import Repository
from vfs.repo.runs.records import find_run
from vfs.repo.runs.run_event_file import Event, RecordingFile, recording_path
from vfs.repo.runs.sealing import COMMAND_DIED, Ending, seal
from vfs.repo.runs.snapshots import Snapshots
from vfs.store.remote_blocks import NotLocal

log = logging.getLogger(__name__)

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_TRUNC
_FLUSH_INTERVAL_S = 0.1
_UNKNOWN = object()
_OUTSIDE = b"processes outside of the daemon's process-id namespace opened files; they belong to no run here"


class Recording:
    """One run in progress. `seen`: inodes that it has opened for reading, by the mount's numbers.

    `number` is this run's alone in this process.
    """

    _numbers = itertools.count(1)

    def __init__(
        self, run_id: str, process: int, overlay: Overlay, parent: Recording | None, file: RecordingFile
    ) -> None:
        self.id = run_id
        self.number = next(self._numbers)
        self.process = process
        self.overlay = overlay
        self.parent = parent
        self.seen: set[int] = set()
        self.listed: set[int] = set()
        self.written: dict[int, bytes] = {}
        self.events: list[Event] = []
        self.noted: set[bytes] = set()
        self._file = file

    def add(self, event: Event) -> None:
        """Adds an event to this run and to those around it."""
        run: Recording | None = self
        while run is not None:
            run.events.append(event)
            run = run.parent

    def note(self, text: bytes) -> None:
        """Adds a sentence to the record, once."""
        if text not in self.noted:
            self.noted.add(text)
            self.events.append(Event("note", text))

    def flush(self) -> None:
        """Writes the events that are waiting; after an error they wait further. Raises OSError."""
        if self.events:
            self._file.append(self.events)
            self.events = []

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Recorder:
    """The runs that one mount records. Handlers call it in the event loop, services in worker threads."""

    def __init__(
        self,
        repository: Repository,
        find_inode: Callable[[int], object],
        find_place: Callable[[int], tuple[VersionDirectory, int] | None],
        native: NativeSession | None = None,
    ) -> None:
        """`find_inode` returns an inode of a version, `find_place` the directory and position of a file, which reads
        nothing; `native` answers opens in place of handlers, and records them."""
        self._repository = repository
        self._find_inode = find_inode
        self._find_place = find_place
        self._native = native
        self._runs: dict[str, Recording] = {}
        self._attribution: Attribution[Recording] = Attribution(self._runs.get, self._before_drop)
        self._by_thread = self._attribution.by_thread
        self._wakes = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.snapshots = Snapshots()
        self.is_active = False
        """True while a run is in progress: handlers ask before they call."""

    # What handlers call, in the event loop.

    def take_native_opens(self) -> None:
        """Notes what the native session layer recorded: before a thread or an inode is forgotten, and at the end."""
        if self._native is None or not self.is_active:
            return
        for opened in self._native.take_records():
            run = self._run_of(opened.thread)
            if run is None or opened.ino in (run.seen if opened.kind == FILE else run.listed):
                continue
            try:
                inode = self._find_inode(opened.ino)
            except (VfsError, OSError, NotLocal):
                # The request that reads the file reports the damage, or waits for the fetch.
                self._opened_unread(run, opened.ino)
                continue
            if opened.kind == FILE:
                self.opened_version(opened.thread, opened.ino, inode)
            else:
                self.listed_version(opened.thread, opened.ino, inode)

    def _opened_unread(self, run: Recording, ino: int) -> None:
        """Notes an open of a file whose directory cannot be read now: what is at its place is read for the record."""
        place = self._find_place(ino)
        if place is None:
            return
        run.seen.add(ino)
        directory, position = place
        run.add(Event("version-place", directory.path, directory.version.id, b"%d" % position))

    def know_thread(self, thread: int) -> None:
        """Lets the native session layer answer opens of a thread from now on, if its run is known."""
        if self._native is not None and thread in self._by_thread:
            run = self._by_thread[thread]
            self._native.know_thread(thread, run.number if run is not None else None)

    def _before_drop(self, thread: int | None) -> None:
        self.take_native_opens()
        if self._native is not None:
            if thread is None:
                self._native.record_opens(self.is_active)
            else:
                self._native.forget_thread(thread)

    def _set_active(self) -> None:
        self.is_active = bool(self._runs)
        if self._native is not None:
            self._native.record_opens(self.is_active)

    def _run_of(self, thread: int) -> Recording | None:
        run = self._by_thread.get(thread, _UNKNOWN)
        if run is not _UNKNOWN:
            return run  # type: ignore[return-value]
        if not thread:
            for active in self._runs.values():
                active.note(_OUTSIDE)
            return None
        return self._attribution.find(thread)

    def opened_working(self, thread: int, ino: int, overlay: Overlay, number: int, flags: int) -> None:
        """Notes an open of a file of a working layer; `ino` is the mount's number, `number` the overlay's."""
        run = self._run_of(thread)
        if run is None or (ino in run.seen and not flags & _WRITES):
            return
        path = self._path(run, overlay, number)
        if path is None:
            return
        if flags & os.O_ACCMODE != os.O_WRONLY and ino not in run.seen:
            run.seen.add(ino)
            if not flags & os.O_TRUNC:
                run.add(Event("read", path))
        if flags & _WRITES and number not in run.written:
            run.written[number] = path
            run.add(Event("write", path))

    def opened_version(self, thread: int, ino: int, file: object) -> None:
        """Notes an open of a file of a version."""
        run = self._run_of(thread)
        if run is None or ino in run.seen:
            return
        run.seen.add(ino)
        if isinstance(file, VersionFile):
            run.add(Event("version-read", file.path, file.directory.version.id, file.encoded))

    def listed_working(self, thread: int, ino: int, overlay: Overlay, number: int) -> None:
        """Notes that a directory of a working layer is opened for listing."""
        run = self._run_of(thread)
        if run is None or ino in run.listed:
            return
        run.listed.add(ino)
        path = self._path(run, overlay, number)
        if path is not None:
            run.add(Event("list", path))

    def listed_version(self, thread: int, ino: int, directory: object) -> None:
        """Notes that a directory of a version is opened for listing."""
        run = self._run_of(thread)
        if run is None or ino in run.listed:
            return
        run.listed.add(ino)
        if isinstance(directory, VersionDirectory):
            run.add(Event("version-list", directory.path, directory.version.id))

    def named(self, thread: int, version: CommitId) -> None:
        """Notes that a name of a version is looked up."""
        run = self._run_of(thread)
        if run is not None:
            run.add(Event("named", version=version))

    def changed(self, thread: int, overlay: Overlay, parent: int, name: bytes, *, removed: bool) -> None:
        """Notes that a name is made, replaced or removed."""
        run = self._run_of(thread)
        if run is not None and (directory := self._path(run, overlay, parent)) is not None:
            run.add(Event("remove" if removed else "write", join_path(directory, name)))

    def resized(self, thread: int, overlay: Overlay, number: int) -> None:
        """Notes that a file is truncated or extended by its path."""
        run = self._run_of(thread)
        if run is not None and number not in run.written and (path := self._path(run, overlay, number)) is not None:
            run.written[number] = path
            run.add(Event("write", path))

    def _path(self, run: Recording, overlay: Overlay, number: int) -> bytes | None:
        if overlay is not run.overlay:
            run.note(b"files of the branch %s were used; they are not in this record" % overlay.branch.encode())
            return None
        try:
            return overlay.path_of(number)
        except VfsError:
            # Removed, and still open.
            return None

    # What services call, in worker threads.

    def begin(
        self, run_id: str, process: int, namespace: str, parent: str, overlay: Overlay, named: Sequence[bytes]
    ) -> str:
        """Records what the processes below `process` do from now on; returns the id of the run around it, or none.

        Raises Unsupported, NotFound, AlreadyExists, OSError.
        """
        require_same_namespace(namespace)
        if run_id in self._runs:
            raise AlreadyExists(f"the run {run_id} goes on already")
        file = RecordingFile(recording_path(self._repository.path, run_id))
        try:
            return trio.from_thread.run_sync(self._begin, run_id, process, parent, overlay, named, file)
        except BaseException:
            file.close()
            raise

    def _begin(
        self, run_id: str, process: int, parent: str, overlay: Overlay, named: Sequence[bytes], file: RecordingFile
    ) -> str:
        around = self._runs.get(parent) or self._attribution.find(process)
        run = Recording(run_id, process, overlay, around, file)
        self._add_root(process, run, lambda: self._command_ended(run))
        run.events += [Event("named", version=version) for version in named]
        if around is not None:
            around.add(Event("step", run_id.encode()))
        self._runs[run_id] = run
        self._set_active()
        self._wakes.set()
        return around.id if around is not None else ""

    def _add_root(self, process: int, run: Recording, on_end: Callable[[], None]) -> None:
        try:
            self._attribution.add_root(process, run, on_end)
        except ProcessLookupError:
            raise NotFound(f"there is no process {process}") from None

    def join(self, run_id: str, process: int, namespace: str) -> None:
        """Makes the processes below `process` belong to a run in progress. Raises NotFound, Unsupported."""
        require_same_namespace(namespace)

        def join() -> None:
            run = self._runs.get(run_id)
            if run is None:
                raise NotFound(f"the run {run_id} does not go on in this mount", hint="It may have ended.")
            self._add_root(process, run, lambda: self._attribution.remove_root(process))

        trio.from_thread.run_sync(join)

    def overlay_of(self, run_id: str) -> Overlay | None:
        """Returns the working layer of a run in progress, None where none of that id is."""
        run = self._runs.get(run_id)
        return run.overlay if run is not None else None

    def run_of(self, process: int, namespace: str) -> str:
        """Returns the id of the run that a process belongs to, empty for none."""
        if not process or namespace != process_namespace():
            return ""
        run = trio.from_thread.run_sync(self._run_of, process)
        return run.id if run is not None else ""

    def finish(self, run_id: str, after: CommitId | None) -> None:
        """Ends a run: its recording is complete, but for what the caller knows. Raises NotFound, OSError."""
        run = trio.from_thread.run_sync(self._stop, run_id)
        self._complete(run, after)

    def _stop(self, run_id: str) -> Recording:
        self.take_native_opens()
        run = self._runs.pop(run_id, None)
        if run is None:
            raise NotFound(f"the run {run_id} does not go on in this mount")
        self._attribution.remove_run(run)
        self._set_active()
        for other in self._runs.values():
            if other.parent is run:
                other.parent = run.parent
        return run

    def _complete(self, run: Recording, after: CommitId | None) -> None:
        try:
            for number, path in run.written.items():
                with suppress(VfsError):
                    # A program writes a file beside the old one, and moves it there when it is complete.
                    now = run.overlay.path_of(number)
                    if now != path:
                        run.events.append(Event("write", now))
            run.events.append(Event("end", version=after or b""))
            run.flush()
        finally:
            run.close()

    def running(self) -> list[RunningRun]:
        """Returns the runs in progress."""
        return [RunningRun(run.id, run.process) for run in list(self._runs.values())]

    # The event loop's part.

    async def serve(self, nursery: trio.Nursery) -> None:
        """Writes recordings and notices the end of processes, until cancelled."""
        self._nursery = nursery
        try:
            while True:
                await self._wakes.wait()
                self._wakes = trio.Event()
                while self.is_active:
                    await self._note_ends()
        finally:
            self.close()

    async def _note_ends(self) -> None:
        with trio.move_on_after(_FLUSH_INTERVAL_S):
            await trio.lowlevel.wait_readable(self._attribution.descriptor)
        self.take_native_opens()
        self._attribution.drop_ended()
        for run in list(self._runs.values()):
            try:
                run.flush()
            except OSError as error:
                log.warning("the recording of the run %s waits: %s", run.id, error)
        # Many short processes end at the same time.
        await trio.sleep(_FLUSH_INTERVAL_S / 4)

    def _command_ended(self, run: Recording) -> None:
        """Ends the recording of a run whose supervisor was killed."""
        if self._runs.get(run.id) is run and self._nursery is not None:
            self._stop(run.id)
            self._nursery.start_soon(trio.to_thread.run_sync, self._seal, run)

    def _seal(self, run: Recording) -> None:
        try:
            shown = self.snapshots.take(self._repository, run.overlay, "")
            self._complete(run, shown.id if shown is not None else None)
            found = find_run(self._repository, run.id)
            seal(self._repository, found, Ending(notes=[COMMAND_DIED]), "")
        except NotFound:
            # It was killed before its record was there.
            with suppress(OSError):
                recording_path(self._repository.path, run.id).unlink(missing_ok=True)
        except (VfsError, OSError) as error:
            # A later command seals it.
            log.warning("the record of the run %s is not sealed yet: %s", run.id, error)

    def close(self) -> None:
        """Ends all recordings as they are."""
        self.take_native_opens()
        for run in list(self._runs.values()):
            with suppress(OSError):
                run.flush()
            run.close()
        self._runs.clear()
        self._set_active()
        self._attribution.close()


def require_same_namespace(namespace: str) -> None:
    """Raises Unsupported where a process is in another process-id namespace than the daemon."""
    if namespace != process_namespace():
        raise Unsupported(
            "the mount's daemon is in another process-id namespace, so it cannot tell whose requests it gets",
            hint="Mount in the namespace in which the program runs.",
        )
