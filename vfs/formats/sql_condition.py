"""A condition in SQL that a page was asked with: only what compares values of a row is let through.

What is allowed is listed, not what is forbidden: then no form of the language reads anything else, and none makes much
of little, which the engine's bounds of memory and time do not end while it plans.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from vfs.formats.detail import NotThisFormat

_CLASSES = {
    "BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR", "TYPE"
}  # fmt: skip
"""Expressions, in the engine's words. No subqueries, windows, lambdas, parameters."""
_NAMES = """
    + - * / // % ** ^ || ~ ~~ !~~ ~~* !~~* ~~~ -> ->> like_escape ilike_escape not_like_escape not_ilike_escape
    abs array_contains array_extract array_length ceil ceiling concat contains date_diff date_part date_trunc datediff
    datepart datetrunc day dayofweek dayofyear ends_with epoch exp floor greatest hour ifnull instr isfinite isinf isnan
    json_extract json_extract_string least left len length list_contains list_extract list_value ln log log10 log2 lower
    ltrim minute mod month now nullif position pow power prefix quarter regexp_full_match regexp_matches right round row
    rtrim second sign sqrt starts_with strlen strpos strptime struct_extract substr substring suffix to_days to_hours
    to_minutes to_months to_seconds to_weeks to_years trim trunc try_strptime upper week year
"""
_FUNCTIONS = frozenset(_NAMES.split())
"""What makes no text or list that is longer than its arguments together."""
_DEPTH_MAX = 200


def check_condition(engine: Any, condition: str) -> None:
    """Raises NotThisFormat for a text that is more than one expression over the columns of `rows`."""
    node, is_whole = _parsed(engine, condition)
    if not is_whole:
        raise NotThisFormat("a condition is one expression, like `label = 'cat' AND score < 0.5`")
    for name in _refused(node, 0):
        raise NotThisFormat(f"a condition compares values of a row, and has no {name}")


def _parsed(engine: Any, condition: str) -> tuple[Any, bool]:
    """Returns the condition as the engine parses it, and whether it is all of the text. Raises NotThisFormat."""
    statements = []
    for each in (condition, "true"):
        text = f"SELECT 1 FROM rows WHERE (\n{each}\n)"
        try:
            value = json.loads(engine.execute("SELECT json_serialize_sql(?)", [text]).fetchone()[0])
        except RecursionError:
            raise NotThisFormat("a condition has no parts that are nested so deep") from None
        if value["error"]:
            raise NotThisFormat(f"the reader says {str(value['error_message']).splitlines()[0]!r}")
        statements.append(value["statements"])
    asked, plain = statements
    if len(asked) != 1 or _shape(asked[0]["node"]) != _shape(plain[0]["node"]):
        return None, False
    return asked[0]["node"]["where_clause"], True


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
        elif kind == "FUNCTION" and value.get("function_name") not in _FUNCTIONS:
            yield f"function {value.get('function_name')!r}"
        elif (
            kind == "TYPE"
            and value.get("children")
            and str(value.get("type_name")).lower() not in ("decimal", "numeric")
        ):
            yield "such types"
        for each in value.values():
            yield from _refused(each, depth + 1)
