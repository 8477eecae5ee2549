"""The backend of a repository whose contents are at remotes until they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfs.remote.lazy_packs import LazyPacks
from vfs.remote.settings import open_for_reading

if TYPE_CHECKING:
    from vfs.repo.repository import Repository


def lazy_backend(repo: Repository) -> LazyPacks:
    """Returns a repository's backend with the packs of its remotes, as it knows them when one is read."""

    def follow() -> None:
        # Few readers ever need it.
        from vfs.repo.swept_packs import follow_sweeps

        follow_sweeps(repo)

    return LazyPacks(repo.backend, repo.path, lambda: open_for_reading(repo.refs), follow)
