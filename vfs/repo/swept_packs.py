"""Packs that a sweep of a remote has replaced: the index follows the newest root to where their objects are now."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

from vfs.backend.locations import open_location
from vfs.backend.wrappers import RetryBackend
from vfs.errors import VfsError
from vfs.remote.format import Root
from vfs.remote.known_objects import KEPT, Known, kept_packs
from vfs.remote.remote import Remote
from vfs.remote.rollback_check import require_descends, seen_of
from vfs.remote.settings import SETTING, RemoteSettings, decode_settings
from vfs.repo.lock import file_lock
from vfs.store.packs.pack_file import PackKind

if TYPE_CHECKING:
    from vfs.repo.repository import Repository

_LOCK_S = 5.0


def follow_sweeps(repo: Repository) -> None:
    """Follows the newest roots of the remotes in what the index says of their packs; refs stay where they are.

    For a reader that did not find a pack. What fails, or would wait for long, is left to the next one.
    """
    for name, text in repo.refs.settings(SETTING):
        with suppress(VfsError, OSError):
            _follow(repo, name.removeprefix(SETTING), decode_settings(text))


def _follow(repo: Repository, name: str, settings: RemoteSettings) -> None:
    directory = repo.path / KEPT / name
    with (
        closing(open_location(settings.location)) as backend,
        file_lock(directory / "lock", timeout_s=_LOCK_S),
        Known(directory / "known", repo.backend, f"{KEPT}/{name}") as known,
    ):
        remote = Remote(RetryBackend(backend))
        state = remote.read_state()
        require_descends(name, seen_of(repo.refs, name), state)
        if state.root.id != repo.config.id:
            return
        known.bring(remote, state.root.indexes)
        known.absorb(remote, state.root.indexes)
        with repo.write_lock(timeout_s=_LOCK_S):
            give_up(repo, known, remote, state.root)


def give_up(repo: Repository, known: Known, remote: Remote, root: Root) -> None:
    """Follows a sweep of a remote: packs that it has no more are found in others, or not at all.

    The caller holds the write lock.
    """
    absent = {row.name: row.number for row in repo.index.packs() if not row.is_here}
    if not absent:
        return
    there = {info.name for info in kept_packs(repo.backend)}
    gone = {number for name, number in absent.items() if name not in there}
    if gone:
        packs = (stored for index in root.indexes for stored in known.stored(remote, index))
        repo.index.give_up(gone, [stored.info() for stored in packs if stored.kind == PackKind.DATA])
