"""The state of an unfinished merge: the commits that it merges, and its conflicts.

The operation log says whether a merge is under way: the operation that took up the layer's journal last has begun it,
or has restored it (docs/durability.md, W14). Which conflicts were resolved since is in a small file in the branch's
working layer, which is replaced as a whole. Without it the conflicts that are left are unknown, so a file that is
missing or damaged is refused, and the merge can be abandoned. Layout: docs/format.md, "Unfinished merge".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from vfs.backend.rooted_path import Planted
from vfs.errors import Advice, Conflict, Corrupt, Hint
from vfs.history.merge_kinds import ConflictKind
from vfs.model.ids import ID_BYTES, SHORT_HEX, CommitId
from vfs.model.layout import marked
from vfs.model.names import join_path
from vfs.model.objects import Commit
from vfs.repo.repository import Repository
from vfs.store.refs.operation_log import seal_line, text_of_line

STATE_NAME = "merge"
STASH_META = ("vfs.kept", "working layer")
"""In the metadata of a commit that keeps a working layer and is no version."""
MERGE_META = "vfs.merge"
"""In the metadata of such a commit, in the middle of a merge: the state."""
MERGE_BEGIN = "merge-begin"
"""The kind of the operation that begins a merge with conflicts."""


Resolution = Literal["ours", "theirs", "resolved"]
"""How the user resolves a conflict."""


class MergeConflict(msgspec.Struct):
    """A conflict (vfs/history/merge_trees.py). `is_resolved`: by the user; a file without markers is resolved, too."""

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
    conflicts: list[MergeConflict]
    generation: int = 0

    @property
    def theirs_id(self) -> CommitId:
        """The commit that is merged."""
        return CommitId(bytes.fromhex(self.theirs))

    def commits(self) -> Iterator[CommitId]:
        """Yields the commits that the merge needs until it is finished."""
        for digits in (self.ours, self.theirs, *self.bases):
            yield CommitId(bytes.fromhex(digits))

    def sides_of(self, conflict: MergeConflict) -> dict[str, bytes | None]:
        """Returns where all three sides of a conflict are files: `@` and a commit's digits, and the path there."""
        bases = self.bases[:1]
        sides = {"base": (bases[0] if bases else "", conflict.base), "ours": (self.ours, conflict.ours)}
        sides["theirs"] = (self.theirs, conflict.theirs)
        return {
            side: join_path(marked(digits[:SHORT_HEX].encode()), path) if path is not None and digits else None
            for side, (digits, path) in sides.items()
        }


class LostState(Corrupt):
    """A merge is under way, and its state is missing or damaged. `state`: as it was when the merge began, if known."""

    def __init__(self, branch: str, what: str, state: MergeState | None = None) -> None:
        super().__init__(
            f"a merge is under way in {branch!r}, and its state (work/{branch}/{STATE_NAME}) {what}",
            hint=Hint(Advice.ABORT_LOST_MERGE),
        )
        self.state = state


def merge_state(repo: Repository, branch: str) -> MergeState | None:
    """Returns the state of a branch's unfinished merge, or None. Needs no lock: any process may call it.

    Raises LostState where a merge is under way and its resolved conflicts are unknown, OSError.
    """
    while True:
        generation = repo.refs.consumed_generation(branch)
        try:
            return _state_at(repo, branch, generation)
        except LostState:
            # Another process may just have finished the merge, and taken the file away.
            if repo.refs.consumed_generation(branch) == generation:
                raise


def state_or_initial(repo: Repository, branch: str) -> tuple[bool, MergeState | None]:
    """Returns whether a merge is under way, and its state: as it was when it began where what came since is lost.

    None with True: also that is lost.
    """
    try:
        state = merge_state(repo, branch)
    except LostState as error:
        return True, error.state
    return state is not None, state


def _state_at(repo: Repository, branch: str, generation: int) -> MergeState | None:
    begun = _begun(repo, branch)
    if begun is None:
        _refuse_unknown(repo, branch, generation)
        return None
    kept = msgspec.structs.replace(begun.state, generation=generation) if begun.state is not None else None
    data = _read(repo, branch)
    if data is None:
        raise LostState(branch, "is missing", kept)
    try:
        states = decode_file(data)
    except Corrupt as error:
        raise LostState(branch, error.message, kept) from error
    for state in states:
        if state.generation == generation and (kept is None or _is_same_merge(state, kept)):
            return state
    raise LostState(branch, "is that of another merge", kept)


class _Begun(NamedTuple):
    """A merge that is under way by the log; `state`: as it was when it began, None where that cannot be read."""

    state: MergeState | None


