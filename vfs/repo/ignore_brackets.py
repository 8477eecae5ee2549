"""Bracket expressions of gitignore patterns, as git reads them: `[a-z]`, `[!x]`, `[[:digit:]_]`, `[\\]]`.

The library that translates patterns into regular expressions passes brackets on to `re`, which reads them otherwise. So
they are taken out before, as sets of bytes, and put in after.
"""

from __future__ import annotations

import string
from typing import NoReturn

_FIRST_MARK = 0xE000
"""Private characters of Unicode stand for the sets meanwhile; bytes are characters below 256."""
_MARKS = 6400
_SLASH = ord("/")
_PRINTED = frozenset(range(0x20, 0x7F))
_CLASSES = {
    "alnum": frozenset(map(ord, string.ascii_letters + string.digits)),
    "alpha": frozenset(map(ord, string.ascii_letters)),
    "blank": frozenset(map(ord, " \t")),
    "cntrl": frozenset(range(0x20)) | {0x7F},
    "digit": frozenset(map(ord, string.digits)),
    "graph": _PRINTED - {0x20},
    "lower": frozenset(map(ord, string.ascii_lowercase)),
    "print": _PRINTED,
    "punct": frozenset(map(ord, string.punctuation)),
    "space": frozenset(map(ord, " \t\n\v\f\r")),
    "upper": frozenset(map(ord, string.ascii_uppercase)),
    "xdigit": frozenset(map(ord, string.hexdigits)),
}


def extract_brackets(pattern: str) -> tuple[str, list[str]]:
    """Returns a pattern with a mark in place of each bracket expression, and the regular expressions of these.

    White space is taken out as well: the library removes it from a pattern's end, git does not.
    Characters are bytes (Latin-1). Raises ValueError for a pattern that matches nothing, as its brackets are wrong.
    """
    made: list[str] = []
    sets: list[str] = []
    at = 0
    while at < len(pattern):
        is_escaped = pattern[at] == "\\"
        letter = pattern[at + is_escaped : at + is_escaped + 1]
        if letter == "[" and not is_escaped:
            wanted, at = _members(pattern, at + 1)
        elif letter.isspace():
            wanted, at = frozenset(map(ord, letter)), at + is_escaped + 1
        else:
            made.append(pattern[at : at + is_escaped + 1])
            at += is_escaped + 1
            continue
        if len(sets) == _MARKS:
            raise ValueError("too many brackets")
        made.append(chr(_FIRST_MARK + len(sets)))
        # For `re` no set is empty: this look-ahead never holds.
        sets.append("[" + "".join(map("\\x{:02x}".format, sorted(wanted))) + "]" if wanted else "(?!)")
    return "".join(made), sets


def insert_brackets(regex: str, sets: list[str]) -> str:
    """Returns a regular expression with the sets in place of their marks."""
    return regex.translate({_FIRST_MARK + number: text for number, text in enumerate(sets)})


def _members(pattern: str, at: int) -> tuple[frozenset[int], int]:
    """Returns the bytes that an expression, from behind its bracket on, stands for, and where it ends."""
    is_negated = pattern[at : at + 1] in ("!", "^") and at < len(pattern)
    at += is_negated
    found: set[int] = set()
    previous = 0
    is_first = True
    while is_first or pattern[at : at + 1] != "]":
        is_first = False
        letter = _letter(pattern, at)
        following = pattern[at + 1 : at + 2]
        if letter == "\\":
            at += 1
            previous = ord(_letter(pattern, at))
            found.add(previous)
        elif letter == "-" and previous and following not in ("", "]"):
            at += 2 if following == "\\" else 1
            found.update(range(previous, ord(_letter(pattern, at)) + 1))
            previous = 0
        elif letter == "[" and following == ":" and (name := _class_name(pattern, at + 2)) is not None:
            found |= _CLASSES.get(name) or _wrong()
            at += len(name) + 3
            previous = 0
        else:
            previous = ord(letter)
            found.add(previous)
        at += 1
        _letter(pattern, at)
    wanted = frozenset(range(256)) - found if is_negated else frozenset(found)
    return wanted - {_SLASH}, at + 1


def _letter(pattern: str, at: int) -> str:
    return pattern[at] if at < len(pattern) else _wrong()


def _class_name(pattern: str, at: int) -> str | None:
    """Returns the name up to `:]`; None where the next bracket that closes has no colon before it."""
    end = pattern.find("]", at)
    if end < 0:
        _wrong()
    return pattern[at : end - 1] if end > at and pattern[end - 1] == ":" else None


def _wrong() -> NoReturn:
    raise ValueError("a bracket expression without an end, or of an unknown class")
