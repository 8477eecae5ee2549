"""What was seen last of a remote: a state that does not follow it is refused (docs/durability.md, T6)."""

from __future__ import annotations

import msgspec

from vfs.errors import Corrupt
from vfs.remote.remote import State
from vfs.store.refs.refs import Refs

SEEN = "seen/"
"""Before a remote's name: the setting that has it."""


class Seen(msgspec.Struct, frozen=True):
    """The newest state of a remote that was seen here."""

    seq: int
    nonce: str
    hash: str


def seen_of(refs: Refs, name: str) -> Seen | None:
    """Returns the newest state of a remote that was seen here, None for none."""
    text = refs.setting(SEEN + name)
    return msgspec.json.decode(text, type=Seen) if text else None


def require_descends(name: str, seen: Seen | None, state: State) -> None:
    """Raises RolledBack where a state does not follow the newest one that was seen."""
    if seen is None:
        return
    root = state.root
    if root.seq < seen.seq:
        raise RolledBack(f"the remote {name} went back from push {seen.seq} to {root.seq}")
    at = len(root.chain) - 1 - (root.seq - seen.seq)
    if at >= 0 and root.chain[at] != seen.nonce:
        raise RolledBack(f"the remote {name} has another history than before: its push {seen.seq} is not the one seen")


class RolledBack(Corrupt):
    """A remote is older than it was, or its history is another one: a copy was put back, or something deceives."""

    code = "remote-rolled-back"

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            hint="Nothing was changed here. If a copy of the remote was put back on purpose, remove and add it.",
        )
