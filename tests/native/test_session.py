"""The native session layer alone: a socket takes the kernel's place. All of it once more under the sanitizers."""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hatch_build import FLAGS, compile_session

from support.native_layer import (
    CACHE_DIR,
    DIRECTORY_INO,
    FILE_INO,
    FSYNC,
    GIVEN,
    HEADER,
    IOCTL,
    KEEP_CACHE,
    LOOKUP,
    NO_FLUSH,
    OPCODES,
    OPEN,
    OPEN_ANSWER,
    OPENDIR,
    READ_,
    READDIR,
    READDIRPLUS,
    RELEASE,
    RELEASEDIR,
    SOURCE,
    VIRTUAL_INO,
    Kernel,
    open_body,
    read_body,
)
from vfs.fuse.inodes import WORKING_START
from vfs.native.session import (
    DIRECTORY,
    FILE,
    HANDLE,
    RING_RECORDS,
    Modes,
)


def _release(handle: int) -> bytes:
    return struct.pack("<QIIQ", handle, 0, 0, 0)


def test_files_and_directories_of_versions_are_opened_and_closed(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)
    assert kernel.send(OPEN, FILE_INO, open_body()) is None
    assert kernel.answer() == (0, OPEN_ANSWER.pack(FILE_INO | HANDLE, KEEP_CACHE | NO_FLUSH, 0))
    assert kernel.send(RELEASE, FILE_INO, _release(FILE_INO | HANDLE)) is None
    assert kernel.answer() == (0, b"")
    assert kernel.send(OPENDIR, DIRECTORY_INO, open_body()) is None
    assert kernel.answer() == (0, OPEN_ANSWER.pack(DIRECTORY_INO | HANDLE, KEEP_CACHE | CACHE_DIR, 0))
    assert kernel.send(RELEASEDIR, DIRECTORY_INO, _release(DIRECTORY_INO | HANDLE)) is None
    assert kernel.answer() == (0, b"")
    assert kernel.session.counts() == (4, 0)


@pytest.mark.parametrize(
    ("opcode", "ino", "body"),
    [
        (OPEN, FILE_INO, open_body(os.O_WRONLY)),
        (OPEN, FILE_INO, open_body(os.O_RDWR)),
        (OPEN, FILE_INO, open_body(os.O_TRUNC)),
        (OPEN, WORKING_START, open_body()),
        (OPEN, FILE_INO, b""),
        (OPENDIR, 1, open_body()),
        (OPENDIR, VIRTUAL_INO, open_body()),
        (OPENDIR, WORKING_START, open_body()),
        (RELEASE, FILE_INO, _release(3)),
        (RELEASE, FILE_INO, b""),
        (LOOKUP, DIRECTORY_INO, b"name\0"),
        (READ_, FILE_INO, read_body(3)),
        (READ_, FILE_INO, read_body(FILE_INO | HANDLE)),
        (READ_, FILE_INO, b""),
    ],
)
def test_what_python_has_to_answer_reaches_the_binding_as_it_is(
    kernel: Kernel, opcode: int, ino: int, body: bytes
) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)
    kernel.session.record_opens(True)
    passed = kernel.send(opcode, ino, body)
    assert passed is not None
    assert passed[HEADER.size :] == body
    assert not kernel.has_answer()
    assert kernel.session.take_records() == []


def test_without_opens_a_request_gets_the_inode_as_its_handle(kernel: Kernel) -> None:
    kernel.attach(Modes.NO_OPEN | Modes.NO_OPENDIR)
    for opcode, ino in ((OPEN, FILE_INO), (OPENDIR, DIRECTORY_INO), (OPENDIR, VIRTUAL_INO), (OPENDIR, 1)):
        assert kernel.send(opcode, ino, open_body()) is None
        assert kernel.answer() == (errno.ENOSYS, b"")
    for opcode, ino in ((READ_, FILE_INO), (READDIR, 1), (READDIRPLUS, DIRECTORY_INO)):
        passed = kernel.send(opcode, ino, read_body(0))
        assert passed is not None
        assert passed[HEADER.size :] == read_body(ino | HANDLE)
    for opcode in (FSYNC,):
        assert kernel.send(opcode, FILE_INO, struct.pack("<QII", 0, 0, 0)) is None
        assert kernel.answer() == (0, b"")


@pytest.mark.parametrize("ino", [1, FILE_INO, DIRECTORY_INO, WORKING_START])
def test_no_file_is_a_terminal(kernel: Kernel, ino: int) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)
    assert kernel.send(IOCTL, ino, bytes(32)) is None
    assert kernel.answer() == (errno.ENOSYS, b"")


