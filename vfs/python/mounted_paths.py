"""Where a repository is mounted, for programs that are faster with a path of the operating system."""

from __future__ import annotations

import os
from pathlib import Path

from vfs.control.mount_points import enclosing_mount, live_mounts
from vfs.control.mount_table import read_table
from vfs.errors import InvalidInput, NotFound
from vfs.model.layout import marked
from vfs.model.names import show_path
from vfs.repo.paths import CONFIG


def repository_at(path: Path) -> Path:
    """Returns the directory of the repository that a path is, is inside of, or is in a mount of. Raises NotFound."""
    here = Path(os.path.abspath(path))
    mount = enclosing_mount(here, read_table())
    if mount is not None:
        return mount.repository
    for directory in (here, *here.parents):
        if (directory / CONFIG).is_file():
            return directory
    shown = show_path(os.fsencode(path))
    if not os.path.lexists(here):
        raise NotFound(f"no repository at {shown}: nothing is there")
    raise InvalidInput(f"{shown} is no repository", hint="Name a repository's directory, or one where it is mounted.")


def path_in_mount(repository: Path, name: str, commit_id: str, path: bytes) -> Path | None:
    """Returns where a live mount shows a path of a version, None where none does."""
    for mount in live_mounts():
        if mount.root or mount.repository != repository:
            continue
        # By its id: the number may be another version's on the branch of this mount.
        shown = mount.path / os.fsdecode(marked(commit_id.encode()))
        try:
            os.stat(shown)
        except OSError:
            # The daemon is gone.
            continue
        return shown / os.fsdecode(path) if path else shown
    return None
