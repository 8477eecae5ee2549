"""The JSON documents that programs read: what `--json` prints, and what a Python program or a web page gets.

Each document is a TypedDict of JSON values; a key marked NotRequired is there only where it says something. Keys are
append-only. Sizes are bytes, times are ISO 8601 in UTC with microseconds, ids are whole and hexadecimal. Paths are
relative to the root of a version; bytes of a path that are no UTF-8 are lone surrogates (`surrogateescape`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from vfs.history.renames import Rename
from vfs.model.names import path_text
from vfs.model.objects import Kind

if TYPE_CHECKING:  # Every command with --json imports this module: what only annotations name would cost each 80 ms.
    from vfs.history.change_totals import Totals
    from vfs.history.diff import FileCounts
    from vfs.history.merge_kinds import DivergentRename
    from vfs.history.path_history import PathRevision
    from vfs.history.renames import AnyChange
    from vfs.model.ids import CommitId
    from vfs.model.objects import Entry, Version
    from vfs.repo.merge_state import MergeConflict, MergeState

_NS = 1_000_000_000
_KIND_NAMES = {
    Kind.FILE: "file",
    Kind.DIR: "directory",
    Kind.SYMLINK: "symlink",
    Kind.FIFO: "fifo",
    Kind.SOCKET: "socket",
    Kind.CHAR: "character device",
    Kind.BLOCK: "block device",
}


def iso_time(time_ns: int) -> str:
    """Returns a time (Unix time in nanoseconds) as ISO 8601 in UTC with microseconds."""
    moment = datetime.fromtimestamp(time_ns // _NS, UTC)
    return moment.replace(microsecond=time_ns % _NS // 1000).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def kind_name(entry: Entry) -> str:
    """Returns `file`, `directory`, `symlink`, …"""
    return _KIND_NAMES[Kind(entry.kind)]


class SideDocument(TypedDict):
    """An entry without its path: one side of a change. `hash` is the content's id, `mode` four octal digits."""

    type: str
    mode: str
    uid: int
    gid: int
    size: int
    mtime: str
    mtime_ns: int
    target: NotRequired[str]
    hash: NotRequired[str]
    files: NotRequired[int]
    hole_bytes: NotRequired[int]
    hard_linked: NotRequired[bool]
    rdev: NotRequired[int]
    xattrs: NotRequired[dict[str, str]]


class EntryDocument(SideDocument):
    """A file, directory, symlink or special file of a version."""

    path: str


def entry_document(path: bytes, entry: Entry) -> EntryDocument:
    """Returns the document of an entry; values of extended attributes are hexadecimal."""
    return {"path": path_text(path), **_side(entry)}


def _side(entry: Entry) -> SideDocument:
    value: SideDocument = {
        "type": kind_name(entry),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "mtime": iso_time(entry.mtime_ns),
        "mtime_ns": entry.mtime_ns,
    }
    if entry.kind == Kind.SYMLINK:
        value["target"] = path_text(entry.content)
    elif entry.content:
        value["hash"] = entry.content.hex()
    if entry.kind == Kind.DIR:
        value["files"] = entry.files
    if entry.kind == Kind.FILE and entry.hole_bytes:
        value["hole_bytes"] = entry.hole_bytes
    if entry.linked:
        value["hard_linked"] = True
    if entry.kind in (Kind.CHAR, Kind.BLOCK):
        value["rdev"] = entry.rdev
    if entry.xattrs:
        value["xattrs"] = {path_text(name): data.hex() for name, data in entry.xattrs}
    return value


class VersionDocument(TypedDict):
    """A version: who made it, when and why, and how much is in it."""

    version: str
    id: str
    parents: list[str]
    time: str
    author: str
    message: str
    meta: dict[str, str]
    files: int
    size: int
    tags: list[str]


def version_document(version: Version, tags: Mapping[CommitId, list[str]]) -> VersionDocument:
    """Returns the document of a version."""
    commit = version.commit
    return {
        "version": version.name,
        "id": version.id.hex(),
        "parents": [parent.hex() for parent in commit.parents],
        "time": iso_time(commit.time_ns),
        "author": commit.author,
        "message": commit.message,
        "meta": dict(commit.meta),
        "files": commit.root.files,
        "size": commit.root.size,
        "tags": tags.get(version.id, []),
    }


class CountsDocument(TypedDict):
    """How many files differ between two versions."""

    added: int
    modified: int
    removed: int


def counts_document(counts: FileCounts) -> CountsDocument:
    """Returns the document of counts of files."""
    return {"added": counts.added, "modified": counts.modified, "removed": counts.removed}


_From = TypedDict("_From", {"from": NotRequired[str | None]})


class LoggedDocument(VersionDocument, _From):
    """A version of the log; with what it did to a path where one was asked for. `from`: the path before, if another."""

    path: NotRequired[str]
    change: NotRequired[str]
    entry: NotRequired[EntryDocument | None]
    forgotten: NotRequired[bool]


def logged_document(
    version: Version, tags: Mapping[CommitId, list[str]], revision: PathRevision | None, *, is_forgotten: bool
) -> LoggedDocument:
    """Returns the document of a version of the log."""
    # A version's document has no other keys than its type names.
    value: LoggedDocument = {**version_document(version, tags)}  # type: ignore[typeddict-item]
    if revision is not None:
        value["path"] = path_text(revision.path)
        value["change"] = revision.kind
        value["from"] = path_text(revision.old_path) if revision.old_path != revision.path else None
        value["entry"] = None if revision.new is None else entry_document(revision.path, revision.new)
    if is_forgotten:
        value["forgotten"] = True
    return value


