"""A condition in SQL from a request: only what compares values of a row is let through.

What is allowed is listed, not what is forbidden: then no form of the language reads anything else, and none makes
large results from small input, or takes long between two checks for an interrupt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vfs.formats.detail import NotThisFormat

_CLASSES = {
    "BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR", "TYPE"
}  # fmt: skip
"""Expressions, in the engine's words. No subqueries, windows, lambdas, parameters."""
_NAMES = """
    + - * / // % ** ^ || ~ ~~ !~~ ~~* !~~* ~~~ -> ->> & | << >> ^@ @> <@ && xor
    like_escape ilike_escape not_like_escape not_ilike_escape
    abs array_contains array_extract array_length ceil ceiling concat contains current_date date_add date_diff date_part
    date_sub date_trunc datediff datepart datetrunc day dayofweek dayofyear ends_with epoch exp floor
    greatest hash hour ifnull instr isfinite isinf isnan json_array_length json_exists json_extract json_extract_string
    json_type least left len length list_contains list_extract list_has_all list_has_any list_value ln log log10 log2
    lower ltrim minute mod month now nullif position pow power prefix quarter regexp_extract regexp_full_match
    regexp_matches right round row rtrim second sign sqrt starts_with strlen strpos strptime struct_extract substr
    substring suffix to_days to_hours to_minutes to_months to_seconds to_weeks to_years today trim trunc try_strptime
    typeof upper week year
"""
_FUNCTIONS = frozenset(_NAMES.split())
"""What makes no text or list that is longer than its arguments together."""
_TYPES = ("char", "decimal", "numeric", "varchar")
"""Types that may have a size."""
_PATTERNS = {
    "~~": "%", "!~~": "%", "~~*": "%", "!~~*": "%", "~~~": "*", "like_escape": "%", "ilike_escape": "%",
    "not_like_escape": "%", "not_ilike_escape": "%",
}  # fmt: skip
"""What compares a text with a pattern, and what stands for any text there."""
_SEARCHES = frozenset({"~~", "!~~"})
"""Patterns that the engine searches part by part where they are constants of text and `%` alone."""
_PATHS = frozenset(
    {"->", "->>", "json_array_length", "json_exists", "json_extract", "json_extract_string", "json_type"}
)
"""Functions with a path into JSON: a wildcard makes a list of all that it finds."""
_MANY = re.compile(r"\*|\.\.")
_JOINS = frozenset({"||", "concat", "list_value", "row"})
_JOINED_MAX = 16
_CHARACTERS_MAX = 4_000
_DEPTH_MAX = 200
_EXAMPLES = "label = 'cat' AND score < 0.5; lower(name) LIKE 'a%'; regexp_matches(name, '^a')"


def check_condition(engine: Any, condition: str) -> None:
    """Raises NotThisFormat for a text that is more than one expression over the columns of `rows`."""
    if len(condition) > _CHARACTERS_MAX:
        raise NotThisFormat(f"a condition has at most {_CHARACTERS_MAX:,} characters")
    node = _parsed(engine, condition)
    for name in _refused(node, 0):
        raise _refusal(f"a condition compares values of a row, and has no {name}")
    if _joined(node, is_below=False) > _JOINED_MAX:
        raise _refusal(f"a condition joins at most {_JOINED_MAX} values of a row")


def _refusal(reason: str) -> NotThisFormat:
    return NotThisFormat(f"{reason}; allowed are, for example: {_EXAMPLES}")


def _parsed(engine: Any, condition: str) -> Mapping[str, Any]:
    """Returns the condition as the engine parses it. Raises NotThisFormat where it is not one expression."""
    statements = []
    try:
        for each in (condition, "true"):
            # AND shows parentheses that the condition closes: what binds weaker would be outside them.
            text = f"SELECT 1 FROM rows WHERE false AND (\n{each}\n)"
            value = json.loads(engine.execute("SELECT json_serialize_sql(?)", [text]).fetchone()[0])
            if value["error"]:
                raise NotThisFormat(f"the reader says {str(value['error_message']).splitlines()[0]!r}")
            statements.append(value["statements"])
        asked, plain = statements
        is_whole = len(asked) == 1 and _shape(asked[0]["node"]) == _shape(plain[0]["node"])
    except RecursionError:
        raise _refusal("a condition has no parts that are nested so deep") from None
    if not is_whole or asked[0]["node"]["where_clause"]["type"] != "CONJUNCTION_AND":
        raise _refusal("a condition is one expression")
    tested: Mapping[str, Any] = asked[0]["node"]["where_clause"]
    return tested


def _shape(node: Mapping[str, Any]) -> str:
    """Returns a query without its condition, and without where in the text its parts are."""
    return json.dumps({key: _unplaced(value) for key, value in node.items() if key != "where_clause"}, sort_keys=True)


def _unplaced(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unplaced(each) for key, each in value.items() if not key.startswith("query_location")}
    return [_unplaced(each) for each in value] if isinstance(value, list) else value


def _refused(value: Any, depth: int) -> Iterator[str]:
    """Yields what a condition has and may not have."""
    if depth > _DEPTH_MAX:
        yield "parts that are nested so deep"
        return
    if isinstance(value, list):
        for each in value:
            yield from _refused(each, depth + 1)
    elif isinstance(value, dict):
        kind = value.get("class")
        if kind is not None and kind not in _CLASSES:
            yield str(kind).lower()
        elif kind == "FUNCTION":
            yield from _refused_calls(str(value.get("function_name")), value["arguments"])
        elif kind == "TYPE" and value.get("children") and str(value.get("type_name")).lower() not in _TYPES:
            yield "such types"
        for each in value.values():
            yield from _refused(each, depth + 1)


def _refused_calls(name: str, arguments: Sequence[Any]) -> Iterator[str]:
    texts = [_constant(each["expression"]) for each in arguments[1:]]
    if name not in _FUNCTIONS:
        yield f"function {name!r}"
    elif name in _PATTERNS and any(text is None or _is_slow(name, text) for text in texts):
        yield "pattern that is computed or takes long: use regexp_matches(column, 'pattern')"
    elif name in _PATHS and any(text is None or _MANY.search(text) for text in texts):
        yield "path into JSON that is computed or has wildcards"


def _constant(node: Mapping[str, Any]) -> str | None:
    """Returns a constant as text, or None for what is computed."""
    return str(node["literal"]["text"]) if node["class"] == "CONSTANT" else None


def _is_slow(name: str, pattern: str) -> bool:
    """Returns True for a pattern that the engine matches by trying all places of one wildcard for each of another.

    One is tried at all places once, and at the end it matches at once.
    """
    wildcard = _PATTERNS[name]
    return (name not in _SEARCHES or "_" in pattern) and pattern.rstrip(wildcard).count(wildcard) > 1


def _joined(value: Any, *, is_below: bool) -> int:
    """Returns how many columns stand below what puts values together."""
    if isinstance(value, list):
        return sum(_joined(each, is_below=is_below) for each in value)
    if not isinstance(value, dict):
        return 0
    if value.get("class") == "COLUMN_REF":
        return int(is_below)
    is_below = is_below or value.get("function_name") in _JOINS
    return sum(_joined(each, is_below=is_below) for each in value.values())
