"""Tables over the records of runs: what each run read and wrote, so that a question about all runs opens no record.

    runs      commit of a sealed record         -> the record without its lists, and where its manifest and snapshot are
    outputs   content id or SHA-256 || commit   -> the paths that have it
    written   commit of a sealed record         -> its outputs
    reads     content id of a manifest || place of a source -> `*`, or the sorted hashes of opened paths, 8 bytes each

All of it is derived from records, which never change once they are sealed: rows are added for new records, and those of
records that are gone do not count. The directory can be removed at any time.
"""

from __future__ import annotations

import array
import bisect
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from vfs.errors import Busy, Corrupt, VfsError
from vfs.model.decoding import UNDECODABLE
from vfs.model.ids import CommitId, chunk_id
from vfs.model.objects import Kind
from vfs.model.runs import Environment, Manifest, Output, RunRecord, decode_manifest, decode_record, encode_record
from vfs.repo.paths import run_tables
from vfs.repo.repository import Repository
from vfs.repo.runs.records import MANIFEST, RunRef, list_runs, load_record, run_file
from vfs.store.lmdb_tables import Tables, discard
from vfs.store.trees.directories import find_entry

_RUNS, _OUTPUTS, _WRITTEN, _READS = "runs", "outputs", "written", "reads"
_TABLES = (_RUNS, _OUTPUTS, _WRITTEN, _READS)
_ALL = b"*"
_PLACE = struct.Struct(">I")
_HASH_BYTES = 8
_BATCH_RUNS = 50
"""Records that one transaction adds: an interrupted update keeps what it has done."""
_WORDS_CHARACTERS_MAX = 4096
_UNREADABLE: tuple[type[Exception], ...] = (*UNDECODABLE, VfsError, ValueError)

Progress = Callable[[int, int], None]
"""Hears of records read, and of how many there are to read."""


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """A record without outputs, environment and notes, in its JSON: MessagePack has no names that are no UTF-8.

    `snapshot`: the commit of the working layer at the start.
    """

    record: bytes
    manifest: bytes = b""
    snapshot: bytes = b""
    outputs: int = 0


class Written(msgspec.Struct, frozen=True, array_like=True):
    """A file that a run wrote: `path` from the branch's root in the mount, absolute outside of it."""

    path: bytes
    content: bytes
    size: int
    is_outside: bool = False


class Writer(NamedTuple):
    """A run that wrote some content, and where."""

    run: KnownRun
    file: Written


class KnownRun(NamedTuple):
    """A sealed run as the tables have it; `record` has neither outputs nor environment nor notes.

    `manifest`: the content id of what it read, empty for none. `snapshot`: its working layer at the start, if kept.
    `outputs`: how many there are.
    """

    commit_id: CommitId
    record: RunRecord
    manifest: bytes
    snapshot: CommitId | None
    outputs: int

    @property
    def ref(self) -> RunRef:
        """The run by its ref."""
        return RunRef(self.record.number, self.record.id, self.commit_id)


