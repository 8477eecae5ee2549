"""Goal: each item is attributed to the revision that added it, and no more revisions are read than necessary."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from vfs.history.blame import Items, blame, match_anywhere, match_in_order


@st.composite
def _edits(draw: st.DrawFn) -> list[list[tuple[int, int]]]:
    """Versions of a text, oldest first; an item is (the version that added it, its number there)."""
    versions: list[list[tuple[int, int]]] = []
    text: list[tuple[int, int]] = []
    for version in range(draw(st.integers(1, 6))):
        text = [item for item in text if draw(st.booleans())]
        for number in range(draw(st.integers(0, 4))):
            text.insert(draw(st.integers(0, len(text))), (version, number))
        versions.append(list(text))
    return versions


@given(_edits())
def test_items_that_come_once_are_put_down_to_the_version_that_has_them_first(
    versions: list[list[tuple[int, int]]],
) -> None:
    revisions = list(enumerate(versions))[::-1]
    expected = [version for version, _ in versions[-1]]
    assert blame(revisions, match_in_order) == expected
    assert blame(revisions, match_anywhere) == expected


@given(_edits())
def test_rows_keep_their_origin_when_a_table_is_sorted_anew(versions: list[list[tuple[int, int]]]) -> None:
    shuffled = [sorted(version, key=lambda item: hash((item, number))) for number, version in enumerate(versions)]
    assert blame(list(enumerate(shuffled))[::-1], match_anywhere) == [version for version, _ in shuffled[-1]]


def test_equal_lines_are_distinguished_by_their_order() -> None:
    revisions: list[tuple[str, Items]] = [("v3", "axbxc"), ("v2", "axbc"), ("v1", "abc")]
    assert blame(revisions, match_in_order) == ["v1", "v2", "v1", "v3", "v1"]


def test_equal_rows_are_related_as_often_as_both_sides_have_them() -> None:
    assert blame([("v2", ["r", "r", "r"]), ("v1", ["r", "r"])], match_anywhere) == ["v1", "v1", "v2"]


def test_no_older_version_is_read_once_every_item_is_attributed() -> None:
    asked: list[str] = []

    def revisions() -> Iterator[tuple[str, Items]]:
        for name, items in (("v4", "ab"), ("v3", "b"), ("v2", ""), ("v1", "ab")):
            asked.append(name)
            yield name, items

    assert blame(revisions(), match_in_order) == ["v4", "v3"]
    assert asked == ["v4", "v3", "v2"]
    assert blame([], match_in_order) == []
