"""From a recording to the fields of a record: which sources a run read, and what it wrote in the mount.

Equal files share one inode in all versions, so an open of a version's file tells path and content and not the version.
The version is one of those that the run looked up, listed, was given by name or is pinned to, and that holds the same
entry at the path; where two of them do, the file counts for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from vfs.errors import Corrupt, NotFound, VfsError
from vfs.history.diff import diff_trees
from vfs.model.decoding import UNDECODABLE
from vfs.model.ids import CommitId, chunk_id
from vfs.model.names import join_path, show_path, split_path
from vfs.model.objects import Commit, Entry, Kind
from vfs.model.run_record import LIST_MAX, OUTPUTS_MAX, Known, Manifest, Output, Read, RunRecord, Source, cut_text
from vfs.repo.repository import Repository
from vfs.repo.runs.records import find_version
from vfs.repo.runs.run_event_file import Event
from vfs.store.object_store import ObjectSource
from vfs.store.remote_blocks import NotLocal
from vfs.store.trees.directories import entry_at, file_content, find_entry, walk
from vfs.store.trees.file_reader import FileReader

_HASHED_BYTES_MAX = 16 << 30
"""Bytes of outputs in the mount whose SHA-256 is computed, together; their content ids are known without."""
_READ_BYTES = 4 << 20
_UNREADABLE: tuple[type[Exception], ...] = (*UNDECODABLE, VfsError)
_UNREAD: tuple[type[Exception], ...] = (*_UNREADABLE, OSError, NotLocal)


class Observed(msgspec.Struct):
    """The events of a recording, sorted out. `versions`: (commit, path, encoded entry) of opened files of versions.

    `version_places`: (commit, directory, position) of opened files whose names are not read yet.
    """

    read: set[bytes] = set()
    listed: set[bytes] = set()
    versions: set[tuple[bytes, bytes, bytes]] = set()
    version_places: set[tuple[bytes, bytes, int]] = set()
    version_listed: set[tuple[bytes, bytes]] = set()
    named: list[CommitId] = []
    written: dict[bytes, bool] = {}
    steps: list[str] = []
    notes: list[str] = []
    after: CommitId | None = None
    is_ended: bool = False


def observed(events: Iterable[Event]) -> Observed:
    """Returns what some events tell. `written` has False for paths that the run removed."""
    found = Observed()
    for event in events:
        kind = event.kind
        if kind == "read":
            found.read.add(event.path)
        elif kind == "list":
            found.listed.add(event.path)
        elif kind == "version-read":
            found.versions.add((event.version, event.path, event.entry))
        elif kind == "version-place":
            if event.entry.isdigit():
                found.version_places.add((event.version, event.path, int(event.entry)))
        elif kind == "version-list":
            found.version_listed.add((event.version, event.path))
            _name(found, event.version)
        elif kind == "named":
            _name(found, event.version)
        elif kind in ("write", "remove"):
            found.written[event.path] = kind == "write"
        elif kind in ("step", "note"):
            texts = found.steps if kind == "step" else found.notes
            if len(texts) < LIST_MAX:
                texts.append(cut_text(event.path.decode("utf-8", "replace")))
        else:
            found.is_ended = True
            found.after = CommitId(event.version) if event.version else None
    return found


def _name(found: Observed, version: bytes) -> None:
    if CommitId(version) not in found.named and len(found.named) < LIST_MAX:
        found.named.append(CommitId(version))


class Tree:
    """Looks up paths below a root; remembers the directories on the way."""

    def __init__(self, source: ObjectSource, root: Entry) -> None:
        self.source = source
        self.root = root
        self._directories: dict[bytes, Entry | None] = {b"": root}

    def find(self, path: bytes) -> tuple[Entry, Entry] | None:
        """Returns the entry at a path and the directory that holds it, or None."""
        parent, _, name = path.rpartition(b"/")
        directory = self.directory(parent)
        entry = find_entry(self.source, directory, name) if directory is not None and name else None
        return (entry, directory) if entry is not None and directory is not None else None

    def directory(self, path: bytes) -> Entry | None:
        """Returns the directory at a path, or None."""
        if path not in self._directories:
            found = self.find(path) if split_path(path) else None
            self._directories[path] = found[0] if found is not None and found[0].kind == Kind.DIR else None
        return self._directories[path]


def sources_of(
    repo: Repository, record: RunRecord, before: Commit | None, found: Observed
) -> list[tuple[Source, Read]]:
    """Returns the sources that a run read, each with its paths; `before` is the snapshot that the record has."""
    sources: list[tuple[Source, Read]] = []
    for source in record.sources:
        if source.known in ("working", "snapshot"):
            commit = before
            if commit is None:
                version = find_version(repo, source.commit, source.branch, source.number)
                commit = version.commit if version is not None else None
            opened, listed = found.read, found.listed
            if commit is not None:
                tree = Tree(repo.store, commit.root)
                # What the run has written itself, or others have meanwhile, was not there at the start.
                opened = {path for path in opened if path not in found.written or tree.find(path) is not None}
            if opened or listed or not record.pinned:
                sources.append(_source(source, commit, opened, listed))
    sources += _version_sources(repo, record, found)
    return sources


def _source(source: Source, commit: Commit | None, opened: set[bytes], listed: set[bytes]) -> tuple[Source, Read]:
    files = commit.root.files if commit is not None else 0
    is_all = bool(files) and len(opened) == files
    read = Read(is_all, () if is_all else tuple(sorted(opened)), tuple(sorted(listed)))
    return msgspec.structs.replace(source, opened=len(opened), files=files, listed=len(listed)), read


def _version_sources(repo: Repository, record: RunRecord, found: Observed) -> Iterator[tuple[Source, Read]]:
    pinned = CommitId(bytes.fromhex(record.pinned)) if record.pinned else None
    candidates = [commit_id for commit_id in found.named if commit_id != pinned and repo.index.has(commit_id)]
    if pinned is not None and repo.index.has(pinned):
        candidates.insert(0, pinned)
    trees = {commit_id: Tree(repo.store, repo.store.get_commit(commit_id).root) for commit_id in candidates}
    opened: dict[CommitId, set[bytes]] = {}
    shared: dict[CommitId, int] = {}
    for first, path, encoded in found.versions:
        holders = [commit_id for commit_id, tree in trees.items() if _holds(tree, path, encoded)]
        for commit_id in holders or [CommitId(first)]:
            opened.setdefault(commit_id, set()).add(path)
            shared[commit_id] = shared.get(commit_id, 0) + (len(holders) > 1)
    listed: dict[CommitId, set[bytes]] = {}
    for version, path in found.version_listed:
        listed.setdefault(CommitId(version), set()).add(path)
    for commit_id in dict.fromkeys([*candidates, *opened]):
        if commit_id not in opened and commit_id not in listed and commit_id != pinned:
            continue
        known: Known = "pinned" if commit_id == pinned else "seen" if commit_id in trees else "first-seen"
        commit = repo.store.get_commit(commit_id) if repo.index.has(commit_id) else None
        branch = record.branch
        number = repo.refs.number_on(branch, commit_id) if branch else None
        source = Source(
            branch if number is not None else "",
            number if number is not None else commit.number if commit is not None else 0,
            commit_id.hex(),
            known,
            shared=shared.get(commit_id, 0),
        )
        yield _source(source, commit, opened.get(commit_id, set()), listed.get(commit_id, set()))


def _holds(tree: Tree, path: bytes, encoded: bytes) -> bool:
    try:
        found = tree.find(path)
        return found is not None and found[0] == msgspec.msgpack.decode(encoded, type=Entry)
    except _UNREADABLE:
        return False


def read_places(repo: Repository, found: Observed) -> None:
    """Reads the names of files whose directories could not be read when they were opened; else a note names those."""
    for commit, path, position in sorted(found.version_places):
        try:
            directory = Tree(repo.store, repo.store.get_commit(CommitId(commit)).root).directory(path)
            if directory is None:
                raise Corrupt("it is not there")
            entry = entry_at(repo.store, directory, position)
        except _UNREAD as error:
            found.notes.append(
                f"the file {position} of the directory {show_path(path)} of {commit.hex()[:8]} was opened, "
                f"and its name cannot be read: {error}"
            )
        else:
            found.versions.add((commit, join_path(path, entry.name), msgspec.msgpack.encode(entry)))
    found.version_places.clear()


def manifest_of(sources: list[tuple[Source, Read]]) -> Manifest:
    """Returns the manifest of some sources."""
    return Manifest(tuple(read for _, read in sources))


def opened_paths(repo: Repository, source: Source, read: Read, before: Commit | None) -> Iterator[bytes]:
    """Yields the paths of the files that a run opened of a source, in the order of a walk or sorted.

    Where all files were opened, the version says which; raises NotFound where it is gone.
    """
    if not read.is_all:
        yield from read.opened
        return
    root = source_root(repo, source, before)
    if root is None:
        raise NotFound(f"the version {source.commit[:8]} is gone, so the names of its files are not known any more")
    yield from (path for path, _, entry in walk(repo.store, root) if entry.kind != Kind.DIR)


def source_root(repo: Repository, source: Source, before: Commit | None) -> Entry | None:
    """Returns the root of what a source was; None where that is gone."""
    if source.known == "snapshot":
        return before.root if before is not None else None
    version = find_version(repo, source.commit, source.branch, source.number)
    return version.commit.root if version is not None else None


def outputs_of(
    repo: Repository, found: Observed, before: Commit | None, notes: list[str]
) -> tuple[list[Output], dict[bytes, tuple[Entry, bytes]]]:
    """Returns what a run wrote in the mount, and the entries to keep, each with its bytes where it is tiny.

    A path that the run made and removed again is not among them.
    """
    if found.after is None:
        # The daemon was killed: what the layer showed then is not known, the paths are.
        return [Output(_shown(path), removed=not kept) for path, kept in sorted(found.written.items())], {}
    tree = Tree(repo.store, repo.store.get_commit(found.after).root)
    old = Tree(repo.store, before.root) if before is not None else None
    outputs: list[Output] = []
    placed: dict[bytes, tuple[Entry, bytes]] = {}
    hashed = 0
    for path, place in _written(tree, found):
        if len(outputs) == OUTPUTS_MAX:
            notes.append(f"more than {OUTPUTS_MAX} paths were written; the others are not in this record")
            break
        if place is None:
            if old is not None and old.find(path) is not None:
                outputs.append(Output(_shown(path), removed=True))
            continue
        entry, directory = place
        digest = content_hex = ""
        tiny = b""
        if entry.kind == Kind.FILE:
            content = file_content(repo.store, directory, entry)
            content_hex, tiny = (content.id or chunk_id(b"")).hex(), content.tiny
            hashed += entry.size
            if hashed <= _HASHED_BYTES_MAX:
                digest = _sha256(FileReader(repo.store, content), entry.size)
        placed[path] = entry, tiny
        outputs.append(Output(_shown(path), size=entry.size, content=content_hex, sha256=digest))
    if hashed > _HASHED_BYTES_MAX:
        notes.append("the SHA-256 of the largest outputs was not computed; their content ids are there")
    return outputs, placed


def _written(tree: Tree, found: Observed) -> Iterator[tuple[bytes, tuple[Entry, Entry] | None]]:
    """Yields written paths with what is there now, of moved directories all that is in them."""
    for path in sorted(found.written):
        place = tree.find(path)
        if place is None or place[0].kind != Kind.DIR:
            yield path, place
        elif found.written[path]:
            for child, directory, entry in walk(tree.source, place[0], path):
                if entry.kind != Kind.DIR and child not in found.written:
                    yield child, (entry, directory)


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _sha256(reader: FileReader, size: int) -> str:
    import hashlib  # OpenSSL, which only outputs of runs need.

    digest = hashlib.sha256()
    offset = 0
    while offset < size:
        piece = reader.read(offset, min(_READ_BYTES, size - offset))
        digest.update(piece)
        offset += len(piece)
    return digest.hexdigest()


def changed_by_others(repo: Repository, before: Commit | None, found: Observed) -> int:
    """Returns how many paths of the working layer changed while a run went on, but not by it."""
    if before is None or found.after is None:
        return 0
    try:
        after = repo.store.get_commit(found.after)
        changes = diff_trees(repo.store, before.root, after.root)
        return sum(change.path not in found.written and not change.is_directory for change in changes)
    except Corrupt:
        return 0
