"""Kills of a run's parts: the daemon, `vfs run`, or the program, at random moments; each leaves a sealed record.

scripts/run-kills N [--seed S]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.waiting import wait_until
from vfs.control.client import DaemonClient
from vfs.fuse.session.mountpoint import mounted_at, unmount
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.repo.runs.records import find_run, load_manifest, load_record

VFS = str(Path(sys.executable).with_name("vfs"))
PARTS = ("daemon", "command", "program", "command and daemon")
FILES = 20
TIMEOUT_S = 300.0
_PROGRAM = """
import os, sys
while True:
    for name in sorted(os.listdir(sys.argv[1])):
        open(os.path.join(sys.argv[1], name)).read()
    open("has-read", "w").close()
"""


@dataclass(frozen=True, slots=True)
class Left:
    """What a round left: the part that was killed, the record's status, how many files it has, and its notes."""

    part: str
    status: str
    opened: int
    notes: tuple[str, ...]


def rounds(
    directory: Path, count: int, seed: int, *, has_read: bool = False, told: Callable[[Left], object] = lambda _: None
) -> list[Left]:
    """Kills `count` times, in turn each part; returns what was left. Raises AssertionError for a damaged repository.

    `has_read`: not before the program has read all files. `told` hears of each round.
    """
    chosen = random.Random(seed)
    repository, mountpoint = directory / "repo", directory / "mnt"
    mountpoint.mkdir()
    _vfs("init", repository)
    _mount(repository, mountpoint)
    for number in range(FILES):
        (mountpoint / f"f{number:02}").write_text(f"{number}\n" * 100)
    _vfs("-R", repository, "commit", "-m", "files")
    program = directory / "program.py"
    program.write_text(_PROGRAM)
    parts = [PARTS[number % len(PARTS)] for number in range(count)]
    left = []
    for part in parts:
        left.append(_round(repository, mountpoint, program, part, chosen.random() * 0.3, has_read=has_read))
        told(left[-1])
    unmount(mountpoint)
    with Repository.open(repository) as repo:
        assert fsck(repo, read_data=True).is_clean
    return left


def _round(repository: Path, mountpoint: Path, program: Path, part: str, delay_s: float, *, has_read: bool) -> Left:
    (program.parent / "has-read").unlink(missing_ok=True)
    command = [VFS, "-R", str(repository), "run", "--", sys.executable, "-I", str(program), str(mountpoint)]
    with subprocess.Popen(command, cwd=program.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        found: list[int] = []
        try:
            wait_until(lambda: _find_program(process.pid, program, found))
            if has_read:
                wait_until((program.parent / "has-read").exists)
            # At a random moment, which is the point of a round.
            time.sleep(delay_s)
            daemon = _daemon(repository)
            victims = {"daemon": [daemon], "command": [process.pid], "program": found}
            for victim in victims.get(part, [process.pid, daemon]):
                os.kill(victim, signal.SIGKILL)
            if part in ("daemon", "program"):
                process.wait(TIMEOUT_S)
        finally:
            # Whatever has happened, nothing of the round goes on.
            left = {*found, *_program_of(process.pid, program)}
            process.kill()
            for child in left:
                _end(child)
    if "daemon" in part:
        if mounted_at(mountpoint) is not None:
            subprocess.run(["umount", "-l", mountpoint], check=True)
        _mount(repository, mountpoint)
    # Any later command seals what is left; a daemon that lives does it by itself.
    wait_until(lambda: _sealed(repository))
    with Repository.open(repository) as repo:
        run = find_run(repo, f"r{_number(repo)}")
        record = load_record(repo, run)
        reads = load_manifest(repo, run).reads
        opened = sum(source.opened for source in record.sources) if reads else 0
    return Left(part, record.status, opened, record.notes)


def _sealed(repository: Path) -> bool:
    listed = subprocess.run([VFS, "-R", str(repository), "runs", "-n", "1"], capture_output=True, text=True, check=True)
    return bool(listed.stdout) and "running" not in listed.stdout


def _number(repo: Repository) -> int:
    return sum(1 for _ in repo.refs.list("runs/"))


def _find_program(command: int, program: Path, found: list[int]) -> bool:
    """Adds the process of a run's program, once that is executed; returns True then."""
    found += _program_of(command, program)
    return bool(found)


def _program_of(command: int, program: Path) -> list[int]:
    """Returns the child of `vfs run` that has become the program.

    A child that is about to execute another one (git) still has the words of `vfs run`, among them the program's.
    """
    try:
        children = Path(f"/proc/{command}/task/{command}/children").read_text().split()
    except OSError:
        return []
    return [child for child in map(int, children) if _words_of(child)[1:3] == [b"-I", os.fsencode(program)]]


def _words_of(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _end(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _daemon(repository: Path) -> int:
    client = DaemonClient.connect(repository, "main")
    assert client is not None
    with client:
        return client.process


def _mount(repository: Path, mountpoint: Path) -> None:
    _vfs("mount", "--no-takeover", repository, mountpoint)


def _vfs(*words: str | Path) -> None:
    subprocess.run([VFS, *map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _tell(left: Left) -> None:
    sys.stderr.write(f"{left.part}: {left.status}, {left.opened} files\n")


def main() -> int:
    """Runs the rounds that the command line asks for and prints what was left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="run-kills-"))
    try:
        found = rounds(directory, wanted.count, wanted.seed, told=_tell)
    finally:
        if mounted_at(directory / "mnt") is not None:
            unmount(directory / "mnt")
        shutil.rmtree(directory, ignore_errors=True)
    for part in PARTS:
        left = [one for one in found if one.part == part]
        sealed = sum(one.status != "running" for one in left)
        opened = [one.opened for one in left]
        files = f"{min(opened, default=0)} to {max(opened, default=0)} files"
        sys.stdout.write(f"{part:<20} {len(left):>4} kills, {sealed:>4} sealed, {files}\n")
    return 0 if all(one.status != "running" for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
