"""What differs between two versions, for Python programs: typed changes, and the rows of tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from vfs.errors import InvalidInput, NotADirectory, NotFound, Unsupported
from vfs.history.change_totals import Totals, counted
from vfs.history.diff import diff_trees
from vfs.history.renames import AnyChange, Rename, renamed
from vfs.model.names import path_text, show_path
from vfs.model.objects import Entry as StoredEntry
from vfs.model.objects import Kind
from vfs.python.entries import Entry, entry_of, find, path_bytes
from vfs.python.hints import worded, worded_methods
from vfs.store.trees.directories import file_content
from vfs.store.trees.file_reader import FileReader

if TYPE_CHECKING:
    from vfs.python.versions import StrPath, Version

ROWS_MAX = 1000
"""Changed rows that are returned unless the caller asks for more."""


class Counts(NamedTuple):
    """Sums over the changes of a diff: files, and the bytes of the changed files before and after."""

    added: int
    modified: int
    removed: int
    renamed: int
    old_bytes: int
    new_bytes: int


class RowChange(NamedTuple):
    """A row of a table that differs. `row` has the values of one that was added or removed, by column.

    Of a changed one `key` is the value that it is followed by, and `cells` has (old, new) for each column that differs.
    """

    kind: Literal["added", "removed", "changed"]
    key: Any
    row: dict[str, Any] | None
    cells: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class TableChange:
    """What differs between two tables. `key`: the column that rows were followed by, None where they have none.

    `added`, `removed` and `changed` count rows, `changes` are the first of them.
    """

    key: str | None
    old_rows: int
    new_rows: int
    added: int
    removed: int
    changed: int
    columns_added: list[str]
    columns_removed: list[str]
    columns_retyped: dict[str, tuple[str, str]]
    changes: list[RowChange]


@worded_methods
@dataclass(frozen=True)
class Change:
    """A path that differs between two versions.

    `old` and `new` are None where the path was not there; `what` names what differs: `content`, `mode`, `mtime`, … A
    renamed path has `old_path`, and `similarity`, the share of the bytes that stayed.
    """

    path: str
    kind: Literal["added", "modified", "removed", "renamed"]
    old: Entry | None
    new: Entry | None
    what: tuple[str, ...] = ()
    old_path: str | None = None
    similarity: float | None = None
    _versions: tuple[Version, Version] | None = field(default=None, repr=False, compare=False)

    def rows(self, key: str | None = None, limit: int | None = ROWS_MAX) -> TableChange:
        """Returns the columns and rows of a table (CSV, TSV, JSON Lines, Parquet) that differ, at most `limit` rows.

        Rows are followed by the column `key`, else by the first one that is unique on both sides. Raises InvalidInput
        for a file that is no table or has no such column, Unsupported where a library is missing.
        """
        from vfs.formats import tables
        from vfs.formats.detail import MissingExtra, NotThisFormat

        name = path_bytes(self.path).lower()
        if not name.endswith(tables.ENDINGS):
            raise InvalidInput(f"{self.path!r} is no table: tables end in .csv, .tsv, .jsonl, .ndjson or .parquet")
        old, new = self._sides()
        limit = sys.maxsize // 8 if limit is None else limit
        try:
            found = tables.describe(name, old, new, key, patient=True, examples_max=limit)
        except MissingExtra as missing:
            raise Unsupported(f"{self.path!r} cannot be compared by rows", hint=f"{missing}.") from None
        except NotThisFormat as reason:
            raise InvalidInput(f"{self.path!r} is no table that can be read: {reason}") from None
        if found.kind != "table":
            raise InvalidInput(f"{self.path!r} is too large to be compared by rows: {'; '.join(found.lines)}")
        return _table_change(found.value, limit)

    def detail(self, key: str | None = None) -> list[str]:
        """Returns what differs inside the file, in lines for people: lines of text, rows, keys, pixels, values."""
        from vfs.formats.detection import describe

        old, new = self._sides()
        return list(describe(path_bytes(self.path), old, new, key, patient=True).lines)

    def _sides(self) -> tuple[FileReader, FileReader]:
        if self._versions is None or self.old is None or self.new is None:
            raise InvalidInput(f"{self.path!r} was {self.kind}: there is no other side to compare with")
        old, new = self._versions
        return reader_of(old, path_bytes(self.old_path or self.path)), reader_of(new, path_bytes(self.path))


@worded_methods
class Diff:
    """The changes between two versions; iterating finds them, in the order of their paths, each time anew.

    Finding them takes as long as the change is large, not the data.
    """

    def __init__(self, old: Version, new: Version, paths: Sequence[StrPath] = (), *, renames: bool = True) -> None:
        if old.repository != new.repository:
            raise InvalidInput("the versions are of two repositories")
        self.old = old
        self.new = new
        self._paths = [path_bytes(path) for path in paths] or [b""]
        self._renames = renames

    def __iter__(self) -> Iterator[Change]:
        for change in self._stored_changes():
            yield self._public(change)

    def _stored_changes(self) -> Iterator[AnyChange]:
        """Yields the changes as the layers below have them."""
        source = self.new._shared.opened().store  # noqa: SLF001  A diff is of the same package.
        plain = (change for path in self._paths for change in diff_trees(source, *self._roots(path), path))
        yield from renamed(source, plain) if self._renames else plain

    def _roots(self, path: bytes) -> tuple[StoredEntry | None, StoredEntry | None]:
        old, new = (_entry_at(version, path) for version in (self.old, self.new))
        if old is None and new is None:
            raise NotFound(f"neither version has {show_path(path)}")
        return old, new

    def _public(self, change: AnyChange) -> Change:
        old_path = change.old_path if isinstance(change, Rename) else None
        return Change(
            path_text(change.path),
            change.kind,
            None if change.old is None else entry_of(old_path or change.path, change.old),
            None if change.new is None else entry_of(change.path, change.new),
            tuple(change.aspects),
            None if old_path is None else path_text(old_path),
            change.similarity if isinstance(change, Rename) else None,
            (self.old, self.new),
        )

    def counts(self) -> Counts:
        """Returns the sums, after finding all changes."""
        totals = Totals()
        for _ in counted(self._stored_changes(), totals):
            pass
        return Counts(totals.added, totals.modified, totals.removed, totals.renamed, totals.old_bytes, totals.new_bytes)

    def to_html(self) -> str:
        """Returns a page that stands alone: no script, nothing from elsewhere, less than 2 MB."""
        from vfs.api.html import page
        from vfs.python.reports import diff_fragment

        return page(f"{self.old.name} → {self.new.name}", diff_fragment(self))

    def to_markdown(self) -> str:
        """Returns the same for a pull request."""
        from vfs.python.reports import diff_markdown

        return diff_markdown(self)

    def __repr__(self) -> str:
        return f"<vfs.Diff {self.old.name}..{self.new.name} of {self.new.repository}>"

    def _repr_html_(self) -> str:
        from vfs.python.reports import diff_fragment

        return diff_fragment(self)


@worded
def diff(old: Version, new: Version, *paths: StrPath, renames: bool = True) -> Diff:
    """Returns what differs from one version to another, below some paths where they are given.

    `renames`: whether to find what moved by its content. Raises InvalidInput for versions of two repositories.
    """
    return Diff(old, new, paths, renames=renames)


def reader_of(version: Version, path: bytes) -> FileReader:
    """Returns what reads a file of a version. Raises NotFound."""
    store = version._shared.opened().store  # noqa: SLF001  A diff is of the same package.
    found = find(store, version._stored.commit.root, path, follow=False)  # noqa: SLF001
    if found.directory is None or found.entry.kind != Kind.FILE:
        raise InvalidInput(f"{show_path(path)} is no regular file in {version.name}")
    return FileReader(store, file_content(store, found.directory, found.entry))


def _entry_at(version: Version, path: bytes) -> StoredEntry | None:
    try:
        store = version._shared.opened().store  # noqa: SLF001  A diff is of the same package.
        return find(store, version._stored.commit.root, path, follow=False).entry  # noqa: SLF001
    except (NotFound, NotADirectory):
        return None


def _table_change(value: dict[str, Any], limit: int) -> TableChange:
    rows, columns = value["rows"], value["columns"]
    changes = []
    for example in value["examples"][:limit]:
        if example["change"] == "changed":
            cells = {name: (cell["old"], cell["new"]) for name, cell in example["cells"].items()}
            changes.append(RowChange("changed", example["key"], None, cells))
        else:
            key = example["row"].get(value["key"]) if value["key"] is not None else None
            changes.append(RowChange(example["change"], key, example["row"], {}))
    return TableChange(
        value["key"],
        rows["old"],
        rows["new"],
        rows["added"],
        rows["removed"],
        rows.get("changed", 0),
        columns["added"],
        columns["removed"],
        {name: (types["old"], types["new"]) for name, types in columns["retyped"].items()},
        changes,
    )
