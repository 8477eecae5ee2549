"""Text, line by line: the unified form of `diff -u`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vfs.formats.detail import Detail, NotThisFormat, Readable, too_large, whole
from vfs.text.matching import Block, matching_blocks

TEXT_BYTES_MAX = 8 * 1024 * 1024
_CONTEXT = 3
_SNIFFED_BYTES = 8192
_NO_END = "\\ No newline at end of file"


def is_text(source: Readable) -> bool:
    """Returns True if a file looks like text: its beginning has no NUL, as `diff` and `grep` decide."""
    return b"\0" not in bytes(source.read(0, _SNIFFED_BYTES))


def describe(old: Readable, new: Readable) -> Detail:
    """Returns the lines that differ. Raises NotThisFormat where a side is no text."""
    if not (is_text(old) and is_text(new)):
        raise NotThisFormat
    large = too_large(old, new, TEXT_BYTES_MAX, "line by line")
    return large if large is not None else compare_lines(split_lines(whole(old)), split_lines(whole(new)))


def split_lines(data: bytes) -> list[bytes]:
    """Returns lines with their ends, split at `\\n` alone as `diff` does."""
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def compare_lines(old: Sequence[bytes], new: Sequence[bytes]) -> Detail:
    """Returns the detail of two texts, given as lines with their ends."""
    lines: list[str] = []
    hunks = []
    added = removed = 0
    for group in _groups(_changes(matching_blocks(old, new), len(old), len(new))):
        first, last = group[0], group[-1]
        old_start, old_end = max(first[0] - _CONTEXT, 0), min(last[1] + _CONTEXT, len(old))
        new_start, new_end = max(first[2] - _CONTEXT, 0), min(last[3] + _CONTEXT, len(new))
        body: list[str] = []
        at = old_start
        for old_from, old_to, new_from, new_to in group:
            body += (
                _shown(" ", old[at:old_from]) + _shown("-", old[old_from:old_to]) + _shown("+", new[new_from:new_to])
            )
            removed += old_to - old_from
            added += new_to - new_from
            at = old_to
        body += _shown(" ", old[at:old_end])
        lines += [f"@@ -{_range(old_start, old_end)} +{_range(new_start, new_end)} @@", *body]
        hunks.append({"old_start": old_start + 1, "new_start": new_start + 1, "lines": body})
    return Detail("text", lines, {"lines_added": added, "lines_removed": removed, "hunks": hunks})


def _changes(blocks: Sequence[Block], old_size: int, new_size: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields [old start, old end, new start, new end) of what lies between the blocks."""
    old_at = new_at = 0
    for block in [*blocks, Block(old_size, new_size, 0)]:
        if (block.old, block.new) != (old_at, new_at):
            yield old_at, block.old, new_at, block.new
        old_at, new_at = block.old + block.size, block.new + block.size


def _groups(changes: Iterator[tuple[int, int, int, int]]) -> Iterator[list[tuple[int, int, int, int]]]:
    """Yields changes together whose context would meet."""
    group: list[tuple[int, int, int, int]] = []
    for change in changes:
        if group and change[0] - group[-1][1] > 2 * _CONTEXT:
            yield group
            group = []
        group.append(change)
    if group:
        yield group


def _range(start: int, end: int) -> str:
    length = end - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"


def _shown(sign: str, lines: Sequence[bytes]) -> list[str]:
    shown = []
    for line in lines:
        shown.append(sign + shown_line(line))
        if not line.endswith(b"\n"):
            shown.append(_NO_END)
    return shown


def shown_line(line: bytes) -> str:
    """Returns a line without its end as text that cannot drive a terminal; tabs stay."""
    text = line.removesuffix(b"\n").decode("utf-8", "backslashreplace")
    if text.replace("\t", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode("ascii") for c in text)
