"""Goal: what is JSON for merges, which keep bytes, is JSON for differences, which read values; and the reverse."""

from __future__ import annotations

import json
from itertools import zip_longest

from hypothesis import given
from hypothesis import strategies as st

from vfs.formats.detail import NotThisFormat
from vfs.formats.json_values import Object, parsed
from vfs.text.ill_formed import IllFormed
from vfs.text.json_objects import object_parts

_PIECES = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"',
    '"a"',
    '"\\u00e9"',
    "\\",
    "1",
    "-0.5e+3",
    "01",
    "true",
    "NaN",
    "-Infinity",
]
_PIECES += [" ", "\t", "null", "é", '"a":', '{"a":1}', "\x01"]
_SOUP = st.lists(st.sampled_from(_PIECES), max_size=8).map("".join)
_OBJECTS = st.dictionaries(
    st.text(max_size=3),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3), st.lists, max_leaves=5),
    max_size=3,
).map(json.dumps)


@given(_SOUP | _SOUP.map("{{{}}}".format) | _OBJECTS)
def test_both_readers_accept_the_same_lines_and_find_the_same_members(text: str) -> None:
    try:
        value = parsed(text)
    except NotThisFormat:
        value = None
    try:
        parts = object_parts(text.encode(), 1)
    except IllFormed:
        assert not isinstance(value, Object)
        return
    assert isinstance(value, Object)
    assert [(member.name, parsed(member.value.decode())) for member in parts.members] == list(value)
    written = [member.text + (separator or b"") for member, separator in zip_longest(parts.members, parts.separators)]
    assert (parts.opening + b"".join(written) + parts.closing).decode() == text
