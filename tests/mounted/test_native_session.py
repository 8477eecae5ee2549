"""The native session layer through the kernel: what it answers needs no daemon, and is what the daemon would answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.kernel_requests import OPEN, OPENDIR, READ, RELEASE, RELEASEDIR, counted_requests
from support.mounts import Mount, mounted
from support.waiting import wait_until
from vfs.native.session import SWITCH
from vfs.repo.repository import Repository
from vfs.repo.tags import create_tag

pytestmark = pytest.mark.mount

FILES = 300


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounts of these tests use the layer, also when the others are run without it."""
    monkeypatch.delenv(SWITCH, raising=False)


@pytest.fixture
def filled(mount: Mount) -> Path:
    """Returns a repository with a version of some files of all sizes."""
    for number in range(FILES):
        (mount / f"d{number % 3}").mkdir(exist_ok=True)
        (mount / f"d{number % 3}" / f"{number:04}").write_bytes(os.urandom(number * number))
    # Several chunks, read in parts: compressed ones, others, and holes.
    (mount / "text").write_bytes(os.urandom(3 << 20).hex().encode())
    (mount / "noise").write_bytes(os.urandom(5 << 20))
    with (mount / "sparse").open("wb") as sparse:
        sparse.seek(3 << 20)
        sparse.write(os.urandom(1 << 20))
    mount.commit("one")
    mount.end()
    return mount.repository


def _contents(directory: int, names: list[str]) -> dict[str, bytes]:
    found = {}
    for name in names:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
        with open(descriptor, "rb") as file:
            found[name] = file.read()
    return found


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _listed(directory: int) -> list[str]:
    opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
    try:
        return sorted(os.listdir(opened))
    finally:
        os.close(opened)


def test_what_was_read_once_is_read_again_without_the_daemon(filled: Path, tmp_path: Path) -> None:
    with mounted(filled, tmp_path / "read", "read_only") as mount, _directory(mount / "@v1" / "d1") as directory:
        names = _listed(directory)
        first = _contents(directory, names)
        with counted_requests(mount.process.pid, tmp_path / "requests") as requests:
            assert _listed(directory) == names
            assert _contents(directory, names) == first
        # The kernel may have evicted pages meanwhile.
        assert not set(requests) & {OPEN, RELEASE, OPENDIR, RELEASEDIR}
        assert len(first) == FILES // 3
        assert {name: len(content) for name, content in first.items()} == {n: int(n) ** 2 for n in names}


