"""Freezing a layer for a commit, and what follows: completing it on the new version, or thawing it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from vfs.errors import Busy, Corrupt
from vfs.model.names import show_path
from vfs.model.objects import Entry, Version
from vfs.overlay.apply import node_over
from vfs.overlay.journal.journal import Journal
from vfs.overlay.journal.journal_records import Base
from vfs.overlay.layer_nodes import ROOT_INO, WHITEOUT, Clean, CommittedFile, DirNode, FileNode, Node, Place
from vfs.overlay.layer_paths import LayerPaths, LinkChanges, link_changes
from vfs.overlay.open_journals import create_journal
from vfs.overlay.state import Layer, State
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import find_entry


class Outcome(NamedTuple):
    """The committed form of a frozen layer.

    `entries`: by inode number, under the first place's name. `pinned`: places with the number to be pinned there.
    `unpinned`: the other places that the layer changes: the name gives the number, or nothing is there.
    """

    entries: dict[int, Entry]
    links: LinkChanges
    pinned: dict[Place, int]
    unpinned: set[Place]


class Frozen:
    """A layer that a commit reads. `generation`: the last one in it; the commit consumes generations up to it."""

    def __init__(
        self,
        generation: int,
        layer: Layer,
        base: Version | None,
        source: ObjectSource,
        journals: Mapping[int, Journal],
        derived: Callable[[Place], int],
    ) -> None:
        self.generation = generation
        self.layer = layer
        self.base = base
        self.source = source
        self.journals = journals
        self.outcome: Outcome | None = None
        self.ready: dict[int, Clean] = {}
        """The result of `prepare`."""
        self._derived = derived

    def sync(self) -> None:
        """Makes the layer's journals durable."""
        for generation in sorted(self.journals):
            self.journals[generation].sync()

    def finish(self, entries: dict[int, Entry]) -> LinkChanges:
        """Records the entries that the layer's inodes were committed as; returns what becomes of hard links."""
        links = link_changes(self.source, self.base, self.layer)
        self.outcome = Outcome(entries, links, *_numbers_after(self.layer, links, self._derived))
        return links

    def prepare(self, referred: list[int]) -> None:
        """Precomputes what `complete` needs for inodes that are referred to, as that holds the overlay's lock.

        `referred` may have changed by then; `complete` computes the rest.
        """
        if self.outcome is not None:
            ready: dict[int, Clean] = {}
            _add_clean(self.layer, self.outcome, referred, ready)
            self.ready = ready


def freeze(state: State) -> Frozen:
    """Starts a new generation and returns the layer up to here, which is immutable from now on."""
    if state.frozen is not None:
        raise Busy("a commit of this working layer is in progress", hint="Try again when it has finished.")
    return freeze_before(state, next_journal(state))


def next_journal(state: State, ahead: int = 1) -> Journal:
    """Creates the journal of the next generation, or of a later one."""
    last = state.journal
    return create_journal(
        state.directory, state.branch, last.generation + ahead, state.base, last.next_seq, state.on_step
    )


def freeze_before(state: State, journal: Journal) -> Frozen:
    """Freezes the active layer; later changes go to `journal`."""
    frozen = Frozen(
        state.journal.generation, state.active, state.lower, state.source, live_journals(state), state.numbers.derived
    )
    state.journals[journal.generation] = state.journal = journal
    state.frozen = state.active
    state.active = Layer()
    state.active.nodes[ROOT_INO] = node_over(frozen.layer.nodes[ROOT_INO])
    return frozen


def live_journals(state: State) -> dict[int, Journal]:
    """Returns the journals that count, without those in which only unlinked open files have data."""
    return {number: journal for number, journal in state.journals.items() if not journal.is_removed}


def thaw(state: State, frozen: Frozen) -> None:
    """Merges the active layer into the frozen one, which becomes the active one; nothing is lost."""
    check_current(state, frozen)
    upper, layer = state.active, frozen.layer
    for ino in upper.gone:
        layer.nodes.pop(ino, None)
    for ino, node in upper.nodes.items():
        below = layer.nodes.get(ino)
        if below is not None:
            _merge(below, node)
        layer.nodes[ino] = node
    for node in state.orphans.values():
        if isinstance(node, FileNode) and isinstance(node.lower, FileNode):
            _merge(node.lower, node)
    layer.leaders.update(upper.leaders)
    layer.removed |= upper.removed
    state.active = layer
    state.frozen = None


def _merge(below: Node, node: Node) -> None:
    """Merges a frozen node into the node over it; extents and names are moved, not copied."""
    if isinstance(node, FileNode) and isinstance(below, FileNode) and node.lower is below:
        extents = below.extents
        extents.cut(node.lower_size)
        for start, end, segment, position in node.extents:
            extents.put(start, end, segment, position)
        node.extents = extents
        node.lower = below.lower
        node.lower_size = min(node.lower_size, below.lower_size)
        node.reader = below.reader
    elif isinstance(node, DirNode) and isinstance(below, DirNode) and node.lower is below:
        node.lower = below.lower
        node.take_changes(below)


