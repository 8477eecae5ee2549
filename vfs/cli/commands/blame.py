"""`vfs blame`."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from vfs.api.documents import blamed_document
from vfs.cli.columns import echo_table
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.open_repository import OpenRepository, open_repository
from vfs.cli.output import echo_json, human_time
from vfs.cli.version_format import author_cell, short_id
from vfs.cli.version_or_path import split_arguments, version_of
from vfs.errors import InvalidInput, IsADirectory, NotFound, TooLarge, Unsupported
from vfs.formats import parquet
from vfs.formats.detail import MissingExtra, NotThisFormat, Readable, whole
from vfs.formats.quantities import human_size
from vfs.formats.text import is_text, shown_line, split_lines
from vfs.history.blame import blame, match_anywhere, match_in_order
from vfs.history.json_lines_tables import JSON_ENDINGS
from vfs.history.merge_rows import KeyedRow, rows_by_key
from vfs.history.path_history import PathRevision, path_revisions
from vfs.history.table_records import NoKey
from vfs.history.walk import first_parents
from vfs.model.layout import LATEST
from vfs.model.names import show_path
from vfs.model.objects import Kind, Version
from vfs.store.trees.directories import file_content, resolve_path
from vfs.store.trees.file_reader import FileReader

BYTES_MAX = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Item:
    """A line or row: the key for comparison, the text, and the JSON value."""

    identity: Hashable
    shown: str
    value: dict[str, Any]


@vfs_command(
    "blame",
    "vfs blame notes.txt                    which version added each line",
    "vfs blame labels.csv --key file        which version added each row, at any position: the key names it",
    "vfs blame v7 labels.csv                as it was in version 7; --at v7 means the same",
    "vfs blame table.parquet --json         for programs: one JSON object a row",
    is_paged=True,
)
@click.argument("words", metavar="[VERSION] PATH", nargs=-1, required=True)
@click.option("--at", "at_version", metavar="VERSION", help="The file as it is in this version, too.")
@click.option("--key", metavar="COLUMN", help="Follow the rows of CSV, TSV, JSON Lines or Parquet by this column.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation, words: tuple[str, ...], at_version: str | None, key: str | None, as_json: bool
) -> None:
    """Show which version added each line of a text, or each row of a table.

    Renames are followed. Lines that a merge added are the merge's. Reads the file in the versions that changed it,
    until the version of every line is found.
    """
    with open_repository(invocation) as opened:
        words = words if at_version is None else (at_version, *words)
        versions, paths = split_arguments(opened, words, paths_max=1, paths_first=at_version is None)
        if not paths:
            raise click.UsageError("Name a file: `vfs blame [VERSION] PATH`.")
        version, where = (versions or [version_of(opened, LATEST)])[0], paths[0]
        try:
            items, found = _blamed(opened, version, where, key)
        except MissingExtra as missing:
            raise Unsupported(f"{show_path(where)} cannot be read", hint=f"{missing}.") from None
    if as_json:
        for number, (item, revision) in enumerate(zip(items, found, strict=True), 1):
            echo_json(blamed_document(number, revision, item.value))
        return
    echo_table(
        [
            [
                revision.version.name,
                short_id(revision.version.id),
                human_time(revision.version.commit.time_ns),
                author_cell(revision.version.commit.author),
                str(number),
                item.shown,
            ]
            for number, (item, revision) in enumerate(zip(items, found, strict=True), 1)
        ],
        right=(4,),
        styles=("yellow", "dim", "", "cyan", "dim", ""),
        droppable=(1, 2, 3, 4),
    )


def _blamed(
    opened: OpenRepository, version: Version, path: bytes, key: str | None
) -> tuple[list[_Item], list[PathRevision]]:
    """Returns the items of the file in the version, and for each the revision that added it."""
    entry = resolve_path(opened.repository.store, version.commit.root, path).entry
    if entry.kind == Kind.DIR:
        raise IsADirectory(f"{show_path(path)} is a directory", hint="`vfs log PATH` shows what changed it.")
    latest = _items(key, path, _open(opened, version, path))

    def revisions() -> Iterator[tuple[PathRevision, list[Hashable]]]:
        for number, revision in enumerate(_revisions(opened, version, path)):
            items = latest if number == 0 else _older_items(opened, revision, key)
            yield revision, [item.identity for item in items]

    return latest, blame(revisions(), match_in_order if key is None else match_anywhere)


def _older_items(opened: OpenRepository, revision: PathRevision, key: str | None) -> list[_Item]:
    try:
        return _items(key, revision.path, _open(opened, revision.version, revision.path))
    except InvalidInput:
        # It was no text, or had no such column: the next version added all items.
        return []


def _revisions(opened: OpenRepository, version: Version, path: bytes) -> Iterator[PathRevision]:
    """Yields the revisions that changed the content of the file, newest first, back to its first one."""
    store = opened.repository.store
    history = first_parents(store, version.id, leave_out=opened.repository.refs.is_forgotten)
    for revision in path_revisions(store, history, path, follow=True):
        old, new = revision.old, revision.new
        if new is None or new.kind != Kind.FILE:
            return
        if old is not None and old.kind == Kind.FILE and (old.content, old.size) == (new.content, new.size):
            continue
        yield revision
        if old is None or old.kind != Kind.FILE:
            return


def _open(opened: OpenRepository, version: Version, path: bytes) -> Readable:
    store = opened.repository.store
    directory, entry = resolve_path(store, version.commit.root, path)
    if directory is None or entry.kind != Kind.FILE:
        raise NotFound(f"{show_path(path)} is no regular file in {version.name}")
    if entry.size > BYTES_MAX:
        raise TooLarge(
            f"{show_path(path)} of {version.name} has {human_size(entry.size)}; {human_size(BYTES_MAX)} are the limit",
            hint="`vfs log PATH` shows the versions that changed it.",
        )
    return FileReader(store, file_content(store, directory, entry))


def _items(key: str | None, path: bytes, source: Readable) -> list[_Item]:
    name = path.lower()
    if name.endswith(b".parquet"):
        return _parquet_rows(path, source, key)
    if key is not None:
        return _rows(path, source, key)
    if not is_text(source):
        raise InvalidInput(f"{show_path(path)} is no text", hint="`vfs log PATH` shows the versions that changed it.")
    return [_Item(line, shown_line(line), {"text": shown_line(line)}) for line in split_lines(whole(source))]


def _rows(path: bytes, source: Readable, key: str) -> list[_Item]:
    try:
        rows = rows_by_key(path, key, whole(source))
    except NoKey as error:
        raise InvalidInput(f"{show_path(path)} has no rows by {key!r}: {error.message}", hint=error.hint) from None
    read = _member if path.lower().endswith(JSON_ENDINGS) else _cell
    return [
        _Item(
            row.identity,
            shown_line(row.body.replace(b"\r\n", b" ").replace(b"\n", b" ")),
            {"key": row.key, "row": _fields(row, read)},
        )
        for row in rows
    ]


def _fields(row: KeyedRow, read: Callable[[bytes], Any]) -> Any:
    fields = {name: read(value) for name, value in row.fields}
    # An object would say less than the row does where a name is there twice.
    return fields if len(fields) == len(row.fields) else row.body.decode("utf-8")


def _cell(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _member(value: bytes) -> Any:
    """Returns a value of JSON; as the text that it is where Python cannot read it, or JSON cannot say it."""
    text = value.decode("utf-8")
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        return text
    return found


def _parquet_rows(path: bytes, source: Readable, key: str | None) -> list[_Item]:
    try:
        table = parquet.read_rows(source)
    except MissingExtra:
        raise
    except NotThisFormat as reason:
        raise InvalidInput(f"{show_path(path)} is no table that can be read: {reason}") from None
    if key is not None and key not in table.columns:
        hint = f"Choose one of: {', '.join(table.columns)}."
        raise InvalidInput(f"{show_path(path)} has no column {key!r}", hint=hint)
    items = []
    for row in table.rows:
        fields = dict(zip(table.columns, row, strict=True))
        shown = ", ".join(f"{name} {value}" for name, value in fields.items())
        items.append(_Item(repr(row), shown_line(shown.encode("utf-8", "surrogatepass")), {"row": fields}))
    return items
