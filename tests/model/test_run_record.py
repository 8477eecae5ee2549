"""The record of a run: what is encoded is read again, and other bytes are refused or harmless."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.errors import Corrupt
from vfs.model.run_record import (
    Code,
    Environment,
    Manifest,
    Output,
    Read,
    RunRecord,
    Source,
    decode_manifest,
    decode_record,
    encode_manifest,
    encode_record,
    metric_value,
)

RECORD = RunRecord(
    id="0123456789abcdef",
    number=17,
    status="failed",
    exit_status=3,
    command=("python", "t\udcff.py"),
    start_ns=1,
    end_ns=2,
    sources=(Source("main", 12, "ab" * 32, "snapshot", 3, 11, 1),),
    outputs=(Output("modèle.pt", "mount", 9, "cd" * 32, "ef" * 32), Output("/x", "outside", removed=True)),
    code=Code("/code", "1" * 40, "main", "", ("a.py",), has_patch=True),
    environment=Environment("3.11", gpus=("H100",), variables={"SEED": "1"}),
    params={"lr": "0.1"},
    metrics={"accuracy": 0.93, "loss": "nan"},
    notes=("something is missing",),
)


def test_a_record_reads_as_it_was_written_and_is_canonical() -> None:
    encoded = encode_record(RECORD)
    assert decode_record(encoded) == RECORD
    assert encode_record(decode_record(encoded)) == encoded
    assert encoded.isascii()
    assert list(json.loads(encoded)) == sorted(json.loads(encoded))


def test_unknown_keys_are_passed_over_and_newer_formats_are_not() -> None:
    value = json.loads(encode_record(RECORD))
    assert decode_record(json.dumps(value | {"invented": [1]}).encode()) == RECORD
    with pytest.raises(Corrupt, match="format 2"):
        decode_record(json.dumps(value | {"format": 2}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b"[" * 200_000,
        b'{"id":"zz","number":1}',
        b'{"id":"0123456789abcdef","number":0}',
        b'{"id":"0123456789abcdef","number":1e400}',
        b'{"id":"0123456789abcdef","number":1,"exit_status":256}',
        b'{"id":"0123456789abcdef","number":1,"sources":[{"commit":"../../etc"}]}',
        b'{"id":"0123456789abcdef","number":1,"metrics":{"a":[1]}}',
        b'{"id":"0123456789abcdef","number":1,"start_ns":' + b"9" * 5000 + b"}",
        b'{"id":"0123456789abcdef","number":1,"command":[' + b'"x",' * 5000 + b'"x"]}',
        b" " * (17 << 20),
    ],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        decode_record(data)


JSON: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(RunRecord.__struct_fields__), inner),
)


def encoded_json(value: object) -> bytes:
    """Returns a value as JSON."""
    return json.dumps(value).encode()


@given(st.binary(max_size=200) | JSON.map(encoded_json))
def test_anything_is_a_record_or_corrupt(data: bytes) -> None:
    try:
        assert isinstance(decode_record(data), RunRecord)
    except Corrupt:
        pass


@given(st.binary(max_size=100))
def test_anything_is_a_manifest_or_corrupt(data: bytes) -> None:
    try:
        assert isinstance(decode_manifest(data), Manifest)
    except Corrupt:
        pass


def test_a_manifest_reads_as_it_was_written() -> None:
    manifest = Manifest((Read(True), Read(opened=(b"a", b"\xff/b"), listed=(b"",))))
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_metrics_are_numbers() -> None:
    values: list[object] = [1, "0.5", True, float("nan"), "-inf", "x", None, []]
    assert [metric_value(value) for value in values] == [
        1.0,
        0.5,
        1.0,
        "nan",
        "-inf",
        None,
        None,
        None,
    ]
    assert msgspec.to_builtins(metric_value("1e3")) == 1000.0
