"""What can go wrong: one tree of errors, grouped by what a caller would do about each.

Every class knows the errno that the kernel is told, the exit status of the command line and a stable `code` for
scripts (append-only). Only two places translate them: `vfs/fuse/` (errno) and `vfs/cli/` (message, hint, status).
Narrower classes are declared beside the code that raises them.
"""

from __future__ import annotations

import errno
import os

REBUILD_HINT = "Run `vfs fsck --rebuild-index`; nothing is lost, the index is made from the packs and the log."
"""What to do where an index is damaged or does not fit its packs."""


class VfsError(Exception):
    """Base of everything this package raises on purpose.

    `hint` says what to do next, in one imperative sentence, and may be empty.
    """

    code = "error"
    errno = errno.EIO
    exit_status = 3

    def __init__(self, message: str, *, hint: str = "") -> None:
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
    """The operation is not allowed on this object, whoever asks."""

    code = "not-permitted"
    errno = errno.EPERM


class ReadOnly(VfsError):
    """A committed version, or a mount without a working layer, was to be changed."""

    code = "read-only"
    errno = errno.EROFS


class Busy(VfsError):
    """Somebody else holds what this operation needs."""

    code = "busy"
    errno = errno.EBUSY
    exit_status = 4


class Conflict(VfsError):
    """The state moved, or holds changes that this operation would lose."""

    code = "conflict"
    errno = errno.EAGAIN
    exit_status = 4


class NothingToDo(VfsError):
    """The operation would change nothing, and the caller asked for a change."""

    code = "nothing-to-do"
    errno = errno.ECANCELED
    exit_status = 1


class InvalidInput(VfsError):
    """The caller's words or values are off."""

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
    """Stored bytes are not what was stored; they are never returned as data."""

    code = "corrupt"
    errno = errno.EIO
    exit_status = 5


class Unsupported(VfsError):
    """The repository needs a newer program, or the platform lacks something."""

    code = "unsupported"
    errno = errno.EOPNOTSUPP
    exit_status = 6


_MAKE_ROOM = (
    "Make room there (`vfs gc` frees what no version needs, removing or discarding uncommitted files frees theirs), "
    "then try again; nothing that was stored is lost."
)
_HINTS = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EROFS: "Versions can be read there (`vfs mount --read-only`, `vfs export`); for the rest, make it writable.",
    errno.EIO: "The disk has failed: see the kernel's log (`dmesg`); `vfs fsck --read-data` checks what is stored.",
}


_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})


def is_unwritable(error: OSError) -> bool:
    """Whether an error says that nothing can be written there: a full or read-only disk, or one that is another's."""
    return error.errno in _UNWRITABLE


def has_path(error: OSError) -> bool:
    """Whether an error of the operating system says which path it is about; some name a descriptor's number."""
    return isinstance(error.filename, (str, bytes))


def describe_error(error: OSError) -> tuple[str, str]:
    """Returns an error of the operating system as a message, with the path where it is known, and a hint or nothing."""
    where = f"{os.fsdecode(error.filename)}: " if has_path(error) else ""
    return f"{where}{error.strerror or error}", _HINTS.get(error.errno or 0, "")