def _begun(repo: Repository, branch: str) -> _Begun | None:
    operation = repo.refs.consumer(branch)
    if operation is None:
        return None
    is_known = operation.kind == MERGE_BEGIN
    after = operation.after
    state = None
    if after is not None and repo.index.has(after):
        try:
            state = stashed_state(repo.store.get_commit(after))
        except Corrupt:
            if not is_known:
                raise
    return _Begun(state) if is_known or state is not None else None


def _refuse_unknown(repo: Repository, branch: str, generation: int) -> None:
    """Refuses a state whose merge has begun, as the working layer stands behind it, and which the log knows no more."""
    try:
        states = decode_file(_read(repo, branch) or b"")
    except Corrupt:
        # What was left of a merge that is over, or that never began.
        return
    for state in states:
        from vfs.overlay.object_references import base_reference

        if generation < state.generation < base_reference(repo.work_path(branch)).generation:
            raise LostState(branch, "is all that is left of it: the operation log has lost what began it", state)


def _is_same_merge(state: MergeState, begun: MergeState) -> bool:
    """Returns True if two states differ at most in the conflicts that are resolved."""
    return _without_resolutions(state) == _without_resolutions(begun)


def _without_resolutions(state: MergeState) -> MergeState:
    conflicts = [msgspec.structs.replace(conflict, is_resolved=False) for conflict in state.conflicts]
    return msgspec.structs.replace(state, generation=0, conflicts=conflicts)


def _read(repo: Repository, branch: str) -> bytes | None:
    """Returns the file's bytes, None where there is none; any other failure is not taken for that."""
    try:
        return (repo.work_path(branch) / STATE_NAME).read_bytes()
    except FileNotFoundError:
        return None


def refuse_in_merge(repo: Repository, branch: str, what: str) -> None:
    """Raises Conflict while a merge is unfinished; removes the state of one that never began. Needs the write lock."""
    state = merge_state(repo, branch)
    if state is not None:
        raise Conflict(
            f"{what}: the merge of {state.name!r} is not finished",
            hint=Hint(Advice.FINISH_MERGE),
        )
    # The layer may go on to where it would look as if the merge had begun.
    drop_state(repo, branch)


def save_state(repo: Repository, branch: str, state: MergeState) -> None:
    """Writes the state; whole, durable and in place of the old one on return.

    A state that counts until an operation ends it, which is still to come, stays beside the new one.
    """
    path = repo.work_path(branch) / STATE_NAME
    lines = encode_file([*_others_that_count(repo, branch, state), state])
    path.replace_bytes(lines, "merge state", repo.step)


def _others_that_count(repo: Repository, branch: str, state: MergeState) -> list[MergeState]:
    if state.generation == repo.refs.consumed_generation(branch):
        return []
    counting = merge_state(repo, branch)
    return [counting] if counting is not None else []


def drop_state(repo: Repository, branch: str) -> None:
    """Removes a state that does not count any more. One that cannot be removed does no harm."""
    with contextlib.suppress(OSError, Planted):
        (repo.work_path(branch) / STATE_NAME).unlink()


def stashed_state(commit: Commit) -> MergeState | None:
    """Returns the unfinished merge that a kept working layer is in the middle of; raises Corrupt."""
    meta = dict(commit.meta)
    return _decode(meta[MERGE_META].encode()) if MERGE_META in meta else None


def state_meta(state: MergeState | None) -> list[tuple[str, str]]:
    """Returns the metadata of a commit that keeps a working layer."""
    return [STASH_META] if state is None else [STASH_META, (MERGE_META, msgspec.json.encode(state).decode())]


def encode_file(states: list[MergeState]) -> bytes:
    """Returns states as the file has them, a line each."""
    return b"".join(seal_line(msgspec.json.encode(state)) for state in states)


def decode_file(data: bytes) -> list[MergeState]:
    """Returns the states of a file; raises Corrupt with what is wrong."""
    if not data:
        return []
    if data.startswith(b"{"):
        # As it was written before lines had checksums.
        return [_decode(data)]
    if not data.endswith(b"\n"):
        raise Corrupt("is cut short")
    states = []
    for line in data[:-1].split(b"\n"):
        text = text_of_line(line)
        if text is None:
            raise Corrupt("does not match its checksum")
        states.append(_decode(text))
    return states


def _decode(text: bytes) -> MergeState:
    try:
        state = msgspec.json.decode(text, type=MergeState)
        # Callers of `commits` need ids that are valid.
        named = [len(commit_id) for commit_id in state.commits()]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Corrupt(f"cannot be read: {error}") from error
    if any(size != ID_BYTES for size in named):
        raise Corrupt("names what is no commit")
    return state
