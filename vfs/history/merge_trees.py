"""Merging two trees that come from a third. Equal nodes are skipped, so that the cost follows the two changes.

Moves come first (vfs/history/directory_moves.py): what one side moved is moved in the other and in the base too, and
what is left is a comparison of three trees path by path. A path that one side changed is taken from there; what both
changed is merged by aspect: content, mode, owner, attributes. What does not merge is a conflict; the merged tree then
has our side there, or the one that is left, or a text with marks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import msgspec

from vfs.history.diff import aspects_between, differing_names
from vfs.history.directory_moves import Move, entry_at, find_moves, has_same_content, move, unmoved
from vfs.history.merge_bases import merge_bases
from vfs.history.merge_contents import ContentMerge
from vfs.history.merge_kinds import ConflictKind, DivergentRename, Side
from vfs.history.merge_links import merge_links, read_links
from vfs.model.names import join_path
from vfs.model.objects import EMPTY_CONTENT, Commit, Content, Entry, Form, Kind, Version
from vfs.store.object_store import ObjectSink
from vfs.store.progress_callbacks import FileProgress
from vfs.store.trees.directories import edit_directory, file_content
from vfs.store.trees.map_diff import either

Prefer = Callable[[bytes], Side | None]
"""Whose version of a path to take where both changed it; None for a conflict."""

_UNIMPORTANT = {"mtime", "links"}
"""A side that changed no more than this of a path has not changed it."""


class Tree(NamedTuple):
    """A root directory and the root of its link map."""

    root: Entry
    links: bytes

    @classmethod
    def of(cls, commit: Commit | None) -> Tree:
        """Returns a commit's tree; an empty one for None."""
        return cls(commit.root, commit.links) if commit is not None else cls(EMPTY_ROOT, b"")


EMPTY_ROOT = Entry(b"", Kind.DIR, 0o755, 0, 0, 0)


class Conflict(NamedTuple):
    """A path that both sides changed and that could not be merged automatically.

    `kind`: both `added` it; `attributes`: mode, owner or extended attributes; `content`: of a file; one side `deleted`
    it; target of a `symlink`; `type`: a directory here, a file there. `base`, `ours`, `theirs`: where the three have
    it, None where they do not. `is_marked`: the merged file has conflict markers. `note`: the reason why a merge
    that was asked for could not be made.
    """

    path: bytes
    kind: ConflictKind
    base: bytes | None
    ours: bytes | None
    theirs: bytes | None
    is_marked: bool = False
    note: str = ""


class Merged(NamedTuple):
    """The merged tree, its objects in the sink, with its conflicts and divergent renames, sorted."""

    tree: Tree
    conflicts: list[Conflict]
    divergent_renames: list[DivergentRename]


def merge_trees(
    sink: ObjectSink,
    base: Tree,
    ours: Tree,
    theirs: Tree,
    contents: ContentMerge,
    *,
    prefer: Prefer = lambda _path: None,
    follow_moves: bool = True,
    progress: FileProgress | None = None,
) -> Merged:
    """Merges what two trees have changed since a third; nothing is changed but by what goes to the sink.

    `progress` gets the numbers of changed names that were merged, and of bytes that were merged inside files.

    The sink gets intermediate nodes, too: give a DryRunSink, and store the result from it.
    """
    moves = _follow_moves(sink, base, ours, theirs) if follow_moves else _Moves(base.root, ours.root, theirs.root)
    run = _Merge(sink, moves, contents, prefer, progress)
    root = run.merge()
    root, links = merge_links(
        sink,
        root,
        read_links(sink, base.links, moves.base_moves),
        read_links(sink, ours.links, moves.theirs_moves),
        read_links(sink, theirs.links, moves.ours_moves),
    )
    conflicts = sorted(run.conflicts, key=lambda conflict: conflict.path.split(b"/"))
    return Merged(Tree(root, links), conflicts, sorted(moves.divergent_renames))


def base_tree(sink: ObjectSink, bases: Sequence[Version], contents: ContentMerge) -> Tree:
    """Returns the tree that two commits with these merge bases are compared with.

    Several bases (branches that merged each other crosswise) are merged first; where they differ for good, what their
    own base has counts, so that neither of two decisions that were taken is lost silently.
    """
    tree = Tree.of(bases[0].commit if bases else None)
    for other in bases[1:]:
        below = base_tree(sink, merge_bases(sink, bases[0].id, other.id), contents)
        tree = merge_trees(sink, below, tree, Tree.of(other.commit), contents, prefer=lambda _path: "base").tree
    return tree


class _Moves(NamedTuple):
    """The three roots after each side's moves were made in the others.

    `ours_moves` were made in theirs, `theirs_moves` in ours, `base_moves` in the base: these and what both sides moved.
    """

    base: Entry
    ours: Entry
    theirs: Entry
    base_moves: Sequence[Move] = ()
    ours_moves: Sequence[Move] = ()
    theirs_moves: Sequence[Move] = ()
    divergent_renames: Sequence[DivergentRename] = ()


