"""Handlers over a backend that is not local: other requests are answered meanwhile, and all answers are the same."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import trio
import trio.testing
from pyfuse3 import FUSEError

from support.kernel import Room
from support.remote_serving import LIMIT_S, READERS, Served, content, fill, put, serve
from support.repositories import Repositories
from vfs.repo.commit import commit
from vfs.repo.repository import Repository


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
    """Looks everything in a directory up and lists it; returns the numbers of the large files, none read."""
    directory = served.kernel.walk(path).st_ino
    names = served.kernel.names(directory)
    files = {name: served.kernel.lookup(directory, name).st_ino for name in names if name[:1] == b"f"}
    # Their lists of chunks share a block, for which readers would wait together.
    for ino in files.values():
        served.kernel.read(ino)
    served.repo.store.chunk_cache.clear()
    return files


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
        served.remote.wait_idle()
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
        served.remote.wait_idle()
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
        served.remote.wait_idle()
        served.backend.failure = lambda _key, _offset: error
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output"):
                served.kernel.read(files[b"f1"])
        served.backend.failure = lambda _key, _offset: None
        assert served.kernel.read(files[b"f1"]) == content(1)


def test_requests_for_one_block_share_one_fetch_and_a_cancelled_one_ends_no_other(filled: Repository) -> None:
    with serve(filled) as served:
        ino = warm(served, "d")[b"f1"]
        served.remote.wait_idle()
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
        served.remote.wait_idle()
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


def test_ranges_and_links_to_versions_wait_for_a_locked_layer_without_the_event_loop(filled: Repository) -> None:
    with serve(filled) as served:
        kernel = served.kernel
        directory, version = kernel.walk("d").st_ino, kernel.walk("@v1/d").st_ino
        link = kernel.lookup(directory, b"@latest").st_ino
        changed = kernel.walk("@v1../modified").st_ino
        overlay = served.overlay
        assert overlay is not None
        is_locked, may_go_on = threading.Event(), threading.Event()
        answers: dict[str, object] = {}
        warm(served, "@v1/d")

        def command() -> None:
            with overlay.lock:
                is_locked.set()
                assert may_go_on.wait(LIMIT_S)

        async def ask(name: str, *args: object) -> None:
            answers[f"{name} {args[0]}"] = await getattr(kernel.operations, name)(*args, kernel.context)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, command)
                await trio.to_thread.run_sync(is_locked.wait)
                for ino in (link, changed):
                    nursery.start_soon(ask, "getattr", ino)
                nursery.start_soon(ask, "readlink", link)
                nursery.start_soon(ask, "lookup", changed, b"d")
                nursery.start_soon(ask, "opendir", changed)
                await trio.testing.wait_all_tasks_blocked()
                assert await ls(served, version) == READERS + 3
                assert not answers
                may_go_on.set()

        run(main)
        assert answers[f"readlink {link}"] == b"../@v2/d"
        assert len(answers) == 5


def test_no_command_gets_a_layer_between_the_steps_of_a_request(
    filled: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`create` is two changes of the layer; a command that waits for the lock gets it after both."""
    with serve(filled) as served:
        kernel, overlay = served.kernel, served.overlay
        assert overlay is not None
        directory = kernel.walk("d").st_ino
        seen: list[str] = []
        has_lock = threading.Event()
        is_waiting = threading.Event()

        def command() -> None:
            is_waiting.set()
            with overlay.lock:
                seen.append("command")
                has_lock.set()

        open_file = overlay.open_file

        def watched(ino: int) -> None:
            thread.start()
            assert is_waiting.wait(LIMIT_S)
            assert not has_lock.wait(0)
            seen.append("opened")
            open_file(ino)

        thread = threading.Thread(target=command)
        monkeypatch.setattr(overlay, "open_file", watched)

        async def main() -> None:
            info, attr = await kernel.operations.create(directory, b"new", 0o644, os.O_RDWR, kernel.context)
            kernel.lookups[attr.st_ino] += 1
            await kernel.operations.release(info.fh)

        run(main)
        thread.join(LIMIT_S)
        assert seen == ["opened", "command"]


