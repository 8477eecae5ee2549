"""A repository for Python programs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from vfs.errors import Unsupported
from vfs.model.layout import LATEST, number_text
from vfs.model.names import path_text
from vfs.python.entries import Entry, entry_of, path_bytes
from vfs.python.hints import worded, worded_methods
from vfs.python.mounted_paths import repository_at
from vfs.python.open_repositories import SharedRepository, shared_repository
from vfs.python.version_changes import Diff
from vfs.python.versions import StrPath, Version
from vfs.repo.repository import Repository as OpenRepository
from vfs.store.refs.operation import BRANCHES

if TYPE_CHECKING:
    from vfs.python.working_layer import WorkingLayer

_LOG_SHOWN = 50


class PathChange(NamedTuple):
    """A version that changed a path. `entry` is None where it removed it; `old_path` is what it was called before."""

    version: Version
    kind: Literal["added", "modified", "removed"]
    path: str
    old_path: str
    entry: Entry | None


class BlamedLine(NamedTuple):
    """A line of a text, or a row of a table, numbered from 1, and the version that added it.

    `text` is the line; `row` has the values of a row by column, with `key` where rows were followed by a column.
    """

    number: int
    version: Version
    text: str | None
    row: Any
    key: str | None


@worded_methods
class Log:
    """The versions of a branch, newest first; iterating reads them one by one."""

    def __init__(self, shared: SharedRepository, branch: str | None, limit: int | None) -> None:
        self._shared = shared
        self._branch = branch
        self._limit = limit

    def __iter__(self) -> Iterator[Version]:
        found = self._shared.opened().versions(self._branch)
        return (Version(self._shared, each) for each in islice(found, self._limit))

    def __repr__(self) -> str:
        return f"<vfs.Log of {self._shared.path}>"

    def _repr_html_(self) -> str:
        from vfs.api.html import versions_table

        some = list(islice(self, _LOG_SHOWN + 1))
        return versions_table([each.as_dict() for each in some[:_LOG_SHOWN]], more=len(some) > _LOG_SHOWN)


@worded_methods
class Repository:
    """A repository, opened by `vfs.open`. It needs no mount, and works beside mounts and after a fork.

    Numbers (`v12`) are those of `branch`; None stands for the current one. A version is named by its number, `latest`,
    a tag, a branch, a commit id (8 digits or more), or a date in UTC (`2026-11-01`, `2026-11-01T12:00`); `v12~2` is
    two before.
    """

    def __init__(self, path: StrPath, branch: str | None = None) -> None:
        self._shared = shared_repository(repository_at(Path(path)))
        self.branch = branch
        if branch is not None:
            self._opened.require_branch(branch)
        else:
            self._shared.opened()

    @property
    def path(self) -> Path:
        """Its directory."""
        return self._shared.path

    @property
    def _opened(self) -> OpenRepository:
        return self._shared.opened()

    def version(self, name: str | int = LATEST) -> Version:
        """Returns the version that a name stands for, or a number. Raises NotFound."""
        text = os.fsdecode(number_text(name)) if isinstance(name, int) else name
        return Version(self._shared, self._opened.resolve(text, self.branch))

    def __getitem__(self, name: str | int) -> Version:
        return self.version(name)

    def __iter__(self) -> Iterator[Version]:
        return iter(self.log())

    @property
    def head(self) -> Version | None:
        """The newest version, None before the first."""
        newest = self._opened.head(self.branch)
        return None if newest is None else Version(self._shared, newest)

    def log(self, limit: int | None = None) -> Log:
        """Returns the versions, newest first."""
        return Log(self._shared, self.branch, limit)

    def branches(self) -> dict[str, Version]:
        """Returns the newest version of each branch."""
        opened = self._opened
        return {
            name.removeprefix(BRANCHES): self.version(commit_id.hex()) for name, commit_id in opened.refs.list(BRANCHES)
        }

    def tags(self) -> dict[str, Version]:
        """Returns the version of each tag."""
        from vfs.repo.tags import list_tags

        return {tag.name: self.version(tag.commit_id.hex()) for tag in list_tags(self._opened)}

    def diff(self, old: str | int | Version, new: str | int | Version, *paths: StrPath, renames: bool = True) -> Diff:
        """Returns what differs between two versions, below some paths where they are given."""
        return Diff(self._named(old), self._named(new), paths, renames=renames)

    def _named(self, version: str | int | Version) -> Version:
        return version if isinstance(version, Version) else self.version(version)

    def history(self, path: StrPath, *, follow: bool = True) -> Iterator[PathChange]:
        """Yields the versions that changed a path, newest first; `follow`: also under the names it had before."""
        from vfs.history.path_history import path_revisions

        opened = self._opened
        for found in path_revisions(opened.store, opened.versions(self.branch), path_bytes(path), follow=follow):
            entry = None if found.new is None else entry_of(found.path, found.new)
            version = Version(self._shared, found.version)
            yield PathChange(version, found.kind, path_text(found.path), path_text(found.old_path), entry)

    def blame(
        self, path: StrPath, version: str | int | Version = LATEST, *, key: str | None = None
    ) -> list[BlamedLine]:
        """Returns the lines of a text, or rows of a table, with the version that added each.

        `key`: the column that rows are followed by. Raises NotFound, InvalidInput for a file that is neither,
        TooLarge, Unsupported where a library is missing.
        """
        from vfs.api.blame import blamed
        from vfs.formats.detail import MissingExtra

        stored = self._named(version)._stored  # noqa: SLF001  A version is of the same package.
        try:
            items, found = blamed(self._opened, stored, path_bytes(path), key)
        except MissingExtra as missing:
            raise Unsupported(f"{os.fspath(path)!r} cannot be read", hint=f"{missing}.") from None
        return [
            BlamedLine(
                number,
                Version(self._shared, each.version),
                item.value.get("text"),
                item.value.get("row"),
                item.value.get("key"),
            )
            for number, (item, each) in enumerate(zip(items, found, strict=True), 1)
        ]

    def working(self, branch: str | None = None) -> WorkingLayer:
        """Returns the working layer of a branch, for `with`: through its mount where it has one, else opened here."""
        from vfs.python.working_layer import WorkingLayer

        return WorkingLayer(self._shared, branch or self.branch or self._opened.current_branch)

    def tag(self, name: str, version: str | int | Version = LATEST, *, author: str | None = None) -> None:
        """Names a version. Raises AlreadyExists, InvalidInput for a name with another meaning."""
        from vfs.repo.authorship import default_author
        from vfs.repo.tags import create_tag

        stored = self._named(version)._stored  # noqa: SLF001  A version is of the same package.
        create_tag(self._opened, name, stored, author=author or default_author())

    def close(self) -> None:
        """Closes its files; the next use, also of versions taken from it, opens them again."""
        self._shared.close()

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<vfs.Repository {self.path}>"

    def _repr_html_(self) -> str:
        return self.log()._repr_html_()

    def __reduce__(self) -> tuple[Any, ...]:
        return Repository, (str(self.path), self.branch)


@worded
def open_repository(path: StrPath, branch: str | None = None) -> Repository:
    """Opens a repository by its directory, or by any path inside of it or of a mount of it.

    `branch`: whose numbers count; None: the current one. Raises NotFound, InvalidInput, Unsupported, Corrupt.
    """
    return Repository(path, branch)


@worded
def init(path: StrPath) -> Repository:
    """Makes a repository in a new or empty directory, and opens it. Raises AlreadyExists, NotEmpty."""
    OpenRepository.init(Path(path)).close()
    return Repository(path)


Metadata = Mapping[str, str]
