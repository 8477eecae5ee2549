"""What merges and their conflicts are described with, apart from the merging."""

from __future__ import annotations

from typing import Literal, NamedTuple

ConflictKind = Literal["added", "attributes", "content", "deleted", "symlink", "type"]
Side = Literal["ours", "theirs", "base"]


class DivergentRename(NamedTuple):
    """A path that each side renamed differently; the merged tree has it under both names."""

    old: bytes
    ours: bytes
    theirs: bytes
