"""`user.vfs.run`: the extended attribute that names the run which wrote a file."""

from __future__ import annotations

import trio

from vfs.errors import NoAttribute
from vfs.fuse.read_only_tree import ReadOnlyTree
from vfs.fuse.view.version_inodes import VersionFile
from vfs.fuse.working_tree import WorkingTree
from vfs.model.objects import Kind
from vfs.repo.repository import Repository
from vfs.repo.runs.writers import WrittenFile, writer_of

RUN_XATTR = b"user.vfs.run"


async def run_attribute(repo: Repository, side: ReadOnlyTree | WorkingTree, number: int) -> bytes:
    """Returns the name of a run, `r17`. Records are searched in a thread. Raises NoAttribute."""
    file = _file(side, number)
    run = await trio.to_thread.run_sync(writer_of, repo, file) if file is not None else None
    if run is None:
        raise NoAttribute("no run is known to have written this")
    return run.name.encode("ascii")


def _file(side: ReadOnlyTree | WorkingTree, number: int) -> WrittenFile | None:
    if isinstance(side, WorkingTree):
        attr = side.overlay.getattr(number)
        if attr.kind != Kind.FILE or not attr.nlink:
            return None
        return WrittenFile(side.overlay.path_of(number), attr.size, attr.mtime_ns)
    inode = side.known(number)
    if not isinstance(inode, VersionFile) or inode.entry.kind != Kind.FILE:
        return None
    return WrittenFile(inode.path, inode.entry.size, inode.entry.mtime_ns, inode.entry.content)
