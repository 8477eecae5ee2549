"""The JSON documents of runs: a record, and what differs between two."""

from __future__ import annotations

from typing import Any, TypedDict

import msgspec

from vfs.api.documents import iso_time
from vfs.model.names import path_text
from vfs.model.run_record import RunRecord
from vfs.repo.runs.run_comparison import RunDifference


class RunDocument(TypedDict):
    """A record: its fields as docs/format.md has them, with its name, and its times as text (end null: it goes on)."""

    name: str
    id: str
    status: str
    exit_status: int | None
    command: list[str]
    start: str
    end: str | None
    seconds: float | None
    sources: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    code: dict[str, Any]
    environment: dict[str, Any]
    params: dict[str, str]
    metrics: dict[str, float | str]
    notes: list[str]
    parent: str
    steps: list[str]
    record: dict[str, Any]


def run_document(record: RunRecord) -> RunDocument:
    """Returns the document of a run."""
    return {
        "name": record.name,
        "id": record.id,
        "status": record.status,
        "exit_status": record.exit_status,
        "command": list(record.command),
        "start": iso_time(record.start_ns),
        "end": iso_time(record.end_ns) if record.end_ns else None,
        "seconds": (record.end_ns - record.start_ns) / 1e9 if record.end_ns else None,
        "sources": [_all_fields(source) for source in record.sources],
        "outputs": [_all_fields(output) for output in record.outputs],
        "code": _all_fields(record.code),
        "environment": _all_fields(record.environment),
        "params": dict(record.params),
        "metrics": dict(record.metrics),
        "notes": list(record.notes),
        "parent": record.parent,
        "steps": list(record.steps),
        "record": msgspec.to_builtins(record),
    }


def _all_fields(value: msgspec.Struct) -> dict[str, Any]:
    """Returns all fields, also those that have their default."""
    return {name: msgspec.to_builtins(getattr(value, name)) for name in value.__struct_fields__}


class RunDifferenceDocument(TypedDict):
    """What differs between two runs; `same` null: not known. `paths`: changed ones that the newer run opened."""

    old: str
    new: str
    data: dict[str, Any]
    code: dict[str, Any]
    environment: list[dict[str, Any]]
    params: list[dict[str, Any]]
    metrics: list[dict[str, Any]]


def run_difference_document(difference: RunDifference) -> RunDifferenceDocument:
    """Returns the document of a comparison."""
    data = difference.data
    return {
        "old": difference.old.name,
        "new": difference.new.name,
        "data": {
            "same": data.is_same,
            "old": [_all_fields(source) for source in data.old],
            "new": [_all_fields(source) for source in data.new],
            "changed": data.changed,
            "opened": data.opened,
            "paths": [path_text(path) for path in data.paths],
        },
        "code": {
            "same": difference.is_same_code,
            "old": _all_fields(difference.old.code),
            "new": _all_fields(difference.new.code),
        },
        "environment": [_all_fields(change) for change in difference.environment],
        "params": [_all_fields(change) for change in difference.params],
        "metrics": [_all_fields(change) for change in difference.metrics],
    }