class RunTables:
    """The sealed runs of a repository. For one thread."""

    def __init__(self, repo: Repository, tables: Tables) -> None:
        self._repo = repo
        self._tables = tables
        self.runs: dict[CommitId, KnownRun] = {}
        self._opened: dict[bytes, bytes | memoryview | None] = {}

    @classmethod
    def open(cls, repo: Repository, progress: Progress | None = None) -> Self:
        """Opens the tables and brings them up to date. Where they cannot be kept, they are made in memory."""
        try:
            return cls._opened_at(repo, progress)
        except Corrupt:
            # Damaged, or by a program that kept them otherwise.
            discard(run_tables(repo.path))
            return cls._opened_at(repo, progress)

    @classmethod
    def _opened_at(cls, repo: Repository, progress: Progress | None) -> Self:
        found = cls(repo, _open(run_tables(repo.path)))
        try:
            found._update(progress)
        except BaseException:
            found.close()
            raise
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the tables."""
        self._opened.clear()
        self._tables.close()

    def _update(self, progress: Progress | None) -> None:
        refs = list_runs(self._repo)
        wanted = {run.commit_id for run in refs}
        known = dict(self._tables.scan(_RUNS))
        if len(known) > 2 * len(wanted) + _BATCH_RUNS:
            with self._tables.write() as batch:
                for table in _TABLES:
                    batch.clear(table)
            known = {}
        missing = [run for run in refs if run.commit_id not in known]
        for start in range(0, len(missing), _BATCH_RUNS):
            known |= self._add(missing[start : start + _BATCH_RUNS])
            if progress is not None:
                progress(min(start + _BATCH_RUNS, len(missing)), len(missing))
        for run in refs:
            if run.commit_id in known:
                self.runs[run.commit_id] = _known(run.commit_id, known[run.commit_id])

    def _add(self, runs: Sequence[RunRef]) -> dict[bytes, bytes]:
        """Adds sealed records; returns their rows. One that cannot be read is passed over: `fsck` names it."""
        rows: dict[bytes, bytes] = {}
        outputs: dict[bytes, list[Written]] = {}
        written: dict[CommitId, list[Written]] = {}
        reads: dict[bytes, bytes] = {}
        for run in runs:
            try:
                record = load_record(self._repo, run)
                if record.status == "running":
                    continue
                row = self._row(run, record)
                if row.manifest and not self._tables.has(_READS, row.manifest + _PLACE.pack(0)):
                    reads |= _read_rows(row.manifest, decode_manifest(run_file(self._repo, run, MANIFEST) or b""))
            except _UNREADABLE:
                continue
            rows[run.commit_id] = msgspec.msgpack.encode(row)
            for file, digests in _written(record.outputs):
                written.setdefault(run.commit_id, []).append(file)
                for digest in digests:
                    outputs.setdefault(digest + run.commit_id, []).append(file)
        with self._tables.write() as batch:
            for key in sorted(reads):
                batch.put(_READS, key, reads[key])
            for key in sorted(outputs):
                batch.put(_OUTPUTS, key, msgspec.msgpack.encode(outputs[key]))
            for commit_id, files in written.items():
                batch.put(_WRITTEN, commit_id, msgspec.msgpack.encode(files))
            for key, value in rows.items():
                batch.put(_RUNS, key, value)
        return rows

    def _row(self, run: RunRef, record: RunRecord) -> _Row:
        commit = self._repo.store.get_commit(run.commit_id)
        manifest = find_entry(self._repo.store, commit.root, MANIFEST)
        is_file = manifest is not None and manifest.kind == Kind.FILE
        has_snapshot = any(source.known == "snapshot" for source in record.sources) and bool(commit.parents)
        kept = msgspec.structs.replace(
            record, command=_cut(record.command), outputs=(), environment=Environment(), notes=()
        )
        return _Row(
            encode_record(kept),
            manifest.content if manifest is not None and is_file else b"",
            commit.parents[0] if has_snapshot else b"",
            len(record.outputs),
        )

    def writers(self, digest: bytes) -> list[Writer]:
        """Returns which runs wrote a content, by its content id or SHA-256; the newest run first."""
        found = []
        for key, value in self._tables.scan(_OUTPUTS, digest):
            run = self.runs.get(CommitId(key[len(digest) :]))
            if run is not None:
                found += [Writer(run, each) for each in _decode_written(value)]
        return sorted(found, key=lambda each: each.run.record.start_ns, reverse=True)

    def is_written(self, digest: bytes) -> bool:
        """Returns True if some run wrote a content."""
        return any(CommitId(key[len(digest) :]) in self.runs for key, _ in self._tables.scan(_OUTPUTS, digest))

    def written_by(self, run: KnownRun) -> list[Written]:
        """Returns the files that a run wrote, without empty and removed ones. Raises Corrupt."""
        value = self._tables.get(_WRITTEN, run.commit_id)
        return _decode_written(value) if value is not None else []

    def has_opened(self, run: KnownRun, place: int, path: bytes, *, by_name: bool = False) -> bool:
        """Returns True if a run opened a path of its source at `place`, which has a file there.

        `by_name`: whether its manifest names it; one that opened all files of its source names none.
        """
        hashes = self._hashes(run, place)
        if hashes is None:
            return False
        if isinstance(hashes, bytes):
            return not by_name
        wanted = _hash(path)
        at = bisect.bisect_left(hashes, wanted)
        return at < len(hashes) and hashes[at] == wanted

    def _hashes(self, run: KnownRun, place: int) -> bytes | memoryview | None:
        """Returns the sorted hashes of opened paths, `*` for all, None for a source of which nothing is known."""
        key = run.manifest + _PLACE.pack(place)
        if key not in self._opened:
            value = self._tables.get(_READS, key) if run.manifest else None
            self._opened[key] = value if value is None or value == _ALL else memoryview(value).cast("Q")
            if len(self._opened) > _HELD_MAX:
                self._opened.pop(next(iter(self._opened)))
        return self._opened.get(key)


_HELD_MAX = 64
"""Lists of hashes that are held: those of runs that read much may be a megabyte each."""


def _open(directory: Path) -> Tables:
    try:
        return Tables(directory, _TABLES)
    except (Busy, OSError):
        # A read-only disk, or the tables are open in this process: the answer is the same, and takes longer.
        return Tables.in_memory(_TABLES)


def _known(commit_id: CommitId, value: bytes) -> KnownRun:
    try:
        row = msgspec.msgpack.decode(value, type=_Row)
    except UNDECODABLE as error:
        raise Corrupt(f"the tables over runs cannot be read: {error}") from error
    snapshot = CommitId(row.snapshot) if row.snapshot else None
    return KnownRun(commit_id, decode_record(row.record), row.manifest, snapshot, row.outputs)


def _read_rows(manifest_id: bytes, manifest: Manifest) -> Iterator[tuple[bytes, bytes]]:
    """Yields the rows of a manifest; the first one is there also where it has no sources."""
    for place, read in enumerate(manifest.reads):
        value = _ALL if read.is_all else array.array("Q", sorted(map(_hash, read.opened))).tobytes()
        yield manifest_id + _PLACE.pack(place), value


def _hash(path: bytes) -> int:
    return int.from_bytes(chunk_id(path)[:_HASH_BYTES], sys.byteorder)


def _written(outputs: Sequence[Output]) -> Iterator[tuple[Written, list[bytes]]]:
    """Yields files with their digests; empty ones are left out: they say nothing about where they come from."""
    for output in outputs:
        digests = [bytes.fromhex(digits) for digits in (output.content, output.sha256) if digits]
        if digests and output.size and not output.removed:
            path = output.path.encode("utf-8", "surrogateescape")
            content = digests[0] if output.content else b""
            yield Written(path, content, output.size, output.place == "outside"), digests


def _decode_written(value: bytes) -> list[Written]:
    try:
        return msgspec.msgpack.decode(value, type=list[Written])
    except UNDECODABLE as error:
        raise Corrupt(f"the tables over runs cannot be read: {error}") from error


def _cut(words: Sequence[str]) -> tuple[str, ...]:
    room = _WORDS_CHARACTERS_MAX
    kept: list[str] = []
    for word in words:
        room -= len(word)
        if room < 0:
            return (*kept, "…")
        kept.append(word)
    return tuple(kept)