def _follow_moves(sink: ObjectSink, base: Tree, ours: Tree, theirs: Tree) -> _Moves:
    theirs_moves = find_moves(sink, base.root, theirs.root)
    elsewhere = dict(theirs_moves)
    both = [step for step in find_moves(sink, base.root, ours.root) if step in theirs_moves]
    base_root, _, done = _apply_moves(sink, both, base.root, None, ours.root)
    ours_moves = find_moves(sink, base_root, ours.root)
    base_root, theirs_root, ours_done = _apply_moves(sink, ours_moves, base_root, theirs.root, ours.root)
    divergent_renames = [
        DivergentRename(old, new, elsewhere[old]) for old, new in ours_moves if elsewhere.get(old, new) != new
    ]
    theirs_moves = find_moves(sink, base_root, theirs_root)
    base_root, ours_root, theirs_done = _apply_moves(sink, theirs_moves, base_root, ours.root, theirs_root)
    all_done = done + ours_done + theirs_done
    return _Moves(base_root, ours_root, theirs_root, all_done, ours_done, theirs_done, divergent_renames)


def _apply_moves(
    sink: ObjectSink, moves: list[Move], base: Entry, other: Entry | None, like: Entry
) -> tuple[Entry, Entry, list[Move]]:
    """Makes one side's moves in the base and the other side, where both have the old place and not the new one.

    The rest is not followed: what the other side deleted, moved elsewhere or has something else for stays a path that
    came and one that went.
    """
    done: list[Move] = []
    for step in moves:
        trees = [base] if other is None else [base, other]
        if all(_is_free(sink, tree, step) for tree in trees):
            base = move(sink, base, [step], like)
            other = move(sink, other, [step], like) if other is not None else None
            done.append(step)
    return base, other if other is not None else base, done


def _is_free(sink: ObjectSink, root: Entry, step: Move) -> bool:
    """Returns True if a move can be made: the old place is there, the new one is free, and no file is above it."""
    if entry_at(sink, root, step.old) is None:
        return False
    above = b""
    for name in step.new.split(b"/"):
        above = join_path(above, name)
        found = entry_at(sink, root, above)
        if found is None:
            return True
        if found.kind != Kind.DIR:
            return False
    return False


class _Directory:
    """A directory to be merged; a side that has none there is None. `start` is the one that `edits` are made to.

    `is_optional`: one side has deleted it, and it stays only for what is left in it.
    """

    def __init__(
        self,
        path: bytes,
        above: _Directory | None,
        entry: Entry,
        sides: tuple[Entry | None, Entry | None, Entry | None],
    ) -> None:
        self.path = path
        self.above = above
        self.entry = entry
        self.base, self.ours, self.theirs = sides
        self.is_optional = self.ours is None or self.theirs is None
        self.start = None if self.is_optional else self.ours
        self.edits: dict[bytes, tuple[Entry, bytes] | None] = {}


_Names = tuple[Entry | None, Entry | None, Entry | None]
"""What base, ours and theirs have under one name."""


