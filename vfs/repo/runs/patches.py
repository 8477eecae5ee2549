"""Patches of code that lost their secrets: what they remove and keep is written in the files that they apply to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from vfs.repo.runs.secrets import REDACTED

_MARK = re.compile(re.escape(REDACTED.encode()) + rb"[0-9a-f]{1,64}\]")
_HUNK = re.compile(rb"@@ -([0-9]{1,9})(?:,([0-9]{1,9}))? \+[0-9]{1,9}(?:,([0-9]{1,9}))? @@")
_FILE_BYTES_MAX = 16 << 20


def with_secrets_of(directory: Path, patch: bytes) -> bytes:
    """Returns a patch whose context and removed lines are those of the files below a directory, and what they tell.

    What stands in no such line stays replaced.
    """
    if _MARK.search(patch) is None:
        return patch
    known: dict[bytes, bytes] = {}
    for line, original in _lines_with_marks(directory, patch):
        between = [re.escape(part) for part in _MARK.split(line)]
        found = re.fullmatch(b"(.+?)".join(between), original)
        if found is not None:
            known.update(zip(_MARK.findall(line), found.groups(), strict=True))
    return _MARK.sub(lambda match: known.get(match[0], match[0]), patch)


def _lines_with_marks(directory: Path, patch: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the context and removed lines of a patch that lost a secret, each with the line that the file has."""
    lines: list[bytes] = []
    number = old = new = 0
    for line in patch.split(b"\n"):
        if old <= 0 and new <= 0:
            hunk = _HUNK.match(line)
            if line.startswith(b"--- "):
                lines = _lines_of(directory, line[4:])
            elif hunk is not None:
                number = int(hunk[1])
                old, new = (int(count) if count is not None else 1 for count in (hunk[2], hunk[3]))
            continue
        kind = line[:1]
        if kind in (b" ", b"-"):
            if _MARK.search(line) is not None and number <= len(lines):
                yield line[1:], lines[number - 1]
            number += 1
            old -= 1
        if kind in (b" ", b"+"):
            new -= 1


def _lines_of(directory: Path, name: bytes) -> list[bytes]:
    """Returns the lines of the file that a patch names, none for one that is not below the directory."""
    path = os.fsdecode(name.rstrip(b"\t")).partition("/")[2]
    if not name.startswith(b"a/") or os.path.isabs(path):
        return []
    whole = directory / path
    try:
        is_file = whole.is_file() and whole.resolve() == directory.resolve() / path
        return whole.read_bytes().split(b"\n") if is_file and whole.stat().st_size <= _FILE_BYTES_MAX else []
    except OSError:
        return []
