"""Opening the repository that a command works on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from vfs.api.hints import notice_text
from vfs.cli.command import Invocation
from vfs.cli.opening.cloud_credentials import use_profile
from vfs.cli.opening.locate import Place, find_place
from vfs.cli.terminal.output import warn
from vfs.errors import has_path
from vfs.model.ids import CommitId
from vfs.repo.config import LAZY
from vfs.repo.repository import Repository


class OpenRepository(msgspec.Struct, frozen=True):
    """An open repository, the branch to work on, and the place that relative paths start from.

    `asked_ns`: when the command started (Unix time).
    """

    place: Place
    repository: Repository
    branch: str
    asked_ns: int


@contextmanager
def open_repository(invocation: Invocation) -> Iterator[OpenRepository]:
    """Opens the repository that the command line, the current directory or VFS_REPO names.

    The branch is that of `--branch`, else of the current directory, else the repository's current one. Raises NotFound.
    An OSError within that names no path gets the repository's.
    """
    place = find_place(invocation.repository, os.environ.get("VFS_REPO"))
    place.require_there()
    with repository_named(place.repository), Repository.open(place.repository) as repository:
        if LAZY in repository.config.features:
            use_profile()
        warn_of_repairs(repository)
        chosen = invocation.branch if invocation.branch is not None else place.branch
        if chosen is not None:
            repository.require_branch(chosen)
            repository.seen_from = chosen
        yield OpenRepository(place, repository, repository.branch, invocation.asked_ns)


@contextmanager
def repository_named(path: Path) -> Iterator[None]:
    """Sets the path of an OSError within that names none to the repository's."""
    try:
        yield
    except OSError as error:
        if not has_path(error):
            error.filename = str(path)
        raise


def warn_of_repairs(repository: Repository) -> None:
    """Writes warnings about what opening a repository repaired."""
    for notice in repository.notices:
        warn(notice_text(*notice))


def tags_by_commit(repository: Repository) -> dict[CommitId, list[str]]:
    """Returns the tags of each tagged commit."""
    from vfs.repo.tags import list_tags

    found: dict[CommitId, list[str]] = {}
    for tag in list_tags(repository):
        found.setdefault(tag.commit_id, []).append(tag.name)
    return found
