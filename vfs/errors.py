"""What can go wrong: one tree of errors, grouped by how a caller reacts to each.

Every class knows the errno that the kernel is told, the exit status of the command line and a stable `code` for
scripts (append-only). Only two places translate them: `vfs/fuse/` (errno) and `vfs/cli/` (message, hint, status).
Narrower classes are declared beside the code that raises them.
"""

from __future__ import annotations

import errno
import os
from enum import StrEnum
from typing import NamedTuple

import msgspec


class Advice(StrEnum):
    """What a caller can do next. Each interface words it: vfs/api/hints.py for a terminal, vfs/python/hints.py."""

    ABORT_LOST_MERGE = "abort-lost-merge"
    ABORT_WHOLE_MERGE = "abort-whole-merge"
    ADD_DATA = "add-data"
    BEGIN_MERGE = "begin-merge"
    CHECK_AND_REMOUNT = "check-and-remount"
    CHECK_DATA = "check-data"
    CHECK_LOG = "check-log"
    CHECK_MORE = "check-more"
    CHECK_PACKS = "check-packs"
    CLOSE_VERSIONS = "close-versions"
    COMMIT_MAKES_ONE = "commit-makes-one"
    COMMIT_OR_DISCARD = "commit-or-discard"
    COMMIT_OR_DISCARD_ITS_CHANGES = "commit-or-discard-its-changes"
    COMMIT_OR_DISCARD_NOW = "commit-or-discard-now"
    COMMIT_OR_DISCARD_THEN_UNDO = "commit-or-discard-then-undo"
    COPY_AND_DISCARD = "copy-and-discard"
    RESOLVE_CONFLICTS = "resolve-conflicts"
    FAILED_DISK = "failed-disk"
    FETCH_CONTENTS = "fetch-contents"
    FETCH_FIRST = "fetch-first"
    FINISH_MERGE = "finish-merge"
    FORGOTTEN_FOR_GOOD = "forgotten-for-good"
    KNOWN_VERSIONS = "known-versions"
    LIST_BRANCHES = "list-branches"
    LIST_CONFLICTS = "list-conflicts"
    LIST_FILES = "list-files"
    LIST_IGNORED = "list-ignored"
    LIST_OPERATIONS = "list-operations"
    LIST_OR_ADD_REMOTE = "list-or-add-remote"
    LIST_OR_MAKE_BRANCH = "list-or-make-branch"
    LIST_RUNS = "list-runs"
    LIST_TAGS = "list-tags"
    LIST_VERSIONS = "list-versions"
    LOG_OF_PATH = "log-of-path"
    MAKE_FIRST_VERSION = "make-first-version"
    MAKE_REPOSITORY = "make-repository"
    MAKE_ROOM = "make-room"
    MAKE_ROOM_AND_REMOUNT = "make-room-and-remount"
    MOUNT_IT = "mount-it"
    MOVE_IT_BACK = "move-it-back"
    NAME_NEW_DIRECTORY = "name-new-directory"
    NAME_REMOTE = "name-remote"
    PULL_FIRST = "pull-first"
    PULL_PURGED = "pull-purged"
    PUSH_PURGE = "push-purge"
    PUSH_TO_REMOTE = "push-to-remote"
    READ_ONLY_DISK = "read-only-disk"
    REBUILD_INDEX = "rebuild-index"
    RECOVER = "recover"
    REFUSED_BY_SERVICE = "refused-by-service"
    RESTORE_FROM = "restore-from"
    RESTORE_LOG = "restore-log"
    REWRITE_OR_RESTORE = "rewrite-or-restore"
    SEE_LOG = "see-log"
    SEE_NEWEST_VERSION = "see-newest-version"
    SHOW_OR_DESCRIBE = "show-or-describe"
    SWITCH_FIRST = "switch-first"
    SWITCH_TO = "switch-to"
    UNDO_THAT_FIRST = "undo-that-first"
    UNMOUNT_FIRST = "unmount-first"
    UNPROTECT = "unprotect"
    VERSIONS_LEFT = "versions-left"
    VERSION_TIMES = "version-times"


class Hint(msgspec.Struct, frozen=True):
    """What to do next: an advice, and the names that it is about."""

    advice: Advice
    args: dict[str, str] = {}

    def __str__(self) -> str:
        """Returns the advice as a log shows it, where no interface words it."""
        return " ".join((self.advice, *(f"{name}={value}" for name, value in self.args.items())))


