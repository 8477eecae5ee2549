"""Over a backend that is not local, all answers and counts are those of a local one."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.kernel import ROOT
from support.remote_serving import Served, fill, serve, serve_locally
from support.repositories import Repositories

# Every operation, with every read of the store missed once: nothing is cached but what a request has pinned.


def plain(attr: Any) -> tuple[object, ...]:
    """Attributes without the times of new inodes."""
    fields = ("ino", "mode", "nlink", "uid", "gid", "rdev", "size")
    return tuple(getattr(attr, f"st_{field}") for field in fields)


class Script:
    """Asks one mount for many things; `told` has the answers."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.kernel = served.kernel
        self.told: list[object] = []

    def tell(self, ask: Callable[[], object]) -> Any:
        """Records answers, and the inodes that the kernel and the mount know then."""
        found: object
        try:
            found = ask()
            told = plain(found) if hasattr(found, "st_ino") else found
        except OSError as error:
            found, told = None, error.errno
        overlay = self.served.overlay
        counts: list[object] = [sorted(+self.kernel.lookups), self.kernel.operations.known_inodes]
        if overlay is not None:
            state = overlay._state  # noqa: SLF001
            counts += [sorted(state.held), dict(state.opens), sorted(state.known), sorted(state.active.nodes)]
        self.told.append((told, self.kernel.operations.open_handles, counts))
        return found

    def walk(self, path: str) -> int:
        found = self.tell(lambda: self.kernel.walk(path))
        return found.st_ino if found is not None else 0

    def ask(self, name: str, *args: object) -> Any:
        handler = getattr(self.kernel.operations, name)
        return self.tell(lambda: self.kernel.ask(handler, *args))

    def entry(self, name: str, *args: object) -> Any:
        handler = getattr(self.kernel.operations, name)
        return self.tell(lambda: self.kernel.counted(self.kernel.ask(handler, *args)))

    def create(self, parent: int, name: bytes, flags: int) -> None:
        def ask() -> object:
            context = self.kernel.context
            info, attr = self.kernel.ask(self.kernel.operations.create, parent, name, 0o644, flags, context)
            self.kernel.counted(attr)
            self.kernel.ask(self.kernel.operations.write, info.fh, 3, b"abc")
            self.kernel.ask(self.kernel.operations.release, info.fh)
            return attr

        self.tell(ask)


PATHS = (
    "d/f0",
    "d/many",
    "d/many/a rather long name that fills nodes 0300",
    "d/second",
    "link",
    "d/absent",
    "@v1/d/f0",
    "@v1/d/second",
    "@v2/first",
    "@tag",
    "@latest",
    "@v2~1",
    "d/@v1",
    "@v1/d/@tag",
    "@/versions/v1",
    "@/tags/tag",
    "@v2/d/f0@@",
    "@v2/d/f0@@/v1",
    "@v2/d/f0@@/v9",
    "d/f0@@",
    "@v1..@v2",
    "@v1..@v2/modified/d/f0",
    "@v1..@v2/added/d/g",
    "@v1..@v2/removed/d",
    "@v1../modified/d/f0",
    "@v1../added/d",
)


def look(script: Script) -> None:
    kernel = script.kernel
    for path in PATHS:
        ino = script.walk(path)
        script.tell(partial(kernel.getattr, ino))
        script.tell(partial(kernel.readlink, ino))
        script.ask("listxattr", ino, kernel.context)
        for name in (b"user.a", b"user.vfs.hash", b"user.vfs.path"):
            script.ask("getxattr", ino, name, kernel.context)
        script.tell(partial(kernel.read, ino))
        for room in (3, 1000):
            script.tell(partial(kernel.names, ino, room))


def change(script: Script) -> None:
    context = script.kernel.context
    root = ROOT
    directory, many, empty = script.walk("d"), script.walk("d/many"), script.walk("d/empty")
    f0, second, first = script.walk("d/f0"), script.walk("d/second"), script.walk("first")
    script.create(directory, b"new", os.O_RDWR)
    script.create(directory, b"f1", os.O_RDWR | os.O_EXCL)
    script.create(directory, b"f1", os.O_RDWR)
    script.create(directory, b"second", os.O_RDWR | os.O_TRUNC)
    script.create(directory, b"many", os.O_RDWR)
    script.tell(lambda: script.kernel.setattr(f0, size=1000))
    script.tell(lambda: script.kernel.setattr(f0, mode=0o600))
    script.tell(lambda: script.kernel.setattr(second, mode=0o600))
    script.tell(lambda: script.kernel.setattr(first, uid=5))
    script.tell(lambda: script.kernel.read(f0))
    script.tell(lambda: script.kernel.read(first))
    script.ask("setxattr", many, b"user.b", b"2", context)
    script.ask("removexattr", first, b"user.a", context)
    script.ask("removexattr", first, b"user.a", context)
    script.entry("mkdir", many, b"sub", 0o755, context)
    script.entry("mknod", many, b"fifo", 0o10644, 0, context)
    script.entry("symlink", empty, b"s", b"target", context)
    script.entry("link", f0, many, b"hard", context)
    script.entry("link", second, empty, b"third", context)
    script.ask("unlink", root, b"first", context)
    script.ask("unlink", directory, b"absent", context)
    script.ask("rmdir", directory, b"many", context)
    script.ask("rmdir", many, b"sub", context)
    script.ask("rename", directory, b"f2", many, b"moved", 0, context)
    script.ask("rename", directory, b"f3", directory, b"f4", 0, context)
    script.ask("rename", directory, b"f5", directory, b"f6", 2, context)
    script.ask("rename", directory, b"f5", directory, b"f7", 1, context)
    script.ask("rename", directory, b"many", root, b"d2", 0, context)
    script.ask("rename", root, b"d2", directory, b"empty", 0, context)
    script.ask("rename", root, b"@v1", directory, b"x", 0, context)


@pytest.mark.parametrize("read_only", [False, True])
def test_every_answer_and_every_count_is_that_of_a_local_store(
    repositories: Repositories, tmp_path: Path, read_only: bool
) -> None:
    repo = repositories.make()
    overlay = repo.open_overlay()
    fill(repo, overlay)
    overlay.close()
    repo.close()
    shutil.copytree(repo.path, tmp_path / "copy")
    told: list[list[Any]] = []
    for path, is_remote in ((repo.path, False), (tmp_path / "copy", True)):
        again = repositories.open(path)
        with (
            serve(again, read_only=read_only, cache_bytes_max=0)
            if is_remote
            else serve_locally(again, read_only=read_only) as served
        ):
            script = Script(served)
            look(script)
            if not read_only:
                change(script)
                look(script)
            script.kernel.forget_all()
            script.tell(lambda: 0)
            told.append(script.told)
            if is_remote:
                assert len(served.backend.reads) > 100
    local, remote = told
    for number, (expected, found) in enumerate(zip(local, remote, strict=True)):
        assert found == expected, number
    assert len(local) > 200
    assert errno.EIO not in [answer[0] for answer in remote]
