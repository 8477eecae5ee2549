"""Mounts of a repository whose packs are a network away: 50 ms for each request."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.mounts import Mount, mounted
from support.remote import Gate
from vfs.fuse.session.guard_process import end_connection
from vfs.fuse.session.mountpoint import mounted_at
from vfs.store.remote_blocks import THREADS, TREE_THREADS

READERS = 8
MANY = 120
LIMIT_S = 300.0
SIZE = 300_000


def content(number: int) -> bytes:
    return random.Random(number).randbytes(SIZE)


@pytest.fixture
def filled(repository: Path, tmp_path: Path) -> Path:
    """Returns a repository with a version of a directory with large files and others."""
    with mounted(repository, tmp_path / "first") as mount:
        (mount / "d").mkdir()
        for number in range(READERS):
            (mount / f"d/f{number}").write_bytes(content(number))
            # Each in a directory of its own: what is opened in the order of names is prefetched together.
            (mount / f"r{number}").mkdir()
            (mount / f"r{number}/f").write_bytes(content(number + READERS))
        for number in range(100):
            (mount / f"d/small{number}").write_bytes(b"%d" % number)
        mount.commit()
    return repository


class Reader(threading.Thread):
    """Reads a file; `error` is the errno with which that fails."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self.error: int | None = None

    def run(self) -> None:
        try:
            self._path.read_bytes()
        except OSError as error:
            self.error = error.errno


def ls(mount: Mount, path: str) -> list[str]:
    """Lists a directory, its entries' attributes and an extended one, which the kernel never remembers."""
    directory = mount / path
    lines = subprocess.run(["ls", "-l", directory], check=True, capture_output=True, text=True).stdout.splitlines()
    os.getxattr(directory, "user.vfs.hash" if path.startswith("@") else "user.vfs.branch")
    return lines


@pytest.mark.parametrize("path", ["d", "@v1/d"])
def test_a_mount_answers_beside_readers_that_wait_for_the_network(filled: Path, tmp_path: Path, path: str) -> None:
    with mounted(filled, tmp_path / "mnt", "not_local") as mount:
        before = ls(mount, path)
        assert len(before) == READERS + 100 + 1
        with ThreadPoolExecutor(READERS) as pool:
            with Gate(tmp_path / "mnt.gate").closed() as wait_for_reads:
                files = [mount / f"{path[:-1]}r{number}/f" for number in range(READERS)]
                readers = [pool.submit(file.read_bytes) for file in files]
                wait_for_reads(READERS)
                # The directory is listed by requests, since `opendir` has the kernel ask again.
                for _ in range(5):
                    assert ls(mount, path) == before
                if path == "d":
                    (mount / "d/new").write_bytes(b"new")
                    assert (mount / "d/new").read_bytes() == b"new"
                assert not any(reader.done() for reader in readers)
            for number, reader in enumerate(readers):
                assert reader.result() == content(number + READERS)
    assert "Traceback" not in mount.log.read_text()


def test_a_mount_ends_while_requests_wait_for_the_network(filled: Path, tmp_path: Path) -> None:
    with mounted(filled, tmp_path / "mnt", "not_local", "read_only") as mount:
        os.listdir(mount / "d")
        reader = Reader(mount / "d/f1")
        with Gate(tmp_path / "mnt.gate").closed() as wait_for_reads:
            reader.start()
            wait_for_reads(1)
            mount.process.send_signal(signal.SIGTERM)
            reader.join()
            assert mount.process.wait() == 0
        # The kernel asks once more for a page that failed, and may find the connection ended.
        assert reader.error in (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)


def test_a_connection_that_is_aborted_ends_the_mount_beside_a_waiting_fetch(filled: Path, tmp_path: Path) -> None:
    with mounted(filled, tmp_path / "mnt", "not_local", "read_only") as mount:
        os.listdir(mount / "d")
        reader = Reader(mount / "d/f1")
        with Gate(tmp_path / "mnt.gate").closed() as wait_for_reads:
            reader.start()
            wait_for_reads(1)
            here = mounted_at(mount.path)
            assert here is not None
            end_connection(mount.path, here.device)
            reader.join()
            mount.process.wait(LIMIT_S)
        assert reader.error in (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)


def test_a_mount_answers_beside_more_readers_than_the_binding_has_tasks(filled: Path, tmp_path: Path) -> None:
    with mounted(filled, tmp_path / "mnt") as mount:
        for number in range(MANY):
            (mount / f"m{number}").mkdir()
            (mount / f"m{number}/f").write_bytes(content(1000 + number)[:20_000])
        mount.commit()
    with mounted(filled, tmp_path / "mnt", "not_local") as mount:
        before = ls(mount, "d")
        for number in range(MANY):
            os.stat(mount / f"m{number}/f")
        with ThreadPoolExecutor(MANY) as pool:
            with Gate(tmp_path / "mnt.gate").closed() as wait_for_reads:
                readers = [pool.submit((mount / f"m{number}/f").read_bytes) for number in range(MANY)]
                wait_for_reads(THREADS - TREE_THREADS)
                for _ in range(5):
                    assert ls(mount, "d") == before
                (mount / "d/new").write_bytes(b"new")
                # Trees are not read behind the contents of files.
                assert sorted(os.listdir(mount / "@v1/r0")) == ["f"]
                assert not any(reader.done() for reader in readers)
            for number, reader in enumerate(readers):
                assert reader.result() == content(1000 + number)[:20_000]


def test_everything_works_from_afar(filled: Path, tmp_path: Path) -> None:
    """Reading, changing, committing and what is made of versions, without any cache of the kernel's."""
    with mounted(filled, tmp_path / "mnt", "not_local") as mount:
        mount.drop_kernel_caches()
        assert (mount / "d/f3").read_bytes() == content(3)
        with (mount / "d/f4").open("r+b") as file:
            file.seek(100_000)
            file.write(b"changed")
        os.rename(mount / "d/f5", mount / "d/moved")
        os.unlink(mount / "d/small7")
        mount.commit()
        mount.drop_kernel_caches()
        assert os.listdir(mount / "@v1..@v2/modified/d") == ["f4"]
        assert sorted(os.listdir(mount / "@v2/d/f4@@")) == ["v1", "v2"]
        assert (mount / "@v1/d/f4").read_bytes() == content(4)
        assert (mount / "d/f4").read_bytes() == content(4)[:100_000] + b"changed" + content(4)[100_007:]
        assert (mount / "d/moved").read_bytes() == content(5)
        assert len(os.listdir(mount / "d")) == READERS + 99
    assert "Traceback" not in mount.log.read_text()
