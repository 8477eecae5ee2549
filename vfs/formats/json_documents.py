"""JSON, key by key: numbers as they are written, and keys that are there twice one by one."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

from vfs.formats.detail import (
    EXAMPLES_MAX,
    Detail,
    NotThisFormat,
    Readable,
    cut,
    more_than_shown,
    too_large,
    written_differently,
)
from vfs.formats.json_values import NESTED_TOO_DEEP, Number, Object, canonical, parsed, plain, spelling
from vfs.formats.text_diff import shown_line
from vfs.formats.text_encoding import Ends, is_unicode, lines_of

JSON_BYTES_MAX = 8 * 1024 * 1024
_VALUE_CHARACTERS_MAX = 60
_PATH_CHARACTERS_MAX = 200
_ABSENT = object()


def describe(old: Readable, new: Readable) -> Detail:
    """Returns the keys that differ. Raises NotThisFormat where a side is no JSON document."""
    large = too_large(old, new, JSON_BYTES_MAX, "key by key")
    if large is not None:
        return large
    (before, was_written), (after, is_written) = _text(old), _text(new)
    try:
        changes = list(_differences("", parsed(before), parsed(after)))
        value = {
            "added": [path for path, was, _ in changes if was is _ABSENT],
            "removed": [path for path, _, now in changes if now is _ABSENT],
            "changed": [
                {"key": path, "old": plain(was), "new": plain(now)}
                for path, was, now in changes
                if _ABSENT is not was and _ABSENT is not now
            ],
        }
        lines = [_line(*change) for change in changes[:EXAMPLES_MAX]] + more_than_shown(len(changes), "keys")
    except RecursionError:
        raise NotThisFormat(NESTED_TOO_DEEP) from None
    if not changes:
        facts = _written(was_written, is_written) + _spelt(before, after)
        return Detail("json", ["the same values", written_differently(facts)], value | {"written_differently": facts})
    return Detail("json", lines, value)


def _text(source: Readable) -> tuple[str, Ends]:
    ends, lines = lines_of(source)
    text = io.StringIO()
    for line in lines:
        text.write(line)
    if not is_unicode(text.getvalue()):
        raise NotThisFormat(f"it is {ends.encoding}")
    return text.getvalue(), ends


def _written(old: Ends, new: Ends) -> list[str]:
    was, now = old.facts(), new.facts()
    # Lines do not count in a document, but how they end does.
    return [f"{name} {was[name]} → {now[name]}" for name in was if was[name] != now[name]]


def _spelt(old: str, new: str) -> list[str]:
    pairs = zip(spelling(old), spelling(new), strict=True)
    return [name for (name, was), (_, now) in pairs if was != now]


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields (path, old, new) for each value that differs; lists are compared place by place."""
    if isinstance(old, Object) and isinstance(new, Object):
        before = {(key, nth): value for key, nth, value in old.by_key()}
        after = {(key, nth): value for key, nth, value in new.by_key()}
        for key, nth in [*before, *(name for name in after if name not in before)]:
            name = _joined(path, key) + (f" ({nth + 1})" if nth else "")
            yield from _differences(name, before.get((key, nth), _ABSENT), after.get((key, nth), _ABSENT))
    elif type(old) is list and type(new) is list:
        for place in range(max(len(old), len(new))):
            was = old[place] if place < len(old) else _ABSENT
            now = new[place] if place < len(new) else _ABSENT
            yield from _differences(f"{path}[{place}]", was, now)
    elif old is _ABSENT or new is _ABSENT or canonical(old) != canonical(new):
        yield path or "the whole document", old, new


def _joined(path: str, key: str) -> str:
    name = key if key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)
    return f"{path}.{name}" if path else name


def _line(path: str, old: Any, new: Any) -> str:
    shown = cut(shown_line(path.encode("utf-8", "surrogatepass")), _PATH_CHARACTERS_MAX)
    if old is _ABSENT:
        return f"+ {shown}: {_short(new)}"
    if new is _ABSENT:
        return f"- {shown}: {_short(old)}"
    return f"~ {shown}: {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    return cut(value if isinstance(value, Number) else canonical(value, ordered=True), _VALUE_CHARACTERS_MAX)
