"""Looking at the working layer: `status`, and `diff` between it and any version."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from vfs.history.diff import PathChange, diff_trees
from vfs.model.names import join_path
from vfs.model.objects import Kind, Version
from vfs.repo.ignore_rules import RULES_BYTES_MAX, RULES_NAME, Rules
from vfs.store.trees.directories import resolve_path

if TYPE_CHECKING:
    from vfs.overlay.overlay import Overlay
    from vfs.repo.repository import Repository


def status(overlay: Overlay) -> Iterator[PathChange]:
    """Yields what differs between the working layer and the version that it stands on; reads no file's bytes.

    Names in order, a directory before what is in it. The cost follows what was changed. A file's new content has no id
    yet.
    """
    for change in overlay.changes():
        yield PathChange(change.path, change.kind, change.old, change.new)


def status_apart(overlay: Overlay) -> Iterator[tuple[PathChange, bool]]:
    """Yields what `status` does, each with whether ignore rules name it, so that a commit leaves it out."""
    directories: dict[bytes, _Ruled] = {}

    def ruled(path: bytes) -> _Ruled:
        found = directories.get(path)
        if found is None:
            parent, _, name = path.rpartition(b"/")
            above = ruled(parent) if path else _Ruled(Rules(), is_ignored=False)
            is_ignored = bool(path) and above.ignores(parent, name, is_directory=True)
            found = directories[path] = _Ruled(above.rules.inside(path, _rules_text(overlay, path)), is_ignored)
        return found

    for change in status(overlay):
        parent, _, name = change.path.rpartition(b"/")
        is_new = change.kind == "added" and change.new is not None
        is_directory = change.new is not None and change.new.kind == Kind.DIR
        yield change, is_new and ruled(parent).ignores(parent, name, is_directory=is_directory)


class _Ruled(NamedTuple):
    """The rules that hold in a directory, and whether it is ignored itself."""

    rules: Rules
    is_ignored: bool

    def ignores(self, directory: bytes, name: bytes, *, is_directory: bool) -> bool:
        """Returns True if a name in the directory is ignored."""
        return self.is_ignored or self.rules.ignores(directory, name, is_directory=is_directory)


def _rules_text(overlay: Overlay, directory: bytes) -> bytes | None:
    path = join_path(directory, RULES_NAME)
    with overlay.opened(path) as attr:
        if attr is None or attr.kind != Kind.FILE or attr.size > RULES_BYTES_MAX:
            return None
        return bytes(overlay.read(attr.ino, 0, attr.size))


def has_changes(overlay: Overlay) -> bool:
    """Returns True if there is anything that a commit would keep."""
    return any(not is_ignored for _, is_ignored in status_apart(overlay))


def diff_working(
    repo: Repository, overlay: Overlay, version: Version, path: bytes = b"", *, directory_times: bool = False
) -> list[PathChange]:
    """Returns what differs from a version to the working layer as it is now, at a path and below.

    Changed files are read and hashed, nothing is stored. Waits for a commit under way, and a commit waits for it.
    """
    from vfs.overlay.snapshot import snapshot
    from vfs.store.dry_run_sink import DryRunSink
    from vfs.store.trees.content_writer import ContentWriter

    sink = DryRunSink(repo.store)
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
