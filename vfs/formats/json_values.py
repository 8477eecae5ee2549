"""JSON values as they are written: no number is rounded, no key that is there twice is lost.

`parsed` gives None, booleans, strings, lists, `Object` and `Number`. Two values are the same when their `canonical`
texts are. Numbers are the same when their decimal values are and either both or neither are integers: `1.0` and `1.00`,
but not `1` and `1.0`, which most programs read as other types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from vfs.formats.detail import NotThisFormat

_REAL = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,18}))?")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^"\s{}\[\],:]+|[{}\[\],:]|\s+')
_POSITIONAL_DIGITS_MAX = 20
_CONSTANTS = {None: "null", True: "true", False: "false"}
NESTED_TOO_DEEP = "it is nested too deeply"


class Number(str):
    """A number as it is written; `NaN` and the infinities, which Python writes too, are among them."""

    __slots__ = ()


class Object(list[tuple[str, Any]]):
    """An object: its keys and values in their order, with keys that are there twice."""

    __slots__ = ()

    def by_key(self) -> list[tuple[str, int, Any]]:
        """Returns (key, how many of this name come before, value) in the order of the file."""
        seen: dict[str, int] = {}
        found = []
        for key, value in self:
            nth = seen.get(key, 0)
            seen[key] = nth + 1
            found.append((key, nth, value))
        return found


_decoder = json.JSONDecoder(object_pairs_hook=Object, parse_float=Number, parse_int=Number, parse_constant=Number)


def parsed(text: str) -> Any:
    """Returns the value of a JSON text. Raises NotThisFormat with the reason."""
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise NotThisFormat(f"no JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise NotThisFormat(NESTED_TOO_DEEP) from None


def canonical(value: Any, *, ordered: bool = False) -> str:
    """Returns a text that equal values share and no others; the order of keys counts where `ordered`.

    Scalars look as in JSON. Raises NotThisFormat where the value is nested too deeply.
    """
    try:
        return _canonical(value, ordered)
    except RecursionError:
        raise NotThisFormat(NESTED_TOO_DEEP) from None


def _canonical(value: Any, ordered: bool) -> str:
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is Number:
        return _number(value) if "." in value or "e" in value or "E" in value else str(value)
    if kind is Object:
        # Values of one key that is there twice stay in their order: it decides which of them counts.
        pairs = value if ordered else sorted(value, key=lambda pair: pair[0])
        return "{" + ", ".join(f"{_quoted(key)}: {_canonical(inner, ordered)}" for key, inner in pairs) + "}"
    if kind is list:
        return "[" + ", ".join([_canonical(inner, ordered) for inner in value]) + "]"
    return _CONSTANTS[value]


def _number(text: str) -> str:
    match = _REAL.fullmatch(text)
    if match is None or (match[3] is None and match[4] is None):
        return text
    sign, whole, fraction, power = match[1], match[2], match[3] or "", int(match[4] or 0)
    digits = (whole + fraction).lstrip("0")
    exponent = power - len(fraction) + len(digits) - len(digits.rstrip("0"))
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0.0"
    if exponent >= 0 and len(digits) + exponent <= _POSITIONAL_DIGITS_MAX:
        return f"{sign}{digits}{'0' * exponent}.0"
    if exponent < 0 and -exponent <= _POSITIONAL_DIGITS_MAX:
        padded = digits.rjust(1 - exponent, "0")
        return f"{sign}{padded[:exponent]}.{padded[exponent:]}"
    return f"{sign}{digits}e{exponent}"


def plain(value: Any) -> Any:
    """Returns a value as JSON has it: with the last of the values that a key has, and numbers that it lacks as text."""
    if isinstance(value, Number):
        try:
            number = json.loads(value)
        except ValueError:
            # More digits than Python reads.
            return str(value)
        return number if not isinstance(number, float) or abs(number) < float("inf") else str(value)
    if isinstance(value, Object):
        return {key: plain(inner) for key, inner in value}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def spelling(text: str) -> Iterator[tuple[str, str]]:
    """Yields the properties of a JSON text that its values do not have, each with its name."""
    tokens = _TOKEN.findall(text)
    yield "order of keys", canonical(parsed(text), ordered=True)
    yield "spelling of numbers", " ".join(sorted(token for token in tokens if token[0] in "-0123456789"))
    yield "escapes in strings", " ".join(sorted(token for token in tokens if token[0] == '"'))
    yield "white space", json.dumps([token for token in tokens if token.isspace()])
