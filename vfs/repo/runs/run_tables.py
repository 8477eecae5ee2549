"""Tables over the records of runs: what each run read and wrote, so that a question about all runs opens no record.

    runs      commit of a sealed record         -> the record without its lists, and where its manifest and snapshot are
    outputs   content id or SHA-256 || commit   -> the paths that have it
    written   commit of a sealed record         -> its outputs
    paths     first 8 bytes of a path's hash    -> the number of the path, from 0 in the order in which runs opened them
    reads     content id of a manifest || place of a source -> `*` for all files of the source, `+` for some
    opened    content id of a manifest || place of a source || n -> which of the paths from number 8,192 n on: a set

Paths have numbers because runs open the same ones: a run of 20,000 files takes three rows of a kilobyte, and a question
about one path reads one row of each run.

All of it is derived from records, which never change once they are sealed: rows are added when a record is sealed, or
by the next question, and those of records that are gone do not count. The directory can be removed at any time.
"""

from __future__ import annotations

import array
import contextlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from vfs.errors import Busy, Corrupt, VfsError
from vfs.model.decoding import UNDECODABLE
from vfs.model.ids import CommitId, chunk_id
from vfs.model.objects import Kind
from vfs.model.run_record import (
    Environment,
    Manifest,
    Output,
    Read,
    RunRecord,
    decode_manifest,
    decode_record,
    encode_record,
)
from vfs.repo.paths import run_tables
from vfs.repo.repository import Repository
from vfs.repo.runs.records import MANIFEST, RunRef, iterate_records, list_runs, load_record, named, run_file
from vfs.store.lmdb_tables import Batch, Tables, discard
from vfs.store.trees.directories import find_entry

_RUNS, _OUTPUTS, _WRITTEN, _PATHS, _READS, _OPENED = "runs", "outputs", "written", "paths", "reads", "opened"
_TABLES = (_RUNS, _OUTPUTS, _WRITTEN, _PATHS, _READS, _OPENED)
_CLEARED = (_RUNS, _OUTPUTS, _WRITTEN, _READS, _OPENED)
"""A path keeps its number: another process may have looked it up."""
_ALL, _SOME = b"*", b"+"
_NEXT = b"next"
"""The key in `paths` of the first number that is free."""
_PLACE = _NUMBER = struct.Struct(">I")
_HASH_BYTES = 8
_SET_BITS = 8192
_BITS, _LIST = b"b", b"l"
"""A set's form: a bit for each member, or the members as two bytes each; the shorter one is stored."""
_HELD_MAX = 4096
"""Rows that are held."""
_NUMBERS_HELD_MAX = 500_000
_BATCH_RUNS = 50
"""Records that one transaction adds: an interrupted update keeps what it has done."""
_WORDS_CHARACTERS_MAX = 4096
_UNREADABLE: tuple[type[Exception], ...] = (*UNDECODABLE, VfsError, ValueError)

Progress = Callable[[int, int], None]
"""Called with how many records were read, and how many there are to read."""


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

    ref: RunRef
    record: RunRecord
    manifest: bytes
    snapshot: CommitId | None
    outputs: int

    @property
    def commit_id(self) -> CommitId:
        """The commit that is its record."""
        return self.ref.commit_id


