"""Branches through the handlers, without a kernel: numbers, lookup counts, what is opened and what is not."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from support.kernel import ROOT, Kernel, take
from support.repositories import Repositories
from vfs.fuse.inodes import BRANCHES_DIRECTORY
from vfs.fuse.layers import Layers
from vfs.fuse.mount import build_operations
from vfs.fuse.mountpoint import MountOptions
from vfs.overlay.overlay import Overlay
from vfs.repo.branching import create_branch
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.store.log import Operation, RefChange


class Served:
    """The handlers of a mount of `main` beside the branches `a` and `b`, all at one version."""

    def __init__(self, repositories: Repositories, hash_bits: int = 64) -> None:
        self.repo: Repository = repositories.make()
        self.main: Overlay = repositories.overlay(self.repo)
        directory = self.main.mkdir(1, b"d", 0o755, 0, 0).ino
        for number in range(20):
            self.main.mknod(directory, b"f%02d" % number, 0o644, 0, 0, 0)
        commit(self.repo, self.main, "m", "a")
        for name in ("a", "b"):
            create_branch(self.repo, name, self.repo.resolve("v1"), author="a")
        operations, layers = build_operations(
            self.repo, self.main, "main", MountOptions(), hash_bits=hash_bits, reply=take
        )
        assert layers is not None
        self.layers: Layers = layers
        self.kernel = Kernel(operations)


@pytest.fixture
def served(repositories: Repositories) -> Iterator[Served]:
    made = Served(repositories)
    yield made
    made.layers.close()


def walk(served: Served, branch: str) -> dict[str, int]:
    """Looks up everything of a branch, and returns the numbers by path."""
    top = f"@/branches/{branch}" if branch != "main" else ""
    found = {}
    for path in ("d", *(f"d/f{number:02}" for number in range(20))):
        found[f"{branch}:{path}"] = served.kernel.walk(f"{top}/{path}").st_ino
    return found


def test_looking_at_the_list_of_branches_opens_none(served: Served) -> None:
    kernel = served.kernel
    assert kernel.names(BRANCHES_DIRECTORY) == [b"a", b"b", b"main"]
    for name in (b"a", b"b"):
        kernel.getattr(kernel.lookup(BRANCHES_DIRECTORY, name).st_ino)
    assert sorted(path.name for path in (served.repo.path / "work").iterdir() if path.is_dir()) == ["main"]
    kernel.walk("@/branches/b/d")
    assert sorted(path.name for path in (served.repo.path / "work").iterdir() if path.is_dir()) == ["b", "main"]


def test_every_inode_of_every_branch_has_a_number_of_its_own(served: Served) -> None:
    before = walk(served, "main")
    numbers = {**before, **walk(served, "a"), **walk(served, "b")}
    assert len(set(numbers.values())) == len(numbers)
    # What was known before other branches were opened keeps its number.
    assert walk(served, "main") == before


def test_lookups_and_forgets_of_branches_balance_to_nothing(served: Served) -> None:
    kernel = served.kernel
    for _ in range(2):
        for branch in ("main", "a", "b"):
            walk(served, branch)
        for path in ("@/branches", "@/branches/a", "@/branches/a/d", "@/branches/b/d"):
            kernel.names(kernel.walk(path).st_ino, room=3)
        kernel.walk("@/branches/a/@v1")
        kernel.walk("@/branches/main")
    kernel.forget_all()
    assert kernel.operations.known_inodes == 0


def test_a_branch_is_written_through_its_directory(served: Served) -> None:
    kernel = served.kernel
    top = kernel.walk("@/branches/a").st_ino
    made = kernel.mkdir(top, b"new").st_ino
    assert kernel.walk("@/branches/a/new").st_ino == made
    for branch in ("", "@/branches/b/"):
        with pytest.raises(FileNotFoundError):
            kernel.walk(f"{branch}new")
    assert kernel.getattr(top).st_ino == top
    assert kernel.getattr(ROOT).st_ino == ROOT


def test_what_names_start_with_a_mark_are_versions_in_the_root_of_every_branch(served: Served) -> None:
    kernel = served.kernel
    top = kernel.walk("@/branches/a").st_ino
    assert kernel.readlink(kernel.lookup(top, b"@v1").st_ino) == b"../../../@v1"
    with pytest.raises(PermissionError):
        kernel.mkdir(top, b"@mine")
    with pytest.raises(OSError, match=r"\w") as caught:
        kernel.lookup(top, b"@v9")
    assert caught.value.errno == errno.ENOENT


def test_a_removed_branch_is_not_there_any_more(served: Served) -> None:
    kernel = served.kernel
    top = kernel.lookup(BRANCHES_DIRECTORY, b"a").st_ino
    served.repo.refs.move(_removal(served.repo, "a"))
    with pytest.raises(OSError, match=r"\w") as caught:
        kernel.lookup(BRANCHES_DIRECTORY, b"a")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(FileNotFoundError):
        kernel.lookup(top, b"d")


def _removal(repo: Repository, branch: str) -> Operation:
    head = repo.refs.get(f"branches/{branch}")
    assert head is not None
    return Operation(kind="unbranch", refs=(RefChange(f"branches/{branch}", head.hex(), ""),))
