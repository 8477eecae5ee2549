"""Names and paths: bytes, as the kernel has them. A path is relative to a version's root, without a leading slash."""

from __future__ import annotations

import os
import re

from vfs.errors import InvalidInput, NameTooLong
from vfs.model.objects import NAME_BYTES_MAX

BRANCH_NAME_BYTES_MAX = 200
"""Of a branch: its name with an ending is a file's name."""
INODES = "inodes"
"""The file beside the working layers, whose directories have their branches' names."""


def is_name(name: bytes) -> bool:
    """Returns True if bytes can name an entry: 1 to 255 of them, neither `/` nor NUL among them, not `.` or `..`."""
    return 0 < len(name) <= NAME_BYTES_MAX and b"/" not in name and b"\0" not in name and name not in (b".", b"..")


def check_name(name: bytes) -> bytes:
    """Returns the name, or raises InvalidInput or NameTooLong."""
    if len(name) > NAME_BYTES_MAX:
        raise NameTooLong(f"the name {show_path(name[:32])}... has {len(name)} bytes; {NAME_BYTES_MAX} are the limit")
    if not is_name(name):
        raise InvalidInput(f"{show_path(name)!r} cannot name an entry")
    return name


def ref_name_fault(name: str, bytes_max: int = NAME_BYTES_MAX) -> str:
    """Returns why a text cannot be the name of a branch or tag; empty for one that can.

    Such a name becomes part of paths and of keys. What people may choose is narrower (vfs/history/revision.py).
    """
    if not name or "/" in name or name.startswith(".") or name == INODES or not name.isprintable():
        return "this cannot name a branch or a tag"
    if len(name.encode("utf-8", "replace")) > bytes_max:
        return "the name is too long"
    return ""


def split_path(path: bytes) -> list[bytes]:
    """Returns a path's names from the root down; empty and `.` parts vanish, `..` is refused."""
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    for name in names:
        check_name(name)
    return names


def join_path(directory: bytes, name: bytes) -> bytes:
    """Returns the path of a name in a directory; the root's path is empty."""
    return directory + b"/" + name if directory else name


def is_within(path: bytes, above: bytes) -> bool:
    """Returns True if a path is another one or below it; every path is below the empty one."""
    return not above or path == above or path.startswith(above + b"/")


def is_run_name(text: str) -> bool:
    """Returns True for what stands behind `runs/` in the name of a run's ref: its number, and its random id."""
    return re.fullmatch("[1-9][0-9]{0,11}-[0-9a-f]{16}", text) is not None


def show_path(path: bytes) -> str:
    """Returns a path as text that is safe to print: control characters and undecodable bytes appear as `\\xNN`."""
    text = path.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def path_text(path: bytes) -> str:
    """Returns a path as text from which `os.fsencode` gives the same bytes again, for JSON and the system."""
    return os.fsdecode(path)
