"""Branches through the handlers, without a kernel: numbers, lookup counts, which layers are open."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from support.kernel import ROOT, Kernel, take
from support.repositories import Repositories
from vfs.control.client import DaemonClient
from vfs.control.messages import Empty
from vfs.control.services import CHANGES
from vfs.fuse.control_server import SERVICES_MAX, ControlServer
from vfs.fuse.inodes import BRANCHES_DIRECTORY
from vfs.fuse.layers import Layer, Layers
from vfs.fuse.mount import build_operations
from vfs.fuse.mounted_layer import MountedLayer
from vfs.fuse.session.mount_options import MountOptions
from vfs.fuse.working_tree import WorkingTree
from vfs.overlay.layer_changes import Change
from vfs.overlay.overlay import Overlay
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.paths import control_socket
from vfs.repo.repository import Repository
from vfs.store.refs.operation import Operation, RefChange


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


def test_the_inodes_of_all_branches_are_picked_before_one_again(served: Served) -> None:
    numbers = {number for branch in ("main", "a", "b") for number in walk(served, branch).values()}
    assert served.layers.known_inodes == len(numbers)
    picked = [number for _ in range(len(numbers) // 9) for number in served.layers.oldest(9)]
    assert sorted(picked) == sorted(numbers)


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


# Layers that are closed while requests come.

LIMIT_S = 300.0
_TURNS = 24
"""Turns of the event loop that closing a layer takes, and some more."""


def serve(served: Served, work: Callable[[], Awaitable[None]]) -> None:
    """Runs what asks the handlers in one event loop, with the sockets of a mount; layers are closed as in a mount."""

    def make_server(layer: Layer, working: WorkingTree) -> ControlServer:
        host = MountedLayer(
            served.repo, working, Path("/nowhere"), "", served.kernel.operations.writers, served.layers.switch
        )
        path = control_socket(served.repo.path, layer.branch)
        return ControlServer(path, host, lambda: served.layers.close_unneeded(layer))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await served.layers.serve(nursery, make_server)
            await work()
            nursery.cancel_scope.cancel()

    trio.run(main)


async def forget_all(kernel: Kernel) -> None:
    held, kernel.lookups = kernel.lookups, type(kernel.lookups)()
    await kernel.operations.forget([(ino, count) for ino, count in held.items() if ino != ROOT])


async def create(kernel: Kernel, branch: str, name: bytes) -> int:
    """Makes a file in a branch's root and returns its open handle."""
    operations, context = kernel.operations, kernel.context
    top = kernel.counted(await operations.lookup(BRANCHES_DIRECTORY, branch.encode(), context)).st_ino
    info, attr = await operations.create(top, name, 0o644, os.O_RDWR, context)
    kernel.counted(attr)
    fh: int = info.fh
    return fh


async def closing_has_ended(layer: Layer) -> None:
    for _ in range(_TURNS):
        async with layer.changing:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("turns", range(_TURNS))
def test_a_file_opened_while_its_layer_is_closed_stays_open(served: Served, turns: int) -> None:
    kernel = served.kernel
    operations = kernel.operations

    async def work() -> None:
        await operations.release(await create(kernel, "a", b"before"))
        layer = served.layers.layer("a")
        await forget_all(kernel)
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        fh = await create(kernel, "a", b"after")
        await closing_has_ended(layer)
        assert await operations.write(fh, 0, b"bytes") == 5
        await operations.fsync(fh, False)
        assert bytes(await operations.read(fh, 0, 9)) == b"bytes"
        await operations.release(fh)
        await forget_all(kernel)
        await closing_has_ended(layer)
        assert layer.working is None, "a layer that nothing refers to is closed"

    serve(served, work)
    with served.repo.open_overlay("a") as overlay:
        found = overlay.find(b"after")
        assert found is not None
        assert bytes(overlay.read(found.ino, 0, 9)) == b"bytes"
        assert overlay.find(b"before") is not None
        assert overlay.recovery.is_clean


