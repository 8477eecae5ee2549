"""Handlers over a backend that is not local: other requests are answered meanwhile, and all answers are the same."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from pyfuse3 import FUSEError

from support.kernel import ROOT, Kernel, Room, take
from support.remote import RemoteBackend, make_remote
from support.repositories import Repositories
from vfs.fuse.mount import build_operations
from vfs.fuse.operations import VfsOperations
from vfs.fuse.session.mountpoint import MountOptions
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.repo.tagging import create_tag
from vfs.store.remote_blocks import RemoteBlocks

READERS = 8
LIMIT_S = 60.0


def content(number: int, size: int = 200_000) -> bytes:
    return random.Random(number).randbytes(size)


def fill(repo: Repository, overlay: Overlay) -> None:
    """Two versions with large and small files, hard links, symbolic links, attributes, and a directory of many."""
    directory = overlay.mkdir(1, b"d", 0o755, 0, 0).ino
    many = overlay.mkdir(directory, b"many", 0o755, 0, 0).ino
    overlay.mkdir(directory, b"empty", 0o755, 0, 0)
    for number in range(READERS):
        put(overlay, directory, b"f%d" % number, content(number))
    for number in range(600):
        put(overlay, many, b"a rather long name that fills nodes %04d" % number, b"%d" % number * 20)
    first = put(overlay, 1, b"first", b"tiny")
    overlay.link(first, directory, b"second")
    overlay.symlink(1, b"link", b"d/f0", 0, 0)
    overlay.setxattr(first, b"user.a", b"1")
    commit(repo, overlay, "one", "tester")
    overlay.write(overlay.lookup(directory, b"f0").ino, 5, b"changed")
    put(overlay, directory, b"g", content(99))
    commit(repo, overlay, "two", "tester")
    create_tag(repo, "tag", repo.resolve("v1"), author="tester")


def put(overlay: Overlay, parent: int, name: bytes, data: bytes) -> int:
    ino = overlay.mknod(parent, name, 0o644, 0, 0, 0).ino
    overlay.write(ino, 0, data)
    return ino


@dataclass
class Served:
    """The handlers of a mount, and the backend that they read from."""

    repo: Repository
    overlay: Overlay | None
    kernel: Kernel
    backend: RemoteBackend
    remote: RemoteBlocks

    @property
    def operations(self) -> VfsOperations:
        return self.kernel.operations


@contextmanager
def serve(repo: Repository, *, read_only: bool = False, cache_bytes_max: int = 1 << 24) -> Iterator[Served]:
    backend, remote = make_remote(repo, cache_bytes_max=cache_bytes_max)
    remote.serve_from(None)
    backend.event_loop, event_loop = None, backend.event_loop
    overlay = None if read_only else repo.open_overlay()
    backend.event_loop = event_loop
    remote.serve_from(event_loop)
    options = MountOptions(read_only=read_only)
    operations, layers = build_operations(repo, overlay, "main", options, reply=take)
    try:
        yield Served(repo, overlay, Kernel(operations), backend, remote)
    finally:
        backend.gate.set()
        remote.serve_from(None)
        backend.event_loop = None
        if layers is not None:
            layers.close()
        remote.settle()


@contextmanager
def serve_locally(repo: Repository, *, read_only: bool) -> Iterator[Served]:
    overlay = None if read_only else repo.open_overlay()
    operations, layers = build_operations(repo, overlay, "main", MountOptions(read_only=read_only), reply=take)
    backend = RemoteBackend(repo.backend)
    try:
        yield Served(repo, overlay, Kernel(operations), backend, RemoteBlocks(backend))
    finally:
        if layers is not None:
            layers.close()


@pytest.fixture
def filled(repositories: Repositories) -> Repository:
    repo = repositories.make()
    overlay = repo.open_overlay()
    fill(repo, overlay)
    overlay.close()
    return repositories.reopen(repo)


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        with trio.fail_after(LIMIT_S):
            return await main()

    return trio.run(limited)


async def read_all(served: Served, ino: int, results: dict[int, bytes | int]) -> None:
    operations = served.operations
    fh = (await operations.open(ino, os.O_RDONLY, served.kernel.context)).fh
    try:
        results[ino] = bytes(await operations.read(fh, 0, 1 << 20))
    except FUSEError as error:
        results[ino] = error.errno
    finally:
        await operations.release(fh)


def warm(served: Served, path: str) -> dict[bytes, int]:
    """Looks everything in a directory up and lists it; returns the numbers of the large files."""
    directory = served.kernel.walk(path).st_ino
    names = served.kernel.names(directory)
    return {name: served.kernel.lookup(directory, name).st_ino for name in names if name[:1] == b"f"}


async def ls(served: Served, directory: int) -> int:
    operations, context = served.operations, served.kernel.context
    fh = await operations.opendir(directory, context)
    token = Room(1000)
    await operations.readdir(fh, 0, cast("Any", token))
    for _, ino, _ in token.taken:
        served.kernel.lookups[ino] += 1
        await operations.getattr(ino, context)
    await operations.releasedir(fh)
    return len(token.taken)


@pytest.mark.parametrize("path", ["d", "@v2/d"])
def test_a_cached_directory_is_listed_beside_cold_readers(filled: Repository, path: str) -> None:
    with serve(filled) as served:
        files = warm(served, path)
        directory = served.kernel.walk(path).st_ino
        served.remote.settle()
        results: dict[int, bytes | int] = {}

        async def main() -> int:
            served.backend.gate.clear()
            served.backend.arrived = type(served.backend.arrived)(0)
            async with trio.open_nursery() as nursery:
                for ino in files.values():
                    nursery.start_soon(read_all, served, ino, results)
                await trio.to_thread.run_sync(served.backend.wait_for_reads, READERS)
                found = await ls(served, directory)
                await served.operations.getattr(directory, served.kernel.context)
                assert not results
                served.backend.gate.set()
            return found

        assert run(main) >= READERS + 3
        for name, ino in files.items():
            number = int(name[1:])
            expected = content(number)
            assert results[ino] == (expected if number else expected[:5] + b"changed" + expected[12:])


def test_a_failed_fetch_is_eio_for_its_request_alone(filled: Repository) -> None:
    with serve(filled) as served:
        files = warm(served, "d")
        served.remote.settle()
        broken: set[tuple[str, int]] = set()

        def failure(key: str, offset: int) -> BaseException | None:
            return TimeoutError("the service does not answer") if (key, offset) in broken else None

        served.backend.failure = failure
        before = len(served.backend.reads)
        assert served.kernel.read(files[b"f3"]) == content(3)
        broken.update((key, offset) for key, offset, _ in served.backend.reads[before:])
        served.repo.store.chunk_cache.clear()
        results: dict[int, bytes | int] = {}

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for ino in files.values():
                    nursery.start_soon(read_all, served, ino, results)

        run(main)
        assert results.pop(files[b"f3"]) == errno.EIO
        assert all(isinstance(result, bytes) for result in results.values())
        assert len(results) == READERS - 1
        broken.clear()
        assert served.kernel.read(files[b"f3"]) == content(3)


@pytest.mark.parametrize("error", [OSError(errno.EHOSTUNREACH, "no"), ConnectionResetError(), ValueError("odd")])
def test_every_kind_of_failure_is_eio(filled: Repository, error: BaseException) -> None:
    with serve(filled) as served:
        files = warm(served, "d")
        served.remote.settle()
        served.backend.failure = lambda _key, _offset: error
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output"):
                served.kernel.read(files[b"f1"])
        served.backend.failure = lambda _key, _offset: None
        assert served.kernel.read(files[b"f1"]) == content(1)


def test_requests_for_one_block_share_one_fetch_and_a_cancelled_one_ends_no_other(filled: Repository) -> None:
    with serve(filled) as served:
        ino = warm(served, "d")[b"f1"]
        served.remote.settle()
        results: dict[int, bytes | int] = {}
        others: list[dict[int, bytes | int]] = [{} for _ in range(READERS)]

        async def main() -> None:
            served.backend.gate.clear()
            served.backend.arrived = type(served.backend.arrived)(0)
            before = len(served.backend.reads)
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()

                async def cancelled() -> None:
                    with scope:
                        await served.operations.read(fh, 0, 1000)

                fh = (await served.operations.open(ino, os.O_RDONLY, served.kernel.context)).fh
                nursery.start_soon(cancelled)
                await trio.to_thread.run_sync(served.backend.wait_for_reads, 1)
                for other in others:
                    nursery.start_soon(read_all, served, ino, other)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
                served.backend.gate.set()
            await served.operations.release(fh)
            # The file has two chunks.
            fetched = served.backend.reads[before:]
            assert len(set(fetched)) == len(fetched) <= 2
            assert scope.cancelled_caught

        run(main)
        assert not results
        assert all(other[ino] == content(1) for other in others)


@pytest.mark.parametrize("name", [b"f0", b"f0@@"])
def test_the_end_of_the_mount_waits_for_no_fetch(filled: Repository, name: bytes) -> None:
    """A fetch of blocks, and one search through the versions."""
    with serve(filled) as served:
        kernel = served.kernel
        parent = kernel.walk("@v2/d").st_ino
        ino = kernel.lookup(parent, name).st_ino
        served.remote.settle()
        for cache in (served.repo.store.node_cache, served.repo.store.tree_cache):
            cache.clear()
        ended: list[int] = []

        async def ask() -> None:
            try:
                if name == b"f0":
                    await read_all(served, ino, {})
                await served.operations.lookup(ino, b"v1", kernel.context)
            except FUSEError as error:
                ended.append(error.errno)

        async def main() -> None:
            served.backend.gate.clear()
            served.backend.arrived = type(served.backend.arrived)(0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await trio.to_thread.run_sync(served.backend.wait_for_reads, 1)
                served.operations.fetching.end()
            # The gate is still closed, and stays so for requests that come now.
            await ask()

        run(main)
        assert ended == ([errno.ENOTDIR] * 2 if name == b"f0" else [errno.EIO] * 2)


@pytest.mark.parametrize("is_ended", [False, True])
def test_a_command_that_reads_with_a_working_layer_locked_keeps_its_requests_alone(
    filled: Repository, *, is_ended: bool
) -> None:
    with serve(filled) as served:
        kernel = served.kernel
        directory, version = kernel.walk("d").st_ino, kernel.walk("@v1/d").st_ino
        files = warm(served, "d")
        fh = kernel.ask(kernel.operations.open, files[b"f1"], os.O_RDWR, kernel.context).fh
        listing = kernel.ask(kernel.operations.opendir, directory, kernel.context)
        overlay = served.overlay
        assert overlay is not None
        is_locked, may_go_on = threading.Event(), threading.Event()
        answers: list[object] = []
        token = Room(1)

        def command() -> None:
            with overlay.lock:
                is_locked.set()
                assert may_go_on.wait(LIMIT_S)

        async def ask(name: str, *args: object) -> None:
            try:
                answers.append(await getattr(kernel.operations, name)(*args))
            except FUSEError as error:
                answers.append(error.errno)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, command)
                await trio.to_thread.run_sync(is_locked.wait)
                nursery.start_soon(ask, "getattr", directory, kernel.context)
                nursery.start_soon(ask, "write", fh, 0, b"x")
                nursery.start_soon(ask, "readdir", listing, 0, token)
                nursery.start_soon(ask, "release", fh)
                nursery.start_soon(ask, "forget", [(files[b"f2"], kernel.lookups.pop(files[b"f2"]))])
                await trio.testing.wait_all_tasks_blocked()
                assert await ls(served, version) == READERS + 3
                assert not answers
                if is_ended:
                    served.operations.fetching.end()
                may_go_on.set()

        run(main)
        assert len(answers) == 5
        assert answers.count(errno.EIO) == (4 if is_ended else 0)
        kernel.lookups.update(ino for _, ino, _ in token.taken)
        kernel.forget_all()
        if not is_ended:
            assert kernel.operations.open_handles == 1
        assert kernel.operations.known_inodes == 0


# Every operation, with every read of the store missed once: nothing is cached but what a request has pinned.


def plain(attr: Any) -> tuple[object, ...]:
    """Attributes but for times of what is new."""
    fields = ("ino", "mode", "nlink", "uid", "gid", "rdev", "size")
    return tuple(getattr(attr, f"st_{field}") for field in fields)


class Script:
    """Asks one mount for many things; `told` has the answers."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.kernel = served.kernel
        self.told: list[object] = []

    def tell(self, ask: Callable[[], object]) -> Any:
        """Notes what is answered, and what the kernel and the mount then know of inodes."""
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
