"""`purge`: removes files from every version, as if they had never been there, with all that only they had.

Trees and commits are rewritten (other ids; numbers, times, authors and messages stay), one operation moves every
branch and tag, a thorough sweep removes the old ones from the disk, and the packs are checked afterwards. Reasons:
decision 60.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from vfs.errors import Advice, Conflict, Hint, InvalidInput, NotADirectory, NotFound
from vfs.model.ids import CommitId
from vfs.model.names import join_path, show_path
from vfs.model.nodes import LINKS
from vfs.model.objects import Commit, Entry, Kind, Version
from vfs.overlay.journal.quarantine import quarantined_files
from vfs.overlay.object_references import layers
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import COMMIT_TIMEOUT_S
from vfs.repo.merge_state import refuse_in_merge
from vfs.repo.paths import stat_cache
from vfs.repo.repository import Repository
from vfs.repo.retention.forget import forget_commits
from vfs.repo.retention.gc import UNDO_S, Collected, one_sweep, sweep_all
from vfs.repo.retention.replaced_commits import in_lines, settings_of_replaced
from vfs.repo.runs.purged_names import without_names
from vfs.repo.runs.records import OUTPUTS, is_run
from vfs.store.lmdb_tables import discard
from vfs.store.object_store import ObjectSource
from vfs.store.object_writer import ObjectWriter
from vfs.store.progress_callbacks import StageProgress, ignore_stages
from vfs.store.refs.operation import BRANCHES, NoteChange, Operation, RefChange
from vfs.store.refs.operation_args import PurgeLogArgs
from vfs.store.refs.refs import PURGE
from vfs.store.trees.content_writer import ContentWriter
from vfs.store.trees.directories import find_entry, resolve_path
from vfs.store.trees.hard_links import set_linked, store_edits, store_links
from vfs.store.trees.maps import map_items


class Purged(msgspec.Struct):
    """What went, or (in a dry run) would go.

    `versions` had any of the paths. `files` and `bytes` count each path in each version. `rewritten` commits have new
    ids. `swept` is what the disk has lost and what a look at it has found; None in a dry run.
    """

    versions: list[str] = []
    files: int = 0
    bytes: int = 0
    rewritten: int = 0
    swept: Collected | None = None


def purge(
    repo: Repository,
    paths: Sequence[bytes],
    *,
    author: str,
    dry_run: bool = False,
    undo_s: float = UNDO_S,
    progress: StageProgress | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Purged:
    """Removes paths, with all below them, from every version of every branch and tag; durable on return.

    Nothing before it can be undone afterwards. Interrupted before the line in the operation log, nothing has happened;
    after it, running it again finishes. Raises NotFound where no version has any of the paths and none is left to
    finish, Busy while a branch is mounted for writing, Conflict for uncommitted changes, Protected for refs that are.
    """
    if not paths or b"" in paths:
        raise InvalidInput("the root cannot be purged", hint="Name files or directories.")
    note = progress or ignore_stages
    if dry_run:
        with ObjectWriter(repo.store) as writer:
            return _rewritten(repo, writer, paths, note, dry_run=True).found
    with one_sweep(repo):
        with repo.excluding_writers(timeout_s=COMMIT_TIMEOUT_S, waiting=waiting), _all_layers(repo) as overlays:
            with ObjectWriter(repo.store) as writer:
                rewriting = _rewritten(repo, writer, paths, note, dry_run=False)
                writer.flush()
            _move_refs(repo, rewriting, author)
            for overlay in overlays:
                head = repo.head(overlay.branch)
                if head is not None:
                    # Also where it stands there already: a journal may hold what was written and removed again.
                    overlay.set_base(head)
            discard(stat_cache(repo.path))
        found = rewriting.found
        found.swept = sweep_all(repo, undo_s=undo_s, author=author, progress=progress, waiting=waiting)
        with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S, waiting=waiting):
            # The tables of refs have ids whose commits are gone now; they are built again from the log.
            repo.refs.rebuild()
    if not found.versions and not found.swept.packs:
        raise NotFound(f"no version has {_shown(paths)}", hint=Hint(Advice.LIST_FILES))
    return found


def _rewritten(
    repo: Repository, writer: ObjectWriter, paths: Sequence[bytes], note: StageProgress, *, dry_run: bool
) -> _Rewriting:
    rewriting = _Rewriting(repo, writer, paths)
    order = _parents_first(repo)
    for done, version in enumerate(order):
        note("versions", done, len(order))
        rewriting.take(version, dry_run=dry_run)
    return rewriting


class _Rewriting:
    """Versions, one after the other, parents first, without some paths."""

    def __init__(self, repo: Repository, writer: ObjectWriter, paths: Sequence[bytes]) -> None:
        self._repo = repo
        self._writer = writer
        self._paths = _without_nested(paths)
        self._links: dict[bytes, tuple[bytes, list[bytes]]] = {}
        self.made: dict[CommitId, Version] = {}
        """By old id, the commits that have become other ones."""
        self.found = Purged()

    def take(self, version: Version, *, dry_run: bool) -> None:
        """Rewrites a version where it, or an ancestor, has lost something."""
        commit = version.commit
        root, links = commit.root, commit.links
        # A forgotten version has only its commit, whose tree does not exist any more.
        if not self._repo.refs.is_forgotten(version.id):
            paths = [join_path(OUTPUTS, path) for path in self._paths] if is_run(commit) else self._paths
            there = [path for path in paths if _has(self._repo.store, root, path)]
            if there:
                self._count(version, there)
                if not dry_run:
                    root, links = self._without(commit, there)
            if is_run(commit) and not dry_run:
                root = self._without_names(commit, root)
        if dry_run:
            return
        parents = tuple(self._new_id(parent) for parent in commit.parents)
        if (root, links, parents) != (commit.root, commit.links, commit.parents):
            made = msgspec.structs.replace(commit, root=root, links=links, parents=parents)
            self.made[version.id] = Version(self._writer.put_commit(made), made)
            self.found.rewritten += 1

    def _without_names(self, commit: Commit, root: Entry) -> Entry:
        """Returns the root of a run's record that names none of the paths."""
        edits: dict[bytes, tuple[Entry, bytes] | None] = {}
        content = ContentWriter(self._writer, self._repo.config.ingest)
        for name, data in without_names(self._repo.store, commit, self._goes).items():
            entry = find_entry(self._repo.store, commit.root, name)
            if entry is not None:
                made = content.from_bytes(data)
                edits[name] = (
                    msgspec.structs.replace(
                        entry, size=made.size, content=made.id, form=made.form, hole_bytes=made.hole_bytes
                    ),
                    made.tiny,
                )
        return store_edits(self._writer, root, {b"": edits}) if edits else root

    def _new_id(self, commit_id: bytes) -> bytes:
        made = self.made.get(CommitId(commit_id))
        return commit_id if made is None else made.id

    def _count(self, version: Version, paths: Sequence[bytes]) -> None:
        self.found.versions.append(version.commit.message if is_run(version.commit) else version.name)
        for path in paths:
            entry = resolve_path(self._repo.store, version.commit.root, path).entry
            self.found.files += entry.files if entry.kind == Kind.DIR else 1
            self.found.bytes += entry.size

    def _without(self, commit: Commit, paths: Sequence[bytes]) -> tuple[Entry, bytes]:
        edits: dict[bytes, dict[bytes, tuple[Entry, bytes] | None]] = {}
        for path in paths:
            parent, _, name = path.rpartition(b"/")
            edits.setdefault(parent, {})[name] = None
        root = store_edits(self._writer, commit.root, edits)
        links, alone = self._links_without(commit.links)
        return set_linked(self._writer, root, dict.fromkeys(alone, False)) if alone else root, links

    def _links_without(self, links: bytes) -> tuple[bytes, list[bytes]]:
        """Returns the link map without the paths, and the paths that are no hard links any more."""
        if links not in self._links:
            groups = [item.members for item in map_items(self._repo.store, LINKS, links) if item.members]
            rest = [[member for member in group if not self._goes(member)] for group in groups]
            kept = store_links(self._writer, [group for group in rest if len(group) > 1])
            self._links[links] = kept, [group[0] for group in rest if len(group) == 1]
        return self._links[links]

    def _goes(self, path: bytes) -> bool:
        return any(path == gone or path.startswith(gone + b"/") for gone in self._paths)