class RunTables:
    """The sealed runs of a repository. For one thread."""

    def __init__(self, repo: Repository, tables: Tables) -> None:
        self._repo = repo
        self._tables = tables
        self._refs: list[RunRef] = []
        self.runs: Mapping[CommitId, KnownRun] = {}
        """The sealed runs, the newest first."""
        self.unsealed: list[RunRef] = []
        """The others: those in progress, and those whose record cannot be read."""
        self._numbers: dict[bytes, int | None] = {}
        self._held: dict[tuple[str, bytes], bytes | None] = {}

    @classmethod
    def open(cls, repo: Repository, progress: Progress | None = None, *, in_memory: bool = True) -> Self:
        """Opens the tables and updates them.

        Where they cannot be kept (a read-only disk, or they are open in this process), they are made in memory, which
        takes as long as reading all records; without `in_memory` Busy or OSError is raised.
        """
        try:
            return cls._opened_at(repo, progress, in_memory=in_memory)
        except Corrupt:
            # Damaged, or by a program that kept them otherwise.
            discard(run_tables(repo.path))
            return cls._opened_at(repo, progress, in_memory=in_memory)

    @classmethod
    def _opened_at(cls, repo: Repository, progress: Progress | None, *, in_memory: bool) -> Self:
        found = cls(repo, _open(run_tables(repo.path), in_memory=in_memory))
        try:
            found._check_form()
            found._update(progress)
        except BaseException:
            found.close()
            raise
        return found

    @classmethod
    def add_sealed(cls, repo: Repository, run: RunRef) -> None:
        """Adds a record that was just sealed; does nothing where it cannot, as the next question adds it then."""
        with contextlib.suppress(OSError, VfsError):
            found = cls(repo, Tables(run_tables(repo.path), _TABLES))
            try:
                found._check_form()
                found._add([run])
            finally:
                found.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the tables."""
        self._held.clear()
        self._tables.close()

    def _check_form(self) -> None:
        """Raises Corrupt for tables of a program that gave paths no numbers."""
        if self._tables.get(_PATHS, _NEXT) is None and next(self._tables.scan(_RUNS), None) is not None:
            raise Corrupt("the tables over runs are by another program")

    def _update(self, progress: Progress | None) -> None:
        refs = list_runs(self._repo)
        wanted = {run.commit_id for run in refs}
        known = dict(self._tables.scan(_RUNS))
        if len(known) > 2 * len(wanted) + _BATCH_RUNS:
            with self._tables.write() as batch:
                for table in _CLEARED:
                    batch.clear(table)
            known = {}
        missing = [run for run in refs if run.commit_id not in known]
        for start in range(0, len(missing), _BATCH_RUNS):
            known |= self._add(missing[start : start + _BATCH_RUNS])
            if progress is not None:
                progress(min(start + _BATCH_RUNS, len(missing)), len(missing))
        self._refs = refs
        self.runs = _KnownRuns({run.commit_id: (run, known[run.commit_id]) for run in refs if run.commit_id in known})
        self.unsealed = [run for run in refs if run.commit_id not in known]

    def records(self) -> Iterator[tuple[RunRef, RunRecord]]:
        """Yields all runs that can be read, the newest first; sealed ones without outputs, environment and notes."""
        for run in self._refs:
            known = self.runs.get(run.commit_id)
            if known is not None:
                yield run, known.record
                continue
            with contextlib.suppress(Corrupt):
                yield run, load_record(self._repo, run)

    def _add(self, runs: Sequence[RunRef]) -> dict[bytes, bytes]:
        """Adds sealed records; returns their rows. One that cannot be read is skipped: `fsck` names it."""
        rows: dict[bytes, bytes] = {}
        with self._tables.write() as batch:
            numbers = _PathNumbers(batch)
            for run in runs:
                try:
                    record = load_record(self._repo, run)
                    if record.status == "running":
                        continue
                    row = self._row(run, record)
                    manifest = Manifest()
                    if row.manifest and batch.get(_READS, row.manifest + _PLACE.pack(0)) is None:
                        manifest = decode_manifest(run_file(self._repo, run, MANIFEST) or b"")
                except _UNREADABLE:
                    continue
                for place, read in enumerate(manifest.reads):
                    _put_read(batch, row.manifest + _PLACE.pack(place), read, numbers)
                _put_outputs(batch, run.commit_id, record.outputs)
                rows[run.commit_id] = msgspec.msgpack.encode(row)
                batch.put(_RUNS, run.commit_id, rows[run.commit_id])
            numbers.keep()
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
        source = run.manifest + _PLACE.pack(place)
        kind = self._get(_READS, source) if run.manifest else None
        if kind is None or kind == _ALL:
            return kind == _ALL and not by_name
        number = self._number(path)
        if number is None:
            return False
        row = self._get(_OPENED, source + _NUMBER.pack(number // _SET_BITS))
        return row is not None and _has(row, number % _SET_BITS)

    def _number(self, path: bytes) -> int | None:
        """Returns the number of a path, None where no run opened it by name."""
        if path not in self._numbers:
            value = self._tables.get(_PATHS, _hash(path))
            self._numbers[path] = _NUMBER.unpack(value)[0] if value is not None else None
        return self._numbers[path]

    def _get(self, table: str, key: bytes) -> bytes | None:
        """Returns a row; the last ones are held: many questions are about one run."""
        if (table, key) not in self._held:
            self._held[table, key] = self._tables.get(table, key)
            if len(self._held) > _HELD_MAX:
                self._held.pop(next(iter(self._held)))
        return self._held[table, key]


class _KnownRuns(Mapping[CommitId, KnownRun]):
    """Runs by the commits of their records; a row is decoded when it is asked for."""

    def __init__(self, rows: dict[CommitId, tuple[RunRef, bytes]]) -> None:
        self._rows = rows
        self._decoded: dict[CommitId, KnownRun] = {}

    def __getitem__(self, commit_id: CommitId) -> KnownRun:
        found = self._decoded.get(commit_id)
        if found is None:
            found = self._decoded[commit_id] = _known(*self._rows[commit_id])
        return found

    def __contains__(self, commit_id: object) -> bool:
        return commit_id in self._rows

    def __iter__(self) -> Iterator[CommitId]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def listed_records(repo: Repository, progress: Progress | None = None) -> Iterator[tuple[RunRef, RunRecord]]:
    """Yields all runs that can be read, the newest first; maybe without outputs, environment and notes.

    No record is read but those of runs in progress, where the tables can be kept; else each when it is asked for.
    """
    try:
        tables = RunTables.open(repo, progress, in_memory=False)
    except (Busy, OSError):
        yield from iterate_records(repo)
        return
    with tables:
        yield from tables.records()


class _PathNumbers:
    """The numbers of paths within one transaction; new ones are given."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._known: dict[bytes, int] = {}
        value = batch.get(_PATHS, _NEXT)
        self._next = _NUMBER.unpack(value)[0] if value is not None else 0

    def of(self, path: bytes) -> int:
        """Returns the number of a path."""
        number = self._known.get(path)
        if number is None:
            key = _hash(path)
            value = self._batch.get(_PATHS, key)
            if value is not None:
                number = _NUMBER.unpack(value)[0]
            else:
                number = self._next
                self._next += 1
                self._batch.put(_PATHS, key, _NUMBER.pack(number))
            if len(self._known) == _NUMBERS_HELD_MAX:
                self._known.clear()
            self._known[path] = number
        return number

    def keep(self) -> None:
        """Stores which numbers are taken."""
        self._batch.put(_PATHS, _NEXT, _NUMBER.pack(self._next))


