"""A path of a version as other tools keep it: by its address, and by what it holds."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from vfs.errors import InvalidInput
from vfs.python.repositories import open_repository
from vfs.python.versions import StrPath, Version

_SCHEME = "vfs://"


class VersionPath(NamedTuple):
    """A path of a version, empty for its root."""

    version: Version
    path: str

    @classmethod
    def parse(cls, url: str) -> VersionPath:
        """Returns what `vfs://REPOSITORY@VERSION/PATH` names. Raises InvalidInput, NotFound, UnknownVersion."""
        from vfs.python.filesystem import split_address

        if not url.startswith(_SCHEME):
            raise InvalidInput(f"{url!r} is no address of a version: it does not begin with {_SCHEME}")
        repository, version, path = split_address(url.removeprefix(_SCHEME))
        return cls(open_repository(repository)[version], path)

    @property
    def url(self) -> str:
        """Its address, with the version's id."""
        return "/".join(filter(None, (self.version.url, self.path.strip("/"))))

    @property
    def name(self) -> str:
        """The last name of the path, else the repository's."""
        return Path(self.path).name or self.version.repository.name

    @property
    def digest(self) -> str:
        """The id of a file's content, the same exactly where that is, or of a directory's version. Raises NotFound."""
        return self.version.info(self.path).hash or self.version.id

    def download(self, directory: StrPath | None = None) -> str:
        """Copies the files into a directory, a new temporary one by default; returns where they are."""
        top = os.fspath(directory) if directory is not None else tempfile.mkdtemp(prefix="vfs-")
        target = os.path.join(top, self.name)
        self.version.fs.get(self.path or "/", target, recursive=True)
        return target