def _has(source: ObjectSource, root: Entry, path: bytes) -> bool:
    try:
        resolve_path(source, root, path)
    except (NotFound, NotADirectory):
        return False
    return True


def _without_nested(paths: Sequence[bytes]) -> list[bytes]:
    """Returns the paths that lie below no other one."""
    wanted: list[bytes] = []
    for path in sorted(set(paths), key=lambda path: path.split(b"/")):
        if not wanted or not path.startswith(wanted[-1] + b"/"):
            wanted.append(path)
    return wanted


def _parents_first(repo: Repository) -> list[Version]:
    """Returns all commits that refs lead to."""
    order: list[Version] = []
    seen: set[CommitId] = set()
    stack: list[tuple[CommitId, Version | None]] = [(commit_id, None) for _, commit_id in repo.refs.list()]
    while stack:
        commit_id, finished = stack.pop()
        if finished is not None:
            order.append(finished)
        elif commit_id not in seen:
            seen.add(commit_id)
            version = Version(commit_id, repo.store.get_commit(commit_id))
            stack.append((commit_id, version))
            stack.extend((CommitId(parent), None) for parent in version.commit.parents)
    return order


@contextlib.contextmanager
def _all_layers(repo: Repository) -> Iterator[list[Overlay]]:
    """Keeps every working layer that there is, without changes. Raises Busy for one that is mounted, Conflict."""
    with contextlib.ExitStack() as stack:
        overlays: list[Overlay] = []
        for directory in layers(repo.work):
            aside = quarantined_files(directory)
            if aside:
                raise Conflict(
                    f"{aside[0]} holds changes that were quarantined after a crash or by a recovery",
                    hint="Remove it once you need nothing of it, then run this again.",
                )
            refuse_in_merge(repo, directory.name, "nothing is purged")
            overlay = stack.enter_context(repo.open_overlay(directory.name))
            if not overlay.is_clean():
                raise Conflict(
                    f"the branch {directory.name} has uncommitted changes",
                    hint=Hint(Advice.COMMIT_OR_DISCARD),
                )
            overlays.append(overlay)
        yield overlays


