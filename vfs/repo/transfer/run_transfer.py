"""Runs on their way: which ones a push sends or removes, which ones a fetch takes.

A run is one on all machines: its ref has its random id, and keeps the number that it was recorded with. What both sides
had when they last met is kept, so that a run that is missing on one side is new on the other, or was removed there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from vfs.backend.protocol import MissingKey
from vfs.errors import Corrupt
from vfs.model.ids import CommitId
from vfs.model.objects import Commit, Kind
from vfs.model.run_record import RECORD_BYTES_MAX, RunRecord
from vfs.remote.format import Root
from vfs.repo.repository import Repository
from vfs.repo.retention.replaced_commits import newest_of
from vfs.repo.runs.records import META, OUTPUTS, RECORD, RunRef, last_removed, list_runs, load_record
from vfs.repo.runs.snapshots import is_snapshot
from vfs.repo.transfer.remotes import OpenRemote
from vfs.store.refs.operation import LAST_RUN, RUNS, RefChange, SettingChange
from vfs.store.refs.operation_args import PurgeLogArgs
from vfs.store.trees.directories import find_entry

_DECODER = msgspec.json.Decoder(list[str])


def runs_to_push(
    opened: OpenRemote, root: Root, is_there: Callable[[CommitId], bool], branches: set[str]
) -> Iterator[tuple[str, CommitId | None]]:
    """Yields the refs of runs that a push makes, with their commits, or removes, with None.

    A run goes once it is sealed and the versions that it names are there: `is_there` says so of a commit, `branches`
    are the remote's. One that was recorded as private never goes, nor one with contents from before a purge.
    """
    repo, agreed = opened.repo, _agreed(opened)
    here = {RUNS + run.ref: run for run in list_runs(repo)}
    for ref in sorted(root.refs.keys() & agreed):
        if ref.startswith(RUNS) and ref not in here:
            yield ref, None
    told = root.replaced.keys() - _purged_here(repo) if root.replaced else set()
    for ref, run in here.items():
        if ref in root.refs or ref in agreed:
            # Also one that was removed there: the next fetch removes it here.
            continue
        try:
            record = load_record(repo, run)
        except Corrupt:
            # `fsck` names it.
            continue
        if record.status == "running" or record.is_private:
            continue
        if _is_published(repo, record, is_there, branches) and not _is_from_before(repo, run, record, told):
            yield ref, run.commit_id


def _is_published(
    repo: Repository, record: RunRecord, is_there: Callable[[CommitId], bool], branches: set[str]
) -> bool:
    """Returns False where a run would tell of versions, or have contents of a branch, that were not pushed."""
    if record.branch and not _named(record) and record.branch not in branches:
        return False
    commits = [CommitId(bytes.fromhex(text)) for text in _named(record)]
    return all(is_there(commit_id) or not repo.index.has(commit_id) for commit_id in commits)


def _named(record: RunRecord) -> set[str]:
    """Returns the versions that a record names, in hex."""
    return {text for text in (record.base, record.pinned, *(source.commit for source in record.sources)) if text}


def _is_from_before(repo: Repository, run: RunRef, record: RunRecord, told: set[str]) -> bool:
    """Returns True for a run whose snapshots or outputs may hold what was purged elsewhere."""
    if not told & _named(record):
        return False
    commit = repo.store.get_commit(run.commit_id)
    return bool(commit.parents) or find_entry(repo.store, commit.root, OUTPUTS) is not None


def _purged_here(repo: Repository) -> set[str]:
    """Returns the commits that purges of this repository replaced: all runs went through these."""
    found: set[str] = set()
    for operation in repo.refs.operations():
        if isinstance(operation.args, PurgeLogArgs):
            found.update(operation.args.gone)
    return found


def run_faults(opened: OpenRemote, root: Root) -> Mapping[str, str]:
    """Returns, by ref, why runs of a root that are not here cannot be those of this program. Their commits are here."""
    repo = opened.repo
    found = {}
    for ref, text in root.refs.items():
        if ref.startswith(RUNS) and repo.refs.get(ref) != CommitId(bytes.fromhex(text)):
            fault = _fault(repo, ref.removeprefix(RUNS), CommitId(bytes.fromhex(text)))
            if fault:
                found[ref] = fault
    return found


def _fault(repo: Repository, name: str, commit_id: CommitId) -> str:
    commit = repo.store.get_commit(commit_id)
    if dict(commit.meta).get(META) != name:
        return "its commit is not the record of this run"
    if not all(_is_lone_snapshot(repo.store.get_commit(CommitId(parent))) for parent in commit.parents):
        return "its commit stands on one that is no snapshot"
    number, _, digits = name.partition("-")
    entry = find_entry(repo.store, commit.root, RECORD)
    if entry is None or entry.kind != Kind.FILE or entry.size > RECORD_BYTES_MAX:
        return "it has no record, or too long a one"
    try:
        record = load_record(repo, RunRef(int(number), digits, commit_id, f"r{number}"))
    except Corrupt as error:
        return error.message
    return "it goes on" if record.status == "running" else ""


def _is_lone_snapshot(commit: Commit) -> bool:
    return is_snapshot(commit) and not commit.parents


def fetched_runs(opened: OpenRemote, root: Root, faults: Mapping[str, str]) -> Iterator[RefChange]:
    """Yields the runs that are new at the remote, those that a purge changed there, and those that were removed."""
    refs, agreed = opened.repo.refs, _agreed(opened)
    for ref, text in sorted(root.refs.items()):
        if not ref.startswith(RUNS) or ref in faults:
            continue
        here, there = refs.get(ref), CommitId(bytes.fromhex(text))
        if here is None and ref not in agreed:
            yield RefChange(ref, "", text)
        elif here is not None and here != there and newest_of(root.replaced, here) == there:
            yield RefChange(ref, here.hex(), text)
    for ref in sorted(agreed - root.refs.keys()):
        here = refs.get(ref)
        if here is not None:
            yield RefChange(ref, here.hex(), "")


def removed_numbers(repo: Repository, changes: list[RefChange]) -> Iterator[SettingChange]:
    """Yields what keeps the numbers of removed runs from being given again."""
    gone = [change.name.removeprefix(RUNS) for change in changes if change.name.startswith(RUNS) and not change.new]
    last = max((int(name.partition("-")[0]) for name in gone), default=0)
    if last > last_removed(repo):
        yield SettingChange(LAST_RUN, repo.refs.setting(LAST_RUN), str(last))


def remember_runs(opened: OpenRemote, root: Root) -> None:
    """Keeps which runs both sides have."""
    before, there = _agreed(opened), {ref for ref in root.refs if ref.startswith(RUNS)}
    here = {ref for ref, _ in opened.repo.refs.list(RUNS)}
    after = (there & here) | (before & (there | here))
    if after != before:
        opened.repo.backend.put(_key(opened), msgspec.json.encode(sorted(after)))


def _agreed(opened: OpenRemote) -> set[str]:
    try:
        return set(_DECODER.decode(opened.repo.backend.read(_key(opened))))
    except (MissingKey, msgspec.MsgspecError, UnicodeDecodeError):
        # Then what only one side has goes to the other, removed or not.
        return set()


def _key(opened: OpenRemote) -> str:
    return f"remotes/{opened.name}/runs"
