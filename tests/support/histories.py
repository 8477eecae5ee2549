"""Histories of many versions, made at once: trees of tiny files on one branch, or with merges."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from support.tiny_trees import build
from vfs.model.ids import CommitId
from vfs.model.objects import MAIN, Commit
from vfs.repo.repository import Repository
from vfs.store.object_writer import ObjectWriter
from vfs.store.refs.operation import BRANCHES, Operation, RefChange
from vfs.store.refs.refs import Refs

Files = Mapping[bytes, bytes]


def add_versions(repo: Repository, trees: Iterable[Files], branch: str = MAIN) -> list[CommitId]:
    """Adds versions to a branch, given by their files, and returns their ids."""
    return add_graph(repo, [(files, None) for files in trees], branch)


def add_graph(
    repo: Repository, versions: Sequence[tuple[Files, Sequence[int] | None]], branch: str = MAIN
) -> list[CommitId]:
    """Adds versions, each with the places of its parents among them (None: the one before); the last is the head."""
    made: list[CommitId] = []
    numbers: list[int] = []
    refs: Refs = repo.refs
    old = refs.get(BRANCHES + branch)
    with repo.write_lock(), ObjectWriter(repo.store) as writer:
        for place, (files, above) in enumerate(versions):
            parents = [made[number] for number in above] if above is not None else made[-1:]
            number = 1 + (numbers[above[0] if above else place - 1] if parents else 0)
            commit = Commit(
                number, tuple(parents), build(writer, files), b"", time.time_ns(), "ann", f"number {place + 1}"
            )
            made.append(writer.put_commit(commit))
            numbers.append(number)
        writer.flush()
        change = RefChange(BRANCHES + branch, old.hex() if old is not None else "", made[-1].hex())
        refs.move(Operation(time_ns=time.time_ns(), kind="commit", author="ann", refs=(change,)))
    return made