def _move_refs(repo: Repository, rewriting: _Rewriting, author: str) -> None:
    """Moves all refs at once: from here on, the paths were never there (docs/durability.md, G8)."""
    made = rewriting.made
    if not made:
        return
    forgotten = [new for old, new in made.items() if repo.refs.is_forgotten(old)]
    forget_commits(repo, forgotten, author=author, reason="purge")
    refs = tuple(
        RefChange(name, commit_id.hex(), made[commit_id].id.hex())
        for name, commit_id in repo.refs.list()
        if commit_id in made
    )
    notes = tuple(
        NoteChange(version.id.hex(), None, note)
        for old, version in made.items()
        if (note := repo.refs.note(old)) is not None
    )
    branches = sum(change.name.startswith(BRANCHES) for change in refs)
    *earlier, (gone, new) = in_lines([(old.hex(), version.id.hex()) for old, version in made.items()])
    for old_ids, new_ids in earlier:
        part = PurgeLogArgs(gone=old_ids, made=new_ids)
        repo.refs.move(Operation(time_ns=time.time_ns(), kind=PURGE, author=author, args=part))
    args = PurgeLogArgs(rewritten=len(made), branches=branches, gone=gone, made=new)
    repo.refs.move(
        Operation(
            time_ns=time.time_ns(),
            kind=PURGE,
            author=author,
            refs=refs,
            notes=notes,
            settings=settings_of_replaced(repo.refs),
            args=args,
        )
    )


def _shown(paths: Sequence[bytes]) -> str:
    return ", ".join(show_path(path) for path in paths)