def check_current(state: State, frozen: Frozen) -> None:
    """Raises Busy for a frozen layer that is not the current one."""
    if state.frozen is not frozen.layer:
        raise Busy("this frozen layer is not the one that is being committed")


def complete(state: State, frozen: Frozen, version: Version, below: Version | None = None) -> None:
    """Makes the version that the frozen layer was committed as the base of the active one; contents and names stay.

    `below`: the commit that has all of the frozen layer, if the version has only a part of it.

    May be called again after an OSError or MemoryError: everything that takes memory is computed before the step on
    disk, and the state in memory changes after it.
    """
    check_current(state, frozen)
    if frozen.outcome is None:
        frozen.finish(_entries_in(state.source, frozen.layer, below if below is not None else version))
    outcome = frozen.outcome
    assert outcome is not None
    pins = _pins_after(state, frozen.layer, outcome)
    switch = _Switch(state, frozen, outcome)
    switch_base(state, version, pins, below)
    switch.apply(version)
    state.below = below
    drop_old_journals(state, frozen.generation)


def switch_base(
    state: State,
    version: Version | None,
    pins: Mapping[Place, int | None],
    below: Version | None = None,
) -> None:
    """Durably makes a version (or none) the base of the newest generation, with these pins set or (None) removed.

    `below`: the commit whose tree the layer changes, if that is not the version.
    """
    record = Base(
        state.journal.generation,
        version.id if version is not None else b"",
        tuple((place, ino) for place, ino in pins.items() if ino is not None),
        tuple(place for place, ino in pins.items() if ino is None),
        below.id if below is not None else b"",
    )
    state.base_file.append(record)
    state.base_file.sync()
    for place, ino in pins.items():
        if ino is None:
            state.numbers.unpin(place)
    for place, ino in pins.items():
        if ino is not None:
            state.numbers.pin(place, ino)


def drop_old_journals(state: State, generation: int) -> None:
    """Removes the journals up to a generation; the next opening removes those that cannot be removed now."""
    for number, journal in list(state.journals.items()):
        if number <= generation and not journal.is_removed:
            with contextlib.suppress(OSError, MemoryError):
                journal.remove()
            journal.is_removed = True
    with contextlib.suppress(OSError, MemoryError):
        state.directory.sync()
    with contextlib.suppress(OSError, MemoryError):
        state.close_unused_journals()


def _entries_in(source: ObjectSource, layer: Layer, version: Version) -> dict[int, Entry]:
    """Returns the entries of a frozen layer's inodes in the version that it was committed as."""
    entries = {ROOT_INO: version.commit.root}
    stack = [layer.directory(ROOT_INO)]
    while stack:
        directory = stack.pop()
        for name, ino in directory.changes.items():
            if ino == WHITEOUT:
                continue
            entry = find_entry(source, entries[directory.ino], name)
            node = layer.nodes[ino]
            if entry is None or entry.kind != node.kind:
                raise Corrupt(f"{show_path(name)} was committed, but version {version.name} does not have it")
            if node.places[0] == (directory.ino, name):
                entries[ino] = entry
            if isinstance(node, DirNode):
                stack.append(node)
    return entries


def _numbers_after(
    layer: Layer, links: LinkChanges, derived: Callable[[Place], int]
) -> tuple[dict[Place, int], set[Place]]:
    """Returns the places to pin and to unpin, see Outcome; needs no lock: it hashes the names of all places."""
    pinned: dict[Place, int] = {}
    unpinned: set[Place] = {(0, leader) for leader in links.gone}
    for node in layer.nodes.values():
        if isinstance(node, DirNode):
            unpinned.update((node.ino, name) for name in node.changes)
    for node in layer.nodes.values():
        if len(node.places) == 1 and derived(node.places[0]) != node.ino:
            pinned[node.places[0]] = node.ino
    for ino, members in links.groups.items():
        place = (0, members[0])
        if derived(place) != ino:
            pinned[place] = ino
        else:
            unpinned.add(place)
    return pinned, unpinned - pinned.keys()


def _add_clean(layer: Layer, outcome: Outcome, inos: list[int], found: dict[int, Clean]) -> None:
    """Adds clean inodes of the new version for inodes of a frozen layer, and the directories above them, to `found`."""
    nodes, groups = layer.nodes, outcome.links.groups
    needed = list(inos)
    while needed:
        ino = needed.pop()
        node = nodes.get(ino)
        # The root has a node in every layer and is never clean.
        if node is None or ino in found or not node.places:
            continue
        parent, name = node.places[0]
        members = groups.get(ino, ())
        place = (0, members[0]) if members else (parent, name)
        clean = found[ino] = Clean(ino, parent, name, outcome.entries[ino], place)
        clean.members = members
        needed.append(parent)


def _pins_after(state: State, layer: Layer, outcome: Outcome) -> dict[Place, int | None]:
    """Returns the pins that change when a frozen layer's version becomes the base."""
    numbers = state.numbers
    wanted: dict[Place, int | None] = {}
    if layer.removed:
        wanted.update((place, None) for place, _ in numbers.pins() if place[0] in layer.removed)
    # Hashing a hundred thousand places takes longer than going through the existing pins.
    wanted.update((place, None) for place, _ in numbers.pins() if place in outcome.unpinned)
    wanted.update(outcome.pinned)
    for leader, members in outcome.links.moved.items():
        place, ino = (0, members[0]), numbers.of_base((0, leader))[0]
        wanted[place] = ino if numbers.derived(place) != ino else None
    return {place: pin for place, pin in wanted.items() if numbers.pin_of(place) != pin}


