"""One run from start to seal, for `vfs run`: the record begins, the program runs, the record is sealed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from vfs.cli.arguments.author import author
from vfs.cli.opening.locate import names_in
from vfs.cli.opening.open_repository import OpenRepository
from vfs.cli.opening.working_layer import layer_mount, perform
from vfs.cli.runs.private_view import Pin, objection, written_directory
from vfs.cli.runs.run_description import described_run
from vfs.cli.runs.run_program import Ended, run_program
from vfs.cli.terminal.output import warn
from vfs.control.messages import PingResult, RunArgs, RunStartArgs
from vfs.control.mount_description import process_namespace
from vfs.control.mount_points import MountPoint, enclosing_mount, live_mounts
from vfs.control.mount_table import read_table
from vfs.control.services import RUN_FINISH, RUN_JOIN, RUN_START
from vfs.errors import Advice, Hint, NotFound, Unsupported, VfsError
from vfs.model.ids import CommitId
from vfs.model.layout import VERSIONS, AtVersion, Listed, marked, parse_mount_path
from vfs.model.objects import Version
from vfs.model.run_record import Metric, Output, RunRecord, Source
from vfs.repo.acting_run import RUN_VARIABLE
from vfs.repo.runs.metric_files import read_metrics, recorded
from vfs.repo.runs.outside_outputs import hashed, named_files, written_below
from vfs.repo.runs.records import METRICS, STDOUT, RunRef, begin_run, find_run, load_record
from vfs.repo.runs.run_event_file import RecordingFile
from vfs.repo.runs.sealing import Ending, seal, supervised_path
from vfs.repo.runs.secrets import Secrets

METRICS_VARIABLE = "VFS_METRICS"
DATA = "{data}"
"""In a word of a command: the path of the data that the run is to read."""


@dataclass(slots=True)
class Wanted:
    """What the user asked for; paths are absolute."""

    command: Sequence[str]
    cwd: str
    version: Version | None = None
    outputs: Sequence[str] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: str = ""
    is_private: bool = False
    writes_apart: bool = False
    """With a version: what the program writes at the mount's path goes into a scratch directory."""
    again: str = ""
    """The run that is repeated."""


@dataclass(slots=True)
class _Data:
    """Where the data is for the program: its path, the view that it gets, the daemon's mount (None: not observed)."""

    path: str
    pin: Pin | None
    mount: PingResult | None


def record_run(opened: OpenRepository, wanted: Wanted) -> tuple[RunRef, RunRecord, Ended]:
    """Runs a program and returns its sealed record. Raises Unsupported where a version cannot be pinned."""
    scratch = tempfile.mkdtemp(prefix="vfs-run-")
    data = _data(opened, wanted, scratch)
    command = [word.replace(DATA, data.path) for word in wanted.command]
    run_id = os.urandom(8).hex()
    secrets = Secrets.of_repository(opened.repository.path)
    secrets.learn(os.environ)
    supervised = supervised_path(opened.repository, run_id)
    guard = RecordingFile(supervised)
    try:
        metrics_file = os.path.join(scratch, "metrics")
        variables = {**os.environ, RUN_VARIABLE: run_id, METRICS_VARIABLE: metrics_file, "VFS_DATA": data.path}
        record, files = described_run(
            command, wanted.cwd, run_id, secrets, params=wanted.params, is_private=wanted.is_private
        )
        run, record = _begin(opened, wanted, data, record, files)
        ended = run_program(command, variables, cwd=wanted.cwd, pin=data.pin, keeps_output=not wanted.is_private)
        ending = _ending(opened, wanted, data, ended, secrets, metrics_file, record.start_ns)
        return run, _finish(opened, run, record, ending), ended
    finally:
        guard.close()
        with suppress(OSError):
            supervised.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)


def join_run(opened: OpenRepository, name: str, command: Sequence[str]) -> Ended:
    """Runs a program as a part of a run that goes on. Raises NotFound."""
    run = find_run(opened.repository, name)
    record = load_record(opened.repository, run)
    if record.status != "running":
        raise NotFound(f"{run.name} has ended, so nothing can join it", hint=Hint(Advice.LIST_RUNS))
    perform(opened, RUN_JOIN, RunArgs(run.id, author(), os.getpid(), process_namespace()), branch=record.branch)
    variables = {**os.environ, RUN_VARIABLE: run.id}
    return run_program(command, variables, cwd=os.getcwd(), pin=None, keeps_output=False)


