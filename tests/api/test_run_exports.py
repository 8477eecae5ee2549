"""Exported runs, read by the formats' own libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from openlineage.client import event_v2, facet_v2
from openlineage.client.serde import Serde
from prov.model import ProvActivity, ProvDocument, ProvEntity, ProvGeneration, ProvUsage
from rocrate.rocrate import ROCrate

from vfs.api.run_exports.formats import FORMATS, exported
from vfs.errors import InvalidInput
from vfs.model.run_record import Code, Environment, Output, RunRecord, Source

SECOND = 10**9
START = 1_793_534_403 * SECOND
SHA = "ab" * 32


def record(**fields: Any) -> RunRecord:
    """Returns a record with something in every field that is exported."""
    given: dict[str, Any] = {
        "id": "0123456789abcdef",
        "number": 17,
        "status": "ok",
        "exit_status": 0,
        "command": ("python", "train.py", "--data", "/data set"),
        "cwd": "/code",
        "user": "ann",
        "start_ns": START,
        "end_ns": START + 90 * SECOND,
        "repository": "7f" * 16,
        "branch": "main",
        "parent": "f" * 16,
        "sources": (
            Source("main", 12, "cd" * 32, "pinned", opened=20, files=30),
            Source("main", 12, "cd" * 32, "snapshot", opened=1, files=31, listed=2),
            Source("main", 11, "ce" * 32, "seen"),
        ),
        "outputs": (
            Output("models/model é.pt", "mount", 44, "ef" * 32, SHA),
            Output("/out/m.onnx", "outside", 43, "ee" * 32, "ac" * 32),
            Output("gone", removed=True),
        ),
        "code": Code("/code", "4b" * 20, "main", "https://HOST/code.git", ("train.py",), True),
        "environment": Environment("3.11.7"),
        "params": {"lr": "0.01"},
        "metrics": {"accuracy": 0.93, "loss": "nan"},
    }
    return RunRecord(**given | fields)


HOSTILE = record(
    status="failed",
    exit_status=3,
    command=("\udcff\x1b[2J", "\0", '"', "</script>"),
    user="\udcfe",
    repository="a b\udcff/..#?",
    sources=(Source("\udcff/../x", 3, "", "first-seen", opened=1), Source(opened=1)),
    outputs=(Output("\udcff/é #?%.pt", size=2**63 - 1, sha256=SHA), Output("", content="ab" * 32)),
    code=Code(commit="4b" * 20, remote="\udcff", branch="\udcff"),
    params={"\udcff": "\udcff"},
    metrics={"": "inf"},
)
SMALL = RunRecord(id="0" * 16, number=1, outputs=(Output("x", sha256=SHA),))
RECORDS = pytest.mark.parametrize("run", [record(), HOSTILE, SMALL], ids=["whole", "hostile", "empty"])


def documents(run: RunRecord, name: str) -> list[Any]:
    """Returns the lines of an export, parsed."""
    return [json.loads(line) for line in exported(run, name)]


@RECORDS
def test_in_toto_validates_the_statement_and_its_predicate(run: RunRecord) -> None:
    [document] = documents(run, "in-toto")
    parsed = json_format.ParseDict(document, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    predicate = json_format.ParseDict(document["predicate"], Provenance())
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    assert predicate.build_definition.build_type
    assert predicate.run_details.metadata.invocation_id.endswith(run.id)
    if run.number == 17 and run.status == "ok":
        assert [subject.digest["sha256"] for subject in parsed.subject] == [SHA, "ac" * 32]
        names = [each.name for each in predicate.build_definition.resolved_dependencies]
        assert names == ["main@v12", "main@v12 with uncommitted changes", "code"]


def test_a_statement_needs_a_file() -> None:
    with pytest.raises(InvalidInput, match="wrote no file"):
        exported(record(outputs=(Output("x", removed=True),)), "in-toto")


@RECORDS
def test_prov_reads_the_document(run: RunRecord) -> None:
    [document] = documents(run, "prov")
    read = ProvDocument.deserialize(content=json.dumps(document), format="json")
    assert len(list(read.get_records(ProvActivity))) == 1
    if run.number == 17 and run.status == "ok":
        assert len(list(read.get_records(ProvEntity))) == 5
        assert len(list(read.get_records(ProvUsage))) == 3
        assert len(list(read.get_records(ProvGeneration))) == 2
        activity: Any = next(iter(read.get_records(ProvActivity)))
        assert (activity.get_endTime() - activity.get_startTime()).total_seconds() == 90
    # What it writes is read as the same document.
    assert ProvDocument.deserialize(content=read.serialize(format="json"), format="json") == read


@RECORDS
def test_rocrate_reads_the_crate(run: RunRecord, tmp_path: Path) -> None:
    [document] = documents(run, "ro-crate")
    (tmp_path / "ro-crate-metadata.json").write_text(json.dumps(document))
    crate = ROCrate(tmp_path)
    [mentioned] = crate.root_dataset["mentions"]
    assert mentioned["@type"] if isinstance(mentioned, dict) else mentioned.type == "CreateAction"
    ids = {entity["@id"] for entity in document["@graph"]}
    assert len(ids) == len(document["@graph"])
    referenced = {found for entity in document["@graph"] for found in _references(entity)}
    assert referenced - ids == {"https://w3id.org/ro/crate/1.1"} | {
        found for found in referenced if "schema.org" in found
    }
    assert crate.root_dataset["conformsTo"].id.startswith("https://w3id.org/ro/wfrun/process")
    action = crate.dereference(_action(document)["@id"])
    assert action is not None
    assert action["startTime"] == _action(document)["startTime"]
    if run.number == 17 and run.status == "ok":
        assert {each.id for each in crate.data_entities} == {
            each["@id"] for each in document["@graph"] if each["@type"] in ("File", "Dataset") and each["@id"] != "./"
        }


def _action(document: Any) -> Any:
    return next(each for each in document["@graph"] if each["@type"] == "CreateAction")


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["@id"]] if set(value) == {"@id"} else []
        return found + [each for inner in value.values() for each in _references(inner)]
    return [each for inner in value for each in _references(inner)] if isinstance(value, list) else []


FACETS = {
    "tags": facet_v2.tags_run.TagsRunFacet,
    "parent": facet_v2.parent_run.ParentRunFacet,
    "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
    "jobType": facet_v2.job_type_job.JobTypeJobFacet,
    "sourceCodeLocation": facet_v2.source_code_location_job.SourceCodeLocationJobFacet,
    "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
    "inputStatistics": facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet,
    "outputStatistics": facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
}


def facets(found: dict[str, Any]) -> dict[str, Any]:
    """Returns facets as the client's classes, which refuse fields that they do not have."""
    made: dict[str, Any] = {}
    for name, value in found.items():
        kind = FACETS[name]
        fields = {key: each for key, each in value.items() if not key.startswith("_")}
        made[name] = kind(**fields, producer=value["_producer"])
    return made


