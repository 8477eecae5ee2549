"""What commands ask of a working layer beyond committing: by the daemon of a mount that has it, else by themselves.

One table for both: a daemon answers requests with it, a command uses it on the layer that it has opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from vfs.control.client import Progress
from vfs.errors import Conflict
from vfs.history.merge import Parted, Side
from vfs.history.merge_contents import Key
from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Invalidation
from vfs.repo.describing import amend
from vfs.repo.merge import Preference, abandon, merge
from vfs.repo.merge_conflicts import Decision, decide, require_merge, undecided
from vfs.repo.merge_state import MergeState, Undecided
from vfs.repo.repository import Repository
from vfs.repo.undoing import last_operation, undo

Report = Callable[[Progress], None]
"""Hears how far a long operation is, or what it waits for."""


class MergeArgs(msgspec.Struct, omit_defaults=True):
    """Arguments of `merge`; `prefer` with `paths`: whose side counts, and where (none: everywhere)."""

    name: str
    commit_id: str
    author: str
    message: str = ""
    meta: dict[str, str] = {}
    prefer: Side | None = None
    paths: list[bytes] = []
    keys: list[Key] = []


class DecideArgs(msgspec.Struct):
    """Arguments of `merge-decide`."""

    paths: list[bytes]
    decision: Decision


class AuthorArgs(msgspec.Struct):
    """Arguments of `merge-abort`."""

    author: str


class MergeAnswer(msgspec.Struct, omit_defaults=True):
    """Result of `merge`, `merge-decide` and `merge-left`: the new version's id (empty: none), or the unfinished merge
    and what of it is left to decide; nothing of either where there was nothing to merge. `parted`, of `merge`: what
    each side has given another name, and now has both."""

    id: str = ""
    state: MergeState | None = None
    left: list[Undecided] = []
    parted: list[Parted] = []


class UndoArgs(msgspec.Struct):
    """Arguments of `undo`: the operation that the caller saw as the last one."""

    seq: int
    author: str


class AmendArgs(msgspec.Struct, omit_defaults=True):
    """Arguments of `amend`."""

    author: str
    message: str | None = None
    meta: dict[str, str] = {}


class AmendResult(msgspec.Struct):
    """Result of `amend`: the version's id, a new one or the old."""

    id: str


class Nothing(msgspec.Struct):
    """Result of what has none."""


class Done(NamedTuple):
    """A result, and what the kernel must look up again."""

    result: msgspec.Struct
    stale: Sequence[Invalidation] = ()


class LayerService(NamedTuple):
    """One operation; it reports how far it is where it may be long. `changes`: it must not run beside another one that
    does."""

    perform: Callable[[Repository, Overlay, dict[str, Any], Report], Done]
    changes: bool = True


def _merge(repo: Repository, overlay: Overlay, args: dict[str, Any], report: Report) -> Done:
    wanted = msgspec.convert(args, MergeArgs)
    commit_id = CommitId(bytes.fromhex(wanted.commit_id))
    done = merge(
        repo,
        overlay,
        wanted.name,
        Version(commit_id, repo.store.get_commit(commit_id)),
        wanted.author,
        wanted.message,
        meta=tuple(wanted.meta.items()),
        preference=Preference(wanted.prefer, wanted.paths) if wanted.prefer is not None else None,
        keys=wanted.keys,
        progress=lambda names, size, total: report(Progress(names, size, total)),
        waiting=lambda words: report(Progress(waiting=words)),
    )
    answer = _left(overlay, done.state) if done.state is not None else MergeAnswer()
    if done.version is not None:
        answer.id = done.version.id.hex()
    answer.parted = list(done.parted)
    return Done(answer, done.stale)


def _merge_decide(repo: Repository, overlay: Overlay, args: dict[str, Any], _report: Report) -> Done:
    wanted = msgspec.convert(args, DecideArgs)
    state, stale = decide(repo, overlay, wanted.paths, wanted.decision)
    return Done(_left(overlay, state), stale)


def _merge_left(repo: Repository, overlay: Overlay, _args: dict[str, Any], _report: Report) -> Done:
    return Done(_left(overlay, require_merge(repo, overlay.branch)))


def _merge_abort(repo: Repository, overlay: Overlay, args: dict[str, Any], _report: Report) -> Done:
    return Done(Nothing(), abandon(repo, overlay, msgspec.convert(args, AuthorArgs).author))


def _undo(repo: Repository, overlay: Overlay, args: dict[str, Any], _report: Report) -> Done:
    wanted = msgspec.convert(args, UndoArgs)
    last = last_operation(repo)
    if last.seq != wanted.seq:
        raise Conflict(f"operation {last.seq} ({last.kind}) came meanwhile", hint="Try again.")
    return Done(Nothing(), undo(repo, overlay, last, wanted.author).stale)


def _amend(repo: Repository, overlay: Overlay, args: dict[str, Any], _report: Report) -> Done:
    wanted = msgspec.convert(args, AmendArgs)
    done = amend(repo, overlay, wanted.author, wanted.message, wanted.meta)
    return Done(AmendResult(done.version.id.hex()), done.stale)


def _left(overlay: Overlay, state: MergeState) -> MergeAnswer:
    return MergeAnswer(state=state, left=undecided(overlay, state))


LAYER_SERVICES = {
    "merge": LayerService(_merge),
    "merge-decide": LayerService(_merge_decide),
    "merge-left": LayerService(_merge_left, changes=False),
    "merge-abort": LayerService(_merge_abort),
    "undo": LayerService(_undo),
    "amend": LayerService(_amend),
}
"""All of them, by name."""
