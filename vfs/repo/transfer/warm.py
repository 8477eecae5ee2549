"""Warm: prefetch contents of a version into the cache of a clone, before a program reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from vfs.errors import Conflict, InvalidInput
from vfs.model.objects import Entry, Form, Kind
from vfs.remote.lazy_packs import WINDOW_BYTES, LazyPacks
from vfs.repo.repository import Repository
from vfs.repo.transfer.byte_transfer import Movement
from vfs.store.object_store import ObjectSource
from vfs.store.packs.pack_file import PACK_BYTES_MAX
from vfs.store.trees.chunk_lists import list_runs
from vfs.store.trees.directories import resolve_path, walk

MIB = 1024 * 1024
_GAP_BYTES = 128 * 1024
"""Less than this between two pieces costs less than another request."""


class Warmed(NamedTuple):
    """What was fetched: requested files, bytes of packs that these need from remotes, bytes received."""

    files: int
    needed: int
    bytes: int


class _Part(NamedTuple):
    """A part of a pack that is wanted: within one window."""

    key: str
    start: int
    end: int


def warm(repo: Repository, root: Entry, paths: Iterable[bytes], *, movement: Movement) -> Warmed:
    """Brings the contents of files and directories of a version, in the order of the paths.

    Memory: some 100 bytes for each file. Raises NotFound for a path that is not there, Conflict where the cache holds
    less than is asked for, and what the backend raises.
    """
    packs = repo.store.backend
    files = 0
    wanted: dict[tuple[str, int], set[tuple[int, int]]] = {}
    for entry in _files(repo.store, root, paths):
        files += 1
        for key, start, end in _places(repo, entry):
            _add(wanted, key, start, end)
    parts = [part for window, pieces in wanted.items() for part in _joined(window[0], pieces)]
    needed = sum(part.end - part.start for part in parts)
    if not isinstance(packs, LazyPacks) or not parts:
        return Warmed(files, 0, 0)
    if needed > packs.cache_bytes:
        raise Conflict(
            f"this needs {needed // MIB + 1} MiB, and the cache holds {packs.cache_bytes // MIB} MiB",
            hint="Name fewer files, or give the cache more with --cache-disk.",
        )
    movement.expect(needed)

    def tasks() -> Iterator[tuple[int, Callable[[], int]]]:
        for part in parts:

            def bring(part: _Part = part) -> int:
                movement.keep_pace(part.end - part.start)
                return packs.bring(part.key, part.start, part.end - part.start)

            yield part.end - part.start, bring

    movement.run(tasks())
    return Warmed(files, needed, movement.done)


def _files(source: ObjectSource, root: Entry, paths: Iterable[bytes]) -> Iterator[Entry]:
    for path in paths:
        entry = resolve_path(source, root, path).entry if path else root
        if entry.kind == Kind.DIR:
            yield from (each for _, _, each in walk(source, entry, path) if each.kind == Kind.FILE)
        elif entry.kind == Kind.FILE:
            yield entry


def _places(repo: Repository, entry: Entry) -> Iterator[tuple[str, int, int]]:
    """Yields where a file's bytes are, of those that are at a remote alone."""
    if entry.form == Form.CHUNK:
        ids: Iterable[bytes] = [entry.content]
    elif entry.form == Form.LIST:
        ids = (run.id for _, run in list_runs(repo.store, entry.content) if run.id)
    else:
        return
    for object_id in ids:
        place = repo.index.lookup(object_id)
        if place is not None and not repo.index.is_here(place.pack):
            if place.offset + place.block_bytes > PACK_BYTES_MAX:
                raise InvalidInput("the index gives an object an impossible place", hint="Run the command again.")
            yield repo.index.pack_name(place.pack).key, place.offset, place.offset + place.block_bytes


def _add(wanted: dict[tuple[str, int], set[tuple[int, int]]], key: str, start: int, end: int) -> None:
    while start < end:
        number = start // WINDOW_BYTES
        stop = min(end, (number + 1) * WINDOW_BYTES)
        wanted.setdefault((key, number), set()).add((start, stop))
        start = stop


def _joined(key: str, pieces: set[tuple[int, int]]) -> Iterator[_Part]:
    """Yields the parts of one window that are worth a request each."""
    open_start = open_end = -1
    for start, end in sorted(pieces):
        if open_start >= 0 and start - open_end <= _GAP_BYTES:
            open_end = max(open_end, end)
            continue
        if open_start >= 0:
            yield _Part(key, open_start, open_end)
        open_start, open_end = start, end
    if open_start >= 0:
        yield _Part(key, open_start, open_end)
