"""A mount of a clone: files are there at once, and their contents come from the remote when they are read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from support.mounts import Mount, mounted
from support.object_server import object_server
from vfs.backend.locations import Location
from vfs.repo.repository import Repository
from vfs.repo.transfer.clone import clone
from vfs.repo.transfer.push import push
from vfs.repo.transfer.remotes import add_remote

pytestmark = pytest.mark.mount


def content(number: int) -> bytes:
    return random.Random(number).randbytes(300_000)


@pytest.fixture
def location(mount: Mount) -> Location:
    """Returns the address of a remote with a version of some files."""
    for number in range(8):
        (mount / f"f{number}").write_bytes(content(number))
    mount.commit()
    location = object_server().location()
    with Repository.open(mount.repository) as repo:
        add_remote(repo, "origin", location, author="ana")
        push(repo, "origin", ["main"], author="ana")
    return location


def test_a_mounted_clone_reads_from_its_remote_and_commits(location: Location, tmp_path: Path) -> None:
    clone(location, tmp_path / "clone", author="ben")
    assert not list((tmp_path / "clone" / "packs" / "data").glob("*/*"))
    with mounted(tmp_path / "clone", tmp_path / "there") as there:
        assert sorted(path.name for path in (there / ".").iterdir()) == [f"f{number}" for number in range(8)]
        assert (there / "f3").read_bytes() == content(3)
        assert (there / "@v1" / "f5").read_bytes() == content(5)
        with (there / "f1").open("r+b") as file:
            file.seek(100)
            file.write(b"changed")
        there.commit()
        expected = content(1)[:100] + b"changed" + content(1)[107:]
        assert (there / "@v2" / "f1").read_bytes() == expected
    with Repository.open(tmp_path / "clone") as repo:
        assert push(repo, "origin", ["main"], author="ben").bytes < 400_000
