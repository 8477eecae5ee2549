"""Tables around a fork: both sides go on, and neither disturbs the other."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vfs.store.lmdb_environment import Environment
from vfs.store.lmdb_tables import Tables


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[Tables]:
    opened = Tables(tmp_path / "index", ["t"])
    with opened.write() as batch:
        batch.put("t", b"a", b"1")
    yield opened
    opened.close()


def in_child(work: Callable[[], bool]) -> int:
    """Runs work in a forked child and returns its status: 0 where it returned True."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def put(tables: Tables, key: bytes, value: bytes) -> bool:
    with tables.write() as batch:
        batch.put("t", key, value)
    return True


def test_both_sides_of_a_fork_read_and_write(tables: Tables) -> None:
    assert tables.get("t", b"a") == b"1"
    assert in_child(lambda: tables.get("t", b"a") == b"1" and put(tables, b"b", b"2")) == 0
    assert tables.get("t", b"b") == b"2"
    put(tables, b"c", b"3")
    assert in_child(lambda: [key for key, _ in tables.scan("t")] == [b"a", b"b", b"c"]) == 0


def test_a_child_may_open_the_same_directory_itself(tables: Tables, tmp_path: Path) -> None:
    def work() -> bool:
        mine = Tables(tmp_path / "index", ["t"])
        return mine.get("t", b"a") == b"1"

    assert in_child(work) == 0


def test_a_child_that_closes_leaves_the_readers_of_its_parent(tables: Tables) -> None:
    assert tables.get("t", b"a") == b"1"

    def work() -> bool:
        tables.close()
        return True

    assert in_child(work) == 0
    assert tables.get("t", b"a") == b"1"
    put(tables, b"b", b"2")
    assert tables.get("t", b"b") == b"2"


def test_a_scan_goes_on_over_a_fork(tables: Tables) -> None:
    with tables.write() as batch:
        for number in range(2000):
            batch.put("t", b"%05d" % number, b"x")
    rows = tables.scan("t")
    next(rows)
    assert in_child(lambda: sum(1 for _ in rows) == 2000) == 0
    assert sum(1 for _ in rows) == 2000


def test_threads_read_and_write_while_another_one_forks(tables: Tables) -> None:
    stop = threading.Event()
    failed: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                assert tables.get("t", b"a") == b"1"
                assert dict(tables.scan("t"))[b"a"] == b"1"
        except BaseException as error:  # noqa: BLE001  The thread that waits reports it.
            failed.append(error)

    def write() -> None:
        try:
            while not stop.is_set():
                put(tables, b"w", b"1")
        except BaseException as error:  # noqa: BLE001  The thread that waits reports it.
            failed.append(error)

    threads = [threading.Thread(target=each) for each in (read, read, write)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            assert in_child(lambda: tables.get("t", b"a") == b"1") == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []


def test_tables_in_memory_stay_those_of_the_parent(tmp_path: Path) -> None:
    tables = Tables.in_memory(["t"])
    put(tables, b"a", b"1")
    assert in_child(lambda: True) == 0
    assert tables.get("t", b"a") == b"1"
    tables.close()


def test_a_fork_within_a_write_does_not_end_it(tables: Tables) -> None:
    with tables.write() as batch:
        batch.put("t", b"b", b"2")
        assert in_child(lambda: True) == 0
    assert tables.get("t", b"b") == b"2"


def test_closed_tables_stay_closed_over_a_fork(tmp_path: Path) -> None:
    environment = Environment(tmp_path, ["t"], 1 << 28)
    environment.close()
    assert in_child(lambda: True) == 0
    with pytest.raises(Exception, match="closed"), environment.using():
        environment.begin("t")
