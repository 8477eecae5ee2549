"""Histories with merges as a text graph: a column for each line of commits, beside the commits' own lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Drawn(NamedTuple):
    """A row of the graph: a commit's own, or (None) one that only joins columns."""

    picture: str
    commit: bytes | None


def draw(commits: Iterable[tuple[bytes, Sequence[bytes]]]) -> Iterator[Drawn]:
    """Yields the rows for (commit, parents), given so that no commit precedes one that it is a parent of."""
    # Each column waits for a commit: the one that comes next on its line.
    columns: list[bytes] = []
    for commit, parents in commits:
        if commit not in columns:
            columns.append(commit)
        at = columns.index(commit)
        # Lines that meet in this commit are led to its first column, the nearest one first.
        while commit in columns[at + 1 :]:
            other = columns.index(commit, at + 1)
            yield Drawn(_leading_left(len(columns), at, other), None)
            del columns[other]
        yield Drawn(" ".join("*" if place == at else "|" for place in range(len(columns))), commit)
        if not parents:
            del columns[at]
            if at < len(columns):
                yield Drawn(_closing(len(columns), at), None)
            continue
        columns[at] = parents[0]
        for parent in reversed(parents[1:]):
            yield Drawn(_opening(len(columns), at), None)
            columns.insert(at + 1, parent)


def _leading_left(count: int, to: int, column: int) -> str:
    """Draws the end of a column in another one to its left; those right of it move up."""
    cells = [" "] * (2 * count)
    for place in range(column):
        cells[2 * place] = "|"
    for place in range(to, column - 1):
        cells[2 * place + 1] = "_"
    for place in range(column, count):
        cells[2 * place - 1] = "/"
    return "".join(cells).rstrip()


def _closing(count: int, at: int) -> str:
    """Draws what moves left after a column has ended; `count` columns are left."""
    cells = [" "] * (2 * count + 2)
    for place in range(count):
        cells[2 * place if place < at else 2 * place + 1] = "|" if place < at else "/"
    return "".join(cells).rstrip()


def _opening(count: int, at: int) -> str:
    """Draws a column that begins right of another one; those right of it move."""
    cells = [" "] * (2 * count + 2)
    for place in range(count):
        if place <= at:
            cells[2 * place] = "|"
        if place >= at:
            cells[2 * place + 1] = "\\"
    return "".join(cells).rstrip()


def simplified(
    history: Sequence[tuple[bytes, Sequence[bytes]]], kept: set[bytes]
) -> Iterator[tuple[bytes, Sequence[bytes]]]:
    """Yields the kept commits, each with the nearest kept ones that it leads to in place of its parents."""
    nearest: dict[bytes, tuple[bytes, ...]] = {}
    parents_of: dict[bytes, tuple[bytes, ...]] = {}
    for commit, parents in reversed(history):
        found = tuple(dict.fromkeys(near for parent in parents for near in nearest.get(parent, ())))
        parents_of[commit] = found
        nearest[commit] = (commit,) if commit in kept else found
    for commit, _ in history:
        if commit in kept:
            yield commit, parents_of[commit]
