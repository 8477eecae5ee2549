"""A program whose mount point is one version: as root, as an ordinary user, where namespaces are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.mounts import Mount
from vfs.control.pinned_view import NotStarted, start, version_directory
from vfs.errors import NotFound
from vfs.model.ids import CommitId

pytestmark = pytest.mark.mount

ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture
def two_versions(mount: Mount) -> tuple[CommitId, CommitId]:
    """Commits a file twice and returns the ids of the versions."""
    (mount / "only_first").mkdir()
    (mount / "file").write_text("first")
    first = mount.commit().id
    (mount / "only_first").rmdir()
    (mount / "file").write_text("second")
    return first, mount.commit().id


def output(mount: Mount, commit_id: CommitId, *words: str, pinned: bool = True, cwd: Path | None = None) -> str:
    """Runs a program on a version and returns what it printed."""
    version = version_directory(mount.path, commit_id)
    started = start(words, mount.path, version, ENVIRONMENT, pinned=pinned, directory=cwd, stdout=subprocess.PIPE)
    assert bool(started.reason) != pinned
    said, _ = started.process.communicate(timeout=300)
    assert started.process.returncode == 0
    return said.decode()


def test_the_path_of_the_mount_is_the_version(mount: Mount, two_versions: tuple[CommitId, CommitId]) -> None:
    script = 'cat "$0/file" "$VFS_DATA/file" file; id -u'
    for commit_id, text in zip(two_versions, ("first", "second"), strict=True):
        said = output(mount, commit_id, "sh", "-c", script, str(mount.path), cwd=mount.path)
        assert said == text * 3 + f"{os.getuid()}\n"
        assert output(mount, commit_id, "cat", "{data}/file") == text
    # No other clone has seen any of it.
    (mount / "file").write_text("third")
    assert (mount / "file").read_text() == "third"


def test_an_ordinary_user_needs_no_root(mount: Mount, two_versions: tuple[CommitId, CommitId]) -> None:
    code = """
import ctypes, os, subprocess, sys
from pathlib import Path
from vfs.control.pinned_view import start
os.chdir("/")
os.setgroups([]); os.setgid(65534); os.setuid(65534)
# A process that was root keeps its files in /proc root's, until exec or this.
ctypes.CDLL(None).prctl(4, 1)
mnt = Path(sys.argv[1])
started = start(["sh", "-c", "cat {data}/file; id -u; grep CapEff /proc/self/status"], mnt, mnt, os.environ)
assert not started.reason, started.reason
sys.exit(started.process.wait())
"""
    # A directory that any user can see stands for the mount: this one is its owner's alone.
    place = Path("/var/tmp") / f"pinned-{os.getpid()}"
    place.mkdir(mode=0o755)
    try:
        (place / "file").write_text("seen\n")
        done = subprocess.run(
            [sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True, timeout=300
        )
    finally:
        (place / "file").unlink()
        place.rmdir()
    assert done.stdout.splitlines() == ["seen", "65534", "CapEff:\t" + "0" * 16]


def test_without_namespaces_the_version_has_another_path(mount: Mount, two_versions: tuple[CommitId, CommitId]) -> None:
    said = output(
        mount, two_versions[0], "sh", "-c", "cat {data}/file file; echo $VFS_DATA", pinned=False, cwd=mount.path
    )
    assert said == f"firstfirst{mount.path}/@v1\n"


@pytest.mark.parametrize("pinned", [True, False])
def test_what_cannot_be_had_is_said(mount: Mount, two_versions: tuple[CommitId, CommitId], pinned: bool) -> None:
    first, second = (version_directory(mount.path, commit_id) for commit_id in two_versions)
    (mount / "only_first").mkdir()
    output(mount, two_versions[0], "true", pinned=pinned, cwd=mount / "only_first")
    with pytest.raises(NotFound, match="no current directory"):
        start(["true"], mount.path, second, ENVIRONMENT, pinned=pinned, directory=mount / "only_first")
    with pytest.raises(NotStarted, match="no-such-program"):
        start(["no-such-program"], mount.path, first, ENVIRONMENT, pinned=pinned)
    with pytest.raises(NotFound, match="cannot be reached"):
        version_directory(mount.path, CommitId(bytes(32)))
