"""The files of working layers, checked from outside, also while mounts write to them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vfs.backend.rooted_path import Planted, RootedPath
from vfs.errors import Corrupt, Unsupported, VfsError, describe_error
from vfs.overlay.generation_check import LayerFaults, layer_faults
from vfs.overlay.journal.file_check import check_file
from vfs.overlay.layer_files import BASE_NAME, JOURNALS
from vfs.overlay.object_references import References, base_reference, layer_directories
from vfs.repo.merge_state import merge_state
from vfs.repo.repository import Repository


def check_layers(repo: Repository) -> LayerFaults:
    """Returns the damage of all working layers."""
    found = LayerFaults([], [])
    for directory in layer_directories(repo.work):
        branch = directory.name
        found.damage.extend(_check_journals(directory))
        found.damage.extend(_check_merge(repo, branch))
        found.damage.extend(_check_base(repo, directory))
        faults = layer_faults(directory, branch, repo.refs.consumed_generation(branch))
        if faults is not None:
            found.damage.extend(faults.damage)
            found.notes.extend(faults.notes)
    return found


def _check_journals(directory: RootedPath) -> Iterator[str]:
    for path in (directory / BASE_NAME, *directory.glob(JOURNALS)):
        try:
            reason = check_file(path)
        except FileNotFoundError:
            # A commit that ended meanwhile has taken it up.
            continue
        except Planted as error:
            reason = error.message
        if reason:
            yield reason


def _check_merge(repo: Repository, branch: str) -> Iterator[str]:
    try:
        merge_state(repo, branch)
    except VfsError as error:
        yield error.message
    except OSError as error:
        yield describe_error(error)[0]


def _check_base(repo: Repository, directory: RootedPath) -> Iterator[str]:
    """Checks that the branch has the working layer's base version."""
    branch = directory.name
    base: References | None = None
    while True:
        head = repo.head(branch)
        # A base file that is damaged itself has been reported.
        with contextlib.suppress(Corrupt, Unsupported):
            base = base_reference(directory)
        if base is None:
            return
        try:
            newest = repo.store.get_commit(base.base).number if base.base is not None else 0
        except Corrupt as error:
            yield f"{directory}: {error.message}"
            return
        if repo.head(branch) == head:
            break
    is_behind = base.generation <= repo.refs.consumed_generation(branch)
    if not is_behind and newest > (head.commit.number if head is not None else 0):
        yield f"{directory} stands on version {newest}, which the branch does not have: the operation log has lost it"
