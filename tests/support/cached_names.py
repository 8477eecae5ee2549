"""A model of the kernel's name cache over a working layer, and a check that invalidations cover all changes."""

from __future__ import annotations

from collections.abc import Iterable

from support.working import Bench
from vfs.errors import VfsError
from vfs.overlay.layer_nodes import ROOT_INO, Attr
from vfs.overlay.state import Invalidation

Cached = dict[tuple[int, bytes], Attr | None]
"""What was found at names, by the directory's number and the name; None for nothing."""


def cached_names(bench: Bench, folders: Iterable[bytes], names: Iterable[bytes]) -> Cached:
    """Returns what a kernel remembers that has looked up names in directories."""
    kept = list(names)
    return {(parent, name): _look(bench, parent, name) for parent in map(bench.ino, folders) for name in kept}


def check_cached(bench: Bench, folders: Iterable[bytes], cached: Cached, stale: list[Invalidation]) -> None:
    """What was not called stale is as it was, if the path to it is; `folders` are those of now, parents first."""
    names = {(entry.parent, entry.name) for entry in stale}
    inos = {entry.ino for entry in stale} | {entry.parent for entry in stale}
    reachable = {ROOT_INO}
    for path in folders:
        if path:
            parent, name = bench.at(path)
            attr = cached.get((parent, name))
            if parent in reachable and (parent, name) not in names and attr is not None:
                reachable.add(attr.ino)
    for (parent, name), attr in cached.items():
        if parent in reachable and (parent, name) not in names:
            found = _look(bench, parent, name)
            if found is None or attr is None or attr.ino not in inos:
                assert found == attr, (parent, name)


def _look(bench: Bench, parent: int, name: bytes) -> Attr | None:
    try:
        return bench.overlay.lookup(parent, name)
    except VfsError:
        return None