def event(found: dict[str, Any]) -> event_v2.RunEvent:
    """Returns an event as the client's class, whose fields are checked."""
    run, job = found["run"], found["job"]
    return event_v2.RunEvent(
        eventType=event_v2.RunState(found["eventType"]),
        eventTime=found["eventTime"],
        run=event_v2.Run(run["runId"], facets(run["facets"])),
        job=event_v2.Job(job["namespace"], job["name"], facets(job["facets"])),
        inputs=[
            event_v2.InputDataset(
                each["namespace"], each["name"], facets=facets(each["facets"]), inputFacets=facets(each["inputFacets"])
            )
            for each in found["inputs"]
        ],
        outputs=[
            event_v2.OutputDataset(
                each["namespace"],
                each["name"],
                facets=facets(each["facets"]),
                outputFacets=facets(each["outputFacets"]),
            )
            for each in found["outputs"]
        ],
        producer=found["producer"],
    )


@RECORDS
def test_openlineage_has_the_same_events(run: RunRecord) -> None:
    events = documents(run, "openlineage")
    kinds = {"ok": ["START", "COMPLETE"], "failed": ["START", "FAIL"], "running": ["START"]}
    assert [found["eventType"] for found in events] == kinds[run.status]
    for found in events:
        assert urlsplit(found["producer"]).scheme == "urn"
        written = json.loads(Serde.to_json(event(found)))
        for document in (written, found):
            document.pop("schemaURL")
        assert _without_empty(written) == _without_empty(found)
    assert len({found["run"]["runId"] for found in events}) == 1


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: kept for key, each in value.items() if (kept := _without_empty(each)) not in ({}, [], None)}
    return [_without_empty(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", FORMATS)
def test_a_private_run_says_nothing_that_it_does_not_have(name: str) -> None:
    private = record(is_private=True, command=("python",), cwd="", user="", params={}, code=Code())
    text = " ".join(exported(private, name))
    assert not [word for word in ("train.py", "user:", "0.01", "HOST") if word in text]