class _Merge:
    """One comparison of three trees, path by path."""

    def __init__(
        self, sink: ObjectSink, moves: _Moves, contents: ContentMerge, prefer: Prefer, progress: FileProgress | None
    ) -> None:
        self._progress = progress
        self._names = 0
        self._bytes = 0
        self._sink = sink
        self._moves = moves
        self._contents = contents
        self._prefer = prefer
        self._todo: list[_Directory] = []
        self.conflicts: list[Conflict] = []

    def merge(self) -> Entry:
        """Returns the merged root."""
        roots = self._moves.base, self._moves.ours, self._moves.theirs
        # Histories without a common commit: neither side is known to have changed the root's own attributes.
        old = roots[0] if roots[0] is not EMPTY_ROOT else roots[2]
        top = _Directory(b"", None, self._attributes(b"", (old, *roots[1:])), roots)
        self._todo.append(top)
        # The list grows on the way; each directory stands after the one that it is in.
        for directory in self._todo:
            for name, sides in self._both_changed(directory):
                self._merge_name(directory, name, sides)
                self._report_progress(len(directory.edits))
            self._names += len(directory.edits)
            self._report_progress()
        for directory in reversed(self._todo):
            self._finish(directory)
        return top.entry

    def _report_progress(self, more: int = 0) -> None:
        if self._progress is not None:
            self._progress(self._names + more, self._bytes, None)

    def _both_changed(self, at: _Directory) -> list[tuple[bytes, _Names]]:
        """Applies the names that one side changed; returns those that both changed."""
        if at.ours is None or at.theirs is None:
            return self._changed_in_deleted(at)
        if at.base is None:
            return self._added_twice(at)
        mine = {_name_of(*pair): pair[1] for pair in differing_names(self._sink, at.base, at.ours)}
        both: list[tuple[bytes, _Names]] = []
        for old, new in differing_names(self._sink, at.base, at.theirs):
            name = _name_of(old, new)
            if name in mine:
                both.append((name, (old, mine[name], new)))
            else:
                self._put(at, name, at.theirs, new)
        return both

    def _added_twice(self, at: _Directory) -> list[tuple[bytes, _Names]]:
        both: list[tuple[bytes, _Names]] = []
        for mine, other in differing_names(self._sink, at.ours, at.theirs):
            if mine is not None and other is not None:
                both.append((mine.name, (None, mine, other)))
            elif other is not None:
                self._put(at, other.name, at.theirs, other)
        return both

    def _changed_in_deleted(self, at: _Directory) -> list[tuple[bytes, _Names]]:
        """One side deleted the directory: what the other has added stays, what it has changed is for both."""
        left = at.ours if at.ours is not None else at.theirs
        both: list[tuple[bytes, _Names]] = []
        for old, new in differing_names(self._sink, at.base, left):
            if new is not None and old is None:
                self._put(at, new.name, left, new)
            elif new is not None:
                both.append((new.name, (old, new, None) if at.ours is not None else (old, None, new)))
        return both

    def _merge_name(self, at: _Directory, name: bytes, sides: _Names) -> None:
        """Merges a name that both sides changed."""
        base, ours, theirs = sides
        if ours == theirs:
            self._put(at, name, at.ours, ours)
        elif ours is None or theirs is None:
            self._changed_and_deleted(at, name, sides)
        elif ours.kind == theirs.kind == Kind.DIR:
            below = base if base is not None and base.kind == Kind.DIR else None
            path = join_path(at.path, name)
            self._todo.append(
                _Directory(path, at, self._attributes(path, (below, ours, theirs)), (below, ours, theirs))
            )
        elif ours.kind == theirs.kind:
            self._merge_file(
                at, name, (base if base is not None and base.kind == ours.kind else None, ours, theirs), base
            )
        elif _is_unchanged(base, theirs):
            self._put(at, name, at.ours, ours)
        elif _is_unchanged(base, ours):
            self._put(at, name, at.theirs, theirs)
        else:
            self._conflict(at, name, sides, "type", "ours")

    def _changed_and_deleted(self, at: _Directory, name: bytes, sides: _Names) -> None:
        base, ours, theirs = sides
        left = ours if ours is not None else theirs
        if left is None or base is None:
            # Both have deleted it; without a base, one of them has never had it.
            self._put(at, name, at.ours if ours is not None else at.theirs, left)
        elif left.kind == base.kind == Kind.DIR:
            self._todo.append(_Directory(join_path(at.path, name), at, left, sides))
        elif _is_unchanged(base, left):
            self._put(at, name, None, None)
        else:
            self._conflict(at, name, sides, "deleted", "ours" if ours is not None else "theirs")

    def _merge_file(
        self, at: _Directory, name: bytes, sides: tuple[Entry | None, Entry, Entry], base: Entry | None
    ) -> None:
        """Merges anything but directories, of one kind on both sides, by aspect."""
        old, ours, theirs = sides
        path = join_path(at.path, name)
        entry = self._attributes(path, sides, (base, ours, theirs))
        if has_same_content(ours, theirs) or has_same_content(theirs, old):
            self._put_content(at, entry, at.ours, ours)
        elif has_same_content(ours, old):
            self._put_content(at, entry, at.theirs, theirs)
        elif ours.kind != Kind.FILE:
            self._conflict(at, name, sides, "symlink", "ours")
        else:
            old_content = self._content(at.base, old) if old is not None else EMPTY_CONTENT
            three = old_content, self._content(at.ours, ours), self._content(at.theirs, theirs)
            found = self._contents.merge(self._sink, path, three)
            self._bytes += sum(content.size for content in three)
            side = self._prefer(path)
            if found.content is not None and (found.is_clean or side is None):
                self._put_merged(
                    at, msgspec.structs.replace(entry, mtime_ns=max(ours.mtime_ns, theirs.mtime_ns)), found.content
                )
            if not found.is_clean:
                is_marked = found.content is not None
                if not is_marked:
                    self._put_content(at, entry, at.ours, ours)
                kind: ConflictKind = "content" if old is not None else "added"
                self._conflict(at, name, (base, ours, theirs), kind, None, is_marked, found.note)

    def _attributes(self, path: bytes, sides: _Names, shown: _Names | None = None) -> Entry:
        """Returns our entry with mode, owner, attributes and time merged; adds a conflict where they do not merge."""
        base, ours, theirs = sides
        assert ours is not None
        assert theirs is not None
        side = self._prefer(path)
        differ = False

        def pick(old: object, mine: object, other: object) -> object:
            nonlocal differ
            if mine in (other, old) or other == old:
                return other if mine == old else mine
            if side == "base":
                return old
            differ = differ or side is None
            return other if side == "theirs" else mine

        picked = {
            field: pick(getattr(base, field, _NOTHING), getattr(ours, field), getattr(theirs, field))
            for field in ("mode", "uid", "gid", "rdev")
        }
        maps = [dict(entry.xattrs) if entry is not None else {} for entry in sides]
        names = sorted(maps[1].keys() | maps[2].keys())
        values = [(name, pick(*(side_map.get(name) for side_map in maps))) for name in names]
        times = {ours.mtime_ns, theirs.mtime_ns} - ({base.mtime_ns} if base is not None else set())
        if differ:
            self._add_conflict(path, shown or sides, "attributes")
        changed = {name: value for name, value in picked.items() if value is not _NOTHING and value is not None}
        return msgspec.structs.replace(
            ours,
            **cast("dict[str, int]", changed),
            xattrs=tuple(cast("tuple[bytes, bytes]", pair) for pair in values if pair[1] is not None),
            mtime_ns=max(times, default=ours.mtime_ns),
        )

    # What becomes of a name.

    def _conflict(
        self,
        at: _Directory,
        name: bytes,
        sides: _Names,
        kind: ConflictKind,
        keep: Side | None,
        is_marked: bool = False,
        note: str = "",
    ) -> None:
        """Applies the preferred side; without one, adds a conflict and applies `keep` (None: what was put)."""
        path = join_path(at.path, name)
        side = self._prefer(path)
        if side is None:
            # A conflict of content includes the one of attributes.
            self.conflicts = [conflict for conflict in self.conflicts if conflict.path != path]
            self._add_conflict(path, sides, kind, is_marked, note)
        side = side or keep
        if side is not None:
            directory = {"ours": at.ours, "theirs": at.theirs, "base": at.base}[side]
            self._put(at, name, directory, sides[("base", "ours", "theirs").index(side)])

    def _add_conflict(
        self, path: bytes, sides: _Names, kind: ConflictKind, is_marked: bool = False, note: str = ""
    ) -> None:
        moves = self._moves
        base, ours, theirs = (
            unmoved(path, made) if entry is not None else None
            for made, entry in zip((moves.base_moves, moves.theirs_moves, moves.ours_moves), sides, strict=True)
        )
        self.conflicts.append(Conflict(path, kind, base, ours, theirs, is_marked, note))

    def _put(self, at: _Directory, name: bytes, directory: Entry | None, entry: Entry | None) -> None:
        """Puts a side's entry (None: nothing) under a name; `directory` is where that side has it."""
        if entry is None:
            at.edits[name] = None
        elif directory is not at.start:
            assert directory is not None
            at.edits[name] = entry, self._content(directory, entry).tiny

    def _put_content(self, at: _Directory, entry: Entry, directory: Entry | None, of: Entry) -> None:
        """Puts an entry with the content of another one."""
        if entry.kind == Kind.FILE:
            self._put_merged(at, entry, self._content(directory, of))
        else:
            at.edits[entry.name] = msgspec.structs.replace(entry, content=of.content, size=of.size), b""

    def _put_merged(self, at: _Directory, entry: Entry, content: Content) -> None:
        made = msgspec.structs.replace(
            entry, content=content.id, form=content.form, size=content.size, hole_bytes=content.hole_bytes
        )
        at.edits[entry.name] = made, content.tiny

    def _content(self, directory: Entry | None, entry: Entry) -> Content:
        if entry.form != Form.TINY:
            return (
                Content(entry.form, entry.content, entry.size, entry.hole_bytes)
                if entry.kind == Kind.FILE
                else EMPTY_CONTENT
            )
        assert directory is not None
        return file_content(self._sink, directory, entry)

    def _finish(self, at: _Directory) -> None:
        made = edit_directory(self._sink, at.start, at.edits)
        at.entry = msgspec.structs.replace(
            at.entry, content=made.content, tiny=made.tiny, files=made.files, size=made.size
        )
        if at.above is not None:
            is_gone = at.is_optional and not made.content
            at.above.edits[at.entry.name] = None if is_gone else (at.entry, b"")


_NOTHING = object()


def _name_of(old: Entry | None, new: Entry | None) -> bytes:
    return either(old, new).name


def _is_unchanged(base: Entry | None, side: Entry) -> bool:
    """Returns True if a side has a path as the base has it, but for times and links."""
    if base is None or (side.kind == Kind.DIR and side.content != base.content):
        return False
    return set(aspects_between(base, side)) <= _UNIMPORTANT
