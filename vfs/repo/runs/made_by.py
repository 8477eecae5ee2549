"""Which runs wrote what a commit takes up: a version names them, so that `log` and `show` say by what it was made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from vfs.model.ids import chunk_id
from vfs.model.names import is_within
from vfs.model.objects import Version
from vfs.model.runs import Output, RunRecord
from vfs.repo.repository import Repository
from vfs.repo.runs.observed import Tree
from vfs.repo.runs.records import MADE_BY, iterate_records

_SEARCHED_MAX = 200
"""Runs that are looked at, the newest ones."""
_NAMED_MAX = 20


def made_by(
    repo: Repository, branch: str, paths: Sequence[bytes] = (), running: str = ""
) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that names the runs whose outputs are uncommitted in a branch; empty for none.

    Of runs that wrote the same path the newest counts. `paths`: what is committed, empty for everything. `running`: the
    id of the run that commits, which is named whatever it wrote so far. The caller commits on the branch's head of now.
    """
    head = repo.head(branch)
    base = head.id.hex() if head is not None else ""
    taken: set[str] = set()
    found = []
    for run, record in islice(iterate_records(repo), _SEARCHED_MAX):
        if record.status == "running":
            found += [run.ref] if run.id == running else []
        # What a pinned program writes is in no working layer.
        elif record.branch == branch and record.base == base and not record.pinned:
            # What was committed while the run went on is in the head.
            below = head if head is not None and head.commit.time_ns > record.start_ns else None
            written = {path for path in _written(repo, record, paths, below) if path not in taken}
            if written:
                found.append(run.ref)
                taken |= written
    return ((MADE_BY, " ".join(reversed(found[:_NAMED_MAX]))),) if found else ()


def _written(repo: Repository, record: RunRecord, paths: Sequence[bytes], head: Version | None) -> Iterator[str]:
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


def run_names(value: str) -> list[str]:
    """Returns the names, as `r17`, in the metadata of a version."""
    return [f"r{word.partition('-')[0]}" for word in value.split()]
