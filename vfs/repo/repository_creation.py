"""Making a repository: checks of its place, its directory, and the one file that makes it a repository."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from vfs.backend.durable import OnStep, sync_directory
from vfs.backend.protocol import KeyExists
from vfs.backend.storage import Storage, local_storage
from vfs.errors import Advice, AlreadyExists, Hint, InvalidInput, NotADirectory, NotEmpty
from vfs.repo import paths
from vfs.repo.config import Config, encode_config

PRIVATE = 0o700
"""The permissions of a repository's directory, unless its maker asks for others."""


def create_repository(
    path: Path, config: Config, mode: int, storage: Storage | None, on_step: OnStep | None
) -> Storage:
    """Makes a repository, durable on return, and returns where it stores. Arguments and errors: Repository.init."""
    if os.path.lexists(path) and not path.is_dir():
        raise NotADirectory(f"{path} is not a directory", hint="Name a new or empty directory.")
    for above in path.absolute().parents:
        if (above / paths.CONFIG).is_file():
            raise InvalidInput(f"{path} is inside the repository {above}", hint="Name a directory outside of it.")
    is_new = not path.exists()
    if is_new:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(PRIVATE)
    found = set(os.listdir(path))
    if paths.CONFIG in found:
        raise _already_exists(path)
    if found - paths.LEFT_BY_INIT:
        raise NotEmpty(f"{path} is not empty", hint=Hint(Advice.NAME_NEW_DIRECTORY))
    try:
        with contextlib.suppress(PermissionError):
            # The directory of another user, or on a filesystem without modes: `fsck` reports its permissions.
            os.chmod(path, mode)
        # One file makes a directory a repository, and it appears whole; the rest is made when it is first needed.
        storage = storage or local_storage(path, on_step)
        storage.objects.put_if_absent(paths.CONFIG, encode_config(config))
        sync_directory(path.absolute().parent)
    except KeyExists:
        # Another process was faster, and its settings stand.
        raise _already_exists(path) from None
    except OSError:
        if is_new:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
    return storage


def _already_exists(path: Path) -> AlreadyExists:
    return AlreadyExists(f"{path} is a repository already", hint=Hint(Advice.MOUNT_IT))
