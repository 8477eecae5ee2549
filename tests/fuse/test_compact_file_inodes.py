"""The columns of versions' files: as a dict would have them, in less memory."""

from __future__ import annotations

import random
import tracemalloc

from vfs.fuse.compact_file_inodes import FileColumns, Row


class Directory:
    """What rows refer to."""

    slot = -1


def test_rows_are_found_counted_and_removed_as_in_a_dict() -> None:
    """Numbers of few bits come again and fill the index in runs; those of many are the kind that is met."""
    chance = random.Random(1)
    columns: FileColumns[Directory] = FileColumns()
    directories = [Directory() for _ in range(9)]
    for bits in (12, 60):
        model: dict[int, tuple[int, Row[Directory]]] = {}
        for step in range(20_000):
            if chance.random() < 0.55 or not model:
                ino = chance.getrandbits(bits)
                known = model.get(ino)
                row = known[1] if known else Row(chance.getrandbits(32), chance.choice(directories), step)
                model[ino] = (known[0] if known else 0) + 1, row
                columns.hold(ino, *row)
            else:
                ino = next(iter(model)) if step % 2 else chance.choice(list(model)[:500])
                lookups, row = model.pop(ino)
                count = chance.randint(1, lookups)
                assert columns.forget(ino, count) == lookups - count
                if count < lookups:
                    model[ino] = lookups - count, row
            assert len(columns) == len(model)
        assert {ino: columns.row(ino) for ino in columns} == {ino: row for ino, (_, row) in model.items()}
        assert all(columns.check(ino) == row.check for ino, (_, row) in model.items())
        for ino, (lookups, _) in model.items():
            assert columns.forget(ino, lookups) == 0
            assert (columns.row(ino), columns.check(ino), columns.forget(ino, 1)) == (None, None, None)
    assert all(directory.slot == -1 for directory in directories)


def test_a_mark_lasts_as_long_as_the_row_and_does_not_change_the_count() -> None:
    columns: FileColumns[Directory] = FileColumns()
    columns.mark(7)
    assert not columns.is_marked(7)
    columns.hold(7, 1, Directory(), 0)
    columns.mark(7)
    columns.hold(7, 1, Directory(), 0)
    assert columns.is_marked(7)
    assert columns.forget(7, 1) == 1
    assert columns.is_marked(7)
    assert columns.forget(7, 1) == 0
    columns.hold(7, 1, Directory(), 0)
    assert not columns.is_marked(7)


def test_a_count_below_nothing_is_told_and_ends_the_row() -> None:
    columns: FileColumns[Directory] = FileColumns()
    columns.hold(7, 1, Directory(), 0)
    assert columns.forget(7, 3) == -2
    assert columns.row(7) is None


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
