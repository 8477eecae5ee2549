"""Checks that all journals of a working layer are there and belong to it, also while a daemon appends to them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import NamedTuple

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt, Unsupported
from vfs.overlay.journal.durable_mark import Mark, read_mark
from vfs.overlay.journal.framing import Heading, read_heading
from vfs.overlay.journal.torn_tail import Extent, extent_of
from vfs.overlay.layer_files import BASE_NAME, JOURNALS
from vfs.overlay.object_references import base_reference
from vfs.overlay.open_journals import generation_of, journal_path

_ATTEMPTS = 20


class LayerFaults(NamedTuple):
    """Faults of a layer's journals in words: `damage`, and `notes` of what a crash may leave."""

    damage: list[str]
    notes: list[str]


class _JournalFile(NamedTuple):
    """A journal file as found; `heading` is None if that is damaged."""

    generation: int
    path: RootedPath
    heading: Heading | None
    extent: Extent | None
    size: int


def layer_faults(directory: RootedPath, branch: str, consumed_generation: int) -> LayerFaults | None:
    """Checks the base file, and the headings and ends of all journals that count; None if they keep changing.

    Damage within a file is reported by `check_file`.
    """
    for _ in range(_ATTEMPTS):
        try:
            before = base_reference(directory).generation
            # Read first: the journal it names is there by then.
            mark = read_mark(directory, branch)
            seen = [_inspect(path) for path in directory.glob(JOURNALS) if generation_of(path) is not None]
            base = _inspect(directory / BASE_NAME) if (directory / BASE_NAME).exists() else None
            if base_reference(directory).generation == before:
                found = _check_generations(directory, before, consumed_generation, sorted(seen))
                found.notes.extend(_torn_ends([base, *sorted(seen)] if base is not None else [], before))
                if mark is not None and before and not found.damage:
                    _check_mark(directory, mark, max(before, consumed_generation + 1), sorted(seen), found)
                found.damage.extend(_foreign_files([base, *seen] if base is not None else seen, branch))
                return found
        except FileNotFoundError:
            # A commit or a compaction has consumed it meanwhile.
            continue
        except (Corrupt, Unsupported):
            return LayerFaults([], [])
    return None


def _inspect(path: RootedPath) -> _JournalFile:
    fd = path.open(os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        generation = generation_of(path) or 0
        try:
            heading, start = read_heading(fd, path, size)
        except (Corrupt, Unsupported):
            return _JournalFile(generation, path, None, None, size)
        return _JournalFile(generation, path, heading, extent_of(fd, heading, start, size, is_thorough=True), size)
    finally:
        os.close(fd)


def _check_generations(directory: RootedPath, first: int, consumed: int, seen: list[_JournalFile]) -> LayerFaults:
    found = LayerFaults([], [])
    if not first:
        if seen and not (directory / BASE_NAME).exists():
            found.damage.append(f"{directory / BASE_NAME} is missing")
        return found
    wanted = max(first, consumed + 1)
    counting = [each for each in seen if each.generation >= first]
    later = [each for each in counting if each.generation >= wanted]
    checkpoint = next(
        (each for each in reversed(later) if each.heading is not None and each.heading.is_checkpoint), None
    )
    if not any(each.generation == wanted for each in later) and checkpoint is None:
        found.damage.append(f"{journal_path(directory, wanted)} is missing")
    if checkpoint is not None and checkpoint is later[-1]:
        found.damage.append(f"{directory}: the journal that follows {checkpoint.path.name} is missing")
    _check_ends([each for each in counting if checkpoint is None or each.generation >= checkpoint.generation], found)
    return found


def _check_mark(directory: RootedPath, mark: Mark, wanted: int, seen: list[_JournalFile], found: LayerFaults) -> None:
    """Adds damage where durable bytes of the newest journal are missing."""
    if mark.generation < wanted:
        return
    if mark.generation > max((each.generation for each in seen), default=0):
        found.damage.append(f"{journal_path(directory, mark.generation)} is missing")
    for each in seen:
        if each.heading is None or each.extent is None or each.heading.salt != mark.salt:
            continue
        if each.generation == mark.generation and each.extent.end < mark.position:
            found.damage.append(f"{each.path} has lost its end, which was durable")


def _foreign_files(seen: list[_JournalFile], branch: str) -> Iterator[str]:
    """Yields a message for each file of another layer or generation than its name says; the base file's is 0."""
    for each in seen:
        heading = each.heading
        if heading is not None and (heading.branch, heading.generation) != (branch, each.generation):
            yield f"{each.path} is the journal of generation {heading.generation} of {heading.branch!r}"


def _check_ends(counting: list[_JournalFile], found: LayerFaults) -> None:
    for before, after in itertools.pairwise(counting):
        if before.heading is None or before.extent is None or after.heading is None:
            continue
        ends_at = before.heading.next_seq if before.heading.is_checkpoint else before.extent.seq
        if ends_at != after.heading.first_seq:
            found.notes.append(f"{before.path} has lost its end, and {after.path.name} continues after it")


def _torn_ends(seen: list[_JournalFile], first: int) -> Iterator[str]:
    """Yields which files that count have bytes after their last whole record; generation 0 is the base file."""
    for each in seen:
        if each.generation and each.generation < first:
            continue
        if each.extent is not None and each.extent.end < each.size and each.path.lstat().st_size == each.size:
            rest = each.size - each.extent.end
            yield f"{each.path} ends in {rest:,} bytes of an incomplete record, as a crash leaves them"
