"""Git work trees of other commits of the code, for the time of a command."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vfs.errors import NotFound, VfsError
from vfs.model.names import show_path

_SHORT = 8


class GitFailed(VfsError):
    """Git refused, or is not installed."""

    code = "git-failed"


class CodeTree:
    """One commit of the code: its id, and the directory in its work tree that stands for the caller's own."""

    def __init__(self, commit: str, directory: Path) -> None:
        self.commit = commit
        self.directory = directory

    @property
    def short(self) -> str:
        """The first digits of the commit's id."""
        return self.commit[:_SHORT]


@contextmanager
def code_trees(revisions: Sequence[str], directory: Path) -> Iterator[list[CodeTree]]:
    """Checks commits out beside the caller's work tree, each in a new one; removes them at the end.

    Uncommitted changes of the caller's own work tree are in none of them. Raises GitFailed, NotFound.
    """
    top = Path(_git(directory, "rev-parse", "--show-toplevel").strip())
    commits = []
    for revision in revisions:
        try:
            commits.append(_git(top, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip())
        except GitFailed as error:
            raise NotFound(f"the code has no commit {revision!r}", hint="`git log --oneline` lists them.") from error
    below = directory.resolve().relative_to(top.resolve())
    with tempfile.TemporaryDirectory(prefix="vfs-code-") as above:
        made: list[CodeTree] = []
        try:
            for number, commit in enumerate(commits):
                place = Path(above, str(number))
                _git(top, "worktree", "add", "--quiet", "--detach", str(place), commit)
                made.append(CodeTree(commit, place / below))
                if not made[-1].directory.is_dir():
                    raise NotFound(f"the code of {made[-1].short} has no directory {show_path(os.fsencode(below))}")
            yield made
        finally:
            for number in range(len(commits)):
                _remove(top, Path(above, str(number)))


def _remove(top: Path, place: Path) -> None:
    if place.exists():
        subprocess.run(
            ["git", "-C", str(top), "worktree", "remove", "--force", str(place)], capture_output=True, check=False
        )


def _git(directory: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *words], capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise GitFailed(f"git cannot be started: {error.strerror}", hint="Install it.") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise GitFailed(f"git {words[0]}: {said[-1] if said else 'it failed'}", hint="Go into the code's repository.")
    return done.stdout