class BlamedDocument(TypedDict):
    """A line or row, numbered from 1, and the version that added it. A line has `text`, a row of a table `row`."""

    number: int
    version: str
    id: str
    time: str
    author: str
    path: str
    text: NotRequired[str]
    key: NotRequired[str]
    row: NotRequired[Any]


def blamed_document(number: int, revision: PathRevision, item: Mapping[str, Any]) -> BlamedDocument:
    """Returns the document of a line or row; `item` has `text`, or `row` and, where rows are followed, `key`."""
    version = revision.version
    value: BlamedDocument = {
        "number": number,
        "version": version.name,
        "id": version.id.hex(),
        "time": iso_time(version.commit.time_ns),
        "author": version.commit.author,
        "path": path_text(revision.path),
    }
    return {**value, **item}  # type: ignore[typeddict-item]


class ChangeDocument(_From):
    """A changed path. `what` differs on both sides; `old` and `new` are null where the path was not there.

    A rename has `from`, the old path, and `similarity`, the share of the bytes that stayed. `detail` says what changed
    inside a file.
    """

    path: str
    change: str
    type: str | None
    what: list[str]
    old: SideDocument | None
    new: SideDocument | None
    similarity: NotRequired[float]
    detail: NotRequired[dict[str, Any]]


def change_document(change: AnyChange) -> ChangeDocument:
    """Returns the document of a changed path, without its detail."""
    entry = change.new if change.new is not None else change.old
    value: ChangeDocument = {
        "path": path_text(change.path),
        "change": change.kind,
        "type": kind_name(entry) if entry is not None else None,
        "what": list(change.aspects),
        "old": _side(change.old) if change.old is not None else None,
        "new": _side(change.new) if change.new is not None else None,
    }
    if isinstance(change, Rename):
        value["from"] = path_text(change.old_path)
        # Rounded down: what differs is never called the same.
        value["similarity"] = int(change.similarity * 10_000) / 10_000
    return value


class MetadataDocument(TypedDict):
    """A key of the metadata whose value differs between two versions."""

    path: None
    change: str
    key: str
    old: str | None
    new: str | None


def metadata_document(key: str, old: str | None, new: str | None) -> MetadataDocument:
    """Returns the document of a difference in metadata; None stands for a key that is not there."""
    return {"path": None, "change": "metadata", "key": key, "old": old, "new": new}


class TotalsDocument(TypedDict):
    """Sums over the changes in a directory."""

    directory: str
    added: int
    modified: int
    removed: int
    renamed: int
    new_bytes: int
    old_bytes: int


def totals_document(directory: bytes, totals: Totals) -> TotalsDocument:
    """Returns the document of the sums of a directory."""
    return {
        "directory": path_text(directory),
        "added": totals.added,
        "modified": totals.modified,
        "removed": totals.removed,
        "renamed": totals.renamed,
        "new_bytes": totals.new_bytes,
        "old_bytes": totals.old_bytes,
    }


class ConflictDocument(TypedDict):
    """A conflict of a merge; base, ours and theirs are paths below a mount's root, or null."""

    path: str
    conflict: str
    marked: bool
    note: str
    base: str | None
    ours: str | None
    theirs: str | None


def conflict_document(state: MergeState, conflict: MergeConflict) -> ConflictDocument:
    """Returns the document of a conflict."""
    sides = {side: path_text(where) if where is not None else None for side, where in state.sides_of(conflict).items()}
    return {
        "path": path_text(conflict.path),
        "conflict": conflict.kind,
        "marked": conflict.is_marked,
        "note": conflict.note,
        "base": sides["base"],
        "ours": sides["ours"],
        "theirs": sides["theirs"],
    }


class DivergentRenameDocument(TypedDict):
    """A path that each side of a merge has renamed otherwise."""

    path: str
    ours: str
    theirs: str


class MergeStepDocument(TypedDict):
    """A merge that is not finished. `renamed_twice` is there where the merge begins."""

    merging: str
    conflicts: list[ConflictDocument]
    renamed_twice: NotRequired[list[DivergentRenameDocument]]


class MadeDocument(VersionDocument):
    """The version that a commit, an import or a finished merge made."""

    changes: CountsDocument


class MergedDocument(MadeDocument):
    """The version of a merge that had nothing left to decide when it began."""

    renamed_twice: list[DivergentRenameDocument]


def made_document(version: Version, tags: Mapping[CommitId, list[str]], counts: FileCounts) -> MadeDocument:
    """Returns the document of a version that was made just now."""
    return {**version_document(version, tags), "changes": counts_document(counts)}


def merged_document(
    version: Version,
    tags: Mapping[CommitId, list[str]],
    counts: FileCounts,
    renames: Iterable[DivergentRename],
) -> MergedDocument:
    """Returns the document of a merge that was begun and finished in one."""
    return {**made_document(version, tags, counts), "renamed_twice": _divergent_renames(renames)}


def merge_step_document(
    state: MergeState, left: Iterable[MergeConflict], renames: Iterable[DivergentRename] | None = None
) -> MergeStepDocument:
    """Returns the document of an unfinished merge; `renames` is None where it had begun before."""
    value: MergeStepDocument = {
        "merging": state.name,
        "conflicts": [conflict_document(state, conflict) for conflict in left],
    }
    if renames is not None:
        value["renamed_twice"] = _divergent_renames(renames)
    return value


def _divergent_renames(renames: Iterable[DivergentRename]) -> list[DivergentRenameDocument]:
    return [
        {"path": path_text(old), "ours": path_text(ours), "theirs": path_text(theirs)} for old, ours, theirs in renames
    ]
