"""What a version was described as last, which is not part of its commit."""

from __future__ import annotations

import msgspec

from vfs.model.objects import Version
from vfs.repo.repository import Repository


def described(repo: Repository, version: Version) -> Version:
    """Returns a version with the message and metadata that it was given last; its id stays that of the commit."""
    note = repo.refs.note(version.id)
    if note is None:
        return version
    made = version.commit
    meta = made.meta if note.meta is None else tuple(sorted(note.meta.items()))
    message = made.message if note.message is None else note.message
    return Version(version.id, msgspec.structs.replace(made, message=message, meta=meta))
