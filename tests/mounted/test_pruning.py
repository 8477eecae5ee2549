"""A mount whose daemon keeps few names: what programs see does not depend on what the kernel has forgotten."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.mounts import Mount, mounted
from support.waiting import wait_until

pytestmark = pytest.mark.mount

NAMES_MAX = 40


@pytest.fixture
def mount(repository: Path, tmp_path: Path) -> Iterator[Mount]:
    """Yields a writable mount that keeps few names."""
    with mounted(repository, tmp_path / "mnt", f"names_max={NAMES_MAX}") as mount:
        yield mount
    assert not re.search("kernel forgot|Traceback|not asked", mount.log.read_text())


def make_files(directory: Path, count: int) -> dict[str, bytes]:
    directory.mkdir()
    content = {f"file{number:04d}": b"%d" % number for number in range(count)}
    for name, data in content.items():
        (directory / name).write_bytes(data)
    return content


def listed(directory: Path) -> dict[str, int]:
    """Lists a directory, with the inode number of each name."""
    return {entry.name: entry.stat().st_ino for entry in os.scandir(directory)}


def read(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in os.listdir(directory)}


def left(mount: Mount) -> tuple[int, int]:
    """Returns how many inodes of versions' files and of working layers were left when the daemon last pruned."""
    found = re.findall(r"pruned: (\d+), (\d+) are left", mount.log.read_text())
    return (int(found[-1][0]), int(found[-1][1])) if found else (10**9, 10**9)


@pytest.mark.parametrize("is_committed", [False, True])
def test_names_of_the_working_layer_are_forgotten_and_found_again(mount: Mount, is_committed: bool) -> None:
    content = make_files(mount / "d", 400)
    if is_committed:
        mount.commit()
    numbers = listed(mount / "d")
    wait_until(lambda: left(mount)[1] <= NAMES_MAX)
    assert listed(mount / "d") == numbers
    assert read(mount / "d") == content


def test_names_of_a_version_are_forgotten_and_found_again(mount: Mount) -> None:
    content = make_files(mount / "d", 400)
    mount.commit()
    numbers = listed(mount / "@v1/d")
    wait_until(lambda: left(mount)[0] <= 4 * NAMES_MAX)
    assert listed(mount / "@v1/d") == numbers
    assert read(mount / "@v1/d") == content


def test_names_in_use_are_forgotten_when_they_are_no_longer(mount: Mount) -> None:
    with ExitStack() as opened:
        for number in range(2 * NAMES_MAX):
            opened.enter_context((mount / f"file{number}").open("wb"))
        wait_until(lambda: left(mount)[1] == 2 * NAMES_MAX)
    wait_until(lambda: left(mount)[1] <= NAMES_MAX)


def test_directories_in_one_another_are_forgotten(mount: Mount) -> None:
    """Each is in use until the one in it is forgotten."""
    (mount / "/".join("d" * (4 * NAMES_MAX))).mkdir(parents=True)
    wait_until(lambda: left(mount)[1] <= NAMES_MAX)


def test_what_is_in_use_stays_as_it_is_while_names_are_forgotten(mount: Mount) -> None:
    make_files(mount / "old", 3)
    mount.commit()
    os.link(mount / "old/file0001", mount / "linked")
    number = (mount / "linked").stat().st_ino
    os.chdir(mount / "old")
    try:
        with (mount / "old/file0000").open("r+b") as kept, (mount / "removed").open("w+b") as removed:
            (mount / "removed").unlink()
            removed.write(b"written before")
            make_files(mount / "d", 400)
            wait_until(lambda: left(mount)[1] <= NAMES_MAX)
            (mount / "d/file0399").rename(mount / "moved")
            kept.write(b"changed")
            kept.flush()
            removed.write(b", and after")
            removed.seek(0)
            assert removed.read() == b"written before, and after"
            assert Path("file0000").read_bytes() == b"changed"
            assert os.getcwd() == str(mount / "old")
        listed(mount / "d")
        assert (mount / "moved").read_bytes() == b"399"
        assert not (mount / "d/file0399").exists()
        assert (mount / "linked").stat().st_ino == (mount / "old/file0001").stat().st_ino == number
        assert (mount / "linked").stat().st_nlink == 2
        with (mount / "linked").open("ab") as linked:
            linked.write(b"!")
        assert (mount / "old/file0001").read_bytes() == b"1!"
    finally:
        os.chdir("/")
