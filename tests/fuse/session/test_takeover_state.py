"""What a daemon leaves to the next one: records that count come back, whenever they were written anew."""

from __future__ import annotations

import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.fuse.session import takeover_state as legacy_module
from vfs.fuse.session.takeover_state import Legacy, OpenHandle

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["told", "moved", "opened", "closed", "anew"]),
        st.integers(1, 9),
        st.integers(1, 5),
        st.binary(min_size=1, max_size=255),
    ),
    max_size=60,
)


def taken_over(legacy: Legacy) -> Legacy:
    """Returns what the next daemon finds."""
    return Legacy(os.dup(legacy.descriptor))


@given(STEPS, st.integers(30, 400))
def test_the_next_daemon_finds_what_counts(steps: list[tuple[str, int, int, bytes]], scanned: int) -> None:
    """Though records straddle what is read at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(legacy_module, "_SCAN_BYTES", scanned)
        legacy = Legacy()
        legacy.shook_hands(b"hello")
        inodes: dict[int, tuple[int, bytes]] = {}
        current: set[int] = set()
        handles: dict[int, OpenHandle] = {}
        for what, first, second, name in steps:
            if what == "told":
                if first not in current:
                    inodes[first] = (second, name)
                current.add(first)
                legacy.told(first, second, name)
            elif what == "moved":
                current.discard(first)
                legacy.moved(first)
            elif what == "opened":
                handles[first] = OpenHandle(second, len(name), is_directory=bool(second % 2))
                legacy.opened(first, second, len(name), is_directory=bool(second % 2))
            elif what == "closed":
                handles.pop(first, None)
                legacy.closed(first)
            else:
                legacy.write_anew()
                inodes = {ino: place for ino, place in inodes.items() if ino in current}
        for _ in range(2):
            left = taken_over(legacy).left
            assert (left.handshake, left.inodes, left.handles) == (b"hello", inodes, handles)
            legacy.write_anew()
            inodes = {ino: place for ino, place in inodes.items() if ino in current}


@given(st.integers(0, 3000))
def test_a_torn_end_is_cut_off(cut: int) -> None:
    legacy = Legacy()
    for ino in range(1, 40):
        legacy.told(ino, 1, b"name %d" % ino)
    legacy.write_anew()
    for ino in range(40, 80):
        legacy.told(ino, 1, b"name %d" % ino)
    size = os.fstat(legacy.descriptor).st_size
    begin = os.lseek(legacy.descriptor, 0, os.SEEK_DATA)
    os.ftruncate(legacy.descriptor, max(begin + 1, size - cut))
    following = taken_over(legacy)
    found = following.left.inodes
    assert found == {ino: (1, b"name %d" % ino) for ino in range(1, len(found) + 1)}
    assert len(found) >= 39 or size - cut < begin + 2000
    following.told(100, 1, b"later")
    assert taken_over(following).left.inodes.keys() == found.keys() | {100}


def test_writing_anew_takes_little_memory_beside_the_numbers() -> None:
    legacy = Legacy()
    for ino in range(1, 30_001):
        legacy.told(ino, 1, b"a name of a file %020d" % ino)
    tracemalloc.start()
    legacy.write_anew()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20
    assert len(taken_over(legacy).left.inodes) == 30_000