def _open(directory: Path, *, in_memory: bool) -> Tables:
    try:
        return Tables(directory, _TABLES)
    except (Busy, OSError):
        if not in_memory:
            raise
        # A read-only disk, or the tables are open in this process: the answer is the same, and takes longer.
        return Tables.in_memory(_TABLES)


def _known(run: RunRef, value: bytes) -> KnownRun:
    try:
        row = msgspec.msgpack.decode(value, type=_Row)
    except UNDECODABLE as error:
        raise Corrupt(f"the tables over runs cannot be read: {error}") from error
    snapshot = CommitId(row.snapshot) if row.snapshot else None
    record = named(run, decode_record(row.record))
    return KnownRun(run, record, row.manifest, snapshot, row.outputs)


def _put_read(batch: Batch, source: bytes, read: Read, numbers: _PathNumbers) -> None:
    """Stores what was opened of a source; a row is there also where that is nothing."""
    batch.put(_READS, source, _ALL if read.is_all else _SOME)
    sets: dict[int, list[int]] = {}
    for number in map(numbers.of, read.opened):
        sets.setdefault(number // _SET_BITS, []).append(number % _SET_BITS)
    for place, members in sorted(sets.items()):
        batch.put(_OPENED, source + _NUMBER.pack(place), _set(members))


def _set(members: list[int]) -> bytes:
    bits = bytearray(max(members) // 8 + 1)
    if 2 * len(members) < len(bits):
        return _LIST + array.array("H", sorted(members)).tobytes()
    for member in members:
        bits[member >> 3] |= 1 << (member & 7)
    return _BITS + bytes(bits)


def _has(row: bytes, member: int) -> bool:
    if row[:1] == _LIST:
        return member in array.array("H", row[1:])
    at = 1 + (member >> 3)
    return at < len(row) and bool(row[at] >> (member & 7) & 1)


def _hash(path: bytes) -> bytes:
    return chunk_id(path)[:_HASH_BYTES]


def _put_outputs(batch: Batch, commit_id: CommitId, outputs: Sequence[Output]) -> None:
    by_digest: dict[bytes, list[Written]] = {}
    files = []
    for file, digests in _written(outputs):
        files.append(file)
        for digest in digests:
            by_digest.setdefault(digest, []).append(file)
    for digest, found in sorted(by_digest.items()):
        batch.put(_OUTPUTS, digest + commit_id, msgspec.msgpack.encode(found))
    if files:
        batch.put(_WRITTEN, commit_id, msgspec.msgpack.encode(files))


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
