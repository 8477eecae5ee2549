"""Protection of branches and tags: Refs.move refuses to move a protected ref, for every command."""

from __future__ import annotations

import time

from vfs.errors import Advice, Hint, NotFound
from vfs.repo.repository import Repository
from vfs.store.refs.operation import BRANCHES, TAGS, Operation, SettingChange
from vfs.store.refs.refs import PROTECTED

_YES = "yes"


def protect(repo: Repository, ref: str, *, author: str, on: bool = True) -> bool:
    """Protects a ref (`branches/NAME`, `tags/NAME`), or ends that; returns whether anything changed. Raises NotFound.

    A protected branch takes no commit, import or merge and cannot be removed; a protected tag is not moved or removed.
    """
    with repo.write_lock():
        if repo.refs.get(ref) is None:
            raise _missing(ref)
        name = PROTECTED + ref
        old, new = repo.refs.setting(name), _YES if on else ""
        if old == new:
            return False
        change = SettingChange(name, old, new)
        kind = "protect" if on else "unprotect"
        repo.refs.move(Operation(kind=kind, time_ns=time.time_ns(), author=author, settings=(change,)))
    return True


def protected(repo: Repository, prefix: str) -> frozenset[str]:
    """Returns the names of the protected branches (`branches/`) or tags (`tags/`), without the prefix."""
    start = PROTECTED + prefix
    return frozenset(name.removeprefix(start) for name, _ in repo.refs.settings(start))


def _missing(ref: str) -> NotFound:
    if ref.startswith(TAGS):
        return NotFound(f"there is no tag {ref.removeprefix(TAGS)!r}", hint=Hint(Advice.LIST_TAGS))
    name = ref.removeprefix(BRANCHES)
    return NotFound(f"there is no branch {name!r} with a version", hint=Hint(Advice.LIST_BRANCHES))
