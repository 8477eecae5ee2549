"""The record of a run: what a program read and wrote, by what code, in which environment, and what came of it.

A record is canonical JSON: keys sorted, no spaces, ASCII. Bytes of names that are no UTF-8 are the lone surrogates of
Python's `surrogateescape`. The fields are in docs/format.md; a reader ignores keys that it does not know.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec

from vfs.errors import Corrupt, TooLarge
from vfs.model.decoding import UNDECODABLE, Count, Moment
from vfs.model.objects import U63

RUN_FORMAT = 1
"""The newest format of records that this program reads and writes."""
RECORD_BYTES_MAX = 16 << 20
"""Longest record. What a program does is bounded before: see the constants below."""
TEXT_MAX = 4096
"""Longest text of a field, in characters; longer ones are cut."""
WORDS_MAX, WORDS_CHARACTERS_MAX = 4096, 128 * 1024
"""Arguments of a command that are kept, and their characters together."""
LIST_MAX = 10_000
"""Longest list of a record. Longer ones are in files of their own (the manifest), or cut with a note."""
OUTPUTS_MAX = 100_000
METRICS_MAX = 1000
"""Names of metrics and of parameters that a record has."""

_UNREADABLE: tuple[type[Exception], ...] = (*UNDECODABLE, ValueError, MemoryError)

Status = Literal["running", "ok", "failed", "interrupted"]
Known = Literal["pinned", "working", "snapshot", "seen", "first-seen"]
Metric = float | str
"""A number; `nan`, `inf` and `-inf` are texts, as JSON has no such numbers."""

_Text = Annotated[str, msgspec.Meta(max_length=8 * TEXT_MAX)]
_Digits = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """Data that a run read: one version, or a working layer as it was at the start.

    `branch` and `number` name the version, `commit` is its id (hex; after a purge another commit has the number).
    `known`: how the version is known. *pinned*: the program's view was this version alone; *working*: the working
    layer, without changes at the start; *snapshot*: the working layer with changes, kept as the first parent of the
    run's commit; *seen*: the program looked up, listed or was given this version's name; *first-seen*: equal files have
    one inode in all versions, and this is the first version that showed it.
    `opened` of `files` files were opened, `listed` directories listed. `shared`: of the opened files, how many another
    version in this record holds too.
    """

    branch: _Text = ""
    number: Count = 0
    commit: _Digits = ""
    known: Known = "working"
    opened: U63 = 0
    files: U63 = 0
    listed: U63 = 0
    shared: U63 = 0


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that a run wrote. `place`: in the mount (path from the branch's root), or outside (absolute path).

    `content` is the id of its content (Entry.content of docs/format.md, in hex), `sha256` of its bytes; either may be
    empty where the file could not be read. `removed`: the run removed the path.
    """

    path: _Text
    place: Literal["mount", "outside"] = "mount"
    size: U63 = 0
    content: _Digits = ""
    sha256: _Digits = ""
    removed: bool = False


class Code(msgspec.Struct, frozen=True, omit_defaults=True):
    """The program's source: a git work tree. `changed`: paths that differ from the commit; their patch is a file."""

    directory: _Text = ""
    commit: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{40}([0-9a-f]{24})?)?$")] = ""
    branch: _Text = ""
    remote: _Text = ""
    changed: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=LIST_MAX)] = ()
    has_patch: bool = False


