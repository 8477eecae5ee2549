"""The state of a merge that is not finished: what is merged, and what is still to be decided.

A small file in the branch's working layer, replaced as a whole. It counts as long as the operation that began the merge
is the last one that took up the layer's journal: a commit, an abandoned merge and everything else that gives the layer
other content end it in the same moment (docs/durability.md, W14). A file that does not count is removed by whoever
comes across it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import msgspec

from vfs.errors import Conflict, Corrupt
from vfs.history.merge import ConflictKind
from vfs.model.ids import CommitId
from vfs.model.objects import Commit
from vfs.overlay.folders import sync_directory
from vfs.repo.repository import Repository

STATE_NAME = "merge"
KEPT_META = ("vfs.kept", "working layer")
"""In the metadata of a commit that keeps a working layer and is no version."""
MERGE_META = "vfs.merge"
"""In the metadata of such a commit, in the middle of a merge: the state."""


class Undecided(msgspec.Struct):
    """A conflict (vfs/history/merge.py). `is_resolved`: somebody has said so; a file with marks says it by itself."""

    path: bytes
    kind: ConflictKind
    base: bytes | None
    ours: bytes | None
    theirs: bytes | None
    is_marked: bool = False
    note: str = ""
    is_resolved: bool = False


class MergeState(msgspec.Struct):
    """An unfinished merge. Commit ids in hex; `name`: what the other side was called; `generation`: that of the
    working layer's journal which the operation that began the merge has taken up."""

    ours: str
    theirs: str
    bases: list[str]
    name: str
    message: str
    conflicts: list[Undecided]
    generation: int = 0

    @property
    def theirs_id(self) -> CommitId:
        """The commit that is merged."""
        return CommitId(bytes.fromhex(self.theirs))

    def commits(self) -> Iterator[CommitId]:
        """Yields the commits that the merge needs until it is finished."""
        for digits in (self.ours, self.theirs, *self.bases):
            yield CommitId(bytes.fromhex(digits))


def merge_state(repo: Repository, branch: str) -> MergeState | None:
    """Returns the state of a branch's unfinished merge, or None. Asks nobody: any process may."""
    try:
        data = (repo.work_path(branch) / STATE_NAME).read_bytes()
    except OSError:
        return None
    try:
        state = decode_state(data)
    except msgspec.MsgspecError as error:
        raise Corrupt(
            f"the state of the merge in {branch!r} cannot be read: {error}",
            hint=f"Remove the file work/{branch}/{STATE_NAME} of the repository; the files stay as they are.",
        ) from error
    return state if state.generation == repo.refs.consumed_generation(branch) else None


def refuse_in_merge(repo: Repository, branch: str, what: str) -> None:
    """Raises Conflict while a merge is unfinished."""
    state = merge_state(repo, branch)
    if state is not None:
        raise Conflict(
            f"{what}: the merge of {state.name!r} is not finished",
            hint="`vfs merge --continue` finishes it, `vfs merge --abort` takes it back.",
        )


def save_state(repo: Repository, branch: str, state: MergeState) -> None:
    """Writes the state; whole, durable and in place of the old one on return."""
    path = repo.work_path(branch) / STATE_NAME
    draft = path.with_name(STATE_NAME + ".new")
    repo.step("write merge state")
    with draft.open("wb") as file:
        file.write(encode_state(state))
        file.flush()
        os.fsync(file.fileno())
    repo.step("name merge state")
    draft.replace(path)
    sync_directory(path.parent)


def drop_state(repo: Repository, branch: str) -> None:
    """Removes a state that does not count any more. One that cannot be removed does no harm."""
    with contextlib.suppress(OSError):
        (repo.work_path(branch) / STATE_NAME).unlink()


def kept_state(commit: Commit) -> MergeState | None:
    """Returns the unfinished merge that a kept working layer is in the middle of."""
    meta = dict(commit.meta)
    return decode_state(meta[MERGE_META].encode()) if MERGE_META in meta else None


def state_meta(state: MergeState | None) -> list[tuple[str, str]]:
    """Returns the metadata of a commit that keeps a working layer."""
    return [KEPT_META] if state is None else [KEPT_META, (MERGE_META, encode_state(state).decode())]


def encode_state(state: MergeState) -> bytes:
    """Returns a state as JSON."""
    return msgspec.json.encode(state)


def decode_state(data: bytes) -> MergeState:
    """Returns the state of its JSON; raises MsgspecError."""
    return msgspec.json.decode(data, type=MergeState)
