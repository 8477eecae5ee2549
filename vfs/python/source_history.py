"""The history of what is imported: the revisions of a git repository, or of a DVC repository with its data.

The program `git` reads both. Repositories come from others: their hooks do not run, only the usual protocols are
followed, and authors and messages are cleaned of control characters.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from vfs.errors import InvalidInput, NotFound, Unsupported
from vfs.python.address_download import (
    REVISION,
    SOURCE,
    FileDone,
    NotFetched,
    copy_files,
    set_directory_times,
    without_secrets,
)
from vfs.repo.authorship import without_controls

TIME = "vfs.source-time"
"""The key of metadata that says when a revision was made (ISO 8601), as no version is older than the one before it."""

_GIT, _DVC = "git+", "dvc+"
_LOCAL = ("-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false", "-c", "core.quotePath=false")
_ENVIRONMENT = (
    *("env", "-u", "GIT_DIR", "-u", "GIT_WORK_TREE", "-u", "GIT_INDEX_FILE"),
    *("GIT_ALLOW_PROTOCOL=file:git:http:https:ssh", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C"),
)
_NS = 1_000_000_000
_KEPT_CONTROLS = "\n\t"
_NO_MESSAGE = "(no message)"
_MESSAGE_CHARS_MAX = 60_000


class Revision(NamedTuple):
    """One revision of a source; `time_ns` is Unix time."""

    id: str
    author: str
    time_ns: int
    message: str

    def metadata(self, source: str) -> dict[str, str]:
        """Returns what the version made from it keeps."""
        made = datetime.fromtimestamp(self.time_ns / _NS, UTC)
        return {SOURCE: source, REVISION: self.id, TIME: made.isoformat(timespec="seconds")}


class SourceHistory:
    """A clone of a repository in a directory, and its files at one revision after the other."""

    def __init__(self, address: str, directory: Path) -> None:
        """Clones what is at an address: a URL or a path that git takes, with `git+` or `dvc+` before it or not.

        `directory` must be empty. Raises Unsupported without git, NotFetched with what git says.
        """
        self._has_data = address.startswith(_DVC)
        self._address = address.removeprefix(_GIT).removeprefix(_DVC)
        self.source = without_secrets(address)
        self._clone = directory / "clone"
        self.files = directory / "files"
        self.files.mkdir()
        self._shown = ""
        if not shutil.which("git"):
            raise Unsupported("the history of a source needs the program git", hint="Install git.")
        self._run("clone", "--quiet", "--mirror", "--", self._address, str(self._clone))

    def revisions(self, wanted: str) -> list[Revision]:
        """Returns the revisions that git names `A..B` (after A, up to B), or up to `B`, the oldest first.

        Of merges the first parent counts. Raises NotFound.
        """
        if not wanted or wanted.startswith("-"):
            raise InvalidInput(f"{wanted!r} names no revisions", hint="Write A..B, or B for all up to it.")
        form = "--format=%H%n%an <%ae>%n%ct%n%B"
        try:
            said = self._git("log", "-z", "--first-parent", "--reverse", "--encoding=UTF-8", form, wanted, "--")
        except NotFetched as error:
            raise NotFound(f"{self.source} has no revisions {wanted!r}: {error.message}") from None
        return [_parsed(record) for record in said.decode("utf-8", "replace").split("\0") if record.strip()]

    def show(self, revision: Revision, done: FileDone) -> Path:
        """Makes `files` hold a revision, and returns it; a file has the time of the revision that changed it."""
        if self._has_data:
            self._fetch(revision, done)
        else:
            self._check_out(revision)
        set_directory_times(self.files)
        return self.files

    def _check_out(self, revision: Revision) -> None:
        if self._shown:
            names = self._git("diff-tree", "-r", "-z", "--name-only", "--diff-filter=d", self._shown, revision.id)
        else:
            names = self._git("ls-tree", "-r", "-z", "--name-only", revision.id)
        self._git(f"--work-tree={self.files}", "read-tree", "--reset", "-u", revision.id)
        self._shown = revision.id
        for name in filter(None, names.split(b"\0")):
            path = os.path.join(os.fsencode(self.files), name)
            os.utime(path, ns=(revision.time_ns, revision.time_ns), follow_symlinks=False)
        # Else git takes the files for changed, by their times, and writes each anew for the next revision.
        self._git(f"--work-tree={self.files}", "update-index", "-q", "--refresh")

    def _fetch(self, revision: Revision, done: FileDone) -> None:
        try:
            from dvc.api import DVCFileSystem  # type: ignore[import-not-found]
        except ImportError as error:
            raise Unsupported("dvc+ addresses need the library dvc", hint=f"pip install dvc ({error})") from None
        shutil.rmtree(self.files)
        self.files.mkdir()
        filesystem = DVCFileSystem(url=self._address, rev=revision.id)
        copy_files(filesystem, "/", self.files, f"{self.source} at {revision.id}", done, revision.time_ns)

    def _git(self, *arguments: str) -> bytes:
        return self._run(f"--git-dir={self._clone}", *arguments)

    def _run(self, *arguments: str) -> bytes:
        done = subprocess.run([*_ENVIRONMENT, "git", *_LOCAL, *arguments], capture_output=True, check=False)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise NotFetched(f"{self.source} cannot be read: {said[-1] if said else 'git failed'}")
        return done.stdout


def left_to_import(revisions: Sequence[Revision], source: str, newest: dict[str, str]) -> list[Revision]:
    """Returns what an import goes on with: the revisions behind the one that the newest version's metadata name."""
    if newest.get(SOURCE) != source:
        return list(revisions)
    ids = [revision.id for revision in revisions]
    there = newest.get(REVISION)
    return list(revisions[ids.index(there) + 1 :]) if there in ids else list(revisions)


def _parsed(record: str) -> Revision:
    name, author, stamp, message = (record.lstrip("\n").split("\n", 3) + [""] * 3)[:4]
    seconds = int(stamp) if stamp.isdigit() else 0
    text = without_controls(message.replace("\r\n", "\n"), _KEPT_CONTROLS).strip() or _NO_MESSAGE
    return Revision(name, without_controls(author) or "unknown", seconds * _NS, text[:_MESSAGE_CHARS_MAX])
