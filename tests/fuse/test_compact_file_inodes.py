"""The memory that the columns of versions' files take; tests/native/test_known_files.py has what they do."""

from __future__ import annotations

import random
import tracemalloc

from vfs.fuse.compact_file_inodes import FileColumns


class Directory:
    """What rows refer to."""

    slot = -1


def test_a_row_takes_less_than_sixty_bytes_which_come_back() -> None:
    columns: FileColumns[Directory] = FileColumns()
    directory = Directory()
    chance = random.Random(2)
    count = 25_000
    numbers = [chance.getrandbits(60) for _ in range(count)]
    tracemalloc.start()
    try:
        for number in numbers:
            columns.hold(number, 0, directory, 0)
        held = tracemalloc.get_traced_memory()[0]
        for number in numbers:
            columns.forget(number, 1)
        left = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 60 * count
    assert left < held / 4