def test_many_commands_that_wait_leave_threads_to_other_requests(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More status requests than the event loop has threads, while another thread holds the layer's lock."""
    kernel, commands = served.kernel, 60
    arrived, results = threading.Semaphore(0), []
    changes = served.main.changes

    def watched() -> Iterator[Change]:
        arrived.release()
        return changes()

    monkeypatch.setattr(served.main, "changes", watched)

    def status() -> None:
        client = DaemonClient.connect(served.repo.path, "main")
        assert client is not None
        with client:
            results.append(client.call(CHANGES, Empty()))

    def wait_until_all_run() -> None:
        for _ in range(SERVICES_MAX):
            assert arrived.acquire(timeout=LIMIT_S)

    async def work() -> None:
        clients = trio.CapacityLimiter(commands + 2)
        is_locked, may_go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with served.main.lock:
                is_locked.set()
                assert may_go_on.wait(LIMIT_S)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.to_thread.run_sync, hold, limiter=clients))
            await trio.to_thread.run_sync(is_locked.wait)
            for _ in range(commands):
                nursery.start_soon(partial(trio.to_thread.run_sync, status, limiter=clients))
            await trio.to_thread.run_sync(wait_until_all_run, limiter=clients)
            with trio.fail_after(LIMIT_S):
                fh = await create(kernel, "a", b"new")
                await kernel.operations.fsync(fh, False)
                await kernel.operations.release(fh)
            assert not results
            may_go_on.set()
        assert len(results) == commands

    serve(served, work)


@pytest.mark.parametrize("seed", range(8))
def test_files_of_layers_that_come_and_go_keep_their_bytes(served: Served, seed: int) -> None:
    kernel, chosen = served.kernel, random.Random(seed)
    operations = kernel.operations
    written: dict[tuple[str, bytes], bytes] = {}

    async def program(number: int, branch: str) -> None:
        chosen = random.Random(f"{seed} {number}")
        for count in range(10):
            name, text = b"%d-%d" % (number, count), chosen.randbytes(chosen.randrange(1, 9000))
            fh = await create(kernel, branch, name)
            for start in range(0, len(text), 3000):
                for _ in range(chosen.randrange(4)):
                    await trio.lowlevel.checkpoint()
                await operations.write(fh, start, text[start : start + 3000])
            if chosen.randrange(2):
                await operations.fsync(fh, False)
            assert bytes(await operations.read(fh, 0, 9000)) == text
            await operations.release(fh)
            written[branch, name] = text
            # As the kernel does when memory is short: it keeps inodes that are open elsewhere.
            if not operations.open_handles:
                await forget_all(kernel)

    async def stray_files(ended: trio.Event) -> None:
        # Takes the lowest numbers of descriptors again as soon as they are free, and says if bytes went there.
        path = served.repo.path / "stray"
        while not ended.is_set():
            strays = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(chosen.randrange(1, 5))]
            await trio.to_thread.run_sync(os.sched_yield)
            for stray in strays:
                os.close(stray)
        assert path.stat().st_size == 0

    async def work() -> None:
        ended = trio.Event()
        async with trio.open_nursery() as outer:
            outer.start_soon(stray_files, ended)
            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(program, number, "ab"[number % 2])
            ended.set()

    serve(served, work)
    served.layers.close()
    for branch in "ab":
        with served.repo.open_overlay(branch) as overlay:
            for name in (name for known, name in written if known == branch):
                found = overlay.find(name)
                assert found is not None
                assert bytes(overlay.read(found.ino, 0, 9000)) == written[branch, name]


def test_a_layer_whose_socket_cannot_be_made_is_not_open(served: Served) -> None:
    kernel = served.kernel

    async def work() -> None:
        (served.repo.path / "run").rename(served.repo.path / "away")
        (served.repo.path / "run").write_text("in the way")
        with pytest.raises(Exception, match=r"\w"):
            await create(kernel, "a", b"f")
        served.repo.open_overlay("a").close()
        (served.repo.path / "run").unlink()
        (served.repo.path / "away").rename(served.repo.path / "run")
        await kernel.operations.release(await create(kernel, "a", b"f"))

    serve(served, work)


def test_a_mount_that_ends_closes_the_layer_that_is_just_being_closed(served: Served) -> None:
    kernel = served.kernel
    for turns in range(_TURNS):

        async def work(turns: int) -> None:
            await kernel.operations.release(await create(kernel, "b", b"%d" % turns))
            await forget_all(kernel)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()

        serve(served, partial(work, turns))
        layer = served.layers.layer("b")
        if layer.working is not None:
            layer.detach()[0].overlay.close()
        with served.repo.open_overlay("b") as overlay:
            assert overlay.recovery.is_clean
