"""The whole program, run as a person runs it, in a directory with a mounted repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.command_server import fork_server
from support.mounts import TIMEOUT_S
from vfs.native.session import SWITCH

ROOT = Path(__file__).resolve().parents[2]


class Shell:
    """Runs `vfs` as a program, somewhere."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Not from the current directory (-P): that may be in a mount that does not answer.
        self.program = [sys.executable, "-P", "-m", "vfs"]
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "VFS_AUTHOR": "ann@lab",
            "HOME": str(directory),
            **{name: value for name, value in os.environ.items() if name.startswith(("COVERAGE_", SWITCH))},
        }

    def run(
        self,
        *words: str,
        cwd: Path | None = None,
        before: tuple[str, ...] = (),
        settings: Mapping[str, object] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command line, behind the words of another program that runs it.

        `settings`: constants of the program (`module.NAME`) with other values in this command.
        """
        if not before:
            where = cwd or self.directory
            return fork_server(self.environment).run(words, where, self.environment, TIMEOUT_S, settings or {})
        assert not settings
        return subprocess.run(
            [*before, *self.program, *words],
            cwd=cwd or self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def __call__(self, *words: str, cwd: Path | None = None, status: int = 0) -> str:
        done = self.run(*words, cwd=cwd)
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout

    def status(self, *words: str, cwd: Path | None = None) -> dict[str, Any]:
        """Returns what `vfs status` says."""
        (found,) = map(json.loads, self(*words, "status", "--json", cwd=cwd).splitlines())
        assert isinstance(found, dict)
        return found


def vfs(*words: str | Path) -> str:
    """Runs a command of the program as the author `ann@lab`, asserts that it succeeds and returns its output.

    The environment is this process's otherwise; the process is forked from one that has the program loaded.
    """
    environment = {**os.environ, "VFS_AUTHOR": "ann@lab"}
    done = fork_server(environment).run([str(word) for word in words], Path.cwd(), environment, TIMEOUT_S, {})
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@contextmanager
def mounted_shell(directory: Path) -> Iterator[Shell]:
    """Gives a shell in a directory with the repository `repo`, mounted at `data`; checked with fsck at the end."""
    made = Shell(directory)
    made("init", "repo")
    (directory / "data").mkdir()
    made("mount", "repo", "data")
    try:
        yield made
    finally:
        # A test that failed may leave a mount that is busy, dead or gone.
        subprocess.run(["umount", "-l", directory / "data"], capture_output=True, check=False)
    made("fsck", "--read-data", "repo")


_UNSHARE = r"""
keep=$1; shift
awk '/ - fuse/ {print $5}' /proc/self/mountinfo | while read -r place; do
    case $place in "$keep"/*) ;; *) umount -l "$(printf %b "$place")" 2>/dev/null ;; esac
done
exec "$@"
"""


def unshared(directory: Path) -> tuple[str, ...]:
    """Returns the words before a command that run it in a new mount namespace, with the mounts below `directory`.

    A new namespace has copies of all mounts: those of tests that run at the same time would not end when they unmount.
    """
    return ("unshare", "-m", "--propagation", "private", "sh", "-c", _UNSHARE, "sh", str(directory))
