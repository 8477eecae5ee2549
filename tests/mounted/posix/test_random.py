"""One file under random reads, writes, mappings, cuts, commits and reopenings, against bytes in memory."""

from __future__ import annotations

import mmap
import os
import random
from pathlib import Path

import pytest

from support.mounts import Mount

pytestmark = pytest.mark.mount

SIZE_MAX = 1 << 20
STEPS = 1000


class FileUnderTest:
    """A file, what must be in it, and what may be done to it."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self._path = path
        self._chance = chance
        self._expected = bytearray()
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._fd)

    def _stretch(self, end_max: int) -> tuple[int, int]:
        start = self._chance.randrange(end_max)
        return start, min(end_max, start + self._chance.choice((1, 100, 4096, 70_000)))

    def _data(self, size: int) -> bytes:
        return self._chance.randbytes(size) if self._chance.random() < 0.8 else bytes(size)

    def _put(self, start: int, data: bytes) -> None:
        if start > len(self._expected):
            self._expected.extend(bytes(start - len(self._expected)))
        self._expected[start : start + len(data)] = data

    def write(self) -> None:
        """Writes somewhere, behind the end too."""
        start, end = self._stretch(SIZE_MAX)
        data = self._data(end - start)
        assert os.pwrite(self._fd, data, start) == len(data)
        self._put(start, data)

    def append(self) -> None:
        """Appends through a descriptor of its own."""
        data = self._data(self._chance.randrange(1, 5000))
        with self._path.open("ab") as file:
            file.write(data)
        self._put(len(self._expected), data)

    def read(self) -> None:
        """Reads somewhere, behind the end too."""
        start, end = self._stretch(SIZE_MAX)
        assert os.pread(self._fd, end - start, start) == self._expected[start:end]

    def read_all(self) -> None:
        """Reads everything through a descriptor of its own."""
        assert self._path.read_bytes() == self._expected
        assert os.fstat(self._fd).st_size == len(self._expected)

    def cut(self) -> None:
        """Cuts or grows."""
        size = self._chance.choice((0, 1, 4096, self._chance.randrange(SIZE_MAX), len(self._expected)))
        os.ftruncate(self._fd, size)
        del self._expected[size:]
        self._expected.extend(bytes(size - len(self._expected)))

    def map(self) -> None:
        """Writes and reads through a shared mapping."""
        if not self._expected:
            return
        with mmap.mmap(self._fd, len(self._expected)) as mapping:
            start, end = self._stretch(len(self._expected))
            data = self._data(end - start)
            mapping[start:end] = data
            self._put(start, data)
            start, end = self._stretch(len(self._expected))
            assert mapping[start:end] == self._expected[start:end]
            if self._chance.random() < 0.3:
                mapping.flush()

    def sync(self) -> None:
        """Syncs."""
        os.fsync(self._fd)

    def replace(self) -> None:
        """Renames a copy over it."""
        new = self._path.with_name("new")
        new.write_bytes(self._expected)
        os.rename(new, self._path)
        os.close(self._fd)
        self._fd = os.open(self._path, os.O_RDWR)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_use_of_a_file_loses_nothing(seed: int, mount: Mount) -> None:
    chance = random.Random(seed)
    file = FileUnderTest(mount / "file", chance)
    acts = [file.write] * 6 + [file.read] * 6 + [file.cut, file.append, file.read_all, file.map, file.map, file.sync]
    for step in range(STEPS):
        chance.choice(acts)()
        if step % 100 == 99:
            if step % 300 == 299:
                file.replace()
            else:
                file.append()
                mount.commit()
            file.read_all()
        if step % 250 == 249:
            mount.drop_kernel_caches()
    file.read_all()
    file.close()
