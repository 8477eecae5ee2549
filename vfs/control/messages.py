"""The messages between a command and a mount's daemon: the envelope, and arguments and results of each service.

One connection carries one request. The daemon sends `Response(protocol=…)`, the client sends a `Request`, the daemon
answers with any number of responses that carry progress or nothing (a sign of life), and last with an error or with
the length of the result, whose JSON follows in so many bytes. Requests and responses are lines of JSON; bytes, such as
paths and ids, are base64 in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, Self

import msgspec

from vfs.control.mount_description import process_namespace
from vfs.errors import Hint
from vfs.history.diff import FileCounts, PathChange
from vfs.history.merge_contents import Key
from vfs.history.merge_kinds import DivergentRename, Side
from vfs.model.ids import CommitId
from vfs.model.objects import Entry
from vfs.repo.acting_run import acting_run
from vfs.repo.ignore_rules import Excluded
from vfs.repo.merge_state import MergeConflict, MergeState, Resolution

PROTOCOL = 2
"""Version of the messages; raised with every change that a program of another release does not understand."""

REQUEST_BYTES_MAX = 1 << 20
RESPONSE_BYTES_MAX = 1 << 20
"""Longest line of a response, which a result does not count to."""

KEEPALIVE_S = 5.0
"""Longest time without a response while a daemon performs a service."""


class Caller(msgspec.Struct, omit_defaults=True, frozen=True):
    """The process that asks, in the process-id namespace `namespace`, and the run that VFS_RUN names for it."""

    pid: int = 0
    namespace: str = ""
    run: str = ""

    @classmethod
    def here(cls) -> Self:
        """Returns this process."""
        return cls(os.getpid(), process_namespace(), acting_run())


class Request(msgspec.Struct, omit_defaults=True):
    """Names a service and carries its arguments as JSON. A program older than the protocol's version 2 names none."""

    op: str
    args: msgspec.Raw = msgspec.Raw(b"{}")
    protocol: int = 1
    caller: Caller = Caller()


class ProgressUpdate(msgspec.Struct, omit_defaults=True):
    """Progress of a service: files and bytes done, the totals where they are known; or what the service waits for."""

    files: int = 0
    bytes: int = 0
    total: int | None = None
    waiting: str = ""
    total_bytes: int | None = None


Report = Callable[[ProgressUpdate], None]
"""Receives the progress of a service."""


class Failure(msgspec.Struct, omit_defaults=True):
    """A VfsError as it travels."""

    code: str
    message: str
    hint: Hint | str = ""
    exit_status: int = 1


class Response(msgspec.Struct, omit_defaults=True):
    """One line from the daemon; at most one field is set. `result_bytes`: length of the result, which follows."""

    protocol: int = 1
    progress: ProgressUpdate | None = None
    error: Failure | None = None
    result_bytes: int | None = None


# Arguments and results, by service.


class Empty(msgspec.Struct):
    """Arguments of a service that takes none, and result of one that returns none."""


class PingResult(msgspec.Struct):
    """The daemon's process id, the branch, its mount's path and device, and where in the mount the branch is."""

    pid: int
    branch: str
    mountpoint: bytes
    device: str = ""
    top: bytes = b""


class CommitArgs(msgspec.Struct, omit_defaults=True):
    """`paths`: what to commit (empty: everything), without what is `excluded`. `asked_ns`: when the user asked (Unix
    time), 0 where that is not known."""

    message: str
    author: str
    allow_empty: bool = False
    meta: dict[str, str] = {}
    asked_ns: int = 0
    paths: list[bytes] = []
    excluded: Excluded = Excluded()


class PublishArgs(msgspec.Struct, omit_defaults=True):
    """A stored commit that becomes the branch's newest version; `expected` is its parent (None: the first version)."""

    commit_id: CommitId
    expected: CommitId | None = None


class CommitResult(msgspec.Struct):
    """The new version, and the bytes that its files have, that are new in it, and that were stored for it."""

    number: int
    id: CommitId
    bytes_put: int = 0
    bytes_new: int = 0
    bytes_stored: int = 0


class RestoreArgs(msgspec.Struct, omit_defaults=True):
    """The version and the paths to restore from it (empty: everything). `discard`: over uncommitted changes, too."""

    commit_id: CommitId
    paths: list[bytes] = []
    discard: bool = False
    author: str = ""


