"""What versions cost: alone is what forgetting frees, new is what no earlier version had."""

from __future__ import annotations

import random

from support.lines import Lines
from support.repositories import Repositories
from support.trees import write_file
from vfs.repo.commit import commit
from vfs.repo.costs import Cost, held_bytes, version_costs
from vfs.repo.repository import Repository
from vfs.repo.retention.gc import forget

noise = random.Random(65)


def by_name(repo: Repository) -> dict[str, Cost]:
    return {cost.version.name: cost for cost in version_costs(repo)}


def test_new_and_alone_are_what_no_other_version_has(repo: Repository, repositories: Repositories) -> None:
    overlay = repositories.overlay(repo)
    # Version 2 has 20 KB alone, what version 3 brings back of version 1 is new in version 1 only.
    first, passing, last = (noise.randbytes(size) for size in (30_000, 20_000, 10_000))
    for data in (first, passing, first):
        write_file(overlay, b"a", data)
        commit(repo, overlay, "m", "a")
    write_file(overlay, b"b", last)
    commit(repo, overlay, "m", "a")
    found = by_name(repo)
    for name, new, alone in (("v1", 30_000, 0), ("v2", 20_000, 20_000), ("v3", 0, 0), ("v4", 10_000, 10_000)):
        assert new <= found[name].new_bytes < new + 2000
        assert alone <= found[name].alone_bytes < alone + 2000
        assert found[name].alone_bytes <= found[name].new_bytes
    everything = sum(cost.new_bytes for cost in found.values())
    assert everything == sum(location.size for _, location in repo.index.locations())
    assert abs(sum(cost.new_stored for cost in found.values()) - repo_bytes(repo)) < 100
    assert held_bytes(repo, repo.resolve("v4")) in range(40_000, 43_000)


def repo_bytes(repo: Repository) -> int:
    return sum(row.size for row in repo.index.packs())


def test_forgetting_frees_what_a_version_has_alone(repo: Repository, repositories: Repositories) -> None:
    overlay = repositories.overlay(repo)
    for number in range(6):
        write_file(overlay, b"d/%d" % (number % 4), noise.randbytes(40_000))
        write_file(overlay, b"e/%d" % number, b"text " * 3000)
        commit(repo, overlay, "m", "a")
    for name in ("v3", "v2"):
        cost = by_name(repo)[name]
        done = forget(repo, [repo.resolve(name)], author="a")
        # Its record stays.
        record = next(place.size for key, place in repo.index.locations() if key == cost.version.id)
        assert done.object_bytes == cost.alone_bytes - record
    assert list(by_name(repo)) == ["v1", "v4", "v5", "v6"]


def test_versions_of_all_branches_are_counted(repositories: Repositories) -> None:
    lines = Lines(repositories)
    data = noise.randbytes(50_000)
    theirs = lines.on_exp({b"both": data})
    ours = lines.on_main({b"both": data})
    found = {cost.version.id: cost for cost in version_costs(lines.repo)}
    assert found[theirs.id].new_bytes > 50_000
    assert found[ours.id].new_bytes < 2000
    assert found[theirs.id].alone_bytes < 2000
