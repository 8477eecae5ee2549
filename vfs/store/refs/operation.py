"""Operation: what one line of the operation log says, and the names that have a meaning in it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vfs.model.ids import CommitId
from vfs.store.refs.operation_args import CommitLogArgs, LayerLogArgs, LogArgs, OtherLogArgs

BRANCHES = "branches/"
TAGS = "tags/"
RUNS = "runs/"
"""Before the name of a run's ref (vfs/model/run_record.py)."""
RUN = "run"
"""The kind of an operation that records a run, or seals its record."""
PULLED = "pull/"
"""Before a branch's name: the setting that names the own version which a pull has still to merge."""
LAST_RUN = "last-run"
"""The setting that has the largest number of a run whose record was removed: no later run gets it."""
REMOTE_REFS = "remotes/"
"""Before `REMOTE/BRANCH`: where a branch of a remote was when it was last seen."""
CURRENT = "current"
"""The setting that names the current branch."""


class RefChange(msgspec.Struct, frozen=True):
    """A ref's move; ids in hex, empty where the ref is made or removed."""

    name: str
    old: str
    new: str


class SettingChange(msgspec.Struct, frozen=True):
    """A change of a setting of the repository; texts, empty where there is none."""

    name: str
    old: str
    new: str


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """A later note on a commit: a message and metadata in place of its own (None: those it has)."""

    message: str | None = None
    meta: dict[str, str] | None = None


class NoteChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A commit (id in hex) gets a note in place of another; None for none."""

    commit: str
    old: Note | None = None
    new: Note | None = None


class OperationFields(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one line of the log has, whatever the operation is.

    `seq` counts from 1 and is given by Refs.move. `kind`: the command (`commit`, `tag`, `undo`, …). `refs`: what moved.
    `settings`: settings that changed (vfs/store/refs/refs.py). `notes`: later notes on commits.
    `work`: (branch, generation) where the working layer's journal was taken up, to that generation: it is in a version
    since, or other content has taken its place.
    """

    seq: int = 0
    time_ns: int = 0
    kind: str = ""
    author: str = ""
    message: str = ""
    refs: tuple[RefChange, ...] = ()
    settings: tuple[SettingChange, ...] = ()
    notes: tuple[NoteChange, ...] = ()
    work: tuple[str, int] | None = None


class Operation(OperationFields, frozen=True):
    """One operation of the log. `args`: what its kind adds (vfs/store/refs/operation_args.py)."""

    args: LogArgs = LogArgs()

    @property
    def layer(self) -> LayerLogArgs | None:
        """The arguments of an operation that gave a working layer other content; None of any other operation."""
        return self.args if isinstance(self.args, LayerLogArgs) else None

    @property
    def before(self) -> CommitId | None:
        """The commit that a working layer showed before the operation, where the operation kept it."""
        return _commit_id(self.layer.before) if self.layer is not None else None

    @property
    def after(self) -> CommitId | None:
        """The commit that a working layer shows since the operation."""
        return _commit_id(self.layer.after) if self.layer is not None else None

    @property
    def whole(self) -> CommitId | None:
        """The commit that has all of the working layer, of a commit that left something out."""
        return _commit_id(self.args.whole) if isinstance(self.args, CommitLogArgs | OtherLogArgs) else None

    def base_of(self, branch: str) -> CommitId | None:
        """Returns what a branch's working layer stands on after the operation took it up."""
        for change in self.refs:
            if change.name == BRANCHES + branch:
                return CommitId(bytes.fromhex(change.new)) if change.new else None
        return _commit_id(self.layer.base) if self.layer is not None else None


def _commit_id(digits: str | None) -> CommitId | None:
    return CommitId(bytes.fromhex(digits)) if digits else None


def commits_of(operation: Operation) -> Iterator[CommitId]:
    """Yields the commits that an operation names: what must be there as long as it can be undone."""
    texts = [text for change in operation.refs for text in (change.old, change.new)]
    texts += operation.args.kept_commits()
    texts += [change.commit for change in operation.notes]
    for text in texts:
        if text:
            yield CommitId(bytes.fromhex(text))
