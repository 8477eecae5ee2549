"""Which sources of runs hold some contents: the answer of a plain walk of each tree, for less."""

from __future__ import annotations

import random

import pytest

from support.recorded_runs import AUTHOR, RunMaker, write_file
from support.repositories import Repositories
from vfs.model.ids import CommitId, chunk_id
from vfs.model.objects import Entry, Kind
from vfs.model.run_record import Output
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.lineage.targets import RunTarget
from vfs.repo.lineage.trees_read_by_runs import COPY_BYTES_MIN, Trees, matches
from vfs.repo.lineage.uses import used_by
from vfs.repo.repository import Repository
from vfs.repo.runs.records import find_run
from vfs.repo.runs.run_event_file import Event
from vfs.repo.runs.run_tables import RunTables
from vfs.store.trees.directories import walk

TOPS, NAMES = (b"a", b"b", b"c"), (b"x", b"y", b"z")
SIZES = (0, 1, 100, COPY_BYTES_MIN, 2048, 2049, 9000)
"""Empty, short, tiny, and in a chunk."""

Found = list[tuple[CommitId, int, list[tuple[bytes, bytes]]]]


def random_data(chance: random.Random) -> bytes:
    """Returns one of few contents, so that copies are frequent."""
    return bytes([chance.randrange(3)]) * chance.choice(SIZES)


def change(overlay: Overlay, chance: random.Random) -> None:
    """Writes some files; a file may become a directory, and the other way round."""
    for _ in range(chance.randrange(1, 5)):
        top = chance.choice(TOPS)
        found = overlay.find(top)
        if found is not None and found.kind != Kind.DIR:
            overlay.unlink(1, top)
        elif found is not None and chance.random() < 0.3:
            for child in [name for name in NAMES if overlay.find(top + b"/" + name) is not None]:
                overlay.unlink(found.ino, child)
            overlay.rmdir(1, top)
            write_file(overlay, top, random_data(chance))
            continue
        write_file(overlay, top + b"/" + chance.choice(NAMES), random_data(chance))


@pytest.mark.parametrize("seed", range(8))
def test_the_answer_is_that_of_a_plain_walk(repo: Repository, repositories: Repositories, seed: int) -> None:
    chance = random.Random(seed)
    maker = RunMaker(repo, repositories.overlay(repo))
    for number in range(8):
        change(maker.overlay, chance)
        commit(repo, maker.overlay, f"{number}", AUTHOR, allow_empty=True)
        if chance.random() < 0.3:
            change(maker.overlay, chance)
        maker.record("reads", *(Event("read", top + b"/" + name) for top in TOPS for name in NAMES))
    with RunTables.open(repo) as tables:
        trees = Trees(repo, tables)
        sizes: dict[bytes, int] = {
            chunk_id(data): len(data) for data in (random_data(chance) for _ in range(9)) if data
        }

        def is_wanted(path: bytes, entry: Entry) -> bool:
            return entry.size >= COPY_BYTES_MIN or path.endswith(b"x")

        fast = [(read.run.commit_id, read.place, files) for read, files in matches(trees, sizes, is_wanted)]
        slow: Found = []
        for run in tables.runs.values():
            for read in trees.read_by(run):
                assert read.version is not None
                files = [
                    (path, entry.content)
                    for path, _, entry in walk(repo.store, read.version.commit.root)
                    if entry.kind == Kind.FILE and entry.content in sizes and is_wanted(path, entry)
                ]
                if files:
                    slow.append((run.commit_id, read.place, sorted(files)))
        assert sorted(fast) == sorted(slow)
        assert fast


def test_no_tree_is_read_for_contents_that_no_version_can_have(repo: Repository, repositories: Repositories) -> None:
    overlay = repositories.overlay(repo)
    maker = RunMaker(repo, overlay)
    write_file(overlay, b"raw/a", b"a" * 500)
    commit(repo, overlay, "raw", AUTHOR)
    contents = {size: chunk_id(b"m" * size) for size in (2048, 2049)}
    for size, content in contents.items():
        model = Output("/models/best", "outside", size, content.hex())
        maker.record("train", Event("read", b"raw/a"), outside=(model,))
    RunTables.open(repo).close()
    overlay.close()
    # A tiny file stands in its directory, and no index names it: only there can it be looked for.
    for name, is_read in (("r2", False), ("r1", True)):
        repo = repositories.reopen(repo)
        with RunTables.open(repo) as tables:
            graph = used_by(repo, tables, RunTarget(find_run(repo, name)))
        assert len(graph.nodes) == 1
        assert repo.store.node_cache.holds(repo.resolve("v1").commit.root.content) == is_read
