"""Files between two versions: all changes give the newer, none the older, each part is made of whole rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vfs.text.line_composition import LineComposition, is_composable
from vfs.text.row_composition import row_ranges

TEXTS = st.lists(st.sampled_from([b"a", b"b", b"cc", b'"q', b'x"', b"", b"\r"]), max_size=12).map(b"\n".join)


@given(TEXTS, TEXTS, st.sampled_from([b"t.csv", b"t.txt"]), st.randoms(use_true_random=True))
def test_all_is_the_newer_and_none_the_older(old: bytes, new: bytes, path: bytes, chance: object) -> None:
    made = LineComposition(path, old, new)
    every = range(len(made.changes))
    assert made.content(set(every)) == new
    assert made.content(set()) == old
    assert bool(made.changes) == (old != new)
    chosen = {number for number in every if chance.random() < 0.5}  # type: ignore[attr-defined]
    part = made.content(chosen)
    rows = {row.rstrip(b"\r\n") for row in (*old.split(b"\n"), *new.split(b"\n"))}
    assert {row.rstrip(b"\r") for row in part.split(b"\n")} <= {row.rstrip(b"\r") for row in rows} | {b""}


def test_changed_rows_come_in_pairs_and_are_named() -> None:
    old = b"id,label\n1,cat\n2,cat\n3,dog\n"
    new = b"id,label\n1,dog\n2,dog\n3,dog\n4,cow\n"
    made = LineComposition(b"labels.csv", old, new)
    assert [(change.old_row, change.new_row) for change in made.changes] == [(2, 2), (3, 3), (None, 5)]
    assert made.content({1}) == b"id,label\n1,cat\n2,dog\n3,dog\n"
    assert made.content({0, 2}) == b"id,label\n1,dog\n2,cat\n3,dog\n4,cow\n"


def test_a_record_with_a_line_end_inside_is_one_row() -> None:
    old, new = b'a,"x\ny"\nb,1\n', b'a,"x\nz"\nb,2\n'
    made = LineComposition(b"t.csv", old, new)
    assert len(made.changes) == 2
    assert made.content({0}) == b'a,"x\nz"\nb,1\n'


def test_a_last_row_without_a_line_end_gets_one_where_it_is_not_the_last() -> None:
    made = LineComposition(b"t.txt", b"a\nb", b"a\nc\nd\n")
    assert [made.content({number}) for number in range(2)] == [b"a\nc\n", b"a\nb\nd\n"]


def test_binary_files_are_not_looked_into() -> None:
    assert is_composable(b"a\n", b"b\n")
    assert not is_composable(b"a\n", b"\0\1")


def test_rows_are_named_as_ranges() -> None:
    assert row_ranges([7]) == "row 7"
    assert row_ranges([412, 413, 414, 415]) == "rows 412 to 415"
    assert row_ranges([9, 3, 4]) == "rows 3 to 4, 9"
