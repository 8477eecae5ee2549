"""How one entry of a version is described: in words, in columns and in JSON."""

from __future__ import annotations

import stat
from typing import Any

from vfs.cli.output import iso_time
from vfs.model.names import path_text, show_path
from vfs.model.objects import FORMAT_BITS, Entry, Form, Kind

_KIND_WORDS = {
    Kind.FILE: "file",
    Kind.DIR: "directory",
    Kind.SYMLINK: "symlink",
    Kind.FIFO: "fifo",
    Kind.SOCKET: "socket",
    Kind.CHAR: "character device",
    Kind.BLOCK: "block device",
}
_FORM_WORDS = {
    Form.EMPTY: "empty",
    Form.TINY: "inside its directory's node",
    Form.CHUNK: "one chunk",
    Form.LIST: "a list of chunks",
}


def kind_name(entry: Entry) -> str:
    """Returns `file`, `directory`, `symlink`, …"""
    return _KIND_WORDS[Kind(entry.kind)]


def form_words(entry: Entry) -> str:
    """Returns how a file's bytes are kept."""
    return _FORM_WORDS[Form(entry.form)]


def mode_text(entry: Entry) -> str:
    """Returns the mode as `ls -l` shows it: `-rw-r--r--`."""
    return stat.filemode(FORMAT_BITS[Kind(entry.kind)] | entry.mode)


def shown_name(entry: Entry, path: bytes | None = None) -> str:
    """Returns a name (or path) for people: `/` after a directory, the target after a symlink."""
    text = show_path(entry.name if path is None else path)
    if entry.kind == Kind.DIR:
        return text + "/"
    if entry.kind == Kind.SYMLINK:
        return f"{text} -> {show_path(entry.content)}"
    return text


def entry_json(path: bytes, entry: Entry) -> dict[str, Any]:
    """Returns an entry as JSON values; `hash` is the content's id, hexadecimal, where it has one."""
    value: dict[str, Any] = {
        "path": path_text(path),
        "type": kind_name(entry),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "mtime": iso_time(entry.mtime_ns),
        "mtime_ns": entry.mtime_ns,
    }
    if entry.kind == Kind.SYMLINK:
        value["target"] = path_text(entry.content)
    elif entry.content:
        value["hash"] = entry.content.hex()
    if entry.kind == Kind.DIR:
        value["files"] = entry.files
    if entry.kind == Kind.FILE and entry.hole_bytes:
        value["hole_bytes"] = entry.hole_bytes
    if entry.linked:
        value["hard_linked"] = True
    if entry.kind in (Kind.CHAR, Kind.BLOCK):
        value["rdev"] = entry.rdev
    if entry.xattrs:
        value["xattrs"] = {path_text(name): data.hex() for name, data in entry.xattrs}
    return value
