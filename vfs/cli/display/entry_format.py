"""How one entry of a version is described: in words and in columns."""

from __future__ import annotations

import stat

from vfs.model.names import show_path
from vfs.model.objects import FORMAT_BITS, Entry, Form, Kind

_FORM_TEXTS = {
    Form.EMPTY: "empty",
    Form.TINY: "inside its directory's node",
    Form.CHUNK: "one chunk",
    Form.LIST: "a list of chunks",
}


def form_text(entry: Entry) -> str:
    """Returns how a file's bytes are stored."""
    return _FORM_TEXTS[Form(entry.form)]


def mode_text(entry: Entry) -> str:
    """Returns the mode as `ls -l` shows it: `-rw-r--r--`."""
    return stat.filemode(FORMAT_BITS[Kind(entry.kind)] | entry.mode)


def shown_name(entry: Entry, path: bytes | None = None) -> str:
    """Returns a name (or path) for display: `/` after a directory, the target after a symlink."""
    text = show_path(entry.name if path is None else path)
    if entry.kind == Kind.DIR:
        return text + "/"
    if entry.kind == Kind.SYMLINK:
        return f"{text} -> {show_path(entry.content)}"
    return text
