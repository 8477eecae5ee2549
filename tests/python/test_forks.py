"""Versions in other processes, however they are started."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import pytest

import vfs
from support.small_repositories import FIRST


def lengths(version: vfs.Version, paths: list[str]) -> list[int]:
    return [len(version.read_bytes(path)) for path in paths]


def batch(files: vfs.Files[bytes], numbers: list[int]) -> list[int]:
    return [len(data) for data in files.__getitems__(numbers)]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes_read_beside_their_parent(small: vfs.Repository, method: str) -> None:
    version = small["v1"]
    paths = list(FIRST)
    expected = [len(data) for data in FIRST.values()]
    files: vfs.Files[bytes] = version.dataset()
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(lengths, [(version, paths)] * 4, chunksize=1) == [expected] * 4
        assert pool.starmap(batch, [(files, [0, 1, 2])] * 2) == [expected] * 2
        assert lengths(version, paths) == expected
    assert lengths(version, paths) == expected


def test_an_open_file_goes_on_in_parent_and_child(small: vfs.Repository) -> None:
    data = FIRST["dir/deep/c.bin"]
    with small["v1"].open("dir/deep/c.bin") as file:
        assert file.read(100) == data[:100]
        pid = os.fork()
        if pid == 0:
            os._exit(0 if file.read() == data[100:] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert file.read() == data[100:]


def test_threads_that_read_do_not_hold_up_a_child(small: vfs.Repository) -> None:
    version = small["v1"]
    stop = threading.Event()
    wrong: list[object] = []

    def read() -> None:
        while not stop.is_set():
            if version.read_bytes("a.txt") != FIRST["a.txt"]:
                wrong.append(version)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if version.read_bytes("dir/b.csv") == FIRST["dir/b.csv"] else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_child_commits_and_the_parent_sees_it(small: vfs.Repository, tmp_path: Path) -> None:
    assert small.head is not None
    pid = os.fork()
    if pid == 0:
        with small.working() as layer:
            layer.write("of-the-child", b"1")
            layer.commit("child")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert small["latest"].read_bytes("of-the-child") == b"1"
