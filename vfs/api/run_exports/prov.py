"""A run as a document of W3C PROV, in PROV-JSON."""

from __future__ import annotations

from typing import Any

from vfs.api.documents import iso_time
from vfs.api.run_exports.exported_fields import command_text, outputs, repository_uri, run_uri, sources, valid, values
from vfs.model.run_record import RunRecord

_PREFIX = "vfs"


def prov_document(record: RunRecord) -> dict[str, Any]:
    """Returns the document: the run used versions and code, and generated files."""
    run = f"{_PREFIX}:run-{record.id}"
    entities: dict[str, Any] = {}
    used: dict[str, Any] = {}
    generated: dict[str, Any] = {}
    for place, each in enumerate(sources(record)):
        name = f"{_PREFIX}:source-{record.id}-{place}"
        entities[name] = {
            "prov:label": each.name,
            "prov:type": "version",
            "vfs:uri": each.uri,
            "vfs:commit": each.source.commit,
            "vfs:opened": each.source.opened,
            "vfs:files": each.source.files,
            "vfs:known": each.source.known,
        }
        used[f"_:used{place}"] = {"prov:activity": run, "prov:entity": name}
    if record.code.commit:
        name = f"{_PREFIX}:code-{record.code.commit}"
        entities[name] = {"prov:label": "code", "prov:type": "git commit", "vfs:changed": len(record.code.changed)}
        used["_:usedCode"] = {"prov:activity": run, "prov:entity": name}
    for place, found in enumerate(outputs(record)):
        name = f"{_PREFIX}:output-{record.id}-{place}"
        entities[name] = {
            "prov:label": found.name,
            "prov:type": "file",
            "vfs:uri": found.uri,
            "vfs:size": found.output.size,
            "vfs:sha256": found.output.sha256,
            "vfs:content": found.output.content,
        }
        generated[f"_:generated{place}"] = {"prov:entity": name, "prov:activity": run}
    activity: dict[str, Any] = {
        "prov:label": command_text(record),
        "prov:startTime": iso_time(record.start_ns),
        "vfs:uri": run_uri(record),
        "vfs:name": record.name,
        "vfs:status": record.status,
    }
    if record.end_ns:
        activity["prov:endTime"] = iso_time(record.end_ns)
    for kind in ("param", "metric"):
        if found_values := [f"{name}={value}" for each, name, value in values(record) if each == kind]:
            activity[f"vfs:{kind}"] = found_values
    document: dict[str, Any] = {
        "prefix": {_PREFIX: f"{repository_uri(record)}:"},
        "activity": {run: activity},
        "entity": entities,
        "used": used,
        "wasGeneratedBy": generated,
    }
    if record.user:
        document["agent"] = {f"{_PREFIX}:user": {"prov:label": valid(record.user), "prov:type": "prov:Person"}}
        document["wasAssociatedWith"] = {"_:by": {"prov:activity": run, "prov:agent": f"{_PREFIX}:user"}}
    return {key: value for key, value in document.items() if value}
