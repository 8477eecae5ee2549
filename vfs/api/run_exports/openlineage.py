"""A run as events of OpenLineage: one for its start, one for its end."""

from __future__ import annotations

from typing import Any

from vfs.api.documents import iso_time
from vfs.api.run_exports.exported_fields import (
    PRODUCER,
    PROGRAM,
    command_text,
    outputs,
    repository_uri,
    run_uuid,
    sources,
    valid,
    values,
)
from vfs.model.run_record import RunRecord

_SPEC = "https://openlineage.io/spec"
_EVENT = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_END = {"ok": "COMPLETE", "failed": "FAIL", "interrupted": "ABORT"}


def openlineage_events(record: RunRecord) -> list[dict[str, Any]]:
    """Returns the events in order; a run that goes on has only the first."""
    events = [_event(record, "START", record.start_ns, is_end=False)]
    if record.status in _END:
        events.append(_event(record, _END[record.status], record.end_ns or record.start_ns, is_end=True))
    return events


def _event(record: RunRecord, kind: str, time_ns: int, *, is_end: bool) -> dict[str, Any]:
    return {
        "eventType": kind,
        "eventTime": iso_time(time_ns),
        "producer": PRODUCER,
        "schemaURL": _EVENT,
        "run": {"runId": str(run_uuid(record)), "facets": _run_facets(record) if is_end else {}},
        "job": {"namespace": repository_uri(record), "name": command_text(record), "facets": _job_facets(record)},
        "inputs": _inputs(record) if is_end else [],
        "outputs": _outputs(record) if is_end else [],
    }


def _facet(name: str, release: str, /, **fields: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"{_SPEC}/facets/{release}/{name}.json#/$defs/{name}", **fields}


def _run_facets(record: RunRecord) -> dict[str, Any]:
    tags = [{"key": name, "value": value, "source": kind} for kind, name, value in values(record)]
    facets: dict[str, Any] = {}
    if tags:
        facets["tags"] = _facet("TagsRunFacet", "1-0-0", tags=tags)
    if record.parent:
        facets["parent"] = _facet(
            "ParentRunFacet",
            "1-2-0",
            run={"runId": str(run_uuid(record, record.parent))},
            job={"namespace": repository_uri(record), "name": "unknown"},
        )
    if record.status == "failed":
        message = f"exit status {record.exit_status}"
        facets["errorMessage"] = _facet("ErrorMessageRunFacet", "1-0-1", message=message, programmingLanguage="unknown")
    return facets


def _job_facets(record: RunRecord) -> dict[str, Any]:
    facets = {
        "jobType": _facet("JobTypeJobFacet", "2-0-4", processingType="BATCH", integration=PROGRAM, jobType="COMMAND")
    }
    code = record.code
    if code.commit:
        facets["sourceCodeLocation"] = _facet(
            "SourceCodeLocationJobFacet",
            "1-1-0",
            type="git",
            url=valid(code.remote) or f"git:{code.commit}",
            version=code.commit,
            **({"branch": valid(code.branch)} if code.branch else {}),
        )
    return facets


def _inputs(record: RunRecord) -> list[dict[str, Any]]:
    return [
        {
            "namespace": repository_uri(record),
            "name": valid(each.source.branch) or each.name,
            "facets": {
                "version": _facet("DatasetVersionDatasetFacet", "1-0-1", datasetVersion=f"{each.name} {each.uri}")
            },
            "inputFacets": {
                "inputStatistics": _facet("InputStatisticsInputDatasetFacet", "1-0-0", fileCount=each.source.opened)
            },
        }
        for each in sources(record)
    ]


def _outputs(record: RunRecord) -> list[dict[str, Any]]:
    return [
        {
            "namespace": "file" if each.output.place == "outside" else repository_uri(record),
            "name": each.name,
            "facets": {
                "version": _facet(
                    "DatasetVersionDatasetFacet",
                    "1-0-1",
                    datasetVersion=f"sha256:{each.output.sha256}" if each.output.sha256 else each.output.content,
                )
            },
            "outputFacets": {
                "outputStatistics": _facet(
                    "OutputStatisticsOutputDatasetFacet", "1-0-2", size=each.output.size, fileCount=1
                )
            },
        }
        for each in outputs(record)
    ]
