"""One working layer used by several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from support.working import Bench
from vfs.model.objects import Version


def run_together(*jobs: Callable[[], None]) -> None:
    """Runs jobs in threads and raises what one of them raised."""
    failures: list[BaseException] = []

    def attempt(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - raised again below.
            failures.append(error)

    threads = [threading.Thread(target=attempt, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_writers_and_readers_continue_during_commits(bench: Bench) -> None:
    """Each writer's file grows in order, so every picture of it is a prefix of what it writes."""
    rounds = 60
    whole = [b"".join(b"%03d:%d;" % (number, writer) * 40 for number in range(rounds)) for writer in range(2)]
    for writer in range(2):
        bench.put(b"f%d" % writer)
    inos = [bench.ino(b"f%d" % writer) for writer in range(2)]
    is_done = threading.Event()

    def write(writer: int) -> None:
        piece = len(whole[writer]) // rounds
        for number in range(rounds):
            part = whole[writer][number * piece : (number + 1) * piece]
            bench.overlay.write(inos[writer], number * piece, part)
            if number % 10 == 0:
                bench.overlay.sync()

    def read() -> None:
        while not is_done.is_set():
            for writer, ino in enumerate(inos):
                found = bytes(bench.overlay.read(ino, 0, len(whole[writer])))
                assert whole[writer].startswith(found)
            assert list(bench.overlay.names(1)) == [b"f0", b"f1"]

    versions: list[Version] = []

    def commit() -> None:
        try:
            versions.extend(bench.commit() for _ in range(8))
        finally:
            is_done.set()

    run_together(lambda: write(0), lambda: write(1), read, commit)
    for version in versions:
        picture = bench.picture_of(version)
        assert all(whole[writer].startswith(picture[b"f%d" % writer].content) for writer in range(2))
    assert [bench.read(b"f0"), bench.read(b"f1")] == whole
    bench.crash()
    assert [bench.read(b"f0"), bench.read(b"f1")] == whole
