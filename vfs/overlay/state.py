"""The working layer's state in memory, and lookups in it. It makes no decisions and appends no records except pins.

At most two layers lie over the base version: the active one, which changes, and a frozen one, which a commit reads.
Inodes without a node are found in the base version; their numbers are derived from their places there.

Invariants: the root has a node in every layer; the parents of a layer's nodes have nodes in that layer; an inode number
in a directory's changes belongs to a node of the same layer; every name of a node is in its directory's changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from vfs.backend.durable import OnStep
from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt, NotADirectory, NotFound
from vfs.model.names import join_path, show_path, split_path
from vfs.model.nodes import LINKS, leaf_key
from vfs.model.objects import Entry, Kind, LinkItem, Version
from vfs.overlay.inode_numbers import INO_BITS, UNUSED, Numbers
from vfs.overlay.journal.durable_mark import DurableMark
from vfs.overlay.journal.journal import Journal
from vfs.overlay.journal.journal_records import Pin
from vfs.overlay.layer_nodes import ROOT_INO, WHITEOUT, Attr, Clean, DirNode, FileNode, Node, Place
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import entries, find_entry
from vfs.store.trees.maps import map_get, map_items

Directory = DirNode | Clean
Inode = Node | Clean
Group = tuple[bytes, tuple[bytes, ...]]
"""A version's group of hard links: its leader, and all its paths."""


class Layer:
    """Nodes by inode number.

    `gone`: inodes of the layer below that have no name in this one. `leaders`: groups of hard links of the base version
    that this layer has (or had) a node for, and its number. `removed`: directories of the base version that have been
    removed here, empty.
    """

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.gone: set[int] = set()
        self.leaders: dict[bytes, int] = {}
        self.removed: set[int] = set()

    def directory(self, ino: int) -> DirNode:
        """Returns the node of a directory that is known to be here."""
        node = self.nodes[ino]
        assert isinstance(node, DirNode)
        return node


class Invalidation(NamedTuple):
    """A name to invalidate in the kernel's cache: its inode or attributes have changed."""

    parent: int
    name: bytes
    ino: int