def test_opens_are_recorded_in_their_order_and_none_is_lost_when_the_ring_is_full(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)
    assert kernel.send(OPEN, FILE_INO, open_body(), thread=1) is None
    assert kernel.session.take_records() == []
    kernel.session.record_opens(True)
    for thread in (2, 3, 4, 5):
        kernel.session.know_thread(thread, run=thread)
    assert kernel.send(OPENDIR, DIRECTORY_INO, open_body(), thread=2) is None
    kernel.open_many([(FILE_INO + number, 3) for number in range(RING_RECORDS - 1)])
    assert kernel.send(OPEN, FILE_INO, open_body(), thread=4) is not None
    taken = kernel.session.take_records()
    assert [(r.ino, r.thread, r.kind) for r in taken] == [
        (DIRECTORY_INO, 2, DIRECTORY),
        *((FILE_INO + number, 3, FILE) for number in range(RING_RECORDS - 1)),
    ]
    assert [r.time_ns for r in taken] == sorted(r.time_ns for r in taken)
    assert kernel.send(OPEN, FILE_INO, open_body(), thread=5) is None
    assert [r.thread for r in kernel.session.take_records()] == [5]


def test_opens_of_unknown_threads_reach_python(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)
    kernel.session.record_opens(True)
    assert kernel.send(OPEN, FILE_INO, open_body(), thread=1) is not None
    kernel.session.know_thread(1, run=1)
    kernel.session.know_thread(2, run=None)
    assert kernel.send(OPEN, FILE_INO, open_body(), thread=1) is None
    assert kernel.send(OPEN, FILE_INO, open_body(), thread=2) is None
    # Outside of the daemon's process-id namespace: they cannot be told apart.
    assert kernel.send(OPEN, FILE_INO, open_body(), thread=0) is not None
    # It takes the place of thread 1 in the table.
    kernel.session.know_thread(1 + 4096, run=1)
    assert kernel.send(OPENDIR, DIRECTORY_INO, open_body(), thread=1) is not None
    kernel.session.forget_thread(1)
    assert kernel.send(OPENDIR, DIRECTORY_INO, open_body(), thread=1 + 4096) is None
    kernel.session.forget_thread(1 + 4096)
    assert kernel.send(OPENDIR, DIRECTORY_INO, open_body(), thread=1 + 4096) is not None
    assert [(r.thread, r.kind) for r in kernel.session.take_records()] == [(1, FILE), (1 + 4096, DIRECTORY)]
    kernel.session.know_thread(1, run=1)
    kernel.session.record_opens(True)
    assert kernel.send(OPEN, FILE_INO, open_body(), thread=1) is not None


def test_a_run_has_the_first_open_of_each_inode_whichever_thread_makes_it(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN | Modes.OPENDIR)

    def opened(*threads: int) -> list[tuple[int, int]]:
        for thread in threads:
            for opcode, ino in ((OPEN, FILE_INO), (OPENDIR, DIRECTORY_INO), (OPEN, FILE_INO)):
                assert kernel.send(opcode, ino, open_body(), thread=thread) is None
        return [(r.thread, r.kind) for r in kernel.session.take_records()]

    def begin(**runs: int | None) -> None:
        kernel.session.record_opens(True)
        for thread, run in runs.items():
            kernel.session.know_thread(int(thread[1:]), run)

    begin(t1=1, t2=1, t3=None)
    assert opened(3, 1, 2, 3) == [(1, FILE), (1, DIRECTORY)]
    # A thread ends, and another process of another run gets its number.
    kernel.session.forget_thread(1)
    kernel.session.know_thread(1, run=2)
    assert opened(2, 1, 2, 1) == [(1, FILE), (1, DIRECTORY)]
    # A run begins within the first one, whose threads are asked for anew.
    begin(t1=3, t2=1)
    assert opened(2, 1) == [(1, FILE), (1, DIRECTORY)]
    # All runs have ended, and one begins.
    kernel.session.record_opens(False)
    assert opened(1) == []
    begin(t1=4)
    assert opened(1) == [(1, FILE), (1, DIRECTORY)]


def test_no_first_open_of_more_inodes_than_are_remembered_is_lost(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN)
    kernel.session.record_opens(True)
    source = random.Random(2)
    runs = {thread: 1 + thread % 3 for thread in range(1, 10)}
    for thread, run in runs.items():
        kernel.session.know_thread(thread, run)
    opens = [(FILE_INO + number, thread) for number in range(23_000) for thread in (1, 2, 3)]
    opens += [(ino, source.choice((thread, thread + 3, thread + 6))) for ino, thread in source.sample(opens, 10_000)]
    records: list[tuple[int, int]] = []
    for start in range(0, len(opens), RING_RECORDS):
        kernel.open_many(opens[start : start + RING_RECORDS])
        records += [(r.ino, runs[r.thread]) for r in kernel.session.take_records()]
    assert set(records) == {(ino, runs[thread]) for ino, thread in opens}
    assert len(records) < len(opens)


