"""The recorder, where what was opened natively cannot be read at once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest
import trio

from support.histories import add_versions
from support.repositories import Repositories
from vfs.control.mount_description import process_namespace
from vfs.errors import Corrupt
from vfs.fuse.recorder import Recorder
from vfs.fuse.view.version_inodes import VersionDirectory
from vfs.model.objects import Version
from vfs.model.run_record import RunRecord
from vfs.native.session import FILE, Opened
from vfs.repo.repository import Repository
from vfs.repo.runs.observed import Tree
from vfs.repo.runs.records import begin_run, find_run, load_manifest, load_record
from vfs.repo.runs.sealing import Ending, seal
from vfs.store.remote_blocks import NotLocal
from vfs.store.trees.directories import find_place

RUN = "a" * 16


class Native:
    """The native session layer with opens that wait to be taken."""

    def __init__(self, *opened: Opened) -> None:
        self.opened = list(opened)

    def take_records(self) -> list[Opened]:
        """Returns the opens once."""
        taken, self.opened = self.opened, []
        return taken

    def record_opens(self, is_recording: bool) -> None:
        """Does nothing."""

    def forget_thread(self, thread: int) -> None:
        """Does nothing."""


def opened_natively(
    repo: Repository, error: Callable[[], Exception], position: int, repositories: Repositories
) -> None:
    """Records a run whose process opens a file of `d` in v1 natively, which cannot be read then."""
    root = repo.resolve("v1")
    directory = Tree(repo.store, root.commit.root).directory(b"d")
    assert directory is not None
    inode = VersionDirectory(Version(root.id, root.commit), b"d", directory, at_head=False)

    def find_inode(_ino: int) -> object:
        raise error()

    overlay = repositories.overlay(repo)
    begin_run(repo, RunRecord(id=RUN, number=1, is_observed=True), {}, before=None, author="ann")

    async def record(thread: int) -> None:
        native = Native(Opened(0, 7, thread, FILE), Opened(0, 7, thread, FILE))
        recorder = Recorder(repo, find_inode, lambda _ino: (inode, position), native)  # type: ignore[arg-type]
        begin = (RUN, os.getpid(), process_namespace(), "", overlay, ())
        await trio.to_thread.run_sync(recorder.begin, *begin)
        await trio.to_thread.run_sync(recorder.finish, RUN, None)
        recorder.close()

    with subprocess.Popen(["sleep", "100"]) as program:
        try:
            trio.run(record, program.pid)
        finally:
            program.kill()
    seal(repo, find_run(repo, RUN), Ending(exit_status=0), "ann")


@pytest.mark.parametrize("error", [lambda: Corrupt("damaged"), lambda: NotLocal(None, [])])  # type: ignore[arg-type]
def test_what_could_not_be_read_when_it_was_opened_is_read_for_the_record(
    repositories: Repositories, repo: Repository, error: Callable[[], Exception]
) -> None:
    add_versions(repo, [{b"d/one": b"1", b"d/two": b"2"}])
    found = find_place(repo.store, Tree(repo.store, repo.resolve("v1").commit.root).directory(b"d"), b"two")  # type: ignore[arg-type]
    assert found is not None
    opened_natively(repo, error, found[0], repositories)
    assert [read.opened for read in load_manifest(repo, find_run(repo, RUN)).reads if read.opened] == [(b"d/two",)]


def test_what_cannot_be_read_for_the_record_either_is_said(repositories: Repositories, repo: Repository) -> None:
    add_versions(repo, [{b"d/one": b"1"}])
    opened_natively(repo, lambda: Corrupt("damaged"), 99, repositories)
    [note] = [note for note in load_record(repo, find_run(repo, RUN)).notes if "cannot be read" in note]
    assert note.startswith("the file 99 of the directory d of ")