class State:
    """The state of an overlay. Callers hold the overlay's lock."""

    def __init__(
        self,
        directory: RootedPath,
        branch: str,
        source: ObjectSource,
        base: Version | None,
        base_file: Journal,
        *,
        below: Version | None = None,
        now: Callable[[], int],
        ino_bits: int = INO_BITS,
        on_step: OnStep | None = None,
    ) -> None:
        self.directory = directory
        self.branch = branch
        self.source = source
        self.base = base
        self.below = below
        """A commit whose tree the layers change in place of the base version's: it includes what a commit left out."""
        self.base_file = base_file
        self.now = now
        self.on_step = on_step
        self.active = Layer()
        self.frozen: Layer | None = None
        self.orphans: dict[int, Node] = {}
        """Nodes without a name that the kernel or an open file still refers to."""
        self.known: dict[int, Clean] = {}
        """Clean inodes that are referred to, and the directories above them."""
        self.held: set[int] = set()
        """Inodes that the kernel refers to: looked up and not forgotten."""
        self.opens: dict[int, int] = {}
        self.reattaching: dict[int, Place | None] = {}
        """While committed content is replaced below inodes that are referred to: the owner of each number before."""
        self.numbers = Numbers(self._owner_of, ino_bits, branch)
        self.journals: dict[int, Journal] = {}
        """Journals by generation: those in which the layers and orphans have data."""
        self.make_room: Callable[[], bool] | None = None
        """See `Journal.on_full`."""
        self.mark = DurableMark(directory, branch)
        self._journal = base_file
        self.active.nodes[ROOT_INO] = self.base_root()

    @property
    def lower(self) -> Version | None:
        """The commit whose tree the layers change: the base version, or one that has more (`below`)."""
        return self.below if self.below is not None else self.base

    @property
    def journal(self) -> Journal:
        """The journal that is appended to: the newest generation, once there is one."""
        return self._journal

    @journal.setter
    def journal(self, journal: Journal) -> None:
        """Continues in another one."""
        journal.on_full = lambda: self.make_room is not None and self.make_room()
        journal.on_durable = self.mark.note
        self.mark.note(journal)
        if self._journal.reserved and journal is not self._journal:
            # The last one takes no more records: its reserve is for those that follow, before other data takes it.
            with contextlib.suppress(OSError):
                self._journal.release_reserve()
            journal.reserve()
        self._journal = journal

    # Inodes.

    def base_root(self) -> DirNode:
        """Returns a root node that equals the base version's root."""
        root = DirNode(ROOT_INO)
        lower = self.lower
        if lower is not None:
            root.take_entry(lower.commit.root)
            root.lower = lower.commit.root
            root.base_path = b""
        else:
            root.mode = 0o755
            root.subdirs = 0
        return root

    @property
    def root(self) -> DirNode:
        """The active layer's root."""
        return self.active.directory(ROOT_INO)

    def node(self, ino: int) -> Node | None:
        """Returns the topmost node of an inode, None if nothing has changed it."""
        node = self.active.nodes.get(ino)
        if node is None:
            node = self.orphans.get(ino)
            if node is None and self.frozen is not None and ino not in self.active.gone:
                node = self.frozen.nodes.get(ino)
        return node

    def find(self, ino: int) -> Inode | None:
        """Returns an inode's topmost node, or its clean inode, or None if it is not known."""
        return self.node(ino) or self.known.get(ino)

    def resolve(self, ino: int) -> Inode:
        """Returns what `find` returns; raises NotFound."""
        inode = self.find(ino)
        if inode is None:
            raise NotFound(f"no inode {ino} in the working layer")
        return inode

    def resolve_directory(self, ino: int) -> Directory:
        """Returns a directory; raises NotFound, NotADirectory."""
        inode = self.resolve(ino)
        if isinstance(inode, DirNode) or (isinstance(inode, Clean) and inode.entry.kind == Kind.DIR):
            return inode
        raise NotADirectory(f"inode {ino} is not a directory")

    def _owner_of(self, ino: int) -> Place | None:
        node = self.node(ino)
        if node is not None:
            return node.origin
        clean = self.known.get(ino)
        if clean is not None:
            return clean.place
        if ino in self.reattaching:
            return self.reattaching[ino]
        # A frozen inode that the active layer has removed is restored if the commit fails.
        if self.frozen is not None and ino in self.frozen.nodes:
            return None
        return UNUSED

    # Names.

    def find_below(self, directory: DirNode, name: bytes) -> int | Entry | None:
        """Returns what the layers below have at a name: a frozen node's number, a committed entry or None."""
        lower = directory.lower
        while isinstance(lower, DirNode):
            ino = lower.changes.get(name)
            if ino is not None:
                return ino if ino != WHITEOUT else None
            lower = lower.lower
        return find_entry(self.source, lower, name) if lower is not None else None

    def find_name(self, directory: Directory, name: bytes) -> int | Entry | None:
        """Returns what a directory has at a name: the number of a node, a committed entry or None."""
        if isinstance(directory, Clean):
            return find_entry(self.source, directory.entry, name)
        ino = directory.changes.get(name)
        if ino is not None:
            return ino if ino != WHITEOUT else None
        return self.find_below(directory, name)

    def child(self, directory: Directory, name: bytes) -> Inode | None:
        """Returns the inode at a name, or None."""
        found = self.find_name(directory, name)
        if found is None:
            return None
        if isinstance(found, int):
            return self.resolve(found)
        return self.claim(directory, name, found)

    def names(self, directory: Directory, after: bytes | None = None) -> Iterator[bytes]:
        """Yields a directory's names in order, from the first above `after`.

        Safe without the lock: names that are added or removed meanwhile may be yielded or not, all others once.
        """
        if isinstance(directory, Clean):
            return (entry.name for entry in entries(self.source, directory.entry, after))
        levels: list[DirNode] = []
        lower: DirNode | Entry | None = directory
        while isinstance(lower, DirNode):
            levels.append(lower)
            lower = lower.lower
        names: Iterator[bytes] = iter(())
        if lower is not None:
            names = (entry.name for entry in entries(self.source, lower, after))
        for level in reversed(levels):
            if level.changes:
                names = _merge_names(names, level.sorted_names(), level.changes, after)
        return names

    def is_empty(self, directory: Directory) -> bool:
        """Returns True if a directory has no names."""
        return next(self.names(directory), None) is None

    def is_below(self, directory: Directory, name: bytes) -> bool:
        """Returns True if a layer below the active one has a name of a directory."""
        node = self.active.nodes.get(directory.ino)
        if isinstance(node, DirNode):
            return self.find_below(node, name) is not None
        return self.find_name(directory, name) is not None

    def hide(self, directory: DirNode, name: bytes, *, is_below: bool) -> None:
        """Removes a name of an active directory, with a whiteout if `is_below`."""
        if is_below:
            directory.set_change(name, WHITEOUT)
        elif name in directory.changes:
            directory.drop_change(name)

    # Clean inodes.

    def claim(self, directory: Directory, name: bytes, entry: Entry, group: Group | None = None) -> Clean:
        """Returns the clean inode at a name of the base version that no layer has; its number is unique.

        `group`: its group of hard links, if the caller knows it; else it is read from the store.
        """
        parent = directory.ino
        place: Place = (parent, name)
        members: tuple[bytes, ...] = ()
        if entry.linked:
            path = self.base_path(directory)
            if path is not None:
                leader, members = group if group is not None else self.link_group(join_path(path, name))
                place = (0, leader)
        ino, needs_pin = self.numbers.of_base(place)
        clean = self.known.get(ino)
        if clean is not None:
            return clean
        if needs_pin:
            self.numbers.pin(place, ino)
            # Without disk space for the pin the number is valid, but the next opening may give another.
            with contextlib.suppress(OSError):
                self.base_file.append(Pin(place, ino))
        clean = self.known[ino] = Clean(ino, parent, name, entry, place)
        clean.members = members
        above = self.known.get(parent)
        if above is not None:
            above.children += 1
        return clean

    @property
    def _links(self) -> bytes:
        return self.lower.commit.links if self.lower is not None else b""

    def link_group(self, path: bytes) -> Group:
        """Returns the base version's group of hard links that a path belongs to."""
        return link_group(self.source, self._links, path)

    def groups_below(self, directory: Directory) -> Iterator[bytes]:
        """Yields the leaders (some twice) of the base version's groups of hard links with a path below a directory.

        Only of the active layer's, while nothing is frozen. Groups that have nodes may be missing.
        """
        links = self._links
        if not links:
            return
        prefixes = [self.base_path(directory)]
        if isinstance(directory, DirNode):
            stack = [directory]
            while stack:
                for ino in stack.pop().changes.values():
                    node = self.active.nodes.get(ino)
                    if isinstance(node, DirNode):
                        prefixes.append(node.base_path)
                        stack.append(node)
        seen: set[bytes] = set()
        for prefix in sorted(path for path in prefixes if path is not None):
            if any(above in seen for above in _above(prefix)):
                continue
            seen.add(prefix)
            start = prefix + b"/" if prefix else b""
            for item in map_items(self.source, LINKS, links, start):
                if not leaf_key(item).startswith(start):
                    break
                yield item.leader

    def base_path(self, directory: Directory) -> bytes | None:
        """Returns where the base version has a directory, None if it does not."""
        names: list[bytes] = []
        while isinstance(directory, Clean):
            names.append(directory.name)
            directory = self.resolve_directory(directory.parent)
        if directory.base_path is None:
            return None
        if directory.base_path:
            names.append(directory.base_path)
        return b"/".join(reversed(names))

    def base_directory(self, path: bytes) -> int:
        """Returns the number of the inode that the base version has for a directory."""
        assert self.lower is not None
        entry: Entry | None = self.lower.commit.root
        ino = ROOT_INO
        for name in split_path(path):
            assert entry is not None
            entry = find_entry(self.source, entry, name)
            if entry is None:
                raise Corrupt(f"the version's link map names {show_path(path)}, which is not there")
            number, _ = self.numbers.of_base((ino, name))
            if self.find(number) is None:
                number = self.claim(self.resolve_directory(ino), name, entry).ino
            ino = number
        return ino

    # References to inodes.

    def hold(self, inode: Inode) -> Attr:
        """Counts an inode as looked up and returns its attributes."""
        self.held.add(inode.ino)
        return inode.attr()

    def is_in_use(self, ino: int) -> bool:
        """Returns True if the kernel or an open file refers to an inode."""
        return ino in self.held or ino in self.opens

    def release(self, ino: int) -> None:
        """Drops the state of an inode that was kept for a reference, if there is none any more."""
        if self.is_in_use(ino):
            return
        if ino in self.orphans:
            del self.orphans[ino]
            self.close_unused_journals()
            return
        clean = self.known.get(ino)
        while clean is not None and not clean.children and not self.is_in_use(clean.ino):
            del self.known[clean.ino]
            clean = self.known.get(clean.parent)
            if clean is not None:
                clean.children -= 1

    def orphan(self, node: Node) -> None:
        """Removes a node that has lost its last name from the active layer; keeps it while it is referred to."""
        ino = node.ino
        node.origin = None
        self.active.nodes.pop(ino, None)
        if self.frozen is not None and ino in self.frozen.nodes:
            self.active.gone.add(ino)
        if self.is_in_use(ino):
            self.orphans[ino] = node

    def close_unused_journals(self) -> None:
        """Closes removed journals in which no unlinked open file has data."""
        removed = [journal for journal in self.journals.values() if journal.is_removed]
        if not removed:
            return
        used: set[int] = set()
        for node in self.orphans.values():
            file: object = node
            while isinstance(file, FileNode):
                used |= file.extents.segments()
                file = file.lower
        for journal in removed:
            if journal.generation not in used:
                del self.journals[journal.generation]
                journal.close()

    # Paths.

    def parent_of(self, ino: int) -> int:
        """Returns the number of an inode's parent directory; the root is its own parent. Raises NotFound."""
        if ino == ROOT_INO:
            return ROOT_INO
        inode = self.resolve(ino)
        if isinstance(inode, Clean):
            return inode.parent
        if not inode.places:
            raise NotFound(f"inode {ino} has no name left")
        return inode.places[0][0]

    def path_of(self, ino: int) -> bytes:
        """Returns a path of an inode (of hard links: one of them); raises NotFound for one without a name."""
        names: list[bytes] = []
        while ino != ROOT_INO:
            inode = self.resolve(ino)
            if isinstance(inode, Clean):
                ino, name = inode.parent, inode.name
            elif inode.places:
                ino, name = inode.places[0]
            else:
                raise NotFound(f"inode {inode.ino} has no name left")
            names.append(name)
        return b"/".join(reversed(names))


