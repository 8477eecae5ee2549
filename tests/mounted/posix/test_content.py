"""Opening, reading, writing, cutting, mapping and locking files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.calls import ALICE, DONE, as_user, end_child, outcome, touch

pytestmark = pytest.mark.mount

PAGE = mmap.PAGESIZE


@contextlib.contextmanager
def opened(path: Path, flags: int, mode: int = 0o644) -> Iterator[int]:
    """Opens a file."""
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


FLAGS = {
    "read": os.O_RDONLY,
    "write": os.O_WRONLY,
    "both": os.O_RDWR,
    "cut": os.O_RDWR | os.O_TRUNC,
    "cut read-only": os.O_RDONLY | os.O_TRUNC,
    "append": os.O_WRONLY | os.O_APPEND,
    "create": os.O_CREAT | os.O_RDWR,
    "create new": os.O_CREAT | os.O_EXCL | os.O_RDWR,
    "create, cut": os.O_CREAT | os.O_TRUNC | os.O_WRONLY,
    "directory": os.O_RDONLY | os.O_DIRECTORY,
    "directory to write": os.O_RDWR | os.O_DIRECTORY,
    "create directory": os.O_CREAT | os.O_DIRECTORY,
    "no link": os.O_RDONLY | os.O_NOFOLLOW,
    "no link, create": os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW,
    "place": os.O_PATH,
    "place of link": os.O_PATH | os.O_NOFOLLOW,
    "synchronous": os.O_WRONLY | os.O_SYNC,
    "data synchronous": os.O_WRONLY | os.O_DSYNC,
    "not blocking": os.O_RDWR | os.O_NONBLOCK,
}


@pytest.mark.parametrize("flags", FLAGS)
def test_flags_of_open_do_with_every_kind_what_they_do_locally(flags: str, local: Path, inside: Path) -> None:
    told = []
    for place in (local, inside):
        touch(place / "file", data=b"data")
        (place / "dir").mkdir()
        os.symlink("file", place / "to file")
        os.symlink("dir", place / "to dir")
        os.symlink("absent", place / "dangling")
        os.mknod(place / "socket", 0o140644)
        results = []
        for name in ("file", "dir", "to file", "to dir", "dangling", "new", "socket"):
            with contextlib.ExitStack() as stack:
                try:
                    fd = stack.enter_context(opened(place / name, FLAGS[flags]))
                except OSError as error:
                    results.append((name, errno.errorcode[error.errno or 0]))
                    continue
                results.append((name, oct(os.fstat(fd).st_mode)))
        told.append((results, sorted(os.listdir(place)), (place / "file").stat().st_size))
    assert told[0] == told[1]


def test_each_append_goes_to_the_end(place: Path) -> None:
    path = place / "file"
    with opened(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND) as one, opened(path, os.O_WRONLY | os.O_APPEND) as two:
        for number in range(20):
            os.write((one, two)[number % 2], b"%02d" % number)
        os.lseek(one, 0, os.SEEK_SET)
        os.write(one, b"end")
    assert path.read_bytes() == b"".join(b"%02d" % number for number in range(20)) + b"end"


def test_processes_that_append_at_once_lose_nothing(place: Path) -> None:
    path = place / "file"
    path.touch()
    children = []
    for letter in b"abcd":
        child = os.fork()
        if not child:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND)
            for _ in range(100):
                os.write(fd, bytes([letter]) * 10)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    data = path.read_bytes()
    assert sorted(data[at : at + 10] for at in range(0, 4000, 10)) == sorted(bytes([x]) * 10 for x in b"abcd" * 100)


SIZES = [0, 1, 511, 4095, 4096, 4097, 8192, 100_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_file_is_cut_and_grown_to_any_size(size: int, place: Path) -> None:
    path = place / "file"
    data = os.urandom(10_000)
    for call in (os.truncate, _ftruncate):
        path.write_bytes(data)
        call(path, size)
        assert path.read_bytes() == data[:size].ljust(size, b"\0")
        call(path, 0)
        call(path, 50)
        assert path.read_bytes() == bytes(50)


def _ftruncate(path: Path, size: int) -> None:
    with opened(path, os.O_RDWR) as fd:
        os.ftruncate(fd, size)


def test_what_was_cut_off_comes_back_as_zeros(place: Path) -> None:
    with opened(place / "file", os.O_CREAT | os.O_RDWR) as fd, mmap.mmap(-1, PAGE) as zeros:
        os.write(fd, b"x" * (3 * PAGE))
        with mmap.mmap(fd, 3 * PAGE) as mapping:
            os.ftruncate(fd, PAGE + 10)
            mapping[PAGE + 10 : PAGE + 20] = b"past end!!"
            os.ftruncate(fd, 3 * PAGE)
            assert mapping[PAGE + 20 : 2 * PAGE] == zeros[20:PAGE]
            assert mapping[2 * PAGE :] == zeros[:]
        assert os.pread(fd, PAGE, 2 * PAGE) == zeros[:]


def test_errors_of_cutting(place: Path) -> None:
    touch(place / "file")
    (place / "dir").mkdir()
    os.mkfifo(place / "fifo")
    assert outcome(lambda: os.truncate(place / "file", -1)) == "EINVAL"
    assert outcome(lambda: os.truncate(place / "dir", 0)) == "EISDIR"
    assert outcome(lambda: os.truncate(place / "fifo", 0)) == "EINVAL"
    with opened(place / "file", os.O_RDONLY) as fd:
        assert outcome(lambda: os.ftruncate(fd, 0)) == "EINVAL"
        assert outcome(lambda: os.write(fd, b"x")) == "EBADF"
    with opened(place / "file", os.O_WRONLY) as fd:
        assert outcome(lambda: os.read(fd, 1)) == "EBADF"
        assert outcome(lambda: os.pwrite(fd, b"x", -1)) == "EINVAL"
    with opened(place / "dir", os.O_RDONLY) as fd:
        assert outcome(lambda: os.read(fd, 1)) == "EISDIR"


def test_limits_of_size_are_kept(place: Path) -> None:
    child = os.fork()
    if not child:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        fd = os.open(place / "file", os.O_CREAT | os.O_RDWR)
        told = [os.write(fd, bytes(1500)), outcome(lambda: os.write(fd, b"x")), outcome(lambda: os.ftruncate(fd, 1001))]
        os._exit(told != [1000, "EFBIG", "EFBIG"])
    assert os.waitpid(child, 0)[1] == 0
    assert (place / "file").stat().st_size == 1000


def test_sparse_files_take_no_room(place: Path) -> None:
    with opened(place / "file", os.O_CREAT | os.O_RDWR) as fd:
        os.pwrite(fd, b"end", 10 << 30)
        found = os.fstat(fd)
        assert found.st_size == (10 << 30) + 3
        assert found.st_blocks <= 128
        assert os.pread(fd, 10, 5 << 30) == bytes(10)
        assert os.lseek(fd, 0, os.SEEK_END) == (10 << 30) + 3
        assert os.lseek(fd, (10 << 30) + 1, os.SEEK_HOLE) == (10 << 30) + 3
        assert outcome(lambda: os.lseek(fd, 11 << 30, os.SEEK_DATA)) == "ENXIO"


def test_room_is_made_in_advance(place: Path) -> None:
    with opened(place / "file", os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b"data")
        os.posix_fallocate(fd, 0, 100_000)
        assert os.fstat(fd).st_size == 100_000
        assert os.pread(fd, 5, 0) == b"data\0"
        assert outcome(lambda: os.posix_fallocate(fd, -1, 10)) == "EINVAL"
        assert outcome(lambda: os.posix_fallocate(fd, 0, 0)) == "EINVAL"


def test_bytes_are_copied_between_files_by_the_kernel(place: Path) -> None:
    data = os.urandom(300_000)
    (place / "a").write_bytes(data)
    with opened(place / "a", os.O_RDONLY) as source, opened(place / "b", os.O_CREAT | os.O_RDWR) as target:
        left = len(data)
        while left:
            left -= os.copy_file_range(source, target, left)
        assert os.pread(target, len(data), 0) == data
        assert os.sendfile(target, source, 10, 1000) == 1000
    assert (place / "b").read_bytes() == data + data[10:1010]


def test_shared_mappings_and_reads_see_each_other(place: Path) -> None:
    with opened(place / "file", os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, 3 * PAGE)
        with mmap.mmap(fd, 3 * PAGE) as one, mmap.mmap(fd, 3 * PAGE) as two:
            one[10:14] = b"from"
            assert os.pread(fd, 4, 10) == b"from"
            os.pwrite(fd, b"to", 2 * PAGE)
            assert two[2 * PAGE : 2 * PAGE + 2] == b"to"
            before = os.fstat(fd).st_mtime_ns
            one[PAGE : PAGE + 3] = b"new"
            one.flush()
            assert os.fstat(fd).st_mtime_ns >= before
        os.fsync(fd)
    assert (place / "file").read_bytes()[PAGE : PAGE + 3] == b"new"


def test_a_private_mapping_changes_nothing(place: Path) -> None:
    touch(place / "file", data=b"x" * PAGE)
    with opened(place / "file", os.O_RDONLY) as fd, mmap.mmap(fd, PAGE, access=mmap.ACCESS_COPY) as mapping:
        mapping[0:3] = b"own"
    assert (place / "file").read_bytes() == b"x" * PAGE


def test_a_mapping_outlives_the_file_it_is_of(place: Path) -> None:
    touch(place / "file", data=b"x" * PAGE)
    with opened(place / "file", os.O_RDWR) as fd:
        mapping = mmap.mmap(fd, PAGE)
    os.unlink(place / "file")
    mapping[0:3] = b"new"
    mapping.flush()
    assert mapping[:5] == b"newxx"
    mapping.close()


def test_an_unlinked_file_does_everything_but_have_a_name(place: Path) -> None:
    with opened(place / "file", os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b"data")
        os.unlink(place / "file")
        (place / "file").mkdir()
        os.fchmod(fd, 0o600)
        os.fchown(fd, 1, 2)
        os.utime(fd, ns=(1, 2))
        os.ftruncate(fd, 3)
        os.pwrite(fd, b"X", 1)
        os.fsync(fd)
        found = os.fstat(fd)
        assert os.pread(fd, 10, 0) == b"dXt"
        assert (found.st_nlink, found.st_uid, found.st_gid, found.st_mode, found.st_size) == (0, 1, 2, 0o100600, 3)
        with open(f"/proc/self/fd/{fd}", "rb") as again:
            assert again.read() == b"dXt"


def test_a_running_program_is_busy(place: Path) -> None:
    program = place / "sleep"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    with opened(program, os.O_WRONLY):
        assert outcome(lambda: subprocess.run([program, "0"], check=True)) == "ETXTBSY"
    with subprocess.Popen([program, "100"]) as process:
        assert outcome(lambda: os.close(os.open(program, os.O_WRONLY))) == "ETXTBSY"
        assert outcome(lambda: os.close(os.open(program, os.O_RDONLY | os.O_TRUNC))) == "ETXTBSY"
        assert outcome(lambda: os.truncate(program, 0)) == "ETXTBSY"
        assert program.read_bytes() == Path("/bin/sleep").read_bytes()
        assert outcome(lambda: os.rename(program, place / "moved")) == DONE
        assert outcome(lambda: os.unlink(place / "moved")) == DONE
        process.kill()


def _try_lock(path: Path, kind: str) -> str:
    """Returns what another process is told that wants a lock, without waiting."""
    lock = fcntl.flock if kind == "flock" else fcntl.lockf

    def call() -> None:
        with open(path.name, "r+b") as file:
            lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    return str(as_user(ALICE, path.parent, call))


@pytest.mark.parametrize("kind", ["flock", "fcntl"])
def test_locks_keep_other_processes_out(kind: str, place: Path) -> None:
    touch(place / "file", 0o666)
    lock = fcntl.flock if kind == "flock" else fcntl.lockf
    path = place / "file"
    with opened(path, os.O_RDWR) as fd:
        lock(fd, fcntl.LOCK_EX)
        assert _try_lock(path, kind) in ("EAGAIN", "EACCES")
        lock(fd, fcntl.LOCK_UN)
        with opened(path, os.O_RDWR) as second:
            if kind == "flock":
                fcntl.flock(fd, fcntl.LOCK_SH)
                assert outcome(lambda: fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)) == "EAGAIN"
                assert outcome(lambda: fcntl.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)) == DONE


def test_a_lock_on_some_bytes_goes_with_its_process(place: Path) -> None:
    touch(place / "file", 0o666, b"0123456789")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        fd = os.open(place / "file", os.O_RDWR)
        fcntl.lockf(fd, fcntl.LOCK_EX, 5, 0)
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    with opened(place / "file", os.O_RDWR) as fd:
        assert outcome(lambda: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 0)) in ("EAGAIN", "EACCES")
        assert outcome(lambda: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 5)) == DONE
        end_child(child)
        assert outcome(lambda: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 0)) == DONE
    os.close(reader)
    os.close(writer)