class Environment(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a run was executed. `packages`: how many the file of that name lists. `variables`: the allowed ones."""

    python: _Text = ""
    executable: _Text = ""
    system: _Text = ""
    cpus: Count = 0
    gpus: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=1024)] = ()
    packages: Count = 0
    variables: Annotated[dict[_Text, _Text], msgspec.Meta(max_length=METRICS_MAX)] = {}


class RunRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is known of a run. Texts and lists are bounded; `notes` says what was cut or could not be recorded.

    `exit_status` is that of a shell: 128 and the signal's number after a signal; None where it is not known.
    `branch` and `base` (commit, hex): the working layer's when the run ended. `parent`: the id of the run around it,
    `steps`: of those in it. `others_changed`: paths of the working layer that changed meanwhile, not by the run.
    `label`: what the run is called beside others with its number; empty for its number alone, and never stored.
    """

    format: Annotated[int, msgspec.Meta(ge=1)] = RUN_FORMAT
    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
    number: Annotated[int, msgspec.Meta(ge=1, le=10**12 - 1)]
    status: Status = "running"
    exit_status: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    command: Annotated[tuple[str, ...], msgspec.Meta(max_length=WORDS_MAX)] = ()
    cwd: _Text = ""
    user: _Text = ""
    host: _Text = ""
    start_ns: Moment = 0
    end_ns: Moment = 0
    is_private: bool = False
    is_observed: bool = False
    repository: _Text = ""
    branch: _Text = ""
    base: _Digits = ""
    pinned: _Digits = ""
    parent: _Text = ""
    steps: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=LIST_MAX)] = ()
    sources: Annotated[tuple[Source, ...], msgspec.Meta(max_length=LIST_MAX)] = ()
    outputs: Annotated[tuple[Output, ...], msgspec.Meta(max_length=OUTPUTS_MAX)] = ()
    others_changed: U63 = 0
    code: Code = Code()
    environment: Environment = Environment()
    params: Annotated[dict[_Text, _Text], msgspec.Meta(max_length=METRICS_MAX)] = {}
    metrics: Annotated[dict[_Text, Metric], msgspec.Meta(max_length=METRICS_MAX)] = {}
    output_bytes: U63 = 0
    notes: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=LIST_MAX)] = ()
    label: _Text = ""

    @property
    def name(self) -> str:
        """`r17`, or `r17-3f9a` where others here have the number: what people call it."""
        return self.label or f"r{self.number}"

    @property
    def ref(self) -> str:
        """What stands behind `runs/` in the name of its ref."""
        return f"{self.number}-{self.id}"


_DECODER = msgspec.json.Decoder(RunRecord)


class Read(msgspec.Struct, frozen=True, array_like=True):
    """What a run read of one source: paths of opened files and of listed directories, sorted; `is_all` for all files.

    With `is_all` the list of opened paths is empty: they are the version's.
    """

    is_all: bool = False
    opened: tuple[bytes, ...] = ()
    listed: tuple[bytes, ...] = ()


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """What a run read, one Read for each of the record's sources, in their order."""

    reads: tuple[Read, ...] = ()


def encode_record(record: RunRecord) -> bytes:
    """Returns a record as canonical JSON. Raises TooLarge."""
    encoded = _canonical(msgspec.to_builtins(msgspec.structs.replace(record, label="")))
    if len(encoded) > RECORD_BYTES_MAX:
        raise TooLarge(f"the record of a run has {len(encoded)} bytes; {RECORD_BYTES_MAX} is the most")
    return encoded


def decode_record(data: bytes) -> RunRecord:
    """Returns the record in some bytes. Raises Corrupt for what is none, Unsupported never: unknown keys are passed."""
    if len(data) > RECORD_BYTES_MAX:
        raise Corrupt("the record of a run is too long")
    try:
        record = _DECODER.decode(data)
    except _UNREADABLE:
        record = _with_surrogates(data)
    if record.label:
        record = msgspec.structs.replace(record, label="")
    if record.format > RUN_FORMAT:
        raise Corrupt(f"the record of {record.name} has format {record.format}; this program knows {RUN_FORMAT}")
    return record


def _with_surrogates(data: bytes) -> RunRecord:
    """Returns a record with lone surrogates, which the faster decoder refuses. Raises Corrupt."""
    import json

    try:
        found = json.loads(data)
        # Bytes that are no UTF-8 are surrogates of their own; others cannot be written anywhere.
        json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogateescape")
        return msgspec.convert(found, RunRecord)
    except _UNREADABLE as error:
        raise Corrupt(f"the record of a run cannot be read: {error}") from error


def encode_manifest(manifest: Manifest) -> bytes:
    """Returns a manifest as MessagePack."""
    return msgspec.msgpack.encode(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """Returns the manifest in some bytes. Raises Corrupt."""
    try:
        return msgspec.msgpack.decode(data, type=Manifest)
    except UNDECODABLE as error:
        raise Corrupt(f"the manifest of a run cannot be read: {error}") from error


def metric_value(value: Any) -> Metric | None:
    """Returns a value as a metric, None for one that is no number. True and False count 1 and 0."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else str(number)


def as_number(metric: Metric) -> float:
    """Returns a metric as a number."""
    try:
        return float(metric)
    except ValueError:
        return math.nan


def cut_text(text: str, longest: int = TEXT_MAX) -> str:
    """Returns a text, the end of a long one replaced by `…`."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _canonical(value: Any) -> bytes:
    import json

    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"
