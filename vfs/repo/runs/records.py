"""Records of runs in a repository: each a commit on a ref of its own, `runs/NUMBER-ID` (docs/format.md, "Runs").

The commit has no parents, but for snapshots of a working layer that had changes. So gc keeps a record as it keeps every
ref, fsck checks it, and purge takes purged paths out of the files that it holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from vfs.errors import Advice, Conflict, Corrupt, Hint, InvalidInput, NotFound
from vfs.model.ids import CommitId
from vfs.model.names import is_run_name, split_path
from vfs.model.objects import Commit, Entry, Kind, Version
from vfs.model.run_record import (
    RECORD_BYTES_MAX,
    Manifest,
    RunRecord,
    Source,
    decode_manifest,
    decode_record,
    encode_manifest,
    encode_record,
)
from vfs.repo.config import RUNS_FEATURE, decode_config, encode_config
from vfs.repo.paths import CONFIG
from vfs.repo.repository import Repository
from vfs.store.object_store import ObjectSink
from vfs.store.object_writer import ObjectWriter
from vfs.store.refs.operation import LAST_RUN, RUN, RUNS, Operation, RefChange
from vfs.store.trees.content_writer import ContentWriter
from vfs.store.trees.directories import edit_directory, file_content, find_entry
from vfs.store.trees.file_reader import FileReader

RECORD, MANIFEST, STDOUT, METRICS, PATCH, PACKAGES = (
    b"run.json",
    b"inputs.manifest",
    b"stdout",
    b"metrics.jsonl",
    b"code.patch",
    b"packages.txt",
)
"""The files of a run's tree."""
OUTPUTS = b"outputs"
"""The directory of what the run wrote in the mount: the entries of the files, at their paths."""
META = "vfs.run"
"""The key in a commit's metadata that makes it the record of a run; the value is the ref's name behind `runs/`."""
MADE_BY = "vfs.by"
"""The key in a version's metadata that names the runs which wrote what it commits, one space between."""

FILE_BYTES_MAX = 256 << 20
"""Largest file of a record that is read at once; none of ours is larger."""
LOCK_TIMEOUT_S = 600.0
_PREFIX_MIN = 4
_COUNTED_MAX = 10**9
"""A larger number was made up by another program: the numbers behind it would run out."""

Files = Mapping[bytes, bytes]
"""Names of a run's files to their bytes."""
Placed = Mapping[bytes, tuple[Entry, bytes]]
"""Paths to entries, each with its bytes where it is tiny."""


class RunRef(NamedTuple):
    """A run by its ref: number, random id, and the commit that is its record now.

    `name`: `r17`, with digits of the id (`r17-3f9a`) where several runs here have the number.
    """

    number: int
    id: str
    commit_id: CommitId
    name: str

    @property
    def ref(self) -> str:
        """What stands behind `runs/` in the ref's name."""
        return f"{self.number}-{self.id}"


def list_runs(repo: Repository) -> list[RunRef]:
    """Returns all runs, the newest first; reads refs alone."""
    found: list[tuple[int, str, CommitId]] = []
    for name, commit_id in repo.refs.list(RUNS):
        number, _, digits = name.removeprefix(RUNS).partition("-")
        found.append((int(number), digits, commit_id))
    found.sort(reverse=True)
    groups: dict[int, list[str]] = {}
    for each in found:
        groups.setdefault(each[0], []).append(each[1])
    return [RunRef(*each, _name(*each[:2], groups[each[0]])) for each in found]


def _numbered(repo: Repository, number: int) -> list[RunRef]:
    """Returns the runs with a number."""
    found = [(name.rpartition("-")[2], commit_id) for name, commit_id in repo.refs.list(f"{RUNS}{number}-")]
    ids = [digits for digits, _ in found]
    return [RunRef(number, digits, commit_id, _name(number, digits, ids)) for digits, commit_id in found]


def name_of_run(repo: Repository, ref: str) -> str:
    """Returns what to call the run that a version's metadata names, `17-3f9a…`; it may be one that is not here."""
    number, _, digits = ref.partition("-")
    if not is_run_name(ref):
        return ref
    return _name(int(number), digits, [run.id for run in _numbered(repo, int(number))])


def _name(number: int, run_id: str, ids: Sequence[str]) -> str:
    """Returns `r17`, with digits of the id where other runs have the number; `ids`: of those here that have it."""
    others = [other for other in ids if other != run_id]
    if not others:
        return f"r{number}"
    length = _PREFIX_MIN
    while length < len(run_id) and any(other.startswith(run_id[:length]) for other in others):
        length += 1
    return f"r{number}-{run_id[:length]}"


