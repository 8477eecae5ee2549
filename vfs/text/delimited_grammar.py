"""Delimited text (CSV, TSV) exactly as RFC 4180 has it; line ends may be LF alone. Works on text and on bytes.

What the grammar does not have is refused with the line and the reason: a guess at where a field or a row ends could
join two rows and lose what is between them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import AnyStr, Generic

from vfs.text.ill_formed import IllFormed

QUOTE = '"'


class DelimitedSyntax(Generic[AnyStr]):
    """The grammar over one type of strings; `of` turns a text of ASCII into it."""

    def __init__(self, of: Callable[[str], AnyStr]) -> None:
        self._of: Callable[[str], AnyStr] = of
        self._quote: AnyStr = of(QUOTE)
        self._two_quotes: AnyStr = of(QUOTE * 2)
        self._return: AnyStr = of("\r")
        self._newline: AnyStr = of("\n")
        self._ends: AnyStr = of("\r\n")
        self._patterns: dict[AnyStr, re.Pattern[AnyStr]] = {}

    def records(self, lines: Iterable[AnyStr]) -> Iterator[tuple[int, AnyStr, AnyStr]]:
        """Yields records as they are written: (number of the first line, record without its end, its line end).

        `lines` have their ends. Line ends inside quotes are part of a record.
        A quote that is never closed makes the rest of the lines one record, which `fields` refuses.
        """
        parts: list[AnyStr] = []
        first = 0
        is_open = False
        for number, line in enumerate(lines, 1):
            if not is_open and self._quote not in line:
                yield self._record(number, line)
                continue
            if not parts:
                first = number
            parts.append(line)
            # Outside quotes, a well-formed record has as many opening as closing quotes.
            is_open ^= line.count(self._quote) % 2 == 1
            if not is_open:
                whole = self._of("").join(parts)
                parts = []
                yield self._record(first, whole)
        if parts:
            yield first, self._of("").join(parts), self._of("")

    def values(self, body: AnyStr, delimiter: AnyStr, line: int) -> list[AnyStr]:
        """Returns the values of a record's fields. Raises IllFormed with the line."""
        fields = self.fields(body, delimiter, line)
        quote = self._quote
        if quote not in body:
            return fields
        # As `value` does, without a call for each field: most of the time of reading goes here.
        return [field[1:-1].replace(self._two_quotes, quote) if field.startswith(quote) else field for field in fields]

    def fields(self, body: AnyStr, delimiter: AnyStr, line: int) -> list[AnyStr]:
        """Returns a record's fields as they are written, with their quotes. Raises IllFormed with the line."""
        if self._quote not in body:
            if self._return in body:
                raise IllFormed(line, "has a carriage return inside a field without quotes")
            return body.split(delimiter)
        pattern = self._pattern(delimiter)
        fields: list[AnyStr] = []
        at = 0
        while True:
            match = pattern.match(body, at)
            if match is None:
                raise IllFormed(line, "has a quote that is never closed")
            fields.append(match[0])
            at = match.end()
            if at == len(body):
                return fields
            if body[at : at + 1] != delimiter:
                raise IllFormed(line, self._stray(match[0], body[at : at + 1]))
            at += 1

    def value(self, field: AnyStr) -> AnyStr:
        """Returns the value of a field, without the quotes around it."""
        return field[1:-1].replace(self._two_quotes, self._quote) if field.startswith(self._quote) else field

    def _record(self, number: int, line: AnyStr) -> tuple[int, AnyStr, AnyStr]:
        if line.endswith(self._ends):
            return number, line[:-2], self._ends
        if line.endswith(self._newline):
            return number, line[:-1], self._newline
        return number, line, self._of("")

    def _stray(self, field: AnyStr, after: AnyStr) -> str:
        if field.startswith(self._quote):
            return "has text after a closing quote"
        if after == self._quote:
            return 'has a quote (") inside a field without quotes around it'
        return "has a carriage return inside a field without quotes"

    def _pattern(self, delimiter: AnyStr) -> re.Pattern[AnyStr]:
        pattern = self._patterns.get(delimiter)
        if pattern is None:
            start, end = self._of(r'"(?:[^"]++|"")*+"|(?!")[^"\r\n'), self._of(r"]*+")
            pattern = self._patterns[delimiter] = re.compile(start + re.escape(delimiter) + end)
        return pattern


TEXT: DelimitedSyntax[str] = DelimitedSyntax(str)
BYTES: DelimitedSyntax[bytes] = DelimitedSyntax(str.encode)
