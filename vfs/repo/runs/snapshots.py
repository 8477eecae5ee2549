"""What a working layer shows at one moment, kept as a commit without parents for the record of a run."""

from __future__ import annotations

import time

from vfs.model.ids import CommitId
from vfs.model.objects import Commit, Version
from vfs.overlay.overlay import Overlay
from vfs.overlay.snapshot import snapshot
from vfs.repo.repository import Repository
from vfs.store.object_writer import ObjectWriter
from vfs.store.trees.content_writer import ContentWriter

SNAPSHOT_META = "vfs.snapshot"
"""The key in the metadata of such a commit; the value is the branch."""
LOCK_TIMEOUT_S = 600.0


class Snapshots:
    """The last snapshot of each branch's working layer: a layer that has not changed since is not read again."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[tuple[int, int], CommitId]] = {}

    def take(self, repo: Repository, overlay: Overlay, author: str) -> Version | None:
        """Returns what a working layer shows: its base version if it has no changes (None without one), else a commit.

        The commit is durable, and no ref names it yet. Takes the write lock. Raises Busy, OSError.
        """
        with repo.write_lock(timeout_s=LOCK_TIMEOUT_S):
            with overlay.lock:
                if overlay.is_clean():
                    return overlay.base
                last = self._last.get(overlay.branch)
                if last is not None and last[0] == overlay.position and repo.index.has(last[1]):
                    return Version(last[1], repo.store.get_commit(last[1]))
                frozen = overlay.freeze()
                position = overlay.position
            try:
                with ObjectWriter(repo.store) as writer:
                    root, links = snapshot(frozen, writer, ContentWriter(writer, repo.config.ingest))
                    base_ns = overlay.base.commit.time_ns if overlay.base is not None else 0
                    made = Commit(
                        number=1,
                        parents=(),
                        root=root,
                        links=links,
                        time_ns=max(time.time_ns(), base_ns),
                        author=author,
                        message=f"working layer of {overlay.branch}",
                        meta=((SNAPSHOT_META, overlay.branch),),
                    )
                    commit_id = writer.put_commit(made)
                    writer.flush()
            finally:
                overlay.thaw(frozen)
            self._last[overlay.branch] = position, commit_id
            return Version(commit_id, made)


def is_snapshot(commit: Commit) -> bool:
    """Returns True for a commit that keeps a working layer for a record."""
    return any(key == SNAPSHOT_META for key, _ in commit.meta)
