"""Merging the bytes of files that both sides changed: by row where a key is named, else by line where they are text."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from vfs.errors import InvalidInput
from vfs.model.names import show_path
from vfs.model.objects import Content
from vfs.store.object_store import ObjectSource
from vfs.store.trees.content_writer import ContentWriter
from vfs.store.trees.file_reader import FileReader

if TYPE_CHECKING:
    from vfs.history.merge_lines import Labels

TEXT_BYTES_MAX = 32 * 1024 * 1024
"""Files up to this size are merged inside; all three are in memory for it."""
_TABLE_ENDINGS = ("*.csv", "*.tsv", "*.jsonl", "*.ndjson")


class Key(NamedTuple):
    """Files whose path or last name a pattern matches are tables with this key column."""

    column: str
    pattern: str

    def matches(self, path: bytes) -> bool:
        """Returns True if the key is for a file. The case of extensions of tables does not count."""
        text = show_path(path)
        if self.pattern in _TABLE_ENDINGS:
            text = text.lower()
        return fnmatchcase(text, self.pattern) or fnmatchcase(text.rpartition("/")[2], self.pattern)


def parse_keys(text: str) -> list[Key]:
    """Returns what `COLUMN` (of all tables) or `COLUMN:GLOB` means; raises InvalidInput."""
    column, colon, pattern = text.rpartition(":")
    if not colon:
        column, pattern = text, ""
    if not column or (colon and not pattern):
        raise InvalidInput(f"{text!r} names no key", hint="Write it as `id` or `id:labels/*.csv`.")
    return [Key(column, each) for each in ([pattern] if pattern else _TABLE_ENDINGS)]


class MergedContent(NamedTuple):
    """The result of merging a file: None where it cannot be merged inside; with conflict markers unless it is clean."""

    content: Content | None
    is_clean: bool
    note: str = ""


class ContentMerge:
    """Merges contents; the result goes where `writer` stores."""

    def __init__(self, writer: ContentWriter, labels: Labels, keys: Sequence[Key] = ()) -> None:
        self._writer = writer
        self._labels = labels
        self._keys = keys

    def merge(self, source: ObjectSource, path: bytes, contents: tuple[Content, Content, Content]) -> MergedContent:
        """Merges base, ours and theirs of a file."""
        from vfs.history.merge_lines import join_regions, merge_lines, split_lines

        key = next((key for key in self._keys if key.matches(path)), None)
        if any(content.size > TEXT_BYTES_MAX or content.hole_bytes for content in contents):
            return _unmerged(key, f"a side is larger than {TEXT_BYTES_MAX >> 20} MiB, or has holes")
        base, ours, theirs = (bytes(FileReader(source, content).read(0, content.size)) for content in contents)
        if key is None:
            if any(b"\0" in data for data in (base, ours, theirs)):
                return _unmerged(None, "")
            shared: dict[bytes, bytes] = {}
            regions = merge_lines(*(split_lines(data, shared) for data in (base, ours, theirs)))
        else:
            from vfs.history.merge_rows import merge_rows
            from vfs.history.table_records import NoKey

            try:
                regions = merge_rows(path, key.column, base, ours, theirs)
            except NoKey as error:
                # By line it may merge into a table that has a key twice.
                return _unmerged(key, error.message)
        is_clean = all(region.merged is not None for region in regions)
        return MergedContent(self._writer.from_bytes(join_regions(regions, self._labels)), is_clean)


def _unmerged(key: Key | None, reason: str) -> MergedContent:
    return MergedContent(None, is_clean=False, note=f"not merged by `{key.column}`: {reason}" if key else "")
