"""Which version added each line of a text, or each row of a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from vfs.errors import Advice, Hint, InvalidInput, IsADirectory, NotFound, TooLarge
from vfs.formats import parquet
from vfs.formats.detail import MissingExtra, NotThisFormat, Readable, whole
from vfs.formats.quantities import human_size
from vfs.formats.text_diff import is_text, shown_line, split_lines
from vfs.history.blame import blame, match_anywhere, match_in_order
from vfs.history.merge_json_lines import JSON_ENDINGS
from vfs.history.merge_rows import KeyedRow, rows_by_key
from vfs.history.path_history import PathRevision, path_revisions
from vfs.history.table_records import NoKey
from vfs.history.walk import first_parents
from vfs.model.names import show_path
from vfs.model.objects import Kind, Version
from vfs.repo.repository import Repository
from vfs.store.trees.directories import file_content, resolve_path
from vfs.store.trees.file_reader import FileReader

BYTES_MAX = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BlamedItem:
    """A line or row: the key for comparison, the text, and the JSON value."""

    identity: Hashable
    shown: str
    value: dict[str, Any]


def blamed(
    repository: Repository, version: Version, path: bytes, key: str | None
) -> tuple[list[BlamedItem], list[PathRevision]]:
    """Returns the lines or rows of the file in the version, and for each the revision that added it.

    `key`: the column that rows are followed by. Raises NotFound, IsADirectory, TooLarge, InvalidInput, MissingExtra.
    """
    entry = resolve_path(repository.store, version.commit.root, path).entry
    if entry.kind == Kind.DIR:
        raise IsADirectory(f"{show_path(path)} is a directory", hint=Hint(Advice.LOG_OF_PATH))
    latest = _items(key, path, _open(repository, version, path))

    def revisions() -> Iterator[tuple[PathRevision, list[Hashable]]]:
        for number, revision in enumerate(_revisions(repository, version, path)):
            items = latest if number == 0 else _older_items(repository, revision, key)
            yield revision, [item.identity for item in items]

    return latest, blame(revisions(), match_in_order if key is None else match_anywhere)


def _older_items(repository: Repository, revision: PathRevision, key: str | None) -> list[BlamedItem]:
    try:
        return _items(key, revision.path, _open(repository, revision.version, revision.path))
    except InvalidInput:
        # It was no text, or had no such column: the next version added all items.
        return []


def _revisions(repository: Repository, version: Version, path: bytes) -> Iterator[PathRevision]:
    """Yields the revisions that gave the file another content, newest first, back to where it began."""
    store = repository.store
    history = first_parents(store, version.id, leave_out=repository.refs.is_forgotten)
    for revision in path_revisions(store, history, path, follow=True):
        old, new = revision.old, revision.new
        if new is None or new.kind != Kind.FILE:
            return
        if old is not None and old.kind == Kind.FILE and (old.content, old.size) == (new.content, new.size):
            continue
        yield revision
        if old is None or old.kind != Kind.FILE:
            return


def _open(repository: Repository, version: Version, path: bytes) -> Readable:
    store = repository.store
    directory, entry = resolve_path(store, version.commit.root, path)
    if directory is None or entry.kind != Kind.FILE:
        raise NotFound(f"{show_path(path)} is no regular file in {version.name}")
    if entry.size > BYTES_MAX:
        raise TooLarge(
            f"{show_path(path)} of {version.name} has {human_size(entry.size)}; {human_size(BYTES_MAX)} are the limit",
            hint=Hint(Advice.LOG_OF_PATH),
        )
    return FileReader(store, file_content(store, directory, entry))


def _items(key: str | None, path: bytes, source: Readable) -> list[BlamedItem]:
    name = path.lower()
    if name.endswith(b".parquet"):
        return _parquet_rows(path, source, key)
    if key is not None:
        return _rows(path, source, key)
    if not is_text(source):
        raise InvalidInput(f"{show_path(path)} is no text", hint=Hint(Advice.LOG_OF_PATH))
    return [BlamedItem(line, shown_line(line), {"text": shown_line(line)}) for line in split_lines(whole(source))]


def _rows(path: bytes, source: Readable, key: str) -> list[BlamedItem]:
    try:
        rows = rows_by_key(path, key, whole(source))
    except NoKey as error:
        raise InvalidInput(f"{show_path(path)} has no rows by {key!r}: {error.message}", hint=error.hint) from None
    read = _member if path.lower().endswith(JSON_ENDINGS) else _cell
    return [
        BlamedItem(
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


def _parquet_rows(path: bytes, source: Readable, key: str | None) -> list[BlamedItem]:
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
        items.append(BlamedItem(repr(row), shown_line(shown.encode("utf-8", "surrogatepass")), {"row": fields}))
    return items