class _Switch:
    """The switch in memory from the old base and the frozen layer to the new version: computed first, then applied."""

    def __init__(self, state: State, frozen: Frozen, outcome: Outcome) -> None:
        self._state = state
        self._layer = layer = frozen.layer
        self._outcome = outcome
        self._entries = outcome.entries
        self._links = outcome.links
        self._paths = LayerPaths(layer)
        # Parallel lists, no pairs: so many more small objects would start a full garbage collection.
        self._files: list[FileNode] = []
        self._committed: list[CommittedFile] = []
        self._directories: list[DirNode] = []
        self._entries_below: list[Entry] = []
        self._nodes = list(state.active.nodes.values())
        for node in (*self._nodes, *state.orphans.values()):
            self._find_below(node)
        self._origins = list(map(self._new_origin, self._nodes))
        self._base_paths = [(node, self._new_base_path(node)) for node in self._nodes if isinstance(node, DirNode)]
        self._clean = self._clean_of_frozen(frozen.ready)
        self._leaders = self._new_leaders()

    def apply(self, version: Version) -> None:
        """Switches everything to the new version."""
        state = self._state
        for file, committed in zip(self._files, self._committed, strict=True):
            file.lower, file.reader = committed, None
        for directory, entry in zip(self._directories, self._entries_below, strict=True):
            directory.lower = entry
        for node, origin in zip(self._nodes, self._origins, strict=True):
            node.origin = origin
        for directory, path in self._base_paths:
            directory.base_path = path
        if self._links.moved:
            for clean in state.known.values():
                moved = self._links.moved.get(clean.place[1]) if clean.place[0] == 0 else None
                if moved is not None:
                    clean.place, clean.members = (0, moved[0]), moved
        state.known.update(self._clean)
        recount_children(state)
        state.active.leaders = self._leaders
        state.active.gone.clear()
        state.base = version
        state.frozen = None

    def _find_below(self, node: Node) -> None:
        """Finds the committed content of the frozen node below a node."""
        if isinstance(node, FileNode) and isinstance(node.lower, FileNode):
            below: Node = node.lower
            self._files.append(node)
            self._committed.append(CommittedFile(self._entries[below.places[0][0]], self._entries[below.ino]))
        elif isinstance(node, DirNode) and isinstance(node.lower, DirNode):
            self._directories.append(node)
            self._entries_below.append(self._entries[node.lower.ino])

    def _new_base_path(self, node: DirNode) -> bytes | None:
        if node.ino in self._layer.nodes:
            return self._paths.directory(node.ino)
        return self._paths.moved(node.base_path) if node.base_path is not None else None

    def _new_origin(self, node: Node) -> Place | None:
        below = self._layer.nodes.get(node.ino)
        if below is not None:
            place = self._place_of(below)
            is_there = place is not None and (place[0] == 0 or place in node.places)
            return place if is_there or isinstance(node, DirNode) else None
        if node.origin is not None and node.origin[0] == 0:
            moved = self._links.moved.get(node.origin[1])
            return (0, moved[0]) if moved is not None else node.origin
        return node.origin

    def _new_leaders(self) -> dict[bytes, int]:
        active, groups, moved = self._state.active, self._links.groups, self._links.moved
        leaders: dict[bytes, int] = {}
        for leader, ino in active.leaders.items():
            if ino not in self._layer.nodes:
                leaders[moved[leader][0] if leader in moved else leader] = ino
        # Groups that the frozen layer formed, even if the active one has removed them again.
        leaders.update(
            (members[0], ino) for ino, members in groups.items() if ino in active.nodes or ino in active.gone
        )
        return leaders

    def _place_of(self, node: Node) -> Place | None:
        """Returns where the new version has a frozen node."""
        members = self._links.groups.get(node.ino)
        if members is not None:
            return 0, members[0]
        return node.places[0] if node.places else None

    def _clean_of_frozen(self, prepared: dict[int, Clean]) -> dict[int, Clean]:
        """Returns clean inodes for the frozen ones that are referred to and that the active layer has not changed."""
        state, nodes, clean = self._state, self._layer.nodes, dict(prepared)
        needed = [ino for ino in (*state.held, *state.opens) if ino in nodes and ino not in clean]
        needed += [known.parent for known in state.known.values() if known.parent in nodes]
        _add_clean(self._layer, self._outcome, needed, clean)
        for others in (state.active.nodes, state.active.gone, state.known):
            for ino in others:
                clean.pop(ino, None)
        return clean


def recount_children(state: State) -> None:
    """Recounts the children of clean inodes and drops clean inodes without a reference."""
    for clean in state.known.values():
        clean.children = 0
    for clean in state.known.values():
        above = state.known.get(clean.parent)
        if above is not None:
            above.children += 1
    for ino in list(state.known):
        state.release(ino)
