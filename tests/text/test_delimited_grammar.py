"""Goal: delimited text is read as RFC 4180 has it, as text and as bytes, and refused where it is anything else."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vfs.text.delimited_grammar import BYTES, TEXT
from vfs.text.ill_formed import IllFormed

_ROWS = st.lists(st.lists(st.text('ab,;"\r\n\t é', max_size=4), min_size=2, max_size=3), max_size=4)
_SOUP = st.lists(st.sampled_from(['"', '""', ",", "\n", "\r\n", "\r", "a", "é"]), max_size=14).map("".join)


def read(text: str) -> list[list[str]]:
    """Returns the values of all records; raises IllFormed."""
    return [TEXT.values(body, ",", line) for line, body, _ in TEXT.records(io.StringIO(text, newline="\n"))]


@given(_ROWS, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_python_writes_is_read_as_it_was(rows: list[list[str]], end: str, all_quoted: bool) -> None:
    # Python leaves a carriage return without quotes where it is no line end.
    assume(all_quoted or not any("\r" in cell for row in rows for cell in row))
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL).writerows(rows)
    assert read(out.getvalue()) == rows


@given(_SOUP)
def test_text_and_bytes_are_read_alike_and_records_are_the_file(text: str) -> None:
    data = text.encode()
    records = list(TEXT.records(io.StringIO(text, newline="\n")))
    assert "".join(body + end for _, body, end in records) == text
    assert list(BYTES.records(io.BytesIO(data))) == [(line, body.encode(), end.encode()) for line, body, end in records]
    for line, body, _ in records:
        try:
            fields, reason = TEXT.fields(body, ",", line), ""
        except IllFormed as error:
            fields, reason = [], str(error)
        if reason:
            with pytest.raises(IllFormed) as raised:
                BYTES.fields(body.encode(), b",", line)
            assert str(raised.value) == reason
        else:
            assert BYTES.fields(body.encode(), b",", line) == [field.encode() for field in fields]
            assert ",".join(fields) == body


@given(_SOUP)
def test_what_is_read_is_what_pythons_strict_reader_reads(text: str) -> None:
    try:
        found = read(text)
    except IllFormed:
        return
    # Python ends a record at a carriage return, and gives nothing for a blank line.
    if "\r" not in text.replace("\r\n", ""):
        assert [row for row in found if row != [""]] == [
            row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row not in ([], [""])
        ]
