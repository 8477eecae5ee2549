"""`restore`: paths of the working layer become what they were in a version. Nothing is copied; no version changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from vfs.errors import Advice, Conflict, Corrupt, Hint, NotADirectory, NotFound
from vfs.history.diff import FileCounts, count_files
from vfs.model.names import is_within, show_path, split_path
from vfs.model.objects import Kind, Version
from vfs.overlay.overlay import Overlay
from vfs.overlay.state import Invalidation
from vfs.repo.commit import COMMIT_TIMEOUT_S
from vfs.repo.repository import Repository
from vfs.repo.stash import Stash, make_parents, stash_layer
from vfs.store.refs.operation import Operation
from vfs.store.refs.operation_args import RestoreLogArgs
from vfs.store.trees.directories import Place, resolve_path

log = logging.getLogger(__name__)

_SHOWN_MAX = 5
_LOGGED_PATHS_MAX = 100


class Restored(NamedTuple):
    """What a restore did: `removed` paths were not in the version. `stale` is what the kernel must look up again.

    `counts` is how many files of the working layer it changed; None where what there was before could not be kept.
    """

    restored: list[bytes]
    removed: list[bytes]
    stale: Sequence[Invalidation]
    counts: FileCounts | None = None


def restore(
    repo: Repository,
    overlay: Overlay,
    version: Version,
    paths: Sequence[bytes] = (),
    *,
    discard: bool = False,
    author: str = "",
) -> Restored:
    """Restores paths of the working layer (none: all of it) from a version; removes those that it lacks.

    The change is uncommitted, like one made by hand. Raises Conflict where that would lose uncommitted changes, unless
    `discard`; NotFound for a path that neither the version nor the working layer has.
    """
    wanted = _without_nested([b"/".join(split_path(path)) for path in paths] or [b""])
    # What the version has must still be there when the working layer names it: no sweep meanwhile.
    with repo.write_lock(timeout_s=COMMIT_TIMEOUT_S):
        if repo.refs.is_forgotten(version.id) or not repo.index.has(version.id):
            raise NotFound(f"{version.name} was forgotten meanwhile", hint=Hint(Advice.VERSIONS_LEFT))
        with overlay.lock:
            places = _places(repo, overlay, version, wanted, discard=discard)
        while True:
            before = _stash_before(repo, overlay, author, discard=discard)
            with overlay.lock:
                if before is not None and before.position != overlay.position:
                    # A program has written meanwhile, and its changes are not stashed yet.
                    continue
                done = _graft(repo, overlay, version, places, discard=discard)
            after = _log(repo, overlay, version, wanted, author, before)
            if before is None or after is None:
                return done
            counts = count_files(repo.store, before.version.commit.root, after.version.commit.root)
            return done._replace(counts=counts)


def _stash_before(repo: Repository, overlay: Overlay, author: str, *, discard: bool) -> Stash | None:
    """Stashes the working layer, so that the restore can be undone."""
    try:
        return stash_layer(repo, overlay, author)
    except (Corrupt, OSError) as error:
        if not discard:
            raise
        # Dropping damaged data, or what fills the disk, is what was asked for.
        log.warning("restoring without keeping what was there: %s", error)
        return None


def _places(
    repo: Repository, overlay: Overlay, version: Version, wanted: list[bytes], *, discard: bool
) -> dict[bytes, Place | None]:
    """Finds the paths in a version.

    Raises NotFound for one that is neither there nor in the working layer, Conflict where changes would be lost.
    """
    places = {path: _find(repo, version, path) for path in wanted}
    for path, place in places.items():
        if place is None and overlay.find(path) is None:
            raise NotFound(f"neither {version.name} nor the working layer has {show_path(path)}")
    if not discard:
        _require_no_changes(overlay, wanted)
    return places


def _graft(
    repo: Repository, overlay: Overlay, version: Version, places: dict[bytes, Place | None], *, discard: bool
) -> Restored:
    if not discard:
        _require_no_changes(overlay, list(places))
    stale: list[Invalidation] = []
    if discard and list(places) == [b""] and overlay.base is not None and overlay.base.id != version.id:
        stale.extend(_follow(repo, overlay, overlay.base, version))
    restored: list[bytes] = []
    removed: list[bytes] = []
    for path, place in places.items():
        if place is None:
            stale.extend(overlay.graft(path, None))
            removed.append(path)
            continue
        stale.extend(make_parents(repo, overlay, version, path))
        stale.extend(overlay.graft(path, place.entry, place.directory, version.commit.links))
        restored.append(path)
    return Restored(restored, removed, stale)


def _follow(repo: Repository, overlay: Overlay, base: Version, version: Version) -> list[Invalidation]:
    """Moves a working layer that lags behind its branch to the branch's head, without its changes."""
    head = repo.head(overlay.branch)
    if head is None or head.id != version.id:
        return []
    return [*overlay.graft(b"", base.commit.root, None, base.commit.links), *overlay.set_base(version)]


def _without_nested(paths: list[bytes]) -> list[bytes]:
    """Returns the paths that lie below no other one, sorted."""
    wanted: list[bytes] = []
    for path in sorted(set(paths), key=lambda path: path.split(b"/")):
        if not any(is_within(path, above) for above in wanted[-1:]):
            wanted.append(path)
    return wanted


def _find(repo: Repository, version: Version, path: bytes) -> Place | None:
    try:
        return resolve_path(repo.store, version.commit.root, path)
    except (NotFound, NotADirectory):
        return None


def _require_no_changes(overlay: Overlay, wanted: list[bytes]) -> None:
    lost: list[bytes] = []
    for change in overlay.changes():
        if change.kind == "removed":
            # What was removed is in the version below: to restore it is the purpose.
            continue
        if any(is_within(change.path, path) or is_within(path, change.path) for path in wanted):
            # A changed directory above a path loses nothing but where it stands in the way.
            is_above = not any(is_within(change.path, path) for path in wanted)
            if not (is_above and change.new is not None and change.new.kind == Kind.DIR):
                lost.append(change.path)
    if lost:
        shown = ", ".join(show_path(path) or "." for path in lost[:_SHOWN_MAX])
        more = f" and {len(lost) - _SHOWN_MAX} more" if len(lost) > _SHOWN_MAX else ""
        raise Conflict(
            f"uncommitted changes would be lost: {shown}{more}",
            hint=Hint(Advice.COMMIT_OR_DISCARD_NOW),
        )


def _log(
    repo: Repository, overlay: Overlay, version: Version, wanted: list[bytes], author: str, before: Stash | None
) -> Stash | None:
    """Logs what was restored, and what there was before, for `undo`: the change itself is in the layer's journal.

    Returns what there is now, where it is known what there was before.
    """
    overlay.sync()
    paths = " ".join(show_path(path) or "." for path in wanted[:_LOGGED_PATHS_MAX])
    args = RestoreLogArgs(branch=overlay.branch, version=version.id.hex(), paths=paths, count=len(wanted))
    after = None
    if before is not None:
        after = stash_layer(repo, overlay, author)
        args = msgspec.structs.replace(
            args,
            base=overlay.base.id.hex() if overlay.base is not None else "",
            before=before.version.id.hex(),
            after=after.version.id.hex(),
        )
    repo.refs.move(Operation(time_ns=time.time_ns(), kind="restore", author=author, args=args))
    return after
