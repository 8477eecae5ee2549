"""A directory of a version, a page at a time, and the beginning of a file."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from vfs.api.documents import EntryDocument, entry_document, kind_name
from vfs.api.views.viewed_repository import LinkedVersion, ViewedRepository, checked
from vfs.errors import NotADirectory
from vfs.formats import images, tables
from vfs.formats.detection import describe
from vfs.model.names import join_path, path_text, show_path
from vfs.model.objects import Kind, Version
from vfs.store.trees.directories import entries

NAMES_A_PAGE = 100
_TEXT_BYTES = 256 * 1024
_LINES_SHOWN = 2000
_HEX_BYTES = 512
_DIFF_LINES_MAX = 2000


class ListedEntry(EntryDocument):
    """An entry of a directory with its name, and what a page can show of it: table, image, or an empty text."""

    name: str
    shown_as: str


class DirectoryDocument(TypedDict):
    """A page of a directory. `next` is the name to go on after, or None."""

    version: LinkedVersion
    path: str
    files: int
    size: int
    entries: list[ListedEntry]
    next: str | None


class FileDocument(TypedDict):
    """A file: its entry, and its beginning as text or bytes in hexadecimal; `whole` where that is all of it."""

    version: LinkedVersion
    path: str
    entry: EntryDocument
    shown_as: str
    text: NotRequired[str]
    hex: NotRequired[list[str]]
    whole: bool


class InsideDocument(TypedDict):
    """What differs inside a file, as lines; `cut` where there are more."""

    lines: list[str]
    cut: bool


def shown_as(name: bytes) -> str:
    """Returns what the ending of a name promises: `table`, `image`, or an empty text."""
    lowered = name.lower()
    if lowered.endswith(tables.ENDINGS):
        return "table"
    return "image" if lowered.endswith(images.ENDINGS) else ""


def directory(viewed: ViewedRepository, version: Version, path: bytes, after: bytes | None = None) -> DirectoryDocument:
    """Returns a page of a directory. Raises NotFound, NotADirectory."""
    path = checked(path)
    entry = viewed.require_entry(version, path)
    if entry.kind != Kind.DIR:
        raise NotADirectory(f"{show_path(path)} is no directory")
    found: list[ListedEntry] = []
    following = None
    for child in entries(viewed.repository.store, entry, after):
        if len(found) == NAMES_A_PAGE:
            following = found[-1]["name"]
            break
        as_what = shown_as(child.name) if child.kind == Kind.FILE else ""
        found.append(
            {
                **entry_document(join_path(path, child.name), child),
                "name": path_text(child.name),
                "shown_as": as_what,
            }
        )
    return {
        "version": viewed.linked(version),
        "path": path_text(path),
        "files": entry.files,
        "size": entry.size,
        "entries": found,
        "next": following,
    }


def kind_at(viewed: ViewedRepository, version: Version, path: bytes) -> str:
    """Returns `directory`, `file`, `symlink`, … of what is at a path. Raises NotFound."""
    return kind_name(viewed.require_entry(version, path))


def file(viewed: ViewedRepository, version: Version, path: bytes) -> FileDocument:
    """Returns what is shown of a file or a special entry. Raises NotFound."""
    path = checked(path)
    entry = viewed.require_entry(version, path)
    value: FileDocument = {
        "version": viewed.linked(version),
        "path": path_text(path),
        "entry": entry_document(path, entry),
        "shown_as": shown_as(path) if entry.kind == Kind.FILE else "",
        "whole": True,
    }
    if entry.kind != Kind.FILE:
        return value
    with viewed.file(version, path) as opened:
        head = bytes(opened.reader.read(0, _TEXT_BYTES))
    text = _text(head, is_whole=len(head) == entry.size)
    if text is None:
        value["hex"] = _dump(head[:_HEX_BYTES])
        value["whole"] = entry.size <= _HEX_BYTES
        return value
    lines = text.split("\n")
    value["text"] = "\n".join(lines[:_LINES_SHOWN])
    value["whole"] = len(head) == entry.size and len(lines) <= _LINES_SHOWN
    return value


def _text(head: bytes, *, is_whole: bool) -> str | None:
    """Returns bytes as text, or None where they are none. A character that the end cuts is left out."""
    for cut in range(1 if is_whole else 4):
        try:
            text = head[: len(head) - cut].decode()
        except UnicodeDecodeError:
            continue
        return None if "\0" in text else text
    return None


def _dump(data: bytes) -> list[str]:
    lines = []
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:08x}  {part.hex(' '):47}  {shown}")
    return lines


def download(viewed: ViewedRepository, version: Version, path: bytes, size_max: int) -> bytes:
    """Returns a file's first bytes. Raises NotFound."""
    with viewed.file(version, path) as opened:
        return b"".join(
            bytes(opened.reader.read(at, min(1 << 20, size_max - at)))
            for at in range(0, min(opened.entry.size, size_max), 1 << 20)
        )


def inside(viewed: ViewedRepository, old: Version, new: Version, path: bytes) -> InsideDocument:
    """Returns what differs inside a file that both versions have. Raises NotFound."""
    with viewed.file(old, path) as before, viewed.file(new, path) as now:
        if before.key == now.key:
            return {"lines": ["the same content"], "cut": False}
        detail = describe(path, before.reader, now.reader)
    shown = list(detail.lines[:_DIFF_LINES_MAX])
    return {"lines": [line[:2000] for line in shown], "cut": len(detail.lines) > len(shown)}


def both_files(viewed: ViewedRepository, old: Version, new: Version, path: bytes) -> bool:
    """Whether a path is a regular file in both versions."""
    entries_there = (viewed.entry(old, path), viewed.entry(new, path))
    return all(entry is not None and entry.kind == Kind.FILE for entry in entries_there)
