"""The working layer for Python programs: files are written through its mount where it has one, else here."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vfs.control.access import LayerAccess
from vfs.control.messages import CommitArgs, Empty
from vfs.control.mount_table import visible_mount_locations
from vfs.control.services import CHANGES, COMMIT
from vfs.errors import Busy, InvalidInput, NotFound
from vfs.model.names import path_text
from vfs.model.objects import Version as StoredVersion
from vfs.overlay.overlay import Overlay
from vfs.python.entries import entry_of, path_bytes
from vfs.python.hints import worded_methods
from vfs.python.open_repositories import SharedRepository
from vfs.python.version_changes import Change
from vfs.python.versions import StrPath, Version
from vfs.python.working_files import LayerFiles, MountedFiles, NewFile, OpenedFiles, TextFile
from vfs.repo.authorship import checked_author, checked_message, default_author
from vfs.repo.describe import check_meta


@worded_methods
class WorkingLayer:
    """A branch's newest version with uncommitted changes over it, to write to; a context manager.

    What is written stays there, uncommitted, when it is closed. While no mount has the layer, this process holds it
    from the first use until it is closed, and a mount of the branch or another program that wants it is told Busy.
    A file appears under its name when it is closed, whole; one that an exception interrupts does not appear.
    Not for use after a fork. Methods raise the errors of `vfs.errors`; OSError where a disk is full.
    """

    def __init__(self, shared: SharedRepository, branch: str) -> None:
        self._shared = shared
        self._branch = branch
        self._access = LayerAccess(shared.opened())
        self._stack = ExitStack()
        self._held: LayerFiles | None = None

    @property
    def branch(self) -> str:
        """Its branch."""
        return self._branch

    @property
    def path(self) -> Path | None:
        """Where a live mount shows it, else None."""
        files = self._files()
        return files.top if isinstance(files, MountedFiles) else None

    def _files(self) -> LayerFiles:
        if self._held is None:
            held = self._stack.enter_context(self._access.hold(self._branch))
            if isinstance(held, Overlay):
                self._held = OpenedFiles(held)
            else:
                places = (place.path_to(held.top) for place in visible_mount_locations(held.device))
                top = next(filter(None, places), None)
                if top is None:
                    raise Busy("a mount that this process does not see has the working layer")
                self._held = MountedFiles(Path(os.fsdecode(top)))
        return self._held

    # Files.

    def open(self, path: StrPath, mode: str = "rb", encoding: str | None = None) -> Any:
        """Opens a file to be read (`rb`, `r`) or written anew (`wb`, `w`); text is UTF-8 unless `encoding` says else.

        Directories on the way to a new file are made.
        """
        kind, is_text = mode.replace("b", "").replace("t", ""), "b" not in mode
        if kind not in ("r", "w") or (is_text and mode not in ("r", "w", "rt", "wt")):
            raise ValueError(f"mode {mode!r} is none of r, rb, w and wb")
        name = _file_path(path)
        file: Any = self._files().read(name) if kind == "r" else NewFile(self._files(), name)
        return TextFile(file, encoding=encoding or "utf-8") if is_text else file

    def write(self, path: StrPath, data: bytes | bytearray | memoryview | str) -> None:
        """Writes a whole file; text in UTF-8. Directories on the way are made."""
        with NewFile(self._files(), _file_path(path)) as file:
            file.write(data.encode() if isinstance(data, str) else data)

    def read_bytes(self, path: StrPath) -> bytes:
        """Returns the bytes of a file."""
        with self._files().read(_file_path(path)) as file:
            return bytes(file.read())

    def read_text(self, path: StrPath) -> str:
        """Returns a file as text (UTF-8)."""
        return self.read_bytes(path).decode()

    def exists(self, path: StrPath) -> bool:
        """Returns True if a path is there."""
        return self._files().kind(path_bytes(path)) is not None

    def listdir(self, path: StrPath = "") -> list[str]:
        """Returns the names in a directory, sorted."""
        return sorted(map(path_text, self._files().names(path_bytes(path))))

    def mkdir(self, path: StrPath) -> None:
        """Makes a directory and those above it; does nothing where it is there."""
        self._files().make_directories(_file_path(path))

    def remove(self, path: StrPath) -> None:
        """Removes a file, or a directory with all that is in it. Raises NotFound."""
        files, name = self._files(), _file_path(path)
        kind = files.kind(name)
        if kind is None:
            raise NotFound(f"no file or directory {os.fspath(path)!r} in the working layer")
        if kind == "directory":
            for each in files.names(name):
                self.remove(os.fsdecode(name + b"/" + each))
        files.remove(name, is_directory=kind == "directory")

    # Versions.

    def changes(self) -> list[Change]:
        """Returns what differs from the newest version."""
        found = self._perform(CHANGES, Empty())
        return [
            Change(
                path_text(each.path),
                each.kind,
                None if each.old is None else entry_of(each.path, each.old),
                None if each.new is None else entry_of(each.path, each.new),
                tuple(each.as_change().aspects),
            )
            for each in found
        ]

    def commit(
        self,
        message: str,
        *,
        author: str | None = None,
        metadata: Mapping[str, str] | None = None,
        paths: Sequence[StrPath] = (),
        allow_empty: bool = False,
    ) -> Version:
        """Makes all changes, or those at some paths, the branch's next version and returns it: it is durable then.

        `author`: user@host unless given. Raises NothingToDo without changes (unless `allow_empty`), Busy, Conflict,
        InvalidInput for an empty message.
        """
        pairs = dict(metadata or {})
        check_meta(pairs)
        args = CommitArgs(
            checked_message(message),
            checked_author(author) if author is not None else default_author(),
            allow_empty,
            pairs,
            time.time_ns(),
            [path_bytes(path) for path in paths],
        )
        commit_id = self._perform(COMMIT, args).id
        return Version(self._shared, StoredVersion(commit_id, self._shared.opened().store.get_commit(commit_id)))

    def _perform(self, service: Any, args: Any) -> Any:
        # Services open the layer themselves.
        self.close()
        return self._access.perform(self._branch, service, args)

    def close(self) -> None:
        """Lets the layer go, with what was written; the next use takes it again."""
        self._held = None
        self._stack.close()

    def __enter__(self) -> WorkingLayer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<vfs.WorkingLayer of {self._branch} in {self._shared.path}>"


def _file_path(path: StrPath) -> bytes:
    name = path_bytes(path)
    if not name:
        raise InvalidInput("the path is empty")
    if os.fspath(path).endswith("/"):
        raise InvalidInput(f"{os.fspath(path)!r} ends in a slash")
    return name
