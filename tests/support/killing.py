"""Rounds of killing a mount's daemon under a writer's work, and of looking what the next daemon makes of it.

As a program: `python -m support.killing ROUNDS [--seed S]`.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from support.mounts import Mount, mounted
from support.workload import Op, Scene, Tree, difference, look
from vfs.control.client import DaemonClient, DaemonGone
from vfs.control.messages import CommitArgs, CommitResult, Empty, ProgressUpdate
from vfs.control.services import CHANGES, COMMIT
from vfs.errors import NothingToDo
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository

OPS = 260
ROUNDS_OF_A_REPOSITORY = 12
_KILLED = {"ENOTCONN", "ECONNABORTED", "EIO", "ENODEV", "EINTR"}
"""The errors that a writer gets when its filesystem has gone."""


@dataclass
class Tally:
    """What happened in rounds."""

    rounds: int = 0
    acknowledged: int = 0
    in_flight: Counter[str] = field(default_factory=Counter)
    commits: Counter[str] = field(default_factory=Counter)
    compacted: int = 0
    checked: int = 0

    def __str__(self) -> str:
        return (
            f"{self.rounds} kills, {self.acknowledged} acknowledged operations, {self.checked} versions checked; "
            f"the operation in flight: {dict(self.in_flight)}; commits under way: {dict(self.commits)}; "
            f"rounds with compactions: {self.compacted}"
        )


class _Committing(threading.Thread):
    """A commit that runs beside the writer. `result` is None if the daemon died first."""

    def __init__(self, repository: Path, told: threading.Event) -> None:
        super().__init__()
        self._repository = repository
        self._told = told
        self.result: CommitResult | None = None
        self.is_clean = False

    def run(self) -> None:
        daemon = DaemonClient.connect(self._repository, "main")
        if daemon is None:
            return
        with daemon:
            try:
                self.result = daemon.call(COMMIT, CommitArgs("m", "a"), self._hear)
            except DaemonGone:
                return
            except NothingToDo:
                self.is_clean = True
            finally:
                self._told.set()

    def _hear(self, _progress: ProgressUpdate) -> None:
        self._told.set()


def _which(found: Scene, tree: Tree, in_flight: list[Op]) -> tuple[Tree, str]:
    """Returns the tree that was found, and what became of the operation in flight, if there was one."""
    if found == tree.scene():
        return tree, "absent" if in_flight else "none"
    for op in in_flight:
        if (whole := tree.after(op)).scene() == found:
            return whole, "whole"
        for part in tree.cut_off(op):
            if (partly := tree.after(part)).scene() == found:
                return partly, "a write's first pages"
    raise AssertionError((in_flight, difference(found, tree.scene())))


class Killing:
    """A repository whose daemon is killed again and again."""

    def __init__(self, directory: Path, seed: str, tally: Tally) -> None:
        self.repository = directory / "repo"
        self.path = directory / "mnt"
        Repository.init(self.repository).close()
        self._chance = random.Random(seed)
        self._tree = Tree()
        self._versions: list[Scene] = []
        self._tally = tally

    def run(self, rounds: int) -> None:
        """Kills so many daemons; then looks at everything once more."""
        for _ in range(rounds):
            self._round()
            self._tally.rounds += 1
        with mounted(self.repository, self.path) as mount:
            self._check_versions(mount, range(1, len(self._versions) + 1))
            self._commit_the_rest(mount)

    def _round(self) -> None:
        chance = self._chance
        trees, ops = [self._tree], []
        for _ in range(OPS):
            ops.append(trees[-1].choose(chance))
            trees.append(trees[-1].after(ops[-1]))
        with mounted(self.repository, self.path, "short_journals") as mount:
            done, committing, asked_at = self._write_and_kill(mount, ops)
        log = mount.log.read_text().rpartition("mounted /")[2]
        self._tally.compacted += log.count("compacted") > 0
        with Repository.open(self.repository) as repo:
            report = fsck(repo, read_data=True)
            assert report.is_clean, report.damage
            count = repo.refs.version_count("main")
        with mounted(self.repository, self.path) as mount:
            # Right after a sync, or a compaction, which syncs too, nothing is left to recover.
            says = "recovered" in mount.log.read_text().rpartition("unmounted")[2]
            was_synced = ops[done - 1].kind == "fsync" or "compacted" in (log.splitlines() or [""])[-1]
            assert says or was_synced, "the mount says nothing"
            found = look(self.path)
            self._tree, fate = _which(found, trees[done], ops[done : done + 1])
            self._tally.in_flight[fate] += 1
            self._tally.acknowledged += done
            self._check_commit(mount, committing, count, trees[asked_at : done + 2], ops[asked_at : done + 1])
            self._check_changes(mount, found)
            if chance.random() < 0.3:
                self._commit_the_rest(mount)

    def _write_and_kill(self, mount: Mount, ops: list[Op]) -> tuple[int, _Committing | None, int]:
        """Returns how many operations were acknowledged, the commit beside them, and how many were before it."""
        chance = self._chance
        kill_at = chance.randrange(1, OPS)
        commit_at = max(0, kill_at - chance.choice((0, 1, 5, 20, 60, 120))) if chance.random() < 0.7 else None
        waits = chance.random() < 0.3
        told = threading.Event()
        command = [sys.executable, "-m", "support.workload", str(self.path)]
        committing = None
        done = asked_at = 0
        with subprocess.Popen(
            command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            writer.stdin.write(b"".join(msgspec.json.encode(op) + b"\n" for op in ops))
            writer.stdin.close()
            for line in writer.stdout:
                if line.startswith(b"!"):
                    assert done >= kill_at or mount.process.poll() is not None, (line, ops[done])
                    assert line[2:-1].decode() in _KILLED, (line, ops[done])
                    break
                done += 1
                assert int(line) == done
                if done == commit_at:
                    asked_at = done
                    committing = _Committing(self.repository, told)
                    committing.start()
                if done == kill_at:
                    if committing is not None and waits:
                        told.wait(60)
                    mount.process.kill()
            mount.process.wait()
        # Touching a mapped page whose filesystem has gone ends a process.
        assert writer.returncode in (0, -signal.SIGBUS), writer.returncode
        if committing is not None:
            committing.join()
        return done, committing, asked_at

    def _check_commit(
        self, mount: Mount, committing: _Committing | None, count: int, trees: list[Tree], ops: list[Op]
    ) -> None:
        known = len(self._versions)
        if count != known:
            assert committing is not None
            assert count == known + 1
            made = look(mount / f"@v{count}")
            if all(made != tree.scene() for tree in trees):
                # Between two requests of one write.
                assert any(
                    made == tree.after(part).scene()
                    for tree, op in zip(trees, ops, strict=False)
                    for part in tree.cut_off(op)
                ), [difference(made, tree.scene()) for tree in trees]
            self._versions.append(made)
        if committing is not None:
            answered = committing.result is not None
            assert not answered or count == known + 1
            cut_off = "cut off, whole" if count > known else "cut off, absent"
            self._tally.commits["answered" if answered else "nothing to do" if committing.is_clean else cut_off] += 1
        self._check_versions(mount, range(max(1, count - 1), count + 1))

    def _check_versions(self, mount: Mount, numbers: range) -> None:
        for number in numbers:
            found = look(mount / f"@v{number}")
            assert found == self._versions[number - 1], (number, difference(found, self._versions[number - 1]))
            self._tally.checked += 1

    def _check_changes(self, mount: Mount, found: Scene) -> None:
        """What is said to be uncommitted has all that differs."""
        newest = self._versions[-1] if self._versions else {}
        said = {change.path.decode() for change in mount.call(CHANGES, Empty())}
        missing = set(difference(_as_told(found), _as_told(newest))) - said
        assert not missing, missing

    def _commit_the_rest(self, mount: Mount) -> None:
        found = look(self.path)
        try:
            result = mount.commit()
        except NothingToDo:
            assert found == (self._versions[-1] if self._versions else {})
            return
        self._versions.append(found)
        assert result.number == len(self._versions)
        self._check_versions(mount, range(result.number, result.number + 1))


def _as_told(scene: Scene) -> Scene:
    """Returns a scene with what is told of a path alone: that it is one of several hard links, not of which others."""
    sizes = Counter(seen.group for seen in scene.values())
    return {
        path: seen._replace(group="linked" if seen.group and sizes[seen.group] > 1 else "")
        for path, seen in scene.items()
    }


def kill_rounds(directory: Path, rounds: int, seed: int) -> Tally:
    """Does rounds, with a new repository every now and then, and returns what happened."""
    tally = Tally()
    while tally.rounds < rounds:
        place = directory / f"rounds{tally.rounds}"
        place.mkdir()
        Killing(place, f"{seed}/{tally.rounds}", tally).run(min(ROUNDS_OF_A_REPOSITORY, rounds - tally.rounds))
        sys.stdout.write(f"seed {seed}: {tally}\n")
        sys.stdout.flush()
    return tally


def main() -> None:
    """Does as many rounds as the command line says."""
    parser = argparse.ArgumentParser(description="Kill a mount's daemon under a writer's work, again and again.")
    parser.add_argument("rounds", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where to work; what is there stays if something is wrong")
    arguments = parser.parse_args()
    if arguments.directory is not None:
        kill_rounds(arguments.directory, arguments.rounds, arguments.seed)
        return
    with tempfile.TemporaryDirectory() as directory:
        kill_rounds(Path(directory), arguments.rounds, arguments.seed)


if __name__ == "__main__":
    main()
