"""Which runs a version names as what made it: those that wrote what it commits, and the one whose program makes it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import islice

from vfs.errors import Corrupt
from vfs.model.ids import chunk_id
from vfs.model.names import is_within
from vfs.model.objects import Version
from vfs.model.run_record import Output, RunRecord
from vfs.repo.acting_run import acting_run
from vfs.repo.repository import Repository
from vfs.repo.runs.observed import Tree
from vfs.repo.runs.records import MADE_BY, iterate_records, list_runs, load_record, name_of_run

_SEARCHED_MAX = 200
"""Runs that are looked at, the newest ones."""
_NAMED_MAX = 20


def naming_makers(
    repo: Repository, meta: Sequence[tuple[str, str]], wrote: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Returns the metadata of a version that is to be made, with the runs that made it.

    These are the ones that `meta` names, `wrote` (refs), and the run whose program asks, whatever it wrote so far.
    """
    pairs = dict(meta)
    named = dict.fromkeys([*pairs.get(MADE_BY, "").split(), *wrote, *_going_on(repo, acting_run())])
    if named:
        pairs[MADE_BY] = " ".join([*named][-_NAMED_MAX:])
    return list(pairs.items())


def _going_on(repo: Repository, run_id: str) -> Iterator[str]:
    """Yields the ref of a run in progress here: what VFS_RUN names may be a run of another repository."""
    for run in list_runs(repo) if run_id else ():
        if run.id == run_id:
            with suppress(Corrupt):
                if load_record(repo, run).status == "running":
                    yield run.ref


def writers_of_changes(repo: Repository, branch: str, paths: Collection[bytes] = ()) -> list[str]:
    """Returns the refs of the runs whose outputs are uncommitted in a branch, the oldest first.

    Of runs that wrote the same path the newest counts. `paths`: what is committed, empty for everything. The caller
    commits on the branch's head of now.
    """
    head = repo.head(branch)
    base = head.id.hex() if head is not None else ""
    taken: set[str] = set()
    found = []
    for run, record in islice(iterate_records(repo), _SEARCHED_MAX):
        # What a pinned program writes is in no working layer.
        if record.status != "running" and record.branch == branch and record.base == base and not record.pinned:
            # What was committed while the run went on is in the head.
            below = head if head is not None and head.commit.time_ns > record.start_ns else None
            written = {path for path in _written(repo, record, paths, below) if path not in taken}
            if written:
                found.append(run.ref)
                taken |= written
    return found[:_NAMED_MAX][::-1]


def _written(repo: Repository, record: RunRecord, paths: Collection[bytes], head: Version | None) -> Iterator[str]:
    """Yields what a run wrote in the mount, without what is in a version as it is in the record."""
    tree = Tree(repo.store, head.commit.root) if head is not None else None
    for output in record.outputs:
        path = output.path.encode("utf-8", "surrogateescape")
        if output.place != "mount" or not (not paths or any(is_within(path, wanted) for wanted in paths)):
            continue
        if tree is None or not _is_committed(tree, path, output):
            yield output.path


def _is_committed(tree: Tree, path: bytes, output: Output) -> bool:
    found = tree.find(path)
    if found is None or output.removed:
        return found is None and output.removed
    entry = found[0]
    return entry.size == output.size and (entry.content or chunk_id(b"")).hex() == output.content


def run_names(repo: Repository, value: str) -> list[str]:
    """Returns what the runs are called here that the metadata of a version names; also of those that are not here."""
    return [name_of_run(repo, word) for word in value.split()]
