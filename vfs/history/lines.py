"""Merging texts line by line. Lines that stand once on each side are what two texts are matched by."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Lines = Sequence[bytes]

_CLOSE_COMPARISONS_MAX = 1_000_000
"""Stretches without a line of their own are compared closely up to this product of their lengths."""

OURS_MARK, BASE_MARK, MIDDLE_MARK, THEIRS_MARK = b"<<<<<<<", b"|||||||", b"=======", b">>>>>>>"


class Match(NamedTuple):
    """`size` lines that are equal, from these positions on."""

    old: int
    new: int
    size: int


class Stretch(NamedTuple):
    """A part of a merged text: `merged`, or None where all three sides differ."""

    merged: Lines | None
    base: Lines
    ours: Lines
    theirs: Lines


class Labels(NamedTuple):
    """What the marks of a conflict call the three sides."""

    ours: str
    base: str
    theirs: str


def merge_lines(base: Lines, ours: Lines, theirs: Lines) -> list[Stretch]:
    """Returns the merged text in stretches: what one side changed is taken, what both changed alike too."""
    found: list[Stretch] = []
    at = at_ours = at_theirs = 0
    for start, start_ours, start_theirs, size in _shared(base, ours, theirs):
        parts = base[at:start], ours[at_ours:start_ours], theirs[at_theirs:start_theirs]
        if any(parts):
            found.append(Stretch(_choose(*parts), *parts))
        at, at_ours, at_theirs = start + size, start_ours + size, start_theirs + size
        if size:
            same = base[start:at]
            found.append(Stretch(same, same, same, same))
    return found


def join(stretches: Sequence[Stretch], labels: Labels) -> bytes:
    """Returns the text of stretches, with marks around those that did not merge (the form of diff3)."""
    pieces: list[bytes] = []
    for stretch in stretches:
        if stretch.merged is not None:
            pieces.extend(stretch.merged)
            continue
        for mark, label, lines in (
            (OURS_MARK, labels.ours, stretch.ours),
            (BASE_MARK, labels.base, stretch.base),
            (MIDDLE_MARK, "", stretch.theirs),
        ):
            pieces.append(mark + (b" " + label.encode() if label else b"") + b"\n")
            pieces.extend(lines)
            if lines and not lines[-1].endswith(b"\n"):
                pieces.append(b"\n")
        pieces.append(THEIRS_MARK + b" " + labels.theirs.encode() + b"\n")
    return b"".join(pieces)


def has_marks(text: bytes) -> bool:
    """Whether a text still has a conflict's first or last mark at the start of a line."""
    return any((b"\n" + text).find(b"\n" + mark + b" ") >= 0 for mark in (OURS_MARK, THEIRS_MARK))


def split_lines(text: bytes) -> list[bytes]:
    """Returns the lines with their ends; the last one may have none."""
    return text.splitlines(keepends=True)


def matches(old: Lines, new: Lines) -> list[Match]:
    """Returns runs of equal lines, ascending on both sides."""
    found: list[Match] = []
    todo = [(0, len(old), 0, len(new))]
    while todo:
        low, high, new_low, new_high = todo.pop()
        start = low
        while low < high and new_low < new_high and old[low] == new[new_low]:
            low, new_low = low + 1, new_low + 1
        if low > start:
            found.append(Match(start, new_low - (low - start), low - start))
        end = high
        while low < high and new_low < new_high and old[high - 1] == new[new_high - 1]:
            high, new_high = high - 1, new_high - 1
        if high < end:
            found.append(Match(high, new_high, end - high))
        if low == high or new_low == new_high:
            continue
        anchors = _anchors(old, new, (low, high, new_low, new_high))
        if anchors:
            for at, new_at in anchors:
                todo.append((low, at, new_low, new_at))
                low, new_low = at, new_at
            todo.append((low, high, new_low, new_high))
        elif (high - low) * (new_high - new_low) <= _CLOSE_COMPARISONS_MAX:
            found.extend(_closely(old, new, (low, high, new_low, new_high)))
    return sorted(found)


def _anchors(old: Lines, new: Lines, within: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Returns the longest ascending row of lines that stand once on either side."""
    low, high, new_low, new_high = within
    counts, new_counts = Counter(old[low:high]), Counter(new[new_low:new_high])
    places = {new[at]: at for at in range(new_low, new_high) if new_counts[new[at]] == 1}
    pairs = [(at, places[old[at]]) for at in range(low, high) if counts[old[at]] == 1 and old[at] in places]
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for number, (_, new_at) in enumerate(pairs):
        at = bisect_left(ends, new_at)
        before.append(last[at - 1] if at else -1)
        if at == len(ends):
            ends.append(new_at)
            last.append(number)
        else:
            ends[at], last[at] = new_at, number
    row: list[tuple[int, int]] = []
    number = last[-1] if last else -1
    while number >= 0:
        row.append(pairs[number])
        number = before[number]
    return row[::-1]


def _closely(old: Lines, new: Lines, within: tuple[int, int, int, int]) -> Iterator[Match]:
    low, high, new_low, new_high = within
    matcher = difflib.SequenceMatcher(None, old[low:high], new[new_low:new_high], autojunk=False)
    for block in matcher.get_matching_blocks():
        if block.size:
            yield Match(low + block.a, new_low + block.b, block.size)


def _shared(base: Lines, ours: Lines, theirs: Lines) -> Iterator[tuple[int, int, int, int]]:
    """Yields (base, ours, theirs, size) of runs that all three have, and at the end one without lines."""
    a, b = matches(base, ours), matches(base, theirs)
    i = j = 0
    while i < len(a) and j < len(b):
        start = max(a[i].old, b[j].old)
        end = min(a[i].old + a[i].size, b[j].old + b[j].size)
        if start < end:
            yield start, a[i].new + start - a[i].old, b[j].new + start - b[j].old, end - start
        if a[i].old + a[i].size < b[j].old + b[j].size:
            i += 1
        else:
            j += 1
    yield len(base), len(ours), len(theirs), 0


def _choose(base: Lines, ours: Lines, theirs: Lines) -> Lines | None:
    if ours in (theirs, base):
        return theirs
    return ours if theirs == base else None
