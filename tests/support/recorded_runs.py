"""Runs recorded without a mount: events of a recording, written as a daemon writes them, and sealed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vfs.model.objects import Version
from vfs.model.run_record import Metric, Output, RunRecord, Source
from vfs.overlay.overlay import Overlay
from vfs.repo.repository import Repository
from vfs.repo.runs.records import RunRef, begin_run, find_run
from vfs.repo.runs.run_event_file import Event, RecordingFile, recording_path
from vfs.repo.runs.sealing import Ending, seal
from vfs.repo.runs.snapshots import Snapshots

AUTHOR = "ann@lab"


def write_file(overlay: Overlay, path: bytes, data: bytes) -> None:
    """Writes a file of the working layer whole, and makes the directories that it is in."""
    parent = 1
    for name in path.split(b"/")[:-1]:
        above = overlay.path_of(parent)
        found = overlay.find(above + b"/" + name if above else name)
        parent = found.ino if found is not None else overlay.mkdir(parent, name, 0o755, 0, 0).ino
    if overlay.find(path) is not None:
        overlay.unlink(parent, path.split(b"/")[-1])
    overlay.write(overlay.mknod(parent, path.split(b"/")[-1], 0o100644, 0, 0, 0).ino, 0, data)


class RunMaker:
    """Records runs on a working layer, each a second after the one before."""

    def __init__(self, repo: Repository, overlay: Overlay) -> None:
        self.repo = repo
        self.overlay = overlay
        self.snapshots = Snapshots()
        self._count = 0

    def record(
        self,
        command: str,
        *events: Event,
        writes: Mapping[bytes, bytes] | None = None,
        outside: tuple[Output, ...] = (),
        metrics: Mapping[str, Metric] | None = None,
        parent: str = "",
        pinned: Version | None = None,
    ) -> RunRef:
        """Records a run that reads what the events say, and writes files into the working layer."""
        ending = Ending(exit_status=0, outputs=list(outside), metrics=dict(metrics or {}))
        with self.going_on(command, *events, writes=writes, ending=ending, parent=parent, pinned=pinned) as run:
            pass
        return find_run(self.repo, run.id)

    @contextmanager
    def going_on(
        self,
        command: str,
        *events: Event,
        writes: Mapping[bytes, bytes] | None = None,
        ending: Ending | None = None,
        parent: str = "",
        pinned: Version | None = None,
    ) -> Iterator[RunRef]:
        """Yields a run that has written its files, and seals it."""
        ending = ending if ending is not None else Ending(exit_status=0)
        self._count += 1
        run_id = f"{self._count:016x}"
        before = self.snapshots.take(self.repo, self.overlay, AUTHOR)
        base = self.overlay.base
        is_dirty = before is not None and (base is None or before.id != base.id)
        source = Source(
            "main",
            base.commit.number if base is not None else 0,
            base.id.hex() if base is not None else "",
            "snapshot" if is_dirty else "working",
        )
        start_ns = self._latest_ns()
        record = RunRecord(
            id=run_id,
            number=1,
            command=tuple(command.split()),
            branch="main",
            is_observed=True,
            parent=parent,
            sources=(source,),
            start_ns=start_ns,
            pinned=pinned.id.hex() if pinned is not None else "",
        )
        begin_run(self.repo, record, {}, before=before.id if is_dirty and before is not None else None, author=AUTHOR)
        for path, data in (writes or {}).items():
            write_file(self.overlay, path, data)
        yield find_run(self.repo, run_id)
        after = self.snapshots.take(self.repo, self.overlay, AUTHOR)
        file = RecordingFile(recording_path(self.repo.path, run_id))
        written = [Event("write", path) for path in writes or {}]
        file.append([*events, *written, Event("end", version=after.id if after is not None else b"")])
        file.close()
        ending.end_ns = start_ns + 1
        seal(self.repo, find_run(self.repo, run_id), ending, AUTHOR)

    def _latest_ns(self) -> int:
        head = self.repo.head("main")
        return (head.commit.time_ns if head is not None else 0) + 10 * self._count
