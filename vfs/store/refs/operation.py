"""Operation: what one line of the operation log says, and the names that have a meaning in it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from vfs.model.ids import CommitId

BRANCHES = "branches/"
TAGS = "tags/"
CURRENT = "current"
"""The setting that names the current branch."""
COMMIT_ARGS = BASE, BEFORE, AFTER, WHOLE = "base", "before", "after", "whole"
"""Names in `args` whose values are commits. Of an operation that gave a working layer other content: the version that
it stands on since (empty: none), and the commits whose trees it showed before and shows since. Of a commit that left
something out: the commit that has all of the working layer."""
LAYER = "branch"
"""The name in `args` of the branch whose working layer that is."""


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
    """What was said of a commit after it was made: a message and metadata in place of its own (None: those it has)."""

    message: str | None = None
    meta: dict[str, str] | None = None


class NoteChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A commit (id in hex) gets a note in place of another; None for none."""

    commit: str
    old: Note | None = None
    new: Note | None = None


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the log.

    `seq` counts from 1 and is given by Refs.move. `kind`: the command (`commit`, `tag`, `undo`, …). `refs`: what moved.
    `settings`: settings that changed (vfs/store/refs/refs.py). `notes`: what is said of commits.
    `work`: (branch, generation) where the working layer's journal was taken up, to that generation: it is in a version
    since, or other content has taken its place.
    `args`: anything else that a person, or `undo`, wants to know later.
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
    args: dict[str, str] = {}

    def commit_arg(self, name: str) -> CommitId | None:
        """Returns the commit that an argument names, None where there is none."""
        text = self.args.get(name, "")
        return CommitId(bytes.fromhex(text)) if text else None

    def base_of(self, branch: str) -> CommitId | None:
        """Returns what a branch's working layer stands on after the operation took it up."""
        for change in self.refs:
            if change.name == BRANCHES + branch:
                return CommitId(bytes.fromhex(change.new)) if change.new else None
        return self.commit_arg(BASE)


def commits_of(operation: Operation) -> Iterator[CommitId]:
    """Yields the commits that an operation names: what must be there as long as it can be undone."""
    texts = [text for change in operation.refs for text in (change.old, change.new)]
    texts += [operation.args[name] for name in COMMIT_ARGS if name in operation.args]
    texts += [change.commit for change in operation.notes]
    for text in texts:
        if text:
            yield CommitId(bytes.fromhex(text))
