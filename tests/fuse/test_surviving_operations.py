"""The handlers of a mount that goes on after its daemon was killed, without a kernel."""

from __future__ import annotations

import copy
import os

import pytest

from support.kernel import ROOT, Kernel, take
from support.repositories import Repositories
from vfs.fuse.mount import build_operations
from vfs.fuse.session.mount_options import MountOptions
from vfs.fuse.session.takeover_state import Legacy
from vfs.fuse.surviving_operations import SurvivingOperations
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.repository import Repository


def _daemon(repo: Repository, overlay: Overlay, legacy: Legacy) -> Kernel:
    operations, _ = build_operations(repo, overlay, "main", MountOptions(survives=True), reply=take)
    assert isinstance(operations, SurvivingOperations)
    operations.survive(legacy)
    return Kernel(operations)


@pytest.mark.parametrize("path", ["d/file", "@v1/d/file"])
def test_a_look_up_that_overtakes_a_forget_keeps_the_inode(repositories: Repositories, path: str) -> None:
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    legacy = Legacy()
    first = _daemon(repo, overlay, legacy)
    directory = first.mkdir(ROOT, b"d").st_ino
    first.create(directory, b"file", b"content")
    commit(repo, overlay, "a test", "tester")
    ino = first.walk(path).st_ino
    above = first.walk(os.path.dirname(path)).st_ino
    seen = first.lookups[ino]

    second = _daemon(repo, overlay, Legacy(os.dup(legacy.descriptor)))
    # The kernel drops the inode, and looks its name up again before the daemon hears of that.
    assert second.lookup(above, b"file").st_ino == ino
    second.ask(second.operations.forget, [(ino, seen)])
    assert second.getattr(ino).st_ino == ino
    # What it holds is what it forgets at last: one look-up, of which the daemon does not know that it was the only one.
    second.ask(second.operations.forget, [(ino, 1)])
    assert second.walk(path).st_ino == ino


def test_an_inode_that_is_told_natively_before_it_is_found_again_is_forgotten_whole(repositories: Repositories) -> None:
    repo = repositories.make()
    overlay = repositories.overlay(repo)
    legacy = Legacy()
    first = _daemon(repo, overlay, legacy)
    first.create(ROOT, b"file", b"content")
    commit(repo, overlay, "a test", "tester")
    ino, above = first.walk("@v1/file").st_ino, first.walk("@v1").st_ino
    seen = first.lookups[ino]
    row = first.operations.files.row(ino)
    assert row is not None

    second = _daemon(repo, overlay, Legacy(os.dup(legacy.descriptor)))
    after = second.operations.files
    # As the native layer does: it knows nothing of inodes that are lost.
    second.getattr(above)
    directory = copy.copy(row.directory)
    directory.slot = -1
    after.hold(ino, row.check, directory, row.position)
    second.ask(second.operations.forget, [(ino, seen + 1)])
    assert after.lookups_of(ino) == 0
    # A look-up may have overtaken this.
    assert second.getattr(ino).st_ino == ino
    assert after.lookups_of(ino) == 1
