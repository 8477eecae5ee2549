"""Merging texts line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vfs.text.matching import matching_blocks

Lines = Sequence[bytes]

OURS_MARKER, BASE_MARKER, MIDDLE_MARKER, THEIRS_MARKER = b"<<<<<<<", b"|||||||", b"=======", b">>>>>>>"


class Region(NamedTuple):
    """A part of a merged text: `merged`, or None where all three sides differ."""

    merged: Lines | None
    base: Lines
    ours: Lines
    theirs: Lines


class Labels(NamedTuple):
    """The names of the three sides in conflict markers."""

    ours: str
    base: str
    theirs: str


def merge_lines(base: Lines, ours: Lines, theirs: Lines) -> list[Region]:
    """Returns the merged text in regions: what one side changed is taken, what both changed alike too."""
    found: list[Region] = []
    at = at_ours = at_theirs = 0
    for start, start_ours, start_theirs, size in _shared(base, ours, theirs):
        parts = base[at:start], ours[at_ours:start_ours], theirs[at_theirs:start_theirs]
        if any(parts):
            found.append(Region(_choose(*parts), *parts))
        at, at_ours, at_theirs = start + size, start_ours + size, start_theirs + size
        if size:
            same = base[start:at]
            found.append(Region(same, same, same, same))
    return found


def join_regions(regions: Sequence[Region], labels: Labels) -> bytes:
    """Returns the text of regions, with conflict markers around those that did not merge (the form of diff3)."""
    pieces: list[bytes] = []
    end = _line_end(regions)
    for region in regions:
        if region.merged is not None:
            pieces.extend(region.merged)
            continue
        for mark, label, lines in (
            (OURS_MARKER, labels.ours, region.ours),
            (BASE_MARKER, labels.base, region.base),
            (MIDDLE_MARKER, "", region.theirs),
        ):
            pieces.append(mark + (b" " + label.encode() if label else b"") + end)
            pieces.extend(lines)
            if lines and not lines[-1].endswith(b"\n"):
                pieces.append(end)
        pieces.append(THEIRS_MARKER + b" " + labels.theirs.encode() + end)
    return b"".join(pieces)


def _line_end(regions: Sequence[Region]) -> bytes:
    """Returns the line end of conflict markers: that of the first line of the text."""
    for region in regions:
        for lines in (region.merged or (), region.ours, region.theirs, region.base):
            if lines:
                return b"\r\n" if lines[0].endswith(b"\r\n") else b"\n"
    return b"\n"


def has_conflict_markers(text: bytes) -> bool:
    """Returns True if a text still has a conflict's first or last marker at the start of a line."""
    return any((b"\n" + text).find(b"\n" + mark + b" ") >= 0 for mark in (OURS_MARKER, THEIRS_MARKER))


def split_lines(text: bytes, shared: dict[bytes, bytes] | None = None) -> list[bytes]:
    """Returns the lines with their ends; the last one may have none.

    Texts that are given the same `shared` have each line in memory once.
    """
    lines = text.splitlines(keepends=True)
    return lines if shared is None else [shared.setdefault(line, line) for line in lines]


def _shared(base: Lines, ours: Lines, theirs: Lines) -> Iterator[tuple[int, int, int, int]]:
    """Yields (base, ours, theirs, size) of runs that all three have, and at the end one without lines."""
    a, b = matching_blocks(base, ours), matching_blocks(base, theirs)
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
