"""A directory's tree in its place: as a whole version, or below a path of one, everything else being kept."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from vfs.errors import InvalidInput, NotADirectory, NotFound
from vfs.model.layout import is_marked
from vfs.model.names import join_path, show_path, split_path
from vfs.model.objects import Commit, Entry, Kind, Version
from vfs.repo.ignore_rules import RULES_NAME, Rules, check_size
from vfs.repo.ingest.import_pipeline import Tree
from vfs.store.object_store import ObjectSink, ObjectSource
from vfs.store.trees.directories import edit_directory, find_entry, resolve_path
from vfs.store.trees.file_reader import open_file
from vfs.store.trees.hard_links import replace_groups, set_linked, store_edits, store_links


class Placed(NamedTuple):
    """A version's tree: the root's entry and the root of its link map."""

    root: Entry
    links: bytes


def target_of(source: ObjectSource, version: Version | None, path: bytes) -> Entry | None:
    """Returns the directory that stands at a path, None if nothing does. Raises NotADirectory, InvalidInput."""
    names = split_path(path)
    if names and is_marked(names[0]):
        raise InvalidInput("names that start with @ mean versions in the root of a mount", hint="Choose another path.")
    if version is None:
        return None
    try:
        found = resolve_path(source, version.commit.root, path).entry
    except NotFound:
        return None
    if found.kind != Kind.DIR:
        raise NotADirectory(f"{show_path(path)} is no directory in {version.name}", hint="Choose another path.")
    return found


def rules_above(source: ObjectSource, version: Version | None, path: bytes, rules: Rules) -> Rules:
    """Returns the rules that hold at a path of a version: those of the directories above it are added."""
    directory = version.commit.root if version is not None else None
    above = b""
    for name in split_path(path):
        if directory is None or directory.kind != Kind.DIR:
            break
        rules = rules.inside(above, rules_text(source, directory, above))
        directory, above = find_entry(source, directory, name), join_path(above, name)
    return rules


def rules_text(source: ObjectSource, directory: Entry, path: bytes) -> bytes | None:
    """Returns the text of the `.vfsignore` file of a committed directory, None if there is none."""
    entry = find_entry(source, directory, RULES_NAME)
    if entry is None or entry.kind != Kind.FILE:
        return None
    name = join_path(path, RULES_NAME)
    check_size(name, entry.size)
    return bytes(open_file(source, directory, entry, name).read(0, entry.size))


def place(sink: ObjectSink, base: Commit | None, path: bytes, tree: Tree) -> Placed:
    """Stores a version's tree in which an imported one stands at a path, in place of the directory there.

    Directories that are missing on the way are made like the imported one.
    """
    names = split_path(path)
    if not names:
        return Placed(tree.root, store_links(sink, tree.groups))
    empty = msgspec.structs.replace(tree.root, content=b"", tiny=b"", files=0, size=0)
    root = base.root if base is not None else msgspec.structs.replace(empty, name=b"")
    there = _directories(sink, root, names[:-1])
    entry = msgspec.structs.replace(tree.root, name=names[-1])
    for depth in range(len(names) - 1, there, -1):
        made = edit_directory(sink, None, {entry.name: (entry, b"")})
        entry = msgspec.structs.replace(
            empty, name=names[depth - 1], content=made.content, tiny=made.tiny, files=made.files, size=made.size
        )
    root = store_edits(sink, root, {b"/".join(names[:there]): {entry.name: (entry, b"")}})
    groups = [[join_path(path, member) for member in group] for group in tree.groups]
    links, alone = replace_groups(sink, base.links if base is not None else b"", path, groups)
    if alone:
        root = set_linked(sink, root, dict.fromkeys(alone, False))
    return Placed(root, links)


def _directories(source: ObjectSource, root: Entry, names: list[bytes]) -> int:
    """Returns how many directories on a way are there. Raises NotADirectory."""
    directory = root
    for depth, name in enumerate(names):
        found = find_entry(source, directory, name)
        if found is None:
            return depth
        if found.kind != Kind.DIR:
            raise NotADirectory(
                f"{show_path(b'/'.join(names[: depth + 1]))} is no directory", hint="Choose another path."
            )
        directory = found
    return len(names)
