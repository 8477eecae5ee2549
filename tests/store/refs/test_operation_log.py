"""OperationLog: torn tails are cut, damage is reported, and no operation is lost to either."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.engine import Crash, StopAfter
from vfs.backend.local import LocalBackend
from vfs.backend.memory import MemoryBackend
from vfs.errors import InvalidInput, TooLarge
from vfs.model.decoding import COUNT_MAX
from vfs.model.ids import chunk_id
from vfs.model.names import BRANCH_NAME_BYTES_MAX, ref_name_fault
from vfs.store.refs.operation import Operation, RefChange
from vfs.store.refs.operation_args import ARGS_OF_KIND, LogArgs, OtherLogArgs
from vfs.store.refs.operation_log import LINE_BYTES_MAX, LOG_KEY, OperationLog, encode_line

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NAMES = TEXT.filter(lambda text: not ref_name_fault(text, BRANCH_NAME_BYTES_MAX))
IDS = st.just("") | st.binary(min_size=32, max_size=32).map(bytes.hex)
OPERATIONS = st.builds(
    Operation,
    seq=st.integers(0, COUNT_MAX),
    time_ns=st.integers(-(1 << 62), 1 << 62),
    kind=TEXT.filter(lambda text: text not in ARGS_OF_KIND),
    author=TEXT,
    message=TEXT,
    refs=st.lists(st.builds(RefChange, NAMES.map("branches/{}".format), IDS, IDS), max_size=3).map(tuple),
    work=st.none() | st.tuples(NAMES, st.integers(0, 1 << 32)),
    args=st.dictionaries(TEXT.filter(lambda text: text not in OtherLogArgs.__struct_fields__), TEXT, max_size=3).map(
        lambda more: OtherLogArgs(more=more) if more else LogArgs()
    ),
)


def numbered(*seqs: int) -> list[Operation]:
    return [Operation(seq=seq, kind="commit", message="m" * seq) for seq in seqs]


def filled(*seqs: int) -> tuple[MemoryBackend, OperationLog]:
    backend = MemoryBackend()
    log = OperationLog(backend)
    for operation in numbered(*seqs):
        log.append(operation)
    return backend, log


def seqs(log: OperationLog) -> list[int]:
    return [operation.seq for _, operation in log.read().operations]


@given(st.lists(OPERATIONS, max_size=5))
def test_operations_are_read_back_with_their_places(operations: list[Operation]) -> None:
    log = OperationLog(MemoryBackend())
    places = [log.append(operation) for operation in operations]
    page = log.read()
    assert page.operations == [(start, operation) for (start, _), operation in zip(places, operations, strict=True)]
    assert page.next_offset == log.size() == (places[-1][1] if places else 0)
    assert not page.damage
    for start, _ in places:
        assert log.read(start).operations[0][0] == start


def test_a_line_can_be_checked_and_read_with_ordinary_tools() -> None:
    backend, _ = filled(1)
    check, _, text = backend.read(LOG_KEY).rstrip(b"\n").partition(b" ")
    assert check.decode() == chunk_id(text).hex()[:16]
    assert text == b'{"seq":1,"kind":"commit","message":"m"}'


def test_a_tail_torn_anywhere_is_not_read_and_is_cut_by_the_next_append() -> None:
    line = encode_line(numbered(3)[0])
    for size in range(len(line)):
        backend, log = filled(1, 2)
        whole = backend.size(LOG_KEY)
        backend.append(LOG_KEY, line[:size])
        # Without its end alone, the line is whole: it may have been acknowledged.
        is_whole = size == len(line) - 1
        page = log.read()
        assert [operation.seq for _, operation in page.operations] == ([1, 2, 3] if is_whole else [1, 2])
        assert not page.damage
        assert page.next_offset == (whole + size if is_whole else whole)
        log.append(numbered(4)[0])
        assert seqs(log) == ([1, 2, 3, 4] if is_whole else [1, 2, 4])
        assert not log.read().damage


def test_a_flipped_bit_anywhere_costs_at_most_the_line_that_it_hit() -> None:
    backend, log = filled(1, 2, 3)
    good = backend.read(LOG_KEY)
    starts = [start for start, _ in log.read().operations]
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        backend.put(LOG_KEY, bad)
        hit = max(number for number, start in enumerate(starts) if start <= at)
        is_line_end = good[at : at + 1] == b"\n"
        log.append(numbered(9)[0])
        page = log.read()
        found = [operation.seq for _, operation in page.operations]
        # A lost line end joins two lines, except at the log's end.
        lost = {1 + hit, 2 + hit} if is_line_end else {1 + hit}
        if at == len(good) - 1:
            lost = set()
        assert found == [seq for seq in (1, 2, 3, 9) if seq not in lost], at
        assert page.damage or not lost


def test_a_line_that_is_too_long_is_skipped_without_being_held() -> None:
    backend, log = filled(1)
    start = backend.size(LOG_KEY)
    backend.append(LOG_KEY, b"x" * (9 * LINE_BYTES_MAX))
    assert seqs(log) == [1]
    assert log.read(start).next_offset == start
    log.append(numbered(2)[0])
    page = log.read()
    assert [operation.seq for _, operation in page.operations] == [1]
    assert [damage.offset for damage in page.damage] == [start]
    assert [operation.seq for _, operation in log.read(page.next_offset).operations] == [2]


def test_a_long_log_is_read_in_pages() -> None:
    log = OperationLog(MemoryBackend())
    for seq in range(1, 13):
        log.append(Operation(seq=seq, message="m" * 900_000))
    found: list[int] = []
    offset = -1
    page = log.read()
    while page.next_offset != offset:
        offset = page.next_offset
        found += [operation.seq for _, operation in page.operations]
        page = log.read(offset)
    assert found == list(range(1, 13))
    assert offset == log.size()


def test_what_cannot_be_a_line_is_refused() -> None:
    backend, log = filled(1)
    before = backend.read(LOG_KEY)
    with pytest.raises(TooLarge):
        log.append(Operation(message="m" * LINE_BYTES_MAX))
    with pytest.raises(InvalidInput):
        log.append(Operation(message="\udcff"))
    assert backend.read(LOG_KEY) == before


def test_a_right_checksum_over_nonsense_is_damage() -> None:
    backend, log = filled(1)
    for text in (b"[]", b"{", b'{"seq":"x"}', b"\xff", b'{"refs":[{"name":1}]}'):
        backend.append(LOG_KEY, chunk_id(text).hex()[:16].encode() + b" " + text + b"\n")
    assert seqs(log) == [1]
    assert len(log.read().damage) == 5


def test_an_append_is_whole_or_absent_at_every_step_of_a_crash_and_on_a_full_disk(tmp_path: Path) -> None:
    for steps in range(10):
        (tmp_path / LOG_KEY).unlink(missing_ok=True)
        OperationLog(LocalBackend(tmp_path)).append(numbered(1)[0])
        stop = StopAfter(steps)
        try:
            OperationLog(LocalBackend(tmp_path, stop)).append(numbered(2)[0])
        except Crash:
            pass
        log = OperationLog(LocalBackend(tmp_path))
        assert seqs(log) in ([1], [1, 2])
        if not stop.stopped_at:
            break
    assert steps >= 2

    def full(name: str) -> None:
        raise OSError(errno.ENOSPC, name)

    before = (tmp_path / LOG_KEY).read_bytes()
    with pytest.raises(OSError):
        OperationLog(LocalBackend(tmp_path, full)).append(numbered(3)[0])
    assert (tmp_path / LOG_KEY).read_bytes() == before