class RestoreResult(msgspec.Struct, omit_defaults=True):
    """The version lacks `removed` paths. `counts`: files changed, None where they are unknown (see Restored)."""

    restored: list[bytes]
    removed: list[bytes]
    counts: FileCounts | None = None


class DiffArgs(msgspec.Struct):
    """The version that the working layer is compared with."""

    commit_id: CommitId


class ChangedPath(msgspec.Struct):
    """A PathChange. `is_ignored`: ignore rules exclude it from a commit (`changes` alone sets it)."""

    path: bytes
    kind: Literal["added", "modified", "removed"]
    old: Entry | None
    new: Entry | None
    is_ignored: bool = False

    def as_change(self) -> PathChange:
        """Returns it without the ignore rules."""
        return PathChange(self.path, self.kind, self.old, self.new)


class SwitchArgs(msgspec.Struct, omit_defaults=True):
    """The branch that becomes the current one. `undoes`: sequence number of the operation that this undoes, or 0."""

    branch: str
    author: str
    undoes: int = 0


class SwitchResult(msgspec.Struct):
    """`switched`: False where the branch was the current one already."""

    switched: bool


class MergeArgs(msgspec.Struct, omit_defaults=True):
    """What to merge. `prefer`: the side that wins in conflicts, at `paths` (empty: everywhere)."""

    name: str
    commit_id: CommitId
    author: str
    message: str = ""
    meta: dict[str, str] = {}
    prefer: Side | None = None
    paths: list[bytes] = []
    keys: list[Key] = []


class ResolveArgs(msgspec.Struct):
    """How to resolve the conflicts at `paths` (empty: all conflicts)."""

    paths: list[bytes]
    resolution: Resolution


class AuthorArgs(msgspec.Struct):
    """Arguments of a service that needs the author alone."""

    author: str


class MergeResult(msgspec.Struct, omit_defaults=True):
    """The new version's id, or the unfinished merge and its unresolved conflicts; neither: there was nothing to merge.

    `divergent_renames`: what each side renamed differently, and which has both names now.
    """

    id: CommitId | None = None
    state: MergeState | None = None
    left: list[MergeConflict] = []
    divergent_renames: list[DivergentRename] = []


class UndoArgs(msgspec.Struct):
    """The operation that the caller read as the last one."""

    seq: int
    author: str


class PullArgs(msgspec.Struct, omit_defaults=True):
    """The newest version of the remote's branch, and whether own versions are put behind it by a rebase."""

    commit_id: CommitId
    author: str
    rebase: bool = False


class PullResult(msgspec.Struct, omit_defaults=True):
    """The branch's newest version before and after (None: none), and the own version that is now to be merged."""

    before: CommitId | None = None
    after: CommitId | None = None
    own: CommitId | None = None


class AmendArgs(msgspec.Struct, omit_defaults=True):
    """What the newest version gets: another message (None: keep it), and metadata beside what it has."""

    author: str
    message: str | None = None
    meta: dict[str, str] = {}


class AmendResult(msgspec.Struct):
    """The version's id: a new one, or the old one where nothing changed but its description."""

    id: CommitId


class RunStartArgs(msgspec.Struct, omit_defaults=True):
    """`pid` is that of the supervisor (the command that runs the program), in the process-id namespace `namespace`.

    `parent`: the run around it. `named`: the versions that its arguments and its current directory name. `keeps_layer`:
    what the working layer shows is stored, for a record.
    """

    id: str
    pid: int
    namespace: str
    author: str
    parent: str = ""
    named: list[CommitId] = []
    keeps_layer: bool = True


class RunStartResult(msgspec.Struct):
    """What the working layer showed: its base version, and the commit that keeps its changes (None: no changes).

    `parent`: the id of the run around it, empty for none.
    """

    base: CommitId | None
    before: CommitId | None
    parent: str = ""


class RunArgs(msgspec.Struct, omit_defaults=True):
    """A run in progress; `pid` and `namespace` are those of a process that joins it, `keeps_layer` as at its start."""

    id: str
    author: str = ""
    pid: int = 0
    namespace: str = ""
    keeps_layer: bool = True
