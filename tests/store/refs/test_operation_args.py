"""Arguments of operations: typed by the kind of operation, and texts in the log as every past program wrote them."""

from __future__ import annotations

import json

import msgspec
import pytest

from vfs.store.refs.operation import Operation, commits_of
from vfs.store.refs.operation_args import (
    ARGS_OF_KIND,
    CommitLogArgs,
    ForgetLogArgs,
    LogArgs,
    OtherLogArgs,
    RestoreLogArgs,
    UndoLogArgs,
    decode_args,
    encode_args,
)
from vfs.store.refs.operation_limits import operation_fault
from vfs.store.refs.operation_log import DamagedLog, decode_text, encode_text

A, B, C = "0a" * 32, "0b" * 32, "0c" * 32

WRITTEN = [
    ("commit", {"whole": A}),
    ("restore", {"branch": "main", "version": A, "paths": "d/x e", "count": "7"}),
    ("restore", {"branch": "main", "version": A, "paths": ".", "count": "1", "base": "", "before": B, "after": C}),
    ("merge-begin", {"before": A, "name": "topic", "theirs": B, "branch": "main", "base": A, "after": C}),
    ("merge-abort", {"before": A, "name": "topic", "branch": "main", "base": A, "after": A}),
    ("undo", {"undoes": "12", "what": "restore", "before": A, "branch": "main", "base": B, "after": C}),
    ("undo", {"undoes": "0", "what": "tag"}),
    ("describe", {"version": "v2"}),
    ("forget", {"commits": f"{A} {B}", "versions": "v1 to v2", "count": "2", "reason": "gc"}),
    ("purge", {"rewritten": "3", "branches": "0"}),
    ("gc", {"packs": "2", "bytes_before": "900", "bytes_after": "0"}),
    ("push", {"remote": "origin", "bytes": "12"}),
    ("fetch", {"remote": "origin", "bytes": "0"}),
    ("tag", {}),
]
"""Arguments as programs of each kind have written them since the log has arguments."""


def line(kind: str, args: dict[str, str]) -> bytes:
    return msgspec.json.encode({"seq": 1, "kind": kind, "args": args})


@pytest.mark.parametrize(("kind", "texts"), WRITTEN)
def test_what_a_past_program_wrote_is_typed_and_written_as_it_was(kind: str, texts: dict[str, str]) -> None:
    operation = decode_text(line(kind, texts))
    assert not operation.args.more
    assert json.loads(encode_text(operation)).get("args", {}) == texts
    assert {text for text in texts.values() if text in (A, B, C)} >= {each.hex() for each in commits_of(operation)}


def test_every_kind_with_arguments_is_among_those_that_are_read_back() -> None:
    assert {kind for kind, texts in WRITTEN if texts} | {"import", "merge", "amend"} == set(ARGS_OF_KIND)


def test_values_have_their_types() -> None:
    undo = decode_args("undo", {"undoes": "12", "what": "restore", "after": C})
    assert undo == UndoLogArgs(undoes=12, what="restore", after=C)
    assert decode_args("forget", {"commits": f"{A} {B}"}) == ForgetLogArgs(commits=(A, B))


def test_names_of_a_newer_program_are_kept_and_its_kinds_keep_their_commits() -> None:
    texts = {"undoes": "1", "what": "tag", "why": "typo"}
    assert encode_args(decode_args("undo", texts)) == texts
    pulled = decode_text(
        line("pull", {"remote": "o", "branch": "main", "before": A, "after": B, "base": "", "whole": C})
    )
    assert pulled.args == OtherLogArgs(branch="main", before=A, after=B, base="", whole=C, more={"remote": "o"})
    assert [each.hex() for each in commits_of(pulled)] == [A, B, C]
    assert (pulled.before, pulled.after, pulled.whole) == (bytes.fromhex(A), bytes.fromhex(B), bytes.fromhex(C))


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "9" * 5000, "\u0663"])
def test_what_is_no_number_is_damage(text: str) -> None:
    with pytest.raises(DamagedLog, match="cannot be"):
        decode_text(line("undo", {"undoes": text}))


@pytest.mark.parametrize("texts", [{"whole": "x"}, {"whole": A.upper()}])
def test_what_is_no_commit_is_damage(texts: dict[str, str]) -> None:
    with pytest.raises(DamagedLog, match="names no commit"):
        decode_text(line("commit", texts))


@pytest.mark.parametrize(
    ("kind", "args", "fits"),
    [
        ("commit", CommitLogArgs(whole=A), True),
        ("commit", LogArgs(), True),
        ("commit", RestoreLogArgs(branch="main"), False),
        ("tag", CommitLogArgs(whole=A), False),
        ("tag", OtherLogArgs(more={"a": "b"}), True),
    ],
)
def test_arguments_of_another_kind_are_refused(kind: str, args: LogArgs, fits: bool) -> None:
    assert (operation_fault(Operation(seq=1, kind=kind, args=args)) == "") == fits