# Where the data is.


def _data(opened: OpenRepository, wanted: Wanted, scratch: str) -> _Data:
    mount = layer_mount(opened)
    shown = [one for one in live_mounts() if one.repository == opened.repository.path and not one.root]
    paths = [str(one.path) for one in shown]
    # A read-only mount has no working layer, and shows versions.
    root = os.fsdecode(mount.mountpoint) if mount is not None else ""
    if paths and root not in paths:
        # In a container a mount can be at another path than at the one that the daemon knows.
        root = paths[-1]
    top = os.path.join(root, os.fsdecode(mount.top)) if mount is not None and mount.top else root
    uses_data = any(DATA in word for word in wanted.command)
    if not top and (uses_data or wanted.version is not None):
        raise NotFound("the repository is not mounted, so a program cannot read it", hint=Hint(Advice.MOUNT_IT))
    if wanted.version is None:
        return _Data(top, None, mount)
    version = os.path.realpath(os.path.join(root, os.fsdecode(marked(wanted.version.id.hex().encode()))))
    if not os.path.isdir(version):
        raise NotFound(f"the mount at {root} does not show {wanted.version.name}", hint=Hint(Advice.LIST_VERSIONS))
    if uses_data and not wanted.writes_apart:
        return _Data(version, None, mount)
    pin = Pin(top, version, wanted.cwd, scratch if wanted.writes_apart else "")
    reason = objection(pin)
    if reason:
        raise Unsupported(
            f"the program cannot have a view of its own here ({reason})",
            hint="Write {data} in the command where the path of the data stands: it becomes the version's directory.",
        )
    return _Data(top, pin, mount)


def _named(opened: OpenRepository, wanted: Wanted) -> list[CommitId]:
    """Returns the versions that words of the command, or the current directory, name by a path in a mount."""
    table = read_table()
    found: list[CommitId] = []
    for text in [wanted.cwd, *_paths(wanted.command)]:
        path = Path(os.path.normpath(os.path.join(wanted.cwd, text)))
        mount = enclosing_mount(path, table)
        if mount is None or mount.repository != opened.repository.path:
            continue
        chosen = parse_mount_path(names_in(mount, path)).chosen
        name = b""
        if isinstance(chosen, AtVersion):
            name = chosen.text
        elif isinstance(chosen, Listed) and chosen.list == VERSIONS:
            name = chosen.name
        with suppress(VfsError, UnicodeDecodeError):
            version = opened.repository.resolve(name.decode()).id if name else None
            if version is not None and version not in found:
                found.append(version)
    return found


def _paths(command: Sequence[str]) -> Iterator[str]:
    for word in command:
        yield word
        if "=" in word:
            yield word.partition("=")[2]


def mount_of_words(words: Sequence[str]) -> MountPoint | None:
    """Returns the first mount that a word of a command has a path in, None for none."""
    table = read_table()
    here = os.getcwd()
    for word in _paths(words):
        mount = enclosing_mount(Path(os.path.normpath(os.path.join(here, word))), table) if word else None
        if mount is not None:
            return mount
    return None


# Start and end.


def _begin(
    opened: OpenRepository, wanted: Wanted, data: _Data, record: RunRecord, files: dict[bytes, bytes]
) -> tuple[RunRef, RunRecord]:
    """Begins the recording and the record."""
    repository = opened.repository
    branch = data.mount.branch if data.mount is not None else opened.branch
    notes = list(record.notes)
    before: CommitId | None = None
    parent = os.environ.get(RUN_VARIABLE, "")
    is_observed = False
    base = repository.head(branch)
    if data.mount is None:
        notes.append("no writable mount has the working layer: what the program opened is not in this record")
    else:
        args = RunStartArgs(record.id, os.getpid(), process_namespace(), author(), parent, _named(opened, wanted))
        try:
            started = perform(opened, RUN_START, args, branch=branch)
        except Unsupported as error:
            notes.append(f"what the program opened is not in this record: {error.message}")
            warn(notes[-1])
        else:
            before, parent, is_observed = started.before, started.parent, True
            base = Version(started.base, repository.store.get_commit(started.base)) if started.base else None
    source = Source(
        branch,
        base.commit.number if base is not None else 0,
        base.id.hex() if base is not None else "",
        "snapshot" if before is not None else "working",
    )
    record = msgspec.structs.replace(
        record,
        repository=repository.config.id,
        branch=branch,
        parent=parent if is_observed else "",
        is_observed=is_observed,
        pinned=wanted.version.id.hex() if wanted.version is not None else "",
        sources=(source,) if is_observed else (),
        notes=tuple(notes),
    )
    record = begin_run(repository, record, files, before=before, author=author())
    return find_run(repository, record.id), record


