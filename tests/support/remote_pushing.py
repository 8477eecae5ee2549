"""Many pushers at one remote, sweeps beside them, a server that is killed; then all that was acknowledged is there.

scripts/remote-rounds N [--people P] [--commits C] [--server | --kills K] [--seed S]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from support.object_server import own_server
from support.sharing import Person, content
from vfs.backend.locations import Location, parse_location
from vfs.errors import Busy, VfsError
from vfs.history.walk import ancestors
from vfs.model.ids import CommitId
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.fsck import fsck
from vfs.repo.transfer.ref_moves import PushRefused
from vfs.repo.transfer.remote_check import check_remote
from vfs.store.trees.directories import find_entry
from vfs.store.trees.file_reader import open_file

DEADLINE_S = 1800.0
_SPAWN = multiprocessing.get_context("spawn")


class Done(NamedTuple):
    """What a round did."""

    acknowledged: int
    refused: int
    sweeps: int
    kills: int
    seconds: float


def run_round(directory: Path, people: int, commits: int, kills: int, seed: int, *, with_server: bool = False) -> Done:
    """Runs pushers to their end and checks what is left. `kills`: with a server, killed so often; else a directory."""
    started = time.monotonic()
    with ExitStack() as stack:
        server = stack.enter_context(own_server(directory / "server")) if kills or with_server else None
        if server is None:
            (directory / "remote").mkdir()
        location = server.location("shared") if server is not None else parse_location(str(directory / "remote"))
        first = Person("first", directory / "first").init()
        first.add_remote(location)
        first.commit("first", content(0))
        first.push()
        first.close()
        pushers = [
            _SPAWN.Process(target=_push_all, args=(directory, location, number, commits, seed))
            for number in range(people)
        ]
        sweeper = _SPAWN.Process(target=_sweep, args=(directory, location))
        for process in (*pushers, sweeper):
            process.start()
        killed = 0
        chance = random.Random(seed)
        while any(process.is_alive() for process in pushers):
            assert time.monotonic() - started < DEADLINE_S
            if server is not None and killed < kills:
                time.sleep(chance.uniform(0.5, 4.0))
                server.kill()
                server.start()
                killed += 1
            time.sleep(0.2)
        (directory / "stop").touch()
        sweeper.join()
        assert [process.exitcode for process in (*pushers, sweeper)] == [0] * (people + 1)
        acknowledged, refused = _check(directory, location, people)
        assert acknowledged == people * commits
        sweeps = int((directory / "sweeps").read_text())
        return Done(acknowledged, refused, sweeps, killed, time.monotonic() - started)


def _push_all(directory: Path, location: Location, number: int, commits: int, seed: int) -> None:
    """Commits to an own branch and to the one that all share, and pushes each until it is there."""
    chance = random.Random(f"{seed}/{number}")
    person = Person(f"p{number}", directory / f"p{number}")
    _patiently(lambda: person.clone(location))
    first = person.repo.resolve("v1")
    create_branch(person.repo, person.name, first, author=person.name)
    refused = 0
    with (directory / f"acks-{number}").open("a") as acks, person.repo.open_overlay(person.name) as own:
        for count in range(commits):
            name, data = f"{person.name}-{count}", content(number * 1000 + count, chance.choice((300, 5_000, 70_000)))
            branch = chance.choice(("main", person.name))
            if branch == "main":
                person.commit(name, data)
            else:
                own.write(own.mknod(1, name.encode(), 0o644, 0, 0, 0).ino, 0, data)
                commit(person.repo, own, name, person.name)
            while True:
                try:
                    _patiently(partial(person.push, [branch]))
                    break
                except PushRefused:
                    refused += 1
                    _patiently(person.pull)
            acks.write(f"{branch} {name} {number * 1000 + count} {len(data)}\n")
            acks.flush()
            os.fsync(acks.fileno())
    (directory / f"refused-{number}").write_text(str(refused))
    person.close()


def _patiently(action: Callable[[], object]) -> None:
    """Does something until the server answers."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            action()
            return
        except (OSError, Busy):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _sweep(directory: Path, location: Location) -> None:
    person = Person("sweeper", directory / "sweeper")
    _patiently(lambda: person.clone(location))
    count = 0
    while not (directory / "stop").exists():
        _patiently(partial(person.sweep, grace_s=0, thorough=count % 3 == 0))
        count += 1
    (directory / "sweeps").write_text(str(count))
    person.close()


def _check(directory: Path, location: Location, people: int) -> tuple[int, int]:
    """Clones everything, and finds each acknowledged file in the branch that was pushed, with its bytes."""
    person = Person("last", directory / "last")
    person.clone(location, contents=True)
    report = check_remote(person.repo, "origin", read_data=True)
    assert report.is_clean, report.damage
    acknowledged = refused = 0
    for number in range(people):
        refused += int((directory / f"refused-{number}").read_text())
        for line in (directory / f"acks-{number}").read_text().splitlines():
            branch, name, seed, size = line.split()
            head = person.repo.refs.get(f"remotes/origin/{branch}")
            assert head is not None, branch
            assert _read(person, head, name) == content(int(seed), int(size)), line
            acknowledged += 1
    numbers = [version.commit.number for version in ancestors(person.repo.store, [CommitId(person.versions()[-1])])]
    assert len(person.versions()) == max(numbers)
    assert fsck(person.repo, read_data=True).is_clean
    person.close()
    return acknowledged, refused


def _read(person: Person, head: CommitId, name: str) -> bytes:
    source = person.repo.store
    root = source.get_commit(head).root
    entry = find_entry(source, root, name.encode())
    assert entry is not None, name
    return bytes(open_file(source, root, entry, name.encode()).read(0, entry.size))


def main() -> None:
    """Runs rounds as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--commits", type=int, default=20)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    for number in range(asked.rounds):
        seed = asked.seed + number
        directory = Path(tempfile.mkdtemp(prefix="remote-rounds-"))
        try:
            done = run_round(directory, asked.people, asked.commits, asked.kills, seed, with_server=asked.server)
        except (AssertionError, VfsError, OSError):
            sys.stderr.write(f"round {number}, seed {seed}: what is left is in {directory}\n")
            raise
        sys.stdout.write(f"round {number}, seed {seed}: {done}\n")
        sys.stdout.flush()
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
