"""Parameters of a run: the options of its command, and the scalars of a `params.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from vfs.errors import InvalidInput
from vfs.model.run_record import METRICS_MAX, cut_text, metric_value

PARAMS_BYTES_MAX = 256 << 10
"""Longest file of parameters that is read."""
_NAME_MAX = 200
_DEPTH_MAX = 16
_LOOKED_AT_MAX = 10 * METRICS_MAX
"""Values that are looked at: aliases in a document may stand for more than there is room for."""
_LIST_MAX = 100
_OPTION = re.compile(r"--([A-Za-z][\w.-]*)(?:=(.*))?", re.DOTALL)


def options_of(command: Sequence[str]) -> dict[str, str]:
    """Returns the options of a command that are like parameters: `--lr 0.01`, `--lr=0.01`, `--shuffle` (true)."""
    found: dict[str, str] = {}
    for place, word in enumerate(command[1:], 1):
        if word == "--":
            break
        option = _OPTION.fullmatch(word)
        if option is None or len(found) >= METRICS_MAX:
            continue
        following = command[place + 1] if place + 1 < len(command) else "-"
        value = option[2] if option[2] is not None else following if not _is_option(following) else "true"
        found[option[1][:_NAME_MAX]] = cut_text(value)
    return found


def _is_option(word: str) -> bool:
    return word.startswith("-") and metric_value(word) is None


def read_params(data: bytes) -> dict[str, str]:
    """Returns the scalars of a YAML document as they are written there, nested names joined by dots.

    A list of scalars is one value, `[1, 2]`; other lists are left out. Raises InvalidInput for what is no YAML mapping,
    or is longer than `PARAMS_BYTES_MAX`.
    """
    # Costs 20 ms: only where there is such a file.
    import yaml

    if len(data) > PARAMS_BYTES_MAX:
        raise InvalidInput(f"it is longer than {PARAMS_BYTES_MAX >> 10} KiB")
    try:
        # This loader makes texts, lists and dictionaries, whatever a document asks for; the safe one would make numbers
        # and dates, so that `0.10` became `0.1`.
        document = yaml.load(data, Loader=yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(f"it is no YAML: {str(error).splitlines()[0] if str(error) else 'too deep'}") from None
    if not isinstance(document, dict):
        if document in (None, ""):
            return {}
        raise InvalidInput("it is no YAML mapping")
    found: dict[str, str] = {}
    for looked_at, (name, value) in enumerate(_scalars(document, "", 0)):
        if len(found) >= METRICS_MAX or looked_at >= _LOOKED_AT_MAX:
            break
        if value is not None:
            found[name[:_NAME_MAX]] = cut_text(value)
    return found


def _scalars(value: dict[Any, Any], above: str, depth: int) -> Iterator[tuple[str, str | None]]:
    """Yields the scalars with their names; None once for all else, so that the caller can count."""
    for key, item in value.items():
        name = f"{above}{key}"[: 2 * _NAME_MAX]
        if isinstance(item, dict) and depth < _DEPTH_MAX:
            yield name, None
            yield from _scalars(item, f"{name}.", depth + 1)
        elif isinstance(item, str):
            yield name, item
        elif isinstance(item, list) and len(item) <= _LIST_MAX and all(isinstance(part, str) for part in item):
            yield name, f"[{', '.join(item)}]"
        else:
            yield name, None
