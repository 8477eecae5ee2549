"""A version for Python programs: its files and what is said of it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from vfs.api.documents import VersionDocument, version_document
from vfs.errors import IsADirectory, NotADirectory, NotFound, ReadOnly
from vfs.model.ids import CommitId
from vfs.model.names import join_path, path_text, show_path
from vfs.model.objects import Kind
from vfs.model.objects import Version as StoredVersion
from vfs.python.entries import Entry, Found, entry_of, find, path_bytes
from vfs.python.hints import worded_methods
from vfs.python.mounted_paths import path_in_mount
from vfs.python.open_repositories import SharedRepository, shared_repository
from vfs.python.version_files import File, RawFile
from vfs.repo.notes import described
from vfs.store.trees.directories import entries, file_content, walk

if TYPE_CHECKING:
    from vfs.python.datasets import Files
    from vfs.python.filesystem import VersionFileSystem

StrPath = str | os.PathLike[str]


@worded_methods
class Version:
    """A version: complete, read-only, the same for ever. Pickles by its repository's path and its id.

    Paths are relative to its root, with `/` between their parts. Links in it are followed where they lead to something
    in it. Methods raise the errors of `vfs.errors`: NotFound, NotADirectory, IsADirectory, Corrupt.
    """

    def __init__(self, shared: SharedRepository, stored: StoredVersion) -> None:
        self._shared = shared
        self._stored = stored

    @property
    def repository(self) -> Path:
        """The directory of its repository."""
        return self._shared.path

    @property
    def id(self) -> str:
        """The commit id, in 64 hexadecimal digits: its name for ever and in every copy."""
        return self._stored.id.hex()

    @property
    def number(self) -> int:
        """12 for `v12`: its place in the history of the branch that it was made on."""
        return self._stored.commit.number

    @property
    def name(self) -> str:
        """`v12`."""
        return self._stored.name

    @property
    def message(self) -> str:
        """Why it was made."""
        return self._described.commit.message

    @property
    def metadata(self) -> dict[str, str]:
        """The pairs that were given with it."""
        return dict(self._described.commit.meta)

    @property
    def author(self) -> str:
        """Who made it."""
        return self._stored.commit.author

    @property
    def time(self) -> datetime:
        """When it was made, with its zone (UTC)."""
        return datetime.fromtimestamp(self._stored.commit.time_ns / 1e9, UTC)

    @property
    def parents(self) -> list[str]:
        """The ids of the versions that it was made from: two for a merge."""
        return [parent.hex() for parent in self._stored.commit.parents]

    @property
    def tags(self) -> list[str]:
        """The tags that name it now."""
        from vfs.repo.tags import list_tags

        return [tag.name for tag in list_tags(self._shared.opened()) if tag.commit_id == self._stored.id]

    @property
    def files(self) -> int:
        """How many files it has."""
        return self._stored.commit.root.files

    @property
    def size(self) -> int:
        """The bytes of all its files."""
        return self._stored.commit.root.size

    @property
    def _described(self) -> StoredVersion:
        return described(self._shared.opened(), self._stored)

    def as_dict(self) -> VersionDocument:
        """Returns what `--json` prints of a version."""
        return version_document(self._described, {self._stored.id: self.tags})

    # Files.

    def info(self, path: StrPath = "", *, follow: bool = True) -> Entry:
        """Returns the entry at a path; `follow`: of a link, the entry that it leads to, under the link's path."""
        name = path_bytes(path)
        return entry_of(name, self._find(name, follow=follow).entry)

    def exists(self, path: StrPath) -> bool:
        """Returns True if a path is there; of a link, if what it leads to is."""
        try:
            self._find(path_bytes(path))
        except (NotFound, NotADirectory):
            return False
        return True

    def ls(self, path: StrPath = "") -> list[Entry]:
        """Returns the entries of a directory by name; links as they are."""
        name = path_bytes(path)
        found = self._find(name)
        if found.entry.kind != Kind.DIR:
            raise NotADirectory(f"{show_path(name)} is not a directory")
        source = self._shared.opened().store
        return [entry_of(join_path(name, entry.name), entry) for entry in entries(source, found.entry)]

    def walk(self, path: StrPath = "") -> Iterator[Entry]:
        """Yields all entries below a directory, a directory before what is in it; links as they are."""
        name = path_bytes(path)
        found = self._find(name)
        if found.entry.kind != Kind.DIR:
            raise NotADirectory(f"{show_path(name)} is not a directory")
        for child, _, entry in walk(self._shared.opened().store, found.entry, name):
            yield entry_of(child, entry)

    def glob(self, pattern: str) -> list[Entry]:
        """Returns the files whose path matches a pattern: `*` within a name, `**` over directories."""
        from vfs.python.patterns import compiled

        start, matches = compiled(pattern)
        if not self.exists(start):
            return []
        return [entry for entry in self.walk(start) if entry.type == "file" and matches(entry.path)]

    @overload
    def open(self, path: StrPath, mode: Literal["rb"] = "rb") -> File:
        """Opens a file for bytes."""

    @overload
    def open(
        self, path: StrPath, mode: Literal["r", "rt"], encoding: str | None = None, newline: str | None = None
    ) -> io.TextIOWrapper:
        """Opens a file for text."""

    def open(
        self, path: StrPath, mode: str = "rb", encoding: str | None = None, newline: str | None = None
    ) -> File | io.TextIOWrapper:
        """Opens a file: `rb` for bytes, `r` for text, in UTF-8 unless `encoding` says otherwise.

        Raises ReadOnly for a mode that writes.
        """
        if set(mode) & set("wax+"):
            raise ReadOnly(f"a version cannot be written to (mode {mode!r})")
        if mode not in ("r", "rt", "rb"):
            raise ValueError(f"mode {mode!r} is none of r, rt and rb")
        file = File(self._raw(path_bytes(path)))
        return file if mode == "rb" else io.TextIOWrapper(file, encoding=encoding or "utf-8", newline=newline)

    def read_bytes(self, path: StrPath) -> bytes:
        """Returns the bytes of a file."""
        return self._raw(path_bytes(path)).readall()

    def read_text(self, path: StrPath, encoding: str = "utf-8") -> str:
        """Returns a file as text."""
        return self.read_bytes(path).decode(encoding)

    def path(self, path: StrPath = "") -> Path | None:
        """Returns a path of the operating system for a path here, where a live mount shows this version, else None.

        Libraries that read files by themselves, without Python, are faster with it.
        """
        name = path_bytes(path)
        self._find(name)
        return path_in_mount(self._shared.path, self.name, self.id, name)

    @property
    def fs(self) -> VersionFileSystem:
        """This version as a filesystem of fsspec; paths are relative to its root."""
        from vfs.python.filesystem import VersionFileSystem

        return VersionFileSystem(repository=str(self._shared.path), version=self.id)

    @property
    def url(self) -> str:
        """The address of its root for fsspec: `vfs://REPOSITORY@ID`."""
        return f"vfs://{self._shared.path}@{self.id}"

    def dataset(self, pattern: str = "**", transform: Any = None) -> Files[Any]:
        """Returns the files that match a pattern as a map-style dataset; see `vfs.Files`."""
        from vfs.python.datasets import Files

        return Files(self, [entry.path for entry in self.glob(pattern)], transform)

    def _find(self, path: bytes, *, follow: bool = True) -> Found:
        return find(self._shared.opened().store, self._stored.commit.root, path, follow=follow)

    def _raw(self, path: bytes) -> RawFile:
        found = self._find(path)
        if found.entry.kind == Kind.DIR:
            raise IsADirectory(f"{show_path(path)} is a directory")
        if found.directory is None or found.entry.kind != Kind.FILE:
            raise NotFound(f"{show_path(path)} is no regular file")
        content = file_content(self._shared.opened().store, found.directory, found.entry)
        return RawFile(self._shared, content, path_text(path))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and (self.id, self.repository) == (other.id, other.repository)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<vfs.Version {self.name} {self.id[:8]} of {self.repository}>"

    def _repr_html_(self) -> str:
        from vfs.api.html import versions_table

        return versions_table([self.as_dict()])

    def __reduce__(self) -> tuple[Any, ...]:
        return version_by_id, (str(self._shared.path), self.id)


def version_by_id(repository: str, commit_id: str) -> Version:
    """Returns a version by its whole id. Raises NotFound."""
    shared = shared_repository(Path(repository))
    identity = CommitId(bytes.fromhex(commit_id))
    return Version(shared, StoredVersion(identity, shared.opened().store.get_commit(identity)))