def test_a_writable_mount_sees_opens_and_python_does_not(filled: Path, tmp_path: Path) -> None:
    with mounted(filled, tmp_path / "write") as mount, _directory(mount / "@v1" / "d1") as directory:
        names = _listed(directory)
        first = _contents(directory, names)
        reads: list[int] = []
        # The kernel may evict pages at any time: then they are read, and kept, once more.
        while not reads or (reads[-1] >= len(names) // 2 and len(reads) < 10):
            with counted_requests(mount.process.pid, tmp_path / f"requests{len(reads)}") as requests:
                assert _listed(directory) == names
                assert _contents(directory, names) == first
            assert requests[OPEN] == len(names)
            assert requests[OPENDIR] == 1
            reads.append(requests[READ])
        assert reads[-1] < len(names) // 2, reads


def test_new_versions_and_tags_are_listed_within_a_moment(filled: Path, tmp_path: Path) -> None:
    with mounted(filled, tmp_path / "read", "read_only") as mount:
        before = sorted(os.listdir(mount.path))
        assert os.listdir(mount / "@" / "versions") == ["v1"]
        assert os.listdir(mount / "@" / "tags") == []
        with mounted(filled, tmp_path / "write") as writer:
            (writer / "new").write_text("new")
            writer.commit("two")
            with Repository.open(filled) as repo:
                create_tag(repo, "kept", repo.resolve("v2"), author="tester")
        wait_until(lambda: os.listdir(mount / "@" / "versions") == ["v1", "v2"])
        wait_until(lambda: os.listdir(mount / "@" / "tags") == ["kept"])
        wait_until(lambda: sorted(os.listdir(mount.path)) == sorted([*before, "new"]))
        assert (mount / "new").read_text() == "new"
        assert (mount / "@v2" / "new").read_text() == "new"


def test_a_directory_is_listed_from_any_position_by_many_at_once(filled: Path, tmp_path: Path) -> None:
    with Repository.open(filled), mounted(filled, tmp_path / "read", "read_only") as mount:
        places = [mount.path, mount / "@v1" / "d0", mount / "@", mount / "@" / "versions", mount / "@v1"]
        for place in places:
            expected = sorted(os.listdir(place))
            mount.drop_kernel_caches()
            command = ["sh", "-c", f'for i in 1 2 3 4 5; do ls -1 "{place}" & done; wait']
            listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            assert sorted(set(listed)) == expected
            assert len(listed) == 5 * len(expected)


@pytest.mark.parametrize("options", [("read_only",), ("read_only", "see_opens"), ()])
def test_a_mount_shows_the_same_with_and_without_it(
    filled: Path, tmp_path: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents: dict[str, bytes] = {}

    def shown(path: Path) -> str:
        # Backwards, so that the kernel reads nothing ahead.
        for name in ("text", "noise", "sparse"):
            with (path / "@v1" / name).open("rb", buffering=0) as file:
                blocks = [os.pread(file.fileno(), 4096, at) for at in range(6 << 20, -1, -50_000)]
            assert b"".join(blocks) == contents.setdefault(name, b"".join(blocks))
        script = "find . -printf '%P %i %y %m %s %T@ %n\\n' | sort && find . -type f | sort | xargs cat | md5sum"
        command = ["sh", "-c", script]
        return subprocess.run(command, cwd=path / "@v1", capture_output=True, text=True, check=True).stdout

    with mounted(filled, tmp_path / "native", *options) as mount:
        native = shown(mount.path), shown(mount.path)
    monkeypatch.setenv(SWITCH, "0")
    with mounted(filled, tmp_path / "native", *options) as mount:
        assert native == (shown(mount.path), shown(mount.path))


def _odd_entries(root: Path) -> list[str]:
    """Makes one of each kind of entry; returns their paths, and some that are not there."""
    (root / "deep" / "er").mkdir(parents=True)
    for number in range(200):
        (root / "deep" / f"{number:03}").write_bytes(b"x" * number * 50)
        os.utime(root / "deep" / f"{number:03}", ns=(0, (number - 100) * 999_999_999_999_999))
    (root / "deep" / "link").symlink_to("er/\udcff")
    (root / "deep" / "one").write_text("one")
    os.link(root / "deep" / "one", root / "two")
    os.mkfifo(root / "deep" / "fifo", 0o620)
    (root / "deep" / "er" / "large").write_bytes(os.urandom(300_000))
    os.setxattr(root / "deep" / "er" / "large", "user.a", b"b" * 100)
    (root / "deep" / "\udcfe\n").write_text("odd")
    os.chmod(root / "deep" / "001", 0o6711)
    os.chown(root / "deep" / "002", 2**31, 70_000)
    names = [os.path.relpath(path, root) for path in root.rglob("*")]
    return [*names, "deep/absent", "deep/0", "deep/001/x", "deep/er/@v1", "deep/one@history", "deep/@v1"]


@pytest.mark.parametrize("options", [("read_only",), ()])
def test_names_that_are_looked_up_show_the_same_with_and_without_it(
    mount: Mount, tmp_path: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = _odd_entries(mount.path)
    mount.commit("one")
    mount.end()

    def shown(root: Path, name: str) -> object:
        try:
            found = os.lstat(root / name)
        except OSError as error:
            return error.errno
        # But for the device, which is the mount's.
        return (
            found[:2],
            found[3:7],
            found.st_mtime_ns,
            found.st_ctime_ns,
            found.st_atime_ns,
            found.st_blocks,
            found.st_blksize,
        )

    def look(root: Path) -> list[object]:
        first = [shown(root, name) for name in names]
        for name in names:
            if (root / name).is_file():
                (root / name).read_bytes()
        # What was read has another access time for the kernel, which asks for it.
        assert [shown(root, name) for name in names] == first
        return first

    with mounted(mount.repository, tmp_path / "native", *options) as native:
        found = look(native / "@v1")
        native.drop_kernel_caches()
        assert look(native / "@v1") == found
    monkeypatch.setenv(SWITCH, "0")
    with mounted(mount.repository, tmp_path / "native", *options) as python:
        assert look(python / "@v1") == found


def test_a_file_of_a_version_is_still_read_only(filled: Path, tmp_path: Path) -> None:
    with mounted(filled, tmp_path / "write") as mount:
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
            with pytest.raises(OSError, match="Read-only"):
                os.open(mount / "@v1" / "d1" / "0001", flags)
