"""Looking at the working layer: `status`, and `diff` between it and any version."""

from __future__ import annotations

from collections.abc import Iterator

from vfs.history.diff import PathChange, diff_trees
from vfs.model.objects import Version
from vfs.overlay.overlay import Overlay
from vfs.overlay.snapshot import snapshot
from vfs.repo.repository import Repository
from vfs.store.directories import resolve_path
from vfs.store.ingest import ContentWriter
from vfs.store.scratch import ScratchSink


def status(overlay: Overlay) -> Iterator[PathChange]:
    """Yields what differs between the working layer and the version that it stands on; reads no file's bytes.

    Names in order, a directory before what is in it. The cost follows what was changed. A file's new content has no id
    yet.
    """
    for change in overlay.changes():
        yield PathChange(change.path, change.kind, change.old, change.new)


def diff_working(
    repo: Repository, overlay: Overlay, version: Version, path: bytes = b"", *, directory_times: bool = False
) -> list[PathChange]:
    """Returns what differs from a version to the working layer as it is now, at a path and below.

    Changed files are read and hashed, nothing is stored. Waits for a commit under way, and a commit waits for it.
    """
    sink = ScratchSink(repo.store)
    # The picture of a layer excludes a commit and an import's last step, which must not meet it half way.
    with repo.write_lock():
        frozen = overlay.freeze()
        try:
            root, _ = snapshot(frozen, sink, ContentWriter(sink, repo.config.ingest))
        finally:
            overlay.thaw(frozen)
    old = resolve_path(repo.store, version.commit.root, path).entry if path else version.commit.root
    new = resolve_path(sink, root, path).entry if path else root
    return list(diff_trees(sink, old, new, path, directory_times=directory_times))