def find_run(repo: Repository, text: str) -> RunRef:
    """Returns the run that `r17`, `17`, `r17-3f9a` or the first digits of an id name.

    Raises NotFound; Conflict where several have the name: two clones may both have made an r17.
    """
    bare = text.removeprefix("runs/").lower()
    number, dash, digits = bare.removeprefix("r").partition("-")
    if number.isascii() and number.isdigit() and len(number) < 13:
        found = [run for run in _numbered(repo, int(number)) if run.id.startswith(digits)]
    else:
        found = []
    if not found and not dash and len(bare) >= _PREFIX_MIN:
        found = [run for run in list_runs(repo) if run.id.startswith(bare)]
    if not found:
        raise NotFound(f"there is no run {text!r}", hint=Hint(Advice.LIST_RUNS))
    if len(found) > 1:
        names = ", ".join(run.name for run in found[:5])
        raise Conflict(f"several runs are called {text!r}: {names}", hint="Name one with its id, as they stand there.")
    return found[0]


def run_version(repo: Repository, run: RunRef) -> Version:
    """Returns the commit of a run with its id."""
    return Version(run.commit_id, repo.store.get_commit(run.commit_id))


def run_file(repo: Repository, run: RunRef, name: bytes, *, bytes_max: int = FILE_BYTES_MAX) -> bytes | None:
    """Returns the bytes of a file of a run, None where it has none. Raises Corrupt."""
    root = repo.store.get_commit(run.commit_id).root
    entry = find_entry(repo.store, root, name)
    if entry is None:
        return None
    if entry.kind != Kind.FILE or entry.size > bytes_max:
        raise Corrupt(f"{run.name} has no file of this program as {name.decode()}")
    return bytes(FileReader(repo.store, file_content(repo.store, root, entry)).read(0, entry.size))


def load_record(repo: Repository, run: RunRef) -> RunRecord:
    """Returns the record of a run; its number is that of the ref. Raises Corrupt."""
    data = run_file(repo, run, RECORD, bytes_max=RECORD_BYTES_MAX)
    if data is None:
        raise Corrupt(f"the record of {run.name} is missing from its commit")
    return named(run, decode_record(data))


def named(run: RunRef, record: RunRecord) -> RunRecord:
    """Returns a record with the number, id and name that its ref gives it."""
    label = run.name if run.name != f"r{run.number}" else ""
    return msgspec.structs.replace(record, number=run.number, id=run.id, label=label)


def load_manifest(repo: Repository, run: RunRef) -> Manifest:
    """Returns what a run read, one Read for each of its sources; empty for a run without. Raises Corrupt."""
    data = run_file(repo, run, MANIFEST)
    return decode_manifest(data) if data is not None else Manifest()


def find_version(repo: Repository, commit: str, branch: str, number: int) -> Version | None:
    """Returns the version that a record names: by its id, else, after a purge, by branch and number; None for none.

    By number it may be another one, where the branch went elsewhere than where the run was: see `is_named`.
    """
    commit_id = CommitId(bytes.fromhex(commit)) if commit else None
    if commit_id is None or not repo.index.has(commit_id):
        commit_id = repo.refs.version(branch, number) if branch and number else None
    if commit_id is None or repo.refs.is_forgotten(commit_id):
        return None
    return Version(commit_id, repo.store.get_commit(commit_id))


def is_named(source: Source, version: Version) -> bool:
    """Returns True if a version that `find_version` gave for a source is the very commit that the source names."""
    return version.id.hex() == source.commit


def begin_run(
    repo: Repository,
    record: RunRecord,
    files: Files,
    *,
    before: CommitId | None,
    author: str,
    waiting: Callable[[str], None] | None = None,
) -> RunRecord:
    """Stores the record of a run that starts, and returns it with its number; durable on return.

    `before`: the commit that keeps the working layer's changes. Raises Busy, OSError.
    """
    with repo.write_lock(timeout_s=LOCK_TIMEOUT_S, waiting=waiting):
        enable_feature(repo, RUNS_FEATURE)
        numbered = msgspec.structs.replace(record, number=_last_number(repo) + 1)
        with ObjectWriter(repo.store) as writer:
            made = put_run(
                repo, writer, numbered, files, Manifest(), {}, [before] if before is not None else [], author
            )
            writer.flush()
        _move(repo, numbered.ref, None, made.id, author)
    return numbered


def last_removed(repo: Repository) -> int:
    """Returns the largest number of a run whose record was removed, 0 for none."""
    digits = repo.refs.setting(LAST_RUN)
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def _last_number(repo: Repository) -> int:
    numbers = [*(run.number for run in list_runs(repo)), last_removed(repo)]
    return max((number for number in numbers if number <= _COUNTED_MAX), default=0)