class Notice(NamedTuple):
    """Something that a caller should know though the operation goes on, and what to do about it."""

    text: str
    hint: Hint | str = ""


REBUILD_HINT = Hint(Advice.REBUILD_INDEX)
"""What to do where an index is damaged or does not fit its packs."""


class VfsError(Exception):
    """The base of all errors that this package raises on purpose.

    `hint` says what to do next: a Hint where that names an operation, else one imperative sentence, or nothing.
    """

    code = "error"
    errno = errno.EIO
    exit_status = 3

    def __init__(self, message: str, *, hint: Hint | str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotFound(VfsError):
    """A name, version or object does not exist."""

    code = "not-found"
    errno = errno.ENOENT


class AlreadyExists(VfsError):
    """A name is taken."""

    code = "already-exists"
    errno = errno.EEXIST


class NotADirectory(VfsError):
    """A directory was needed and something else was found."""

    code = "not-a-directory"
    errno = errno.ENOTDIR


class IsADirectory(VfsError):
    """Something other than a directory was needed."""

    code = "is-a-directory"
    errno = errno.EISDIR


class NotEmpty(VfsError):
    """A directory still has entries."""

    code = "not-empty"
    errno = errno.ENOTEMPTY


class NotPermitted(VfsError):
    """The operation is not allowed on this object, for any user."""

    code = "not-permitted"
    errno = errno.EPERM


class ReadOnly(VfsError):
    """The caller tried to change a committed version, or a mount without a working layer."""

    code = "read-only"
    errno = errno.EROFS


class Busy(VfsError):
    """Another process or thread holds a resource that this operation needs."""

    code = "busy"
    errno = errno.EBUSY
    exit_status = 4


class Conflict(VfsError):
    """Another operation changed the state, or it holds changes that this operation would lose."""

    code = "conflict"
    errno = errno.EAGAIN
    exit_status = 4


class NothingToDo(VfsError):
    """The operation would change nothing, and the caller asked for a change."""

    code = "nothing-to-do"
    errno = errno.ECANCELED
    exit_status = 1


class InvalidInput(VfsError):
    """The caller passed words or values that are not valid."""

    code = "invalid-input"
    errno = errno.EINVAL
    exit_status = 2


class TooLarge(VfsError):
    """A value passes a limit of the format."""

    code = "too-large"
    errno = errno.EFBIG


class NameTooLong(VfsError):
    """A name has more than 255 bytes."""

    code = "name-too-long"
    errno = errno.ENAMETOOLONG


class NoAttribute(VfsError):
    """An extended attribute does not exist."""

    code = "no-attribute"
    errno = errno.ENODATA


class Corrupt(VfsError):
    """Stored bytes differ from those that were written; they are never returned as data."""

    code = "corrupt"
    errno = errno.EIO
    exit_status = 5


class Unsupported(VfsError):
    """The repository needs a newer program, or the platform lacks something."""

    code = "unsupported"
    errno = errno.EOPNOTSUPP
    exit_status = 6


_HINTS = {
    errno.ENOSPC: Hint(Advice.MAKE_ROOM),
    errno.EDQUOT: Hint(Advice.MAKE_ROOM),
    errno.EROFS: Hint(Advice.READ_ONLY_DISK),
    errno.EIO: Hint(Advice.FAILED_DISK),
}


_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})


def is_unwritable(error: OSError) -> bool:
    """Returns True if an error means that nothing can be written: the disk is full, read-only or another user's."""
    return error.errno in _UNWRITABLE


def has_path(error: OSError) -> bool:
    """Returns True if an error of the operating system has a path; some have a descriptor's number in its place."""
    return isinstance(error.filename, (str, bytes))


def describe_error(error: OSError) -> tuple[str, Hint | str]:
    """Returns an error of the operating system as a message, with the path where it is known, and a hint or nothing."""
    path = os.fsdecode(error.filename) if has_path(error) else ""
    text = f"{path}: {error.strerror or error}" if path else f"{error.strerror or error}"
    # The path of an object in a service is its address: no disk of this machine has failed.
    is_remote = "://" in path and error.errno == errno.EIO
    return text, Hint(Advice.REFUSED_BY_SERVICE) if is_remote else _HINTS.get(error.errno or 0, "")
