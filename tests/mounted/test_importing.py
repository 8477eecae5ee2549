"""Goal: what lies in a mount can be imported like any other directory."""

from __future__ import annotations

import mmap
import os

import pytest

from support.mounts import Mount
from support.repositories import Repositories
from support.sources import Source
from support.waiting import let_settle
from vfs.repo.import_directory import Imported, import_directory
from vfs.repo.repository import Repository

pytestmark = pytest.mark.mount


def bring_in(repo: Repository, mount: Mount) -> Imported:
    with repo.open_overlay() as overlay:
        return import_directory(repo, mount.path / "source", "m", "a", overlay=overlay, allow_empty=True)


def test_what_a_mapping_holds_back_of_a_file_that_is_known_is_imported(
    mount: Mount, repositories: Repositories
) -> None:
    repo = repositories.make("other")
    path = mount.path / "source/array"
    path.parent.mkdir()
    path.write_bytes(bytes(100_000))
    let_settle([path.stat()])
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        with mmap.mmap(descriptor, 0) as mapped:
            assert bring_in(repo, mount).tally.files_read == 1
            assert bring_in(repo, mount).tally.files_read == 0
            # The daemon, which keeps the times, hears of this when the page is written back.
            mapped[:5] = b"later"
            done = bring_in(repo, mount)
            assert bytes(Source(repo.store, done.version).open(b"array").read(0, 5)) == b"later"
    finally:
        os.close(descriptor)
