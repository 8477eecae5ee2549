"""`restore`: paths of the working layer become what they were in a version. Nothing is copied; no version changes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from vfs.errors import Conflict, NotADirectory, NotFound
from vfs.model.names import show_path, split_path
from vfs.model.objects import Kind, Version
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Stale
from vfs.repo.commit import COMMIT_TIMEOUT_S
from vfs.repo.repository import Repository
from vfs.store.directories import Place, resolve_path
from vfs.store.log import Operation

_SHOWN_MAX = 5
_LOGGED_PATHS_MAX = 100


class Restored(NamedTuple):
    """What a restore did: `removed` paths were not in the version. `stale` is what the kernel must look up again."""

    restored: list[bytes]
    removed: list[bytes]
    stale: Sequence[Stale]


def restore(
    repo: Repository,
    overlay: Overlay,
    version: Version,
    paths: Sequence[bytes] = (),
    *,
    discard: bool = False,
    author: str = "",
) -> Restored:
    """Makes paths of the working layer (none: all of it) what they are in a version; removes those that it lacks.

    The change is uncommitted, like one made by hand. Raises Conflict where that would lose uncommitted changes, unless
    `discard`; NotFound for a path that neither the version nor the working layer has.
    """
    wanted = _without_nested([b"/".join(split_path(path)) for path in paths] or [b""])
    # What the version has must still be there when the working layer names it: no sweep meanwhile.
    with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S), overlay.lock:
        if repo.refs.is_forgotten(version.id) or not repo.index.has(version.id):
            raise NotFound(f"{version.name} was forgotten meanwhile", hint="`vfs log` shows which versions are left.")
        places = {path: _find(repo, version, path) for path in wanted}
        for path, place in places.items():
            if place is None and overlay.find(path) is None:
                raise NotFound(f"neither {version.name} nor the working layer has {show_path(path)}")
        if not discard:
            _refuse_to_lose(overlay, wanted)
        stale: list[Stale] = []
        if discard and wanted == [b""] and overlay.base is not None and overlay.base.id != version.id:
            stale.extend(_follow(repo, overlay, overlay.base, version))
        restored: list[bytes] = []
        removed: list[bytes] = []
        for path, place in places.items():
            if place is None:
                stale.extend(overlay.graft(path, None))
                removed.append(path)
                continue
            stale.extend(_make_parents(repo, overlay, version, path))
            stale.extend(overlay.graft(path, place.entry, place.directory, version.commit.links))
            restored.append(path)
        _log(repo, overlay, version, wanted, author)
    return Restored(restored, removed, stale)


def _follow(repo: Repository, overlay: Overlay, base: Version, version: Version) -> list[Stale]:
    """Lets a working layer that lags behind its branch stand on the branch's head again, without its changes."""
    head = repo.head(overlay.branch)
    if head is None or head.id != version.id:
        return []
    return [*overlay.graft(b"", base.commit.root, None, base.commit.links), *overlay.set_base(version)]


def _without_nested(paths: list[bytes]) -> list[bytes]:
    """Returns the paths that lie below no other one, sorted."""
    wanted: list[bytes] = []
    for path in sorted(set(paths), key=lambda path: path.split(b"/")):
        if not any(_is_within(path, above) for above in wanted[-1:]):
            wanted.append(path)
    return wanted


def _find(repo: Repository, version: Version, path: bytes) -> Place | None:
    try:
        return resolve_path(repo.store, version.commit.root, path)
    except (NotFound, NotADirectory):
        return None


def _refuse_to_lose(overlay: Overlay, wanted: list[bytes]) -> None:
    lost: list[bytes] = []
    for change in overlay.changes():
        if change.kind == "removed":
            # What was removed is in the version below: bringing it back is what restoring is for.
            continue
        if any(_is_within(change.path, path) or _is_within(path, change.path) for path in wanted):
            # A changed directory above a path loses nothing but where it stands in the way.
            is_above = not any(_is_within(change.path, path) for path in wanted)
            if not (is_above and change.new is not None and change.new.kind == Kind.DIR):
                lost.append(change.path)
    if lost:
        shown = ", ".join(show_path(path) or "." for path in lost[:_SHOWN_MAX])
        more = f" and {len(lost) - _SHOWN_MAX} more" if len(lost) > _SHOWN_MAX else ""
        raise Conflict(
            f"uncommitted changes would be lost: {shown}{more}",
            hint="Commit them first (`vfs commit`), or drop them with --discard.",
        )


def _make_parents(repo: Repository, overlay: Overlay, version: Version, path: bytes) -> list[Stale]:
    """Makes the directories that lead to a path where they are missing, as they are in the version."""
    stale: list[Stale] = []
    names = split_path(path)[:-1]
    for end in range(1, len(names) + 1):
        above = b"/".join(names[:end])
        if overlay.find(above) is None:
            entry = resolve_path(repo.store, version.commit.root, above).entry
            empty = msgspec.structs.replace(entry, content=b"", tiny=b"", files=0, size=0)
            stale.extend(overlay.graft(above, empty))
    return stale


def _is_within(path: bytes, above: bytes) -> bool:
    return not above or path == above or path.startswith(above + b"/")


def _log(repo: Repository, overlay: Overlay, version: Version, wanted: list[bytes], author: str) -> None:
    """Notes what was restored: the working layer's own journal has the change, this says whose it was."""
    overlay.sync()
    paths = " ".join(show_path(path) or "." for path in wanted[:_LOGGED_PATHS_MAX])
    args = {"branch": overlay.branch, "version": version.id.hex(), "paths": paths, "count": str(len(wanted))}
    repo.refs.move(Operation(time_ns=time.time_ns(), kind="restore", author=author, args=args))
