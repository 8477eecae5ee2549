"""A history with merges as a drawing."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from vfs.cli.display.commit_graph import draw, simplified

History = list[tuple[bytes, Sequence[bytes]]]


def history(text: str) -> History:
    """Returns commits written as `d:cb`, newest first."""
    return [(word[0].encode(), [letter.encode() for letter in word[2:]]) for word in text.split()]


def drawn(text: str) -> list[str]:
    return [f"{row.picture} {row.commit.decode()}" if row.commit else row.picture for row in draw(history(text))]


def test_a_line_of_commits_is_one_column() -> None:
    assert drawn("c:b b:a a:") == ["* c", "* b", "* a"]


def test_a_merge_opens_a_column_that_closes_where_the_lines_part() -> None:
    assert drawn("d:bc c:a b:a a:") == ["* d", "|\\", "| * c", "* | b", "|/", "* a"]


def test_two_heads_and_a_merge_of_three() -> None:
    assert drawn("y:a x:a a:") == ["* y", "| * x", "|/", "* a"]
    assert drawn("m:abc c:r b:r a:r r:") == [
        "* m",
        "|\\",
        "|\\ \\",
        "| | * c",
        "| * | b",
        "* | | a",
        "|/ /",
        "|/",
        "* r",
    ]


def test_a_line_that_ends_lets_those_beside_it_move_up() -> None:
    assert drawn("b:a d:c a: c:") == ["* b", "| * d", "* | a", " /", "* c"]


def test_lines_lead_past_one_another() -> None:
    assert drawn("z:a y:b x:a b: a:") == ["* z", "| * y", "| | * x", "| * | b", "|  /", "|/", "* a"]


@st.composite
def _histories(draw_from: st.DrawFn) -> History:
    size = draw_from(st.integers(1, 12))
    made: History = []
    for number in range(size):
        older = list(range(number + 1, size))
        parents = draw_from(st.lists(st.sampled_from(older), unique=True, max_size=3)) if older else []
        made.append((b"%d" % number, [b"%d" % parent for parent in parents]))
    return made


@given(_histories())
def test_every_commit_has_one_row_with_one_mark_in_the_order_given(commits: History) -> None:
    rows = list(draw(commits))
    assert [row.commit for row in rows if row.commit is not None] == [commit for commit, _ in commits]
    assert all(row.picture.count("*") == (row.commit is not None) for row in rows)


@given(_histories(), st.data())
def test_left_out_commits_do_not_change_who_comes_from_whom(commits: History, data: st.DataObject) -> None:
    kept = data.draw(st.sets(st.sampled_from([commit for commit, _ in commits])))
    before, after = _ancestors(commits), _ancestors(list(simplified(commits, kept)))
    assert after == {commit: found & kept for commit, found in before.items() if commit in kept}


def _ancestors(commits: History) -> dict[bytes, set[bytes]]:
    found: dict[bytes, set[bytes]] = {}
    for commit, parents in reversed(commits):
        found[commit] = set(parents).union(*(found[parent] for parent in parents if parent in found))
    return found
