"""Extents against a bytearray: what was put last is what stands there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vfs.overlay.extents import GAP, Extents

FILE_BYTES = 60

_PUT = st.tuples(st.just("put"), st.integers(0, FILE_BYTES - 1), st.integers(1, 20))
_CUT = st.tuples(st.just("cut"), st.integers(0, FILE_BYTES), st.just(0))


def shown(extents: Extents, start: int, end: int) -> list[int]:
    """Returns for each byte the position that it is at, or GAP; positions run through all segments here."""
    found: list[int] = []
    at = start
    for stretch in extents.stretches(start, end):
        assert stretch.start == at
        assert stretch.end > stretch.start
        length = stretch.end - stretch.start
        first = stretch.segment * 1000 + stretch.position
        found += [GAP] * length if stretch.segment == GAP else list(range(first, first + length))
        at = stretch.end
    assert at == max(start, end)
    return found


@given(st.lists(st.one_of(_PUT, _PUT, _PUT, _CUT), max_size=25), st.integers(0, 70), st.integers(0, 70))
def test_extents_show_what_was_put_last(changes: list[tuple[str, int, int]], start: int, end: int) -> None:
    extents = Extents()
    model = [GAP] * (FILE_BYTES + 20)
    for number, (what, offset, size) in enumerate(changes):
        if what == "cut":
            extents.cut(offset)
            model[offset:] = [GAP] * (len(model) - offset)
        else:
            extents.put(offset, offset + size, number, 500)
            model[offset : offset + size] = range(number * 1000 + 500, number * 1000 + 500 + size)
        assert extents.size == sum(at != GAP for at in model)
        assert shown(extents, 0, len(model)) == model
    assert shown(extents, start, end) == model[start:end]
    assert [stretch.end for stretch in extents] == sorted({stretch.end for stretch in extents})
    assert extents.segments() == {at // 1000 for at in model if at != GAP}


def test_a_copy_does_not_follow_the_original() -> None:
    extents = Extents()
    extents.put(0, 10, 1, 100)
    copy = extents.copy()
    extents.put(5, 8, 2, 0)
    extents.cut(6)
    assert list(copy) == [(0, 10, 1, 100)]
    assert copy.size == 10


def test_appending_a_thousand_times_keeps_a_thousand_extents() -> None:
    extents = Extents()
    for number in range(1000):
        extents.put(number * 10, number * 10 + 10, 0, number * 100)
    assert len(extents) == 1000
    assert extents.size == 10_000
