"""Objects of JSON as the bytes that are written: their members, what is between them, and the tokens of values.

Python's parser gives values and drops what merges must keep: `1`, `1.0` and `true` are equal in Python, long numbers
are refused, the first of two members of one name is lost, and deep nesting ends in an exception. `NaN` and `Infinity`
are accepted, since Python and pandas write them. Differences need values alone and use Python's parser
(vfs/formats/json_values.py); tests check that both accept the same lines.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Hashable, Iterator
from typing import NamedTuple

from vfs.text.ill_formed import IllFormed

_SPACE = rb"[ \t\r]*+"
_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+"'
_WORD = rb"(?:-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?(?![0-9.eE+-])|true|false|null|NaN|-?Infinity)"
_OPENING = re.compile(_SPACE + rb"\{" + _SPACE)
_NAME = re.compile(rb"(" + _STRING + rb")" + _SPACE + rb":" + _SPACE)
_SCALAR = rb"(?:" + _STRING + rb"|" + _WORD + rb")" + _SPACE
_ITEM, _PAIR = _SPACE + _SCALAR, _SPACE + _STRING + _SPACE + rb":" + _SPACE + _SCALAR
# Scalars, and arrays and objects of them: what most values are, found in one step.
_SIMPLE = re.compile(
    _STRING + rb"|" + _WORD + rb"|\[" + _ITEM + rb"(?:," + _ITEM + rb")*+\]|\{" + _PAIR + rb"(?:," + _PAIR + rb")*+\}"
)
_AFTER = re.compile(_SPACE + rb"([,}])" + _SPACE)
_TOKEN = re.compile(_SPACE + rb"(?:(?P<string>" + _STRING + rb")|(?P<word>" + _WORD + rb")|(?P<sign>[{}\[\],:]))")


class Member(NamedTuple):
    """A member of an object: its name as it is written and as it reads, all its bytes, and those of its value."""

    name: str
    text: bytes
    value: bytes

    def lead(self) -> bytes:
        """Returns what stands before the value: the name as it is written, and the colon."""
        return self.text[: len(self.text) - len(self.value)]


class ObjectParts(NamedTuple):
    """The bytes of an object: `opening`, members with a separator between each two, `closing`."""

    opening: bytes
    members: list[Member]
    separators: list[bytes]
    closing: bytes


def object_parts(body: bytes, number: int) -> ObjectParts:
    """Returns the members of an object that is a line. Raises IllFormed with the line."""
    opening = _OPENING.match(body)
    if opening is None:
        raise IllFormed(number, "is no JSON object")
    members: list[Member] = []
    separators: list[bytes] = []
    at = opening.end()
    if body[at:].rstrip(b" \t\r") == b"}":
        return ObjectParts(opening[0], members, separators, body[at:])
    while True:
        name = _NAME.match(body, at)
        if name is None:
            raise _no_json(number, at)
        simple = _SIMPLE.match(body, name.end())
        end = simple.end() if simple is not None else _end_of_nested(body, name.end(), number)
        text = name[1]
        read = json.loads(text) if b"\\" in text else text[1:-1].decode("utf-8", "surrogateescape")
        members.append(Member(read, body[at:end], body[name.end() : end]))
        after = _AFTER.match(body, end)
        if after is None:
            raise _no_json(number, end)
        if after[1] == b"}":
            if after.end() != len(body):
                raise _no_json(number, after.end())
            return ObjectParts(opening[0], members, separators, after[0])
        separators.append(after[0])
        at = after.end()


def _no_json(number: int, at: int) -> IllFormed:
    return IllFormed(number, f"is no JSON (at byte {at + 1})")


def identity_of(value: bytes) -> Hashable:
    """Returns the identity of a value: of a string its text, of others the written bytes without white space."""
    if value.startswith(b'"'):
        return (str, json.loads(value))
    return without_space(value)


def without_space(value: bytes) -> bytes:
    """Returns a value as it is written, without the space between tokens."""
    if not value.startswith((b"{", b"[")):
        return value
    return b"".join(value[start:end] for start, end in _tokens(value, 0, 0))


def _end_of_nested(text: bytes, at: int, number: int) -> int:
    return deque(_tokens(text, at, number), maxlen=1)[0][1]


def _tokens(text: bytes, at: int, number: int) -> Iterator[tuple[int, int]]:
    """Yields where the tokens of a value are, however deep it is nested; raises IllFormed where it is none."""
    open_signs: list[bytes] = []
    # What may come next: a value, a name, a colon, or what follows a value; `is_first` after an opening sign.
    expected, is_first = "value", False
    while expected != "after" or open_signs:
        match = _TOKEN.match(text, at)
        kind = match.lastgroup if match is not None else None
        if match is None or kind is None:
            raise _no_json(number, at)
        start, end = match.span(kind)
        found = _next(text[start:end], kind, expected, is_first, open_signs)
        if found is None:
            raise _no_json(number, start)
        expected, is_first = found
        at = end
        yield start, end


def _next(token: bytes, kind: str, expected: str, is_first: bool, open_signs: list[bytes]) -> tuple[str, bool] | None:
    """Returns what may come after a token, or None where it may not stand."""
    if expected in ("value", "name") and is_first and token == (b"]" if expected == "value" else b"}"):
        open_signs.pop()
        return "after", False
    if expected == "name" and kind == "string":
        return "colon", False
    if expected == "colon" and token == b":":
        return "value", False
    if expected == "value":
        if token in (b"{", b"["):
            open_signs.append(token)
            return ("name" if token == b"{" else "value"), True
        return ("after", False) if kind != "sign" else None
    if expected == "after":
        is_object = open_signs[-1] == b"{"
        if token == b",":
            return ("name" if is_object else "value"), False
        if token == (b"}" if is_object else b"]"):
            open_signs.pop()
            return "after", False
    return None
