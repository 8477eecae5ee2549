"""A run as the metadata of a Process Run Crate (RO-Crate 1.1): the file `ro-crate-metadata.json`."""

from __future__ import annotations

from typing import Any

from vfs.api.documents import iso_time
from vfs.api.run_exports.exported_fields import command_text, outputs, run_uri, sources, valid, values
from vfs.model.run_record import RunRecord

_CRATE = "https://w3id.org/ro/crate/1.1"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_STATUS = {
    "ok": "http://schema.org/CompletedActionStatus",
    "running": "http://schema.org/ActiveActionStatus",
}
_FAILED = "http://schema.org/FailedActionStatus"


def ro_crate(record: RunRecord) -> dict[str, Any]:
    """Returns the metadata. Data and files are named by URIs: they are in the repository, not in the crate."""
    read = [_source(each.name, f"{each.uri}/", each.source.opened) for each in sources(record)]
    wrote = [
        {
            "@id": each.uri,
            "@type": "File",
            "name": each.name,
            "contentSize": str(each.output.size),
            **({"sha256": each.output.sha256} if each.output.sha256 else {}),
        }
        for each in outputs(record)
    ]
    given = [
        {"@id": f"#{kind}-{place}", "@type": "PropertyValue", "name": name, "value": value, "propertyID": kind}
        for place, (kind, name, value) in enumerate(values(record))
    ]
    program: dict[str, Any] = {"@id": "#program", "@type": "SoftwareApplication", "name": command_text(record)}
    if record.code.commit:
        program["version"] = record.code.commit
        program["codeRepository"] = valid(record.code.remote) or None
    action: dict[str, Any] = {
        "@id": run_uri(record),
        "@type": "CreateAction",
        "name": f"{record.name}: {command_text(record)}",
        "instrument": {"@id": "#program"},
        "startTime": iso_time(record.start_ns),
        "actionStatus": {"@id": _STATUS.get(record.status, _FAILED)},
        "object": _references([*read, *(each for each in given if each["propertyID"] == "param")]),
        "result": _references([*wrote, *(each for each in given if each["propertyID"] == "metric")]),
    }
    if record.end_ns:
        action["endTime"] = iso_time(record.end_ns)
    if record.status == "failed":
        action["error"] = f"exit status {record.exit_status}"
    people = []
    if record.user:
        action["agent"] = {"@id": "#user"}
        people.append({"@id": "#user", "@type": "Person", "name": valid(record.user)})
    # The same version may be a source twice.
    data = list({each["@id"]: each for each in [*read, *wrote]}.values())
    graph = [*_root(record, data), action, program, *people, *data, *given]
    return {
        "@context": f"{_CRATE}/context",
        "@graph": [{key: value for key, value in each.items() if value is not None} for each in graph],
    }


def _root(record: RunRecord, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "conformsTo": {"@id": _CRATE},
            "about": {"@id": "./"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"{record.name}: {command_text(record)}",
            "description": "A recorded run of a program: what it read, what it wrote, and by which code.",
            "datePublished": iso_time(record.end_ns or record.start_ns),
            "license": "Not stated: see the repository of the data.",
            "conformsTo": {"@id": _PROFILE},
            "hasPart": _references(parts),
            "mentions": [{"@id": run_uri(record)}],
        },
        {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
    ]


def _source(name: str, uri: str, opened: int) -> dict[str, Any]:
    return {"@id": uri, "@type": "Dataset", "name": name, "description": f"{opened} files were opened"}


def _references(entities: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"@id": name} for name in dict.fromkeys(each["@id"] for each in entities)]