def test_a_hundred_cold_readers_get_their_bytes_and_leave_nothing(filled: Repository) -> None:
    with serve(filled, cache_bytes_max=1 << 20) as served:
        files = warm(served, "@v2/d")
        served.remote.wait_idle()
        results: list[dict[int, bytes | int]] = [{} for _ in range(100)]

        async def main() -> None:
            served.backend.gate.clear()
            served.backend.arrived = threading.Semaphore(0)
            async with trio.open_nursery() as nursery:
                for number, result in enumerate(results):
                    nursery.start_soon(read_all, served, files[b"f%d" % (number % READERS)], result)
                await trio.to_thread.run_sync(served.backend.wait_for_reads, READERS)
                served.backend.gate.set()

        run(main)
        for number, result in enumerate(results):
            wanted = content(number % READERS)
            if not number % READERS:
                wanted = wanted[:5] + b"changed" + wanted[12:]
            assert result[files[b"f%d" % (number % READERS)]] == wanted
        served.remote.wait_idle()
        assert not served.remote.pinned_blocks


def test_failures_at_random_reach_only_their_requests_and_the_next_round_is_whole(filled: Repository) -> None:
    with serve(filled, cache_bytes_max=1 << 20) as served:
        files = warm(served, "d")
        served.remote.wait_idle()
        calls = iter(range(1 << 30))
        served.backend.failure = lambda _key, _offset: TimeoutError("slow") if next(calls) % 3 == 0 else None
        outcomes: set[str] = set()

        async def main() -> None:
            results: list[dict[int, bytes | int]] = [{} for _ in range(6)]
            async with trio.open_nursery() as nursery:
                for result in results:
                    for ino in files.values():
                        nursery.start_soon(read_all, served, ino, result)
            for result in results:
                for name, ino in files.items():
                    found, wanted = result[ino], content(int(name[1:]))
                    if name == b"f0":
                        wanted = wanted[:5] + b"changed" + wanted[12:]
                    assert found in (errno.EIO, wanted)
                    outcomes.add("failed" if found == errno.EIO else "read")

        for _ in range(4):
            served.repo.store.chunk_cache.clear()
            run(main)
        assert outcomes == {"failed", "read"}
        served.backend.failure = lambda _key, _offset: None
        for name, ino in files.items():
            if name != b"f0":
                assert served.kernel.read(ino) == content(int(name[1:]))
        served.remote.wait_idle()
        assert not served.remote.pinned_blocks


def test_a_file_read_in_order_is_prefetched_from_afar(repositories: Repositories) -> None:
    """After a start, requests find their blocks in memory; a random read prefetches nothing."""
    data, piece = content(1, 6 << 20), 128 * 1024
    repo = repositories.make()
    with repo.open_overlay() as overlay:
        put(overlay, 1, b"large", data)
        commit(repo, overlay, "one", "tester")
    with serve(repositories.reopen(repo), read_only=True) as served:
        kernel = served.kernel
        fh = kernel.ask(kernel.operations.open, kernel.walk("large").st_ino, os.O_RDONLY, kernel.context).fh

        def read(at: int) -> None:
            assert bytes(kernel.ask(kernel.operations.read, fh, at, piece)) == data[at : at + piece]
            served.remote.wait_idle()

        read(5 << 20)
        assert served.remote.held_blocks == 0
        for at in range(0, 3 << 20, piece):
            read(at)
        assert served.remote.held_blocks > 0
        # What was prefetched is read with the backend out of reach.
        served.backend.failure = lambda _key, _offset: TimeoutError("out of reach")
        for at in range(3 << 20, (3 << 20) + 4 * piece, piece):
            read(at)
        kernel.ask(kernel.operations.release, fh)
