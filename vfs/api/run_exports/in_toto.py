"""A run as a statement of in-toto with the predicate of SLSA provenance, version 1."""

from __future__ import annotations

from typing import Any

from vfs.api.documents import iso_time
from vfs.api.run_exports.exported_fields import PRODUCER, outputs, run_uri, sources, valid, values
from vfs.errors import InvalidInput
from vfs.model.run_record import RunRecord

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"


def in_toto_statement(record: RunRecord) -> dict[str, Any]:
    """Returns the statement, unsigned. Raises InvalidInput for a run that wrote no file whose hash is known."""
    subjects = [
        {"name": found.name, "digest": {"sha256": found.output.sha256}}
        for found in outputs(record)
        if found.output.sha256
    ]
    if not subjects:
        raise InvalidInput(
            f"{record.name} wrote no file whose SHA-256 is known, and a statement of in-toto is about files",
            hint="Name what it writes outside of the mount by `--out`, or choose another format.",
        )
    given: dict[str, dict[str, str]] = {"param": {}, "metric": {}}
    for kind, name, value in values(record):
        given[kind][name] = value
    return {
        "_type": STATEMENT,
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": f"{PRODUCER}:run",
                "externalParameters": {
                    "command": [valid(word) for word in record.command],
                    "cwd": valid(record.cwd),
                    "params": given["param"],
                },
                "internalParameters": {"python": valid(record.environment.python)},
                "resolvedDependencies": _dependencies(record),
            },
            "runDetails": {
                "builder": {"id": PRODUCER},
                "metadata": {
                    "invocationId": run_uri(record),
                    "startedOn": iso_time(record.start_ns),
                    **({"finishedOn": iso_time(record.end_ns)} if record.end_ns else {}),
                },
                "byproducts": [
                    {
                        "name": "run",
                        "annotations": {
                            "status": record.status,
                            "exitStatus": record.exit_status,
                            "metrics": given["metric"],
                            "notes": [valid(note) for note in record.notes],
                        },
                    }
                ],
            },
        },
    }


def _dependencies(record: RunRecord) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": each.name,
            "uri": each.uri,
            # BLAKE3 of the commit, which holds the hashes of all files.
            **({"digest": {"vfsCommit": each.source.commit}} if each.source.commit else {}),
            "annotations": {
                "opened": each.source.opened,
                "files": each.source.files,
                "known": each.source.known,
            },
        }
        for each in sources(record)
    ]
    code = record.code
    if code.commit:
        uri = f"git+{valid(code.remote)}" if "://" in code.remote else f"git:{code.commit}"
        found.append(
            {
                "name": "code",
                "uri": uri,
                "digest": {"gitCommit": code.commit},
                "annotations": {"changed": len(code.changed)},
            }
        )
    return found
