"""JSON, key by key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from vfs.cli.formats.detail import EXAMPLES_MAX, Detail, NotThisFormat, Readable, more_than_shown, too_large, whole
from vfs.cli.formats.text import shown_line

JSON_BYTES_MAX = 8 * 1024 * 1024
_VALUE_CHARACTERS_MAX = 60
_ABSENT = object()


def describe(old: Readable, new: Readable) -> Detail:
    """Returns the keys that differ. Raises NotThisFormat where a side is no JSON document."""
    large = too_large(old, new, JSON_BYTES_MAX, "key by key")
    if large is not None:
        return large
    before, after = _parsed(old), _parsed(new)
    try:
        changes = list(_differences("", before, after))
    except RecursionError:
        raise NotThisFormat from None
    value = {
        "added": [path for path, was, _ in changes if was is _ABSENT],
        "removed": [path for path, _, now in changes if now is _ABSENT],
        "changed": [
            {"key": path, "old": was, "new": now}
            for path, was, now in changes
            if _ABSENT is not was and _ABSENT is not now
        ],
    }
    lines = [_line(*change) for change in changes[:EXAMPLES_MAX]] or ["the same values, written differently"]
    return Detail("json", lines + more_than_shown(len(changes), "keys"), value)


def _parsed(source: Readable) -> Any:
    try:
        return json.loads(whole(source))
    except (ValueError, RecursionError):
        raise NotThisFormat from None


def _differences(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields (path, old, new) for each value that differs; lists are compared place by place."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differences(_joined(path, key), old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, list) and isinstance(new, list):
        for place in range(max(len(old), len(new))):
            was = old[place] if place < len(old) else _ABSENT
            now = new[place] if place < len(new) else _ABSENT
            yield from _differences(f"{path}[{place}]", was, now)
    elif type(old) is not type(new) or old != new:
        yield path or "the whole document", old, new


def _joined(path: str, key: str) -> str:
    plain = key if key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)
    return f"{path}.{plain}" if path else plain


def _line(path: str, old: Any, new: Any) -> str:
    shown = shown_line(path.encode("utf-8", "surrogatepass"))
    if old is _ABSENT:
        return f"+ {shown}: {_short(new)}"
    if new is _ABSENT:
        return f"- {shown}: {_short(old)}"
    return f"~ {shown}: {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _VALUE_CHARACTERS_MAX else text[: _VALUE_CHARACTERS_MAX - 1] + "…"