def replace_record(
    repo: Repository,
    run: RunRef,
    record: RunRecord,
    files: Files,
    manifest: Manifest,
    outputs: Placed,
    parents: Sequence[CommitId],
    author: str,
) -> RunRef | None:
    """Stores a sealed record in the place of that of a run; None where the run has another record by now.

    The caller holds the write lock.
    """
    if repo.refs.get(RUNS + run.ref) != run.commit_id:
        return None
    with ObjectWriter(repo.store) as writer:
        made = put_run(repo, writer, record, files, manifest, outputs, parents, author)
        writer.flush()
    _move(repo, run.ref, run.commit_id, made.id, author)
    return run._replace(commit_id=made.id)


def put_run(
    repo: Repository,
    writer: ObjectWriter,
    record: RunRecord,
    files: Files,
    manifest: Manifest,
    outputs: Placed,
    parents: Sequence[CommitId],
    author: str,
) -> Version:
    """Stores the commit of a run; it counts when a ref names it."""
    content = ContentWriter(writer, repo.config.ingest)
    now = time.time_ns()
    edits: dict[bytes, tuple[Entry, bytes] | None] = {}
    named = {**files, RECORD: encode_record(record)}
    if manifest.reads:
        named[MANIFEST] = encode_manifest(manifest)
    for name, data in named.items():
        stored = content.from_bytes(data)
        entry = Entry(
            name, Kind.FILE, 0o444, 0, 0, now, stored.size, stored.id, stored.form, hole_bytes=stored.hole_bytes
        )
        edits[name] = entry, stored.tiny
    if outputs:
        edits[OUTPUTS] = _directory(writer, OUTPUTS, _nested(outputs), now), b""
    made = Commit(
        number=2 if parents else 1,
        parents=tuple(parents),
        root=_root(writer, edits, now),
        links=b"",
        time_ns=max([now, *(repo.store.get_commit(parent).time_ns for parent in parents)]),
        author=author,
        message=f"r{record.number}",
        meta=((META, record.ref),),
    )
    return Version(writer.put_commit(made), made)


def _nested(placed: Placed) -> dict[bytes, object]:
    """Returns entries by name, each directory as a dictionary of its own."""
    root: dict[bytes, object] = {}
    for path, found in placed.items():
        *above, name = split_path(path)
        directory = root
        for part in above:
            below = directory.setdefault(part, {})
            if not isinstance(below, dict):
                below = directory[part] = {}
            directory = below
        directory[name] = found
    return root


def _directory(sink: ObjectSink, name: bytes, names: Mapping[bytes, object], now: int) -> Entry:
    edits: dict[bytes, tuple[Entry, bytes] | None] = {}
    for child, found in names.items():
        if isinstance(found, dict):
            edits[child] = _directory(sink, child, found, now), b""
        elif isinstance(found, tuple):
            entry, tiny = found
            edits[child] = msgspec.structs.replace(entry, name=child, linked=False), tiny
    return _root(sink, edits, now, name)


def _root(sink: ObjectSink, edits: Mapping[bytes, tuple[Entry, bytes] | None], now: int, name: bytes = b"") -> Entry:
    made = edit_directory(sink, None, edits)
    return Entry(name, Kind.DIR, 0o555, 0, 0, now, made.size, made.content, tiny=made.tiny, files=made.files)


def _move(repo: Repository, ref: str, old: CommitId | None, new: CommitId, author: str) -> None:
    change = RefChange(RUNS + ref, old.hex() if old is not None else "", new.hex())
    repo.refs.move(Operation(time_ns=time.time_ns(), kind=RUN, author=author, refs=(change,)))


def enable_feature(repo: Repository, name: str) -> None:
    """Adds a feature to `vfs.json`, durable on return: older programs refuse the repository from then on.

    The caller holds the write lock.
    """
    if name in repo.config.features:
        return
    stored = repo.backend.read_versioned(CONFIG)
    config = decode_config(stored.data)
    if name not in config.features:
        config = msgspec.structs.replace(config, features=tuple(sorted({*config.features, name})))
        repo.backend.compare_and_swap(CONFIG, encode_config(config), stored.token)
    repo.config = config


def is_run(commit: Commit) -> bool:
    """Returns True for the record of a run."""
    return any(key == META for key, _ in commit.meta)


def check_run_id(text: str) -> str:
    """Returns the id of a run. Raises InvalidInput."""
    if len(text) != 16 or set(text) - set("0123456789abcdef"):
        raise InvalidInput(f"{text!r} is no id of a run")
    return text


def iterate_records(repo: Repository) -> Iterator[tuple[RunRef, RunRecord]]:
    """Yields all runs that can be read, the newest first."""
    for run in list_runs(repo):
        try:
            yield run, load_record(repo, run)
        except Corrupt:
            # `fsck` names it; one damaged record must not hide the others.
            continue