def _ending(
    opened: OpenRepository,
    wanted: Wanted,
    data: _Data,
    ended: Ended,
    secrets: Secrets,
    metrics_file: str,
    start_ns: int,
) -> Ending:
    """Returns what is known of a run when its program has ended."""
    end_ns = time.time_ns()
    notes: list[str] = []
    if ended.failure:
        notes.append(f"the program could not be started: {ended.failure}")
    metrics, series = _metrics(wanted, metrics_file, notes)
    files = {METRICS: secrets.data(series)} if series else {}
    if ended.tail and not wanted.is_private:
        # The first line of what is cut may begin within a secret.
        whole = ended.tail if ended.output_bytes <= len(ended.tail) else ended.tail.partition(b"\n")[2] or ended.tail
        files[STDOUT] = secrets.data(whole)
    named = list(named_files(wanted.outputs, notes))
    found = [] if wanted.is_private else written_below(wanted.cwd, start_ns, end_ns, notes)
    if data.pin is not None and data.pin.scratch:
        notes.append(f"{wanted.again} again: what was written in the mount was compared, and is in no version")
    inside = [mount.path for mount in live_mounts()]
    paths = [
        path
        for path in dict.fromkeys([*named, *found])
        if not any(Path(path).is_relative_to(mount) for mount in inside)
    ]
    outside = [
        msgspec.structs.replace(output, path=secrets.text(output.path))
        for output in hashed(opened.repository, paths, notes)
    ]
    return Ending(
        exit_status=ended.exit_status,
        end_ns=end_ns,
        files=files,
        metrics={secrets.text(name): value for name, value in metrics.items()},
        outputs=[*outside, *_apart(opened, data, notes)],
        output_bytes=ended.output_bytes,
        notes=[secrets.text(note) for note in notes],
    )


def _apart(opened: OpenRepository, data: _Data, notes: list[str]) -> list[Output]:
    """Returns what was written over a version, by its path in the mount."""
    if data.pin is None or not data.pin.scratch:
        return []
    top = written_directory(data.pin)
    found = hashed(opened.repository, list(named_files([top], notes)), notes)
    return [msgspec.structs.replace(output, path=os.path.relpath(output.path, top), place="mount") for output in found]


def _metrics(wanted: Wanted, metrics_file: str, notes: list[str]) -> tuple[dict[str, Metric], bytes]:
    """Returns the last value of each metric, and all of them as lines."""
    found: dict[str, Metric] = {}
    series = b""
    for path, name in ((metrics_file, METRICS_VARIABLE), (wanted.metrics, "--metrics")):
        try:
            metrics = read_metrics(path) if path else None
        except OSError as error:
            if name != METRICS_VARIABLE or not isinstance(error, FileNotFoundError):
                notes.append(f"the file of {name} cannot be read: {error.strerror}")
            continue
        if metrics is None:
            continue
        found |= recorded(metrics)
        series += metrics.lines() if name == METRICS_VARIABLE else b""
        if not metrics.last and (metrics.refused or path == wanted.metrics):
            notes.append(f'the file of {name} has no metric: lines such as accuracy=0.93 and {{"accuracy": 0.93}} are')
    return found, series


def _finish(opened: OpenRepository, run: RunRef, record: RunRecord, ending: Ending) -> RunRecord:
    """Ends the recording and seals the record."""
    if record.is_observed:
        try:
            perform(opened, RUN_FINISH, RunArgs(run.id, author()), branch=record.branch)
        except (VfsError, OSError) as error:
            # The daemon was killed: the record has what its recording says.
            warn(f"the mount's daemon did not end the recording: {error}")
    return seal(opened.repository, run, ending, author())
