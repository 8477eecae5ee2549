"""How an operation of the log is shown: in words and in JSON."""

from __future__ import annotations

from typing import Any

from vfs.cli.output import iso_time
from vfs.cli.versions import first_line, one_line
from vfs.model.ids import SHORT_HEX, CommitId
from vfs.repo.repository import Repository
from vfs.store.log import Operation
from vfs.store.operation_limits import BRANCHES

_SAID = ("what", "undoes", "name", "version", "paths")
"""Arguments that tell a person something."""


def operation_words(repo: Repository, operation: Operation) -> str:
    """Returns what an operation did, in one line: `commit main: v2 -> v3  "labels repaired"`."""
    parts = [operation.kind]
    for change in operation.refs:
        kind, _, name = change.name.partition("/")
        what = name if f"{kind}/" == BRANCHES else f"tag {name}"
        parts.append(f"{one_line(what)}: {_called(repo, change.old)} -> {_called(repo, change.new)}")
    parts += [f"{one_line(each.name)}: {each.old or '-'} -> {each.new or '-'}" for each in operation.settings]
    parts += [f"{name} {_argument(repo, name, operation.args[name])}" for name in _SAID if operation.args.get(name)]
    if operation.message:
        parts.append(f'"{first_line(operation.message)}"')
    return "  ".join(parts)


def _argument(repo: Repository, name: str, value: str) -> str:
    return _called(repo, value) if name == "version" and len(value) > SHORT_HEX * 2 else first_line(value)


def _called(repo: Repository, digits: str) -> str:
    """Returns what people call a commit of the log."""
    try:
        return repo.describe(CommitId(bytes.fromhex(digits))) if digits else "-"
    except ValueError:
        return first_line(digits)


def operation_json(operation: Operation) -> dict[str, Any]:
    """Returns an operation as JSON values: seq, time (UTC), kind, author, message, refs, settings, notes, args."""
    return {
        "seq": operation.seq,
        "time": iso_time(operation.time_ns),
        "kind": operation.kind,
        "author": operation.author,
        "message": operation.message,
        "refs": [{"name": change.name, "old": change.old, "new": change.new} for change in operation.refs],
        "settings": [{"name": each.name, "old": each.old, "new": each.new} for each in operation.settings],
        "notes": [change.commit for change in operation.notes],
        "args": dict(operation.args),
    }
