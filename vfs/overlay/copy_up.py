"""Copy-up: what an operation changes of the version gets a node of the working layer first, with its parents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vfs.errors import Corrupt
from vfs.model.names import show_path
from vfs.model.objects import Entry
from vfs.overlay.apply import Below, apply_copy_up
from vfs.overlay.journal.journal_records import CopyUp
from vfs.overlay.layer_nodes import Clean, Node, Place
from vfs.overlay.state import Inode, State


class Planned(NamedTuple):
    """A planned copy-up; `committed` as for `apply_copy_up`."""

    record: CopyUp
    committed: Below | None


def materialise(state: State, ino: int) -> Node:
    """Returns an inode's node in the active layer; copies it up, with its parents, if needed. Raises NotFound."""
    node = state.active.nodes.get(ino) or state.orphans.get(ino)
    if node is not None:
        return node
    copy_up(state, plan_copy_up(state, [ino]))
    return state.active.nodes[ino]


def copy_up(state: State, planned: Sequence[Planned]) -> None:
    """Copies planned inodes up into the active layer; reads nothing from the store."""
    if planned:
        state.journal.append_all([each.record for each in planned])
        for record, committed in planned:
            apply_copy_up(state, record, committed)


def plan_copy_up(state: State, inos: Sequence[int]) -> list[Planned]:
    """Returns the copy-ups that inodes need, parents before their children.

    An operation reads everything it needs from the store before its first record (docs/durability.md, W15).
    """
    plan: list[Planned] = []
    planned: dict[int, Planned] = {}
    stack = [(ino, False) for ino in reversed(inos)]
    while stack:
        ino, is_ready = stack.pop()
        if is_ready:
            plan.append(planned[ino])
        elif ino not in state.active.nodes and ino not in state.orphans and ino not in planned:
            each = planned[ino] = _copy_up_of(state, state.resolve(ino))
            stack.append((ino, True))
            stack.extend((parent, False) for parent, _ in each.record.places)
    return plan


def _copy_up_of(state: State, inode: Inode) -> Planned:
    if not isinstance(inode, Clean):
        return Planned(CopyUp(inode.ino, inode.places), None)
    if not inode.members:
        return Planned(CopyUp(inode.ino, ((inode.parent, inode.name),)), Below(inode.entry))
    places: list[Place] = []
    for path in inode.members:
        directory, _, name = path.rpartition(b"/")
        places.append((state.base_directory(directory), name))
    first, name = places[0]
    entry = state.find_name(state.resolve_directory(first), name)
    if not isinstance(entry, Entry):
        raise Corrupt(f"the version's link map names {show_path(inode.members[0])}, which is not there")
    return Planned(CopyUp(inode.ino, tuple(places)), Below(entry, inode.place[1]))
