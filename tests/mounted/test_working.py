"""The working layer, through the kernel, with ordinary calls."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.mounts import Mount, mounted

pytestmark = pytest.mark.mount


def test_files_are_written_at_any_offset_appended_to_and_cut(mount: Mount) -> None:
    path = mount / "file"
    with path.open("w+b") as file:
        file.write(b"x" * 10)
        file.seek(100_000)
        file.write(b"end")
        file.flush()
        os.fsync(file.fileno())
    with path.open("ab") as file:
        file.write(b"more")
    data = path.read_bytes()
    assert (len(data), data[:12], data[-8:]) == (100_007, b"x" * 10 + b"\0\0", b"\0endmore")
    os.truncate(path, 5)
    os.truncate(path, 8)
    assert path.read_bytes() == b"xxxxx\0\0\0"
    with path.open("wb"):
        pass
    assert path.read_bytes() == b""


def test_what_other_programs_do_with_directories_works(mount: Mount) -> None:
    (mount / "a" / "b").mkdir(parents=True)
    (mount / "a" / "f").write_text("f")
    os.link(mount / "a" / "f", mount / "a" / "g")
    assert (mount / "a" / "g").stat().st_nlink == 2
    (mount / "a" / "g").rename(mount / "a" / "b" / "h")
    (mount / "a").rename(mount / "c")
    assert (mount / "c/b/h").read_text() == "f"
    with pytest.raises(OSError, match="not empty"):
        (mount / "c").rmdir()
    subprocess.run(["rm", "-r", mount / "c"], check=True)
    assert os.listdir(mount.path) == []


def test_times_are_exact_to_the_nanosecond_also_before_1970(mount: Mount) -> None:
    path = mount / "file"
    path.touch()
    os.utime(path, ns=(1_600_000_000_123_456_789, -123_456_789))
    found = path.stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_600_000_000_123_456_789, -123_456_789)
    mount.commit()
    assert (mount / "@v1/file").stat().st_mtime_ns == -123_456_789


def test_an_unlinked_file_that_is_open_keeps_its_bytes(mount: Mount) -> None:
    with (mount / "file").open("w+b") as file:
        file.write(b"bytes")
        file.flush()
        (mount / "file").unlink()
        assert os.fstat(file.fileno()).st_nlink == 0
        file.seek(0)
        assert file.read() == b"bytes"
        os.ftruncate(file.fileno(), 2)
        assert os.fstat(file.fileno()).st_size == 2
    assert not (mount / "file").exists()


def test_a_shared_mapping_is_in_the_next_version(mount: Mount) -> None:
    path = mount / "file"
    path.write_bytes(b"\0" * 8192)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[5000:5005] = b"words"
        mapping.flush()
        mapping[6000:6005] = b"later"
        mount.commit()
    data = (mount / "@v1/file").read_bytes()
    assert (data[5000:5005], data[6000:6005]) == (b"words", b"later")


def test_names_with_a_mark_are_refused_in_the_root_and_are_data_below(mount: Mount) -> None:
    calls: dict[str, Callable[[], object]] = {
        "create": (mount / "@new").touch,
        "mkdir": (mount / "@new").mkdir,
        "rename": lambda: (mount / "dir").rename(mount / "@new"),
        "symlink": lambda: (mount / "@new").symlink_to("x"),
    }
    (mount / "dir").mkdir()
    for call in calls.values():
        with pytest.raises(PermissionError) as caught:
            call()
        assert caught.value.errno == errno.EPERM
    (mount / "dir" / "@types").mkdir()
    (mount / "dir" / "@types" / "file").write_text("data")
    mount.commit()
    assert os.listdir(mount / "dir") == ["@types"]
    assert (mount / "@v1/dir/@types/file").read_text() == "data"
    (mount / "dir" / "@types" / "file").unlink()
    (mount / "dir" / "@types").rmdir()


def test_uncommitted_changes_are_there_after_remounting(mount: Mount) -> None:
    (mount / "kept").write_text("one")
    mount.commit()
    (mount / "kept").write_text("two")
    (mount / "new").mkdir()
    numbers = [(mount / name).stat().st_ino for name in ("kept", "new")]
    mount.end()
    with mounted(mount.repository, mount.path) as again:
        assert (again / "kept").read_text() == "two"
        assert [(again / name).stat().st_ino for name in ("kept", "new")] == numbers
        assert (again / "@v1/kept").read_text() == "one"


def test_a_large_directory_is_listed_whole_while_it_changes(mount: Mount) -> None:
    (mount / "d").mkdir()
    names = {f"file {number:04}" for number in range(3000)}
    for name in names:
        (mount / "d" / name).touch()
    mount.commit()
    seen = []
    with os.scandir(mount / "d") as entries:
        for index, entry in enumerate(entries):
            seen.append(entry.name)
            if index == 100:
                (mount / "d" / "file 0000").unlink()
                (mount / "d" / "added").touch()
    assert names - {"added"} <= set(seen)
    assert len(seen) == len(set(seen))


def test_numbers_hold_while_the_kernel_is_made_to_forget(mount: Mount) -> None:
    """A rename that crosses with dropped caches finds the file under its number, every time."""
    (mount / "d").mkdir()
    stop = threading.Event()

    def drop() -> None:
        while not stop.is_set():
            mount.drop_kernel_caches()

    dropper = threading.Thread(target=drop)
    dropper.start()
    try:
        for round_number in range(100):
            path = mount / "d" / f"f{round_number % 7}"
            path.write_text(str(round_number))
            number = path.stat().st_ino
            path.rename(mount / f"moved{round_number}")
            moved = (mount / f"moved{round_number}").stat()
            assert moved.st_ino == number
            assert (mount / f"moved{round_number}").read_text() == str(round_number)
    finally:
        stop.set()
        dropper.join()


def test_a_special_file_keeps_kind_and_device(mount: Mount) -> None:
    os.mkfifo(mount / "fifo")
    os.mknod(mount / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    mount.commit()
    for root in (mount.path, mount / "@v1"):
        found = (root / "null").stat()
        assert stat.S_ISCHR(found.st_mode)
        assert found.st_rdev == os.makedev(1, 3)
        assert stat.S_ISFIFO((root / "fifo").stat().st_mode)
        # Mounted without device nodes.
        with pytest.raises(PermissionError):
            (root / "null").open("rb")


def test_the_free_space_is_that_of_the_repositorys_disk(mount: Mount) -> None:
    here, there = os.statvfs(mount.path), os.statvfs(mount.repository)
    assert (here.f_blocks, here.f_frsize, here.f_namemax) == (there.f_blocks, there.f_frsize, 255)


def test_permissions_are_the_kernels(mount: Mount, tmp_path: Path) -> None:
    mount.end()
    with mounted(mount.repository, tmp_path / "shared", "allow_other") as shared:
        (shared / "secret").write_text("x")
        (shared / "secret").chmod(0o600)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        done = subprocess.run([*nobody, "cat", shared / "secret"], capture_output=True, text=True, check=False)
        assert "Permission denied" in done.stderr
