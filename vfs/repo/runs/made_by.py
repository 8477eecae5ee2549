"""Which runs wrote what a commit takes up: a version names them, so that `log` and `show` say by what it was made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from vfs.model.names import is_within
from vfs.model.runs import RunRecord
from vfs.repo.repository import Repository
from vfs.repo.runs.records import MADE_BY, iterate_records

_SEARCHED_MAX = 200
"""Runs that are looked at, the newest ones."""
_NAMED_MAX = 20


def made_by(repo: Repository, branch: str, paths: Sequence[bytes] = ()) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that names the runs whose outputs are uncommitted in a branch; empty for none.

    Of runs that wrote the same path the newest counts. `paths`: what is committed, empty for everything. The caller
    commits on the branch's head of now.
    """
    head = repo.head(branch)
    base = head.id.hex() if head is not None else ""
    taken: set[str] = set()
    found = []
    for run, record in islice(iterate_records(repo), _SEARCHED_MAX):
        # What a pinned program writes is in no working layer.
        if record.branch == branch and record.base == base and record.status != "running" and not record.pinned:
            written = {path for path in _written(record, paths) if path not in taken}
            if written:
                found.append(run.ref)
                taken |= written
    return ((MADE_BY, " ".join(reversed(found[:_NAMED_MAX]))),) if found else ()


def _written(record: RunRecord, paths: Sequence[bytes]) -> Iterator[str]:
    for output in record.outputs:
        path = output.path.encode("utf-8", "surrogateescape")
        if output.place == "mount" and (not paths or any(is_within(path, wanted) for wanted in paths)):
            yield output.path


def run_names(value: str) -> list[str]:
    """Returns the names, as `r17`, in the metadata of a version."""
    return [f"r{word.partition('-')[0]}" for word in value.split()]