def link_group(source: ObjectSource, links: bytes, path: bytes) -> Group:
    """Returns the group of hard links that a path belongs to, in a version with this link map; raises Corrupt."""
    item = _link_item(source, links, path)
    return item.leader, item.members or _link_item(source, links, item.leader).members


def _link_item(source: ObjectSource, links: bytes, path: bytes) -> LinkItem:
    item = map_get(source, LINKS, links, path)
    if not isinstance(item, LinkItem):
        raise Corrupt(f"{show_path(path)} is a hard link, but the version's link map does not have it")
    return item


def _above(path: bytes) -> Iterator[bytes]:
    """Yields the paths of the directories above one."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def _merge_names(
    lower: Iterator[bytes], names: list[bytes], changes: dict[bytes, int], after: bytes | None
) -> Iterator[bytes]:
    """Yields the unchanged names below and the changed names that are not whiteouts, in order."""
    below = next(lower, None)
    for name in names:
        if after is not None and name <= after:
            continue
        while below is not None and below < name:
            if changes.get(below) != WHITEOUT:
                yield below
            below = next(lower, None)
        ino = changes.get(name)
        if ino or (ino is None and below == name):
            yield name
        if below == name:
            below = next(lower, None)
    while below is not None:
        if changes.get(below) != WHITEOUT:
            yield below
        below = next(lower, None)