def test_any_bytes_are_answered_or_passed_on(kernel: Kernel) -> None:
    source = random.Random(1)
    for modes in (Modes(0), Modes.OPEN | Modes.OPENDIR, Modes.NO_OPEN | Modes.NO_OPENDIR):
        kernel.attach(modes)
        kernel.session.record_opens(True)
        kernel.session.know_thread(11, run=1)
        for count in range(1, 3001):
            ino = source.choice((1, FILE_INO, DIRECTORY_INO, VIRTUAL_INO, WORKING_START, source.getrandbits(64)))
            opcode = source.choice((*OPCODES, source.getrandbits(32)))
            body = source.randbytes(source.choice((0, 1, 7, 8, 15, 16, 24, 39, 40, 41, 5000)))
            passed = kernel.send(opcode, ino, body)
            assert (passed is None) == kernel.has_answer()
            assert sum(kernel.session.counts()) == count


def test_without_a_request_the_event_loop_goes_on(kernel: Kernel) -> None:
    # As the kernel gives out a connection: reading it waits for a request.
    kernel.other.setblocking(True)
    kernel.attach(Modes.OPEN)
    assert kernel.receive() == -errno.EINTR
    assert kernel.send(OPEN, FILE_INO, open_body()) is None
    assert kernel.receive() == -errno.EINTR


def test_requests_that_need_no_python_are_answered_before_others(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN)
    source = random.Random(2)
    # One as large as the largest write, and more than are queued.
    passed = [source.randbytes(size) for size in (1 << 20, *[source.randrange(5000) for _ in range(99)])]
    for at, body in enumerate(passed):
        kernel.post(LOOKUP, 1, body)
        if at in {0, 5, 20}:
            kernel.post(OPEN, FILE_INO, open_body())
    taken = [kernel.take()]
    assert [kernel.next_answer()[1] for _ in range(3)] == [0, 0, 0]
    assert kernel.session.has_requests()
    kernel.post(OPEN, FILE_INO, open_body())
    while kernel.session.counts()[1] < len(passed):
        taken.append(kernel.take())
    assert [request[HEADER.size :] for request in taken if request is not None] == passed
    assert kernel.next_answer()[1] == 0
    assert not kernel.session.has_requests()
    assert kernel.receive() == -errno.EINTR


def test_no_request_of_many_is_lost(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN)
    source = random.Random(4)
    for _ in range(20):
        kinds = [source.random() < source.choice((0.1, 0.9)) for _ in range(150)]
        before = kernel.session.counts()
        for is_open in kinds:
            kernel.post(*((OPEN, FILE_INO, open_body()) if is_open else (LOOKUP, 1, b"name\0")))
        while sum(kernel.session.counts()) < sum(before) + len(kinds):
            kernel.take()
        assert kernel.session.counts()[0] == before[0] + sum(kinds)
        while kernel.has_answer():
            pass


def test_requests_that_wait_at_the_end_are_dropped(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN)
    for _ in range(2):
        for body in (b"one", b"two"):
            kernel.post(LOOKUP, 1, body)
        assert kernel.take() is not None
        assert kernel.session.has_requests()
        kernel.session.detach()
        assert not kernel.session.has_requests()
        kernel.attach(Modes.OPEN)
        assert kernel.receive() == -errno.EINTR


def test_the_event_loop_goes_on_however_many_requests_there_are(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN)
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            kernel.offer(FILE_INO)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        while kernel.session.counts()[0] < 1000:
            assert kernel.receive() == -errno.EINTR
    finally:
        stopped.set()
        asking.join()


def test_requests_reach_libfuse_again_after_the_end(kernel: Kernel) -> None:
    kernel.attach(Modes.OPEN)
    kernel.session.detach()
    # No libfuse is loaded that could read from the socket, or one that has no session.
    if "libfuse3" not in Path("/proc/self/maps").read_text():
        assert kernel.receive() == -errno.ENOSYS


def test_the_sanitizers_find_nothing(tmp_path: Path) -> None:
    path = tmp_path / "session.so"
    # With -O1 it is compiled in half the time, and less of what is undefined is optimized away.
    flags = (*FLAGS, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    assert compile_session(SOURCE, path, flags) == ""
    sanitizer = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = {**os.environ, GIVEN: str(path), "LD_PRELOAD": sanitizer, "ASAN_OPTIONS": "detect_leaks=0"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "not sanitizers",
        str(Path(__file__).parent),
    ]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
