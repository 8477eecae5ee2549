"""Bytes to text: which encoding a file has, without a guess. What is no UTF-8 keeps its bytes as lone surrogates."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from vfs.formats.detail import PIECE_BYTES, NotThisFormat, Readable, Stream

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8", "UTF-8 with a byte order mark"),
    (b"\xff\xfe\x00\x00", "utf-32-le", "UTF-32"),
    (b"\x00\x00\xfe\xff", "utf-32-be", "UTF-32 with the high byte first"),
    (b"\xff\xfe", "utf-16-le", "UTF-16"),
    (b"\xfe\xff", "utf-16-be", "UTF-16 with the high byte first"),
)


@dataclass(slots=True)
class Ends:
    """How a text is written: its encoding, and how many of its lines end in which way."""

    encoding: str
    lf: int = 0
    crlf: int = 0
    unended: int = 0

    def facts(self) -> dict[str, str]:
        """Returns what can differ between texts of the same lines, by name."""
        ends = "mixed line ends" if self.lf and self.crlf else "CRLF" if self.crlf else "LF" if self.lf else "none"
        found = {"encoding": self.encoding, "line ends": ends}
        if self.lf and self.crlf:
            found["line ends"] = f"{self.lf:,} LF and {self.crlf:,} CRLF"
        found["end of the last line"] = "missing" if self.unended else "there"
        return found


def lines_of(source: Readable) -> tuple[Ends, Iterator[str]]:
    """Returns how a text is written, complete once its lines were read, and its lines with their ends.

    Lines end at `\\n` alone. Bytes that are no UTF-8 become lone surrogates, as `surrogateescape` has them. Raises
    NotThisFormat, while the lines are read, for text that is not what its byte order mark says.
    """
    start = bytes(source.read(0, 4))
    mark, codec, words = next((known for known in _MARKS if start.startswith(known[0])), (b"", "utf-8", "UTF-8"))
    stream = Stream(source)
    stream.seek(len(mark))
    ends = Ends(words)
    errors = "surrogateescape" if codec == "utf-8" else "strict"
    text = io.TextIOWrapper(io.BufferedReader(stream, PIECE_BYTES), encoding=codec, errors=errors, newline="\n")
    return ends, _lines(text, ends)


def _lines(text: io.TextIOWrapper, ends: Ends) -> Iterator[str]:
    try:
        for line in text:
            if line.endswith("\r\n"):
                ends.crlf += 1
            elif line.endswith("\n"):
                ends.lf += 1
            else:
                ends.unended += 1
            if not line.isascii() and ends.encoding.startswith("UTF-8") and not is_unicode(line):
                ends.encoding = "no " + ends.encoding
            yield line
    except UnicodeDecodeError:
        raise NotThisFormat(f"it is no {ends.encoding}, as its first bytes say") from None


def is_unicode(text: str) -> bool:
    """Returns True if a text has no lone surrogates, which stand for bytes that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
